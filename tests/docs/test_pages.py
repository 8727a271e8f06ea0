"""What the pages show is done here as their readers would do it, top to bottom.

* Blocks of Python run in one namespace per page. One whose first line is a comment with a file's
  name is put into that file instead, and runs when the page says ``$ python <file>``.
* Below it, a block of the kind ``text`` is what it prints; ``...`` stands for anything. Below
  what is typed, one is what some program prints that was started before.
* What is typed in a block of the kind ``console`` is run (see `commands`), with the same broker.
* Blocks of JSON are configurations where they look like one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector import tracing
from neon_mq_connector.config import load_settings
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.service.shared_clients import close_shared_clients
from neon_mq_connector.testing import EmbeddedBroker, PrivateBroker
from tests.docs import commands
from tests.docs.pages import Block, Page, all_pages
from tests.docs.programs import PATIENCE, Programs, is_shown
from tests.support.polling import eventually

_NEEDS_BROKER = re.compile(r"^(from|import) .*(MQConnector|client_utils|pika)|^\$ ", re.MULTILINE)

PAGES = [page for page in all_pages() if page.blocks()]


def _examples(page: Page) -> str:
    return "\n".join(b.text for b in page.blocks() if b.language in ("python", "console"))


WITH_BROKER = [page for page in PAGES if _NEEDS_BROKER.search(_examples(page))]
WITHOUT_BROKER = [page for page in PAGES if page not in WITH_BROKER]


def _asks_rabbitmq(page: Page) -> bool:
    return "$ rabbitmqctl" in _examples(page)


#: The pages that a newcomer follows, and those that ask RabbitMQ itself. The others show what the
#: library does on any broker.
ON_RABBITMQ = [
    page
    for page in WITH_BROKER
    if str(page) in ("README.md", "docs/tutorial.md") or _asks_rabbitmq(page)
]


class Reader:
    """Do what one page says.

    Args:
        page: the page.
        programs: runs what is typed.
        broker: what the page talks to, if anything.
        printed: gives what the blocks have printed so far.
    """

    def __init__(
        self,
        page: Page,
        programs: Programs,
        broker: PrivateBroker | EmbeddedBroker | None,
        printed: Callable[[], str],
    ) -> None:
        self._page = page
        self._programs = programs
        self._broker = broker
        self._printed = printed
        self._seen = 0
        self.namespace: dict[str, Any] = {"__name__": "docs"}

    def read(self) -> None:
        """Do all of it."""
        for block in self._page.blocks():
            try:
                self._do(block)
            except Exception as error:
                raise AssertionError(f"{self._page}:{block.line}: {error!r}") from error

    def _do(self, block: Block) -> None:
        if block.file_name:
            (self._programs.folder / block.file_name).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._seen = len(self._printed())
            # empty lines, so that an error names the line of the page
            code = compile("\n" * (block.line - 1) + block.text, str(self._page.path), "exec")
            exec(code, self.namespace)
        elif block.language == "text" and block.follows == "python":
            eventually(
                lambda: is_shown(block.text, self._printed()[self._seen :]),
                timeout=PATIENCE,
                what=f"{self._page}:{block.line} is printed",
            )
        elif block.language == "text" and block.follows == "console":
            self._programs.expect_somewhere(block.text)
        elif block.language == "console":
            for typed in commands.read_console(block.text):
                commands.run(typed, self._programs, self._broker)
        elif block.language == "json":
            value = json.loads(block.text)
            if {"MQ", "server", "users"} & set(value):
                _check_configuration(value)

    def stop(self) -> None:
        """Stop what the page's code has left running, as the end of its process would."""
        for value in list(self.namespace.values()):
            if isinstance(value, MQConnector):
                value.stop()


def _check_configuration(value: dict[str, Any]) -> None:
    section = dict(value.get("MQ", value))
    section.pop("tls", None)  # names files that the reader has
    load_settings(section)


@pytest.fixture(autouse=True)
def _end_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the tracer provider that a page has set."""
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)
    monkeypatch.setattr(tracing, "tracer", None)


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder to work in, and an environment that is as before afterwards."""
    saved = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    os.environ.clear()
    os.environ.update(saved)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    parts: list[str] = []

    def so_far() -> str:
        parts.append(capsys.readouterr().out)
        return "".join(parts)

    return so_far


def write_config(broker: PrivateBroker | EmbeddedBroker, folder: Path) -> Path:
    """Write a configuration as `neon-mq broker --write-config` does."""
    user, password = f"u{secrets.token_hex(4)}", secrets.token_urlsafe(8)
    broker.add_user(user, password, vhosts=("/",))
    entry = {"user": user, "password": password}
    users = {"mq_handler": entry, "default": entry}
    path = folder / "mq_config.json"
    path.write_text(json.dumps({"server": broker.host, "port": broker.port, "users": users}))
    return path


def follow(
    page: Page,
    broker: PrivateBroker | EmbeddedBroker,
    printed: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Do what a page says, in the present folder."""
    folder = Path.cwd()
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(write_config(broker, folder)))
    monkeypatch.syspath_prepend(folder)  # programs import the files beside them
    programs = Programs(folder, {})
    reader = Reader(page, programs, broker, printed)
    try:
        reader.read()
        programs.stop()
    except BaseException:
        print(programs.report())
        raise
    finally:
        reader.stop()
        programs.kill()
        close_shared_clients()
        for each in folder.glob("*.py"):  # another page has another one
            sys.modules.pop(each.stem, None)


@pytest.mark.usefixtures("isolated")
@pytest.mark.own_broker  # whose virtual host "/" is the page's
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.needs_rabbitmq] if _asks_rabbitmq(page) else [])
        for page in WITH_BROKER
        if page in ON_RABBITMQ
    ],
    ids=str,
)
def test_what_a_page_shows_is_so_on_a_broker(
    page: Page,
    broker: PrivateBroker,
    printed: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker.delete_vhost("/")  # a reader begins with nothing in it
    broker.create_vhost("/")
    follow(page, broker, printed, monkeypatch)


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("page", [page for page in WITH_BROKER if page not in ON_RABBITMQ], ids=str)
def test_what_a_page_shows_is_so_on_the_embedded_broker(
    page: Page, printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedBroker() as broker:
        follow(page, broker, printed, monkeypatch)


@pytest.mark.parametrize("page", WITHOUT_BROKER, ids=str)
def test_what_a_page_shows_is_so(page: Page, isolated: Path, printed: Callable[[], str]) -> None:
    Reader(page, Programs(isolated, {}), None, printed).read()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_program_on_a_page_is_run(page: Page) -> None:
    files = {block.file_name for block in page.blocks()} - {""}
    typed = "\n".join(block.text for block in page.blocks() if block.language == "console")
    if "$ pytest" in typed:
        files -= {name for name in files if name.startswith(("test_", "conftest"))}
        files -= {name for name in files if f"import {name[:-3]}" in page.text}
        files -= {name for name in files if f"from {name[:-3]} import" in page.text}
    files -= {name for name in files if f"$ neon-mq run {name[:-3]}" in typed}
    files -= {name for name in files if f"$ neon-mq asyncapi {name[:-3]}:" in typed}
    files -= {name for name in files if f"$ neon-mq doctor --upgrade {name}" in typed}
    left = {name for name in files if f"$ python {name}" not in typed}
    assert not left, f"{page} shows programs and never says to run them: {left}"
