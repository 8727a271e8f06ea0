"""The reference pages name everything that there is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import neon_mq_connector
from neon_mq_connector import AsyncMQConnector, MQConnector, envelope, errors
from neon_mq_connector.config import MQSettings, TLSSettings, UserSettings
from neon_mq_connector.service.health import ConsumerHealth
from neon_mq_connector.utils.client_utils import send_mq_request, send_mq_request_async
from tests.docs import settings
from tests.docs.pages import ROOT, Page

API = Page(ROOT / "docs" / "reference" / "api.md")
ERRORS = Page(ROOT / "docs" / "reference" / "errors.md")
HEADERS = Page(ROOT / "docs" / "reference" / "headers.md")


def _words(page: Page) -> set[str]:
    return set(re.findall(r"\w+", page.text))


def test_the_package_exports_what_the_page_says() -> None:
    assert set(neon_mq_connector.__all__) <= _words(API)


def test_every_method_and_property_of_a_connector_is_named() -> None:
    classes = (MQConnector, AsyncMQConnector)
    names = {name for each in classes for name in dir(each) if not name.startswith("_")}
    missing = names - _words(API)
    assert not missing, f"{API} does not name {sorted(missing)}"


def test_every_argument_of_what_is_registered_is_named() -> None:
    for function in (
        MQConnector.register_consumer,
        MQConnector.register_subscriber,
        AsyncMQConnector.register_consumer,
        AsyncMQConnector.register_subscriber,
    ):
        missing = set(inspect.signature(function).parameters) - _words(API) - {"self"}
        assert not missing, f"{API} does not name {sorted(missing)} of {function.__name__}"


def test_signatures_on_the_page_are_the_ones_of_the_code() -> None:
    page = API.text
    for function in (
        MQConnector.run,
        MQConnector.send_message,
        MQConnector.emit_mq_message,
        MQConnector.publish_message,
        MQConnector.request,
        MQConnector.submit_request,
        MQConnector.gather_answers,
        MQConnector.stream_answer,
        MQConnector.submit_message,
        MQConnector.publish_many,
        AsyncMQConnector.run,
        AsyncMQConnector.send_message,
        AsyncMQConnector.publish_message,
        AsyncMQConnector.sync,
        AsyncMQConnector.request,
        AsyncMQConnector.gather,
        AsyncMQConnector.stream,
        send_mq_request,
        send_mq_request_async,
    ):
        shown = _as_shown(function)
        assert f"`{shown}`" in page, f"{API} should say {shown}"


def _as_shown(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in signature.parameters.items()
        if name != "self"
    ]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    name = getattr(function, "__name__", "")
    return f"{name}{text}".replace("'", '"')


def test_every_error_is_drawn_in_its_place_with_the_builtin_that_it_is() -> None:
    drawn: dict[str, set[str]] = {}
    branch: list[str] = []
    for row in re.finditer(r"^\| `([│├└─ ]*)(\w+)` \| (?:`(\w+)` )?\|", ERRORS.text, re.M):
        branch[len(row[1]) // 3 :] = [row[2]]
        drawn[row[2]] = {*branch[-2:-1], *filter(None, [row[3]])}
    classes = [
        each
        for _name, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, errors.MQError)
    ]
    assert drawn == {
        each.__name__: {base.__name__ for base in each.__bases__} - {"Exception"}
        for each in classes
    }


def test_every_header_is_named() -> None:
    for name, value in vars(envelope).items():
        if name.isupper() and isinstance(value, str) and value.startswith("neon-"):
            assert f"`{value}`" in HEADERS.text, f"{HEADERS} does not name {value}"


def test_what_health_tells_is_named_where_it_is_explained() -> None:
    page = Page(ROOT / "docs" / "how-to" / "run-in-a-container.md")
    told = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", page.text, re.M)
    names = {name for cell in told for name in re.findall(r"\w+", cell)}
    assert names
    assert names <= set(ConsumerHealth.__dataclass_fields__)


def test_every_setting_is_in_the_tables_as_it_is_declared() -> None:
    page = settings.PAGE.read_text(encoding="utf-8")
    assert settings.update(page) == page, "bring it up to date: python -m tests.docs.settings"
    for section in (MQSettings, UserSettings, TLSSettings):
        for name, field in section.model_fields.items():
            assert f"| `{name}` |" in page
            assert (field.description or "").endswith(".")


def test_every_default_is_a_value_that_would_be_taken() -> None:
    defaults = MQSettings.from_config({})
    given = {name: getattr(defaults, name) for name in MQSettings.model_fields if name != "tls"}
    assert MQSettings.from_config(given).endpoints == defaults.endpoints


def test_excerpts_of_examples_stand_in_them() -> None:
    page = Page(ROOT / "docs" / "explanation" / "compared.md")
    excerpts = [block.text.partition("\n") for block in page.blocks() if block.language == "py"]
    assert excerpts
    for name, _, text in excerpts:
        example = ROOT / "examples" / "compared" / name.removeprefix("# ")
        assert text in example.read_text(encoding="utf-8"), f"{example.name} has no such\n{text}"


#: What shows that a library does as the README says: words of its example.
_SHOWN = {
    ("an exception reaches the caller", "this library"): "as a RemoteError",
    ("an exception reaches the caller", "FastStream"): "An exception answers nothing",
    ("an exception reaches the caller", "Celery"): "an exception is raised at the client again",
    ("an exception reaches the caller", "nameko"): "as a RemoteError",
    ("types of request and answer", "this library"): "(self, item: Item) -> Price",
    ("types of request and answer", "FastStream"): "price(item: Item)",
    ("types of request and answer", "Celery"): "pydantic=True",
    ("tries that are repeated later", "this library"): "retry=Retry(attempts=3",
    ("a callback may take minutes", "pika"): "would cost the heartbeat",
    ("a callback may take minutes", "aio-pika"): "async def work",
    ("a callback may take minutes", "FastStream"): "async def work",
    ("a callback may take minutes", "nameko"): "run on eventlet",
}
_NOTHING = {"–", "you write it"}


def test_the_readme_compares_as_the_page_does_and_each_claim_is_shown_or_referred() -> None:
    page = _table(Page(ROOT / "docs" / "explanation" / "compared.md"))
    short = _table(Page(ROOT / "README.md"))
    libraries = [_plain(each) for each in page.pop("")]
    assert short.pop("") == libraries
    for row in ("---", "made for"):  # its references stand in the head of the page
        del short[row]
    for row, cells in short.items():
        assert cells == [_plain(each) for each in page[row]], row
        for library, cell in zip(libraries, page[row], strict=True):
            if cell in _NOTHING or "](" in cell:
                continue
            name = "neon_mq" if library == "this library" else library.lower().replace("-", "_")
            example = ROOT / "examples" / "compared" / f"with_{name}.py"
            assert _SHOWN[row, library] in example.read_text(encoding="utf-8"), (row, library)


def _table(page: Page) -> dict[str, list[str]]:
    """Return the rows of the table that compares, by their first cells."""
    rows = [line.strip("|").split("|") for line in page.text.splitlines() if line.startswith("|")]
    return {first.strip(): [each.strip() for each in cells] for first, *cells in rows}


def _plain(cell: str) -> str:
    return re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cell)
