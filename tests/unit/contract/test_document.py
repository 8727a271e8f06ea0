"""A service as a document, with the types of its handlers and no secrets."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field

from neon_mq_connector import AsyncMQConnector, MQConnector, consumer, subscriber
from neon_mq_connector.cli.asyncapi_html import to_html
from neon_mq_connector.contract.document import describe
from neon_mq_connector.contract.files import Document, read_document, resolve, to_json, to_yaml
from tests.unit.cli.conftest import Run

CONFIG = {
    "server": "mq.example",
    "tls": True,
    "users": {"shop": {"user": "seller", "password": "sesame"}},
}


CHECK = """
const { Parser } = require('@asyncapi/parser');
new Parser().parse(require('fs').readFileSync(process.argv[1], 'utf8')).then(found => {
  const errors = found.diagnostics.filter(each => each.severity === 0);
  errors.forEach(each => console.log(each.path.join('.'), each.message));
  process.exit(found.document && !errors.length ? 0 : 1);
});
"""


class Item(BaseModel):
    """What is asked for."""

    name: str = Field(min_length=1, description="as in the <catalogue>")
    count: int = 1


class Price(BaseModel):
    amount: float
    item: Item


@dataclass
class Part:
    number: int


class Shop(MQConnector):
    """Sells things."""

    def __init__(self, config: Any = None, service_name: str = "shop") -> None:
        super().__init__(config, service_name)

    @consumer("shop_price_input", durable=True)
    def price(self, item: Item) -> Price:
        """Tell what an item costs."""
        return Price(amount=item.count, item=item)

    @consumer("{service_name} parts")
    def parts(self, item: Item) -> Iterator[Part]:
        yield Part(number=1)

    @consumer("shop_log_input")
    def log(self, data: dict[str, Any]) -> None: ...

    @subscriber("shop_news")
    def on_news(self, item: Item) -> None: ...


class AsyncShop(AsyncMQConnector):
    @consumer("async_shop_input")
    async def price(self, item: Item) -> Price: ...  # type: ignore[empty-body]


@pytest.fixture
def document() -> Document:
    return describe(Shop(CONFIG))


def test_the_queues_of_handlers_have_the_schemas_of_their_models(document: Document) -> None:
    operation = document["operations"]["price"]
    channel = resolve(document, operation["channel"])
    assert channel["address"] == "shop_price_input"
    assert channel["bindings"]["amqp"]["queue"]["durable"] is True
    request = resolve(document, operation["messages"][0])
    assert request["payload"] == {"$ref": "#/components/schemas/Item"}
    answer, error = (resolve(document, each) for each in operation["reply"]["messages"])
    assert answer["payload"] == {"$ref": "#/components/schemas/Price"}
    assert resolve(document, error["payload"])["required"] == ["error"]
    assert operation["reply"]["address"]["location"] == "$message.header#/replyTo"
    assert operation["summary"] == "Tell what an item costs."
    schemas = document["components"]["schemas"]
    assert schemas["Item"]["required"] == ["name"]
    assert schemas["Price"]["properties"]["item"] == {"$ref": "#/components/schemas/Item"}


def test_streams_subscriptions_and_what_is_not_answered_are_told_apart(document: Document) -> None:
    operations = document["operations"]
    assert operations["parts"]["reply"]["x-neon-stream"] is True
    assert resolve(document, operations["parts"]["channel"])["address"] == "shop parts"
    assert "reply" not in operations["log"]
    assert "reply" not in operations["on_news"]
    binding = resolve(document, operations["on_news"]["channel"])["bindings"]["amqp"]
    assert (binding["is"], binding["exchange"]["type"]) == ("routingKey", "fanout")


def test_consumers_that_are_registered_by_hand_are_there_without_types() -> None:
    shop = Shop(CONFIG)
    shop.register_consumer("raw", "/", "shop_raw", lambda *_: None)
    document = describe(shop)
    assert resolve(document, document["operations"]["raw"]["channel"])["address"] == "shop_raw"
    assert "reply" not in document["operations"]["raw"]


def test_an_asyncio_service_is_described_as_well() -> None:
    assert "price" in describe(AsyncShop(CONFIG, "shop"))["operations"]


def test_the_broker_is_named_without_secrets(document: Document) -> None:
    (server,) = document["servers"].values()
    assert (server["host"], server["protocol"]) == ("mq.example:5671", "amqps")
    assert not {"seller", "sesame"} & set(to_json(document).replace('"', " ").split())


def test_yaml_and_json_say_the_same(document: Document, tmp_path: Path) -> None:
    assert yaml.safe_load(to_yaml(document)) == json.loads(to_json(document)) == document
    path = tmp_path / "shop.yaml"
    path.write_text(to_yaml(document))
    assert read_document(path) == document


def test_the_page_is_whole_and_escaped(document: Document) -> None:
    page = to_html(document)
    for word in ("shop_price_input", "Tell what an item costs.", 'href="#model-Item"', "number"):
        assert word in page
    assert "as in the &lt;catalogue&gt;" in page
    assert "http://" not in page
    assert "https://" not in page


def test_the_parser_of_asyncapi_accepts_it(document: Document, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    present = subprocess.run(
        [node, "-e", "require.resolve('@asyncapi/parser')"], capture_output=True, timeout=120
    )
    if present.returncode:
        pytest.skip("npm's @asyncapi/parser is not found; NODE_PATH may name its folder")
    path = tmp_path / "shop.json"
    path.write_text(to_json(document))
    done = subprocess.run(
        [node, "-e", CHECK, str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_writes_by_the_name_of_the_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tiny_service.py").write_text(
        "from neon_mq_connector import MQConnector, consumer\n"
        "class Tiny(MQConnector):\n"
        "    @consumer('tiny_input')\n"
        "    def tiny(self, data: dict) -> dict: ...\n"
    )
    (tmp_path / "config.json").write_text("{}")
    arguments = ("asyncapi", "tiny_service:Tiny", "--config", "config.json")
    done = run(*arguments)
    assert done.exit_code == 0, done.stderr
    assert yaml.safe_load(done.stdout)["operations"]["tiny"]["action"] == "receive"
    assert run(*arguments, "--output", "tiny.html").exit_code == 0
    assert (tmp_path / "tiny.html").read_text().startswith("<!DOCTYPE html>")
    failed = run(*arguments, "--output", "nowhere/tiny.html")
    assert failed.exit_code == 1
    assert "cannot be written" in failed.stderr
