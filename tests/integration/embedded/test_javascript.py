"""The examples in JavaScript: a client and a service that know nothing but AMQP and JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector, consumer, create_mq_callback
from neon_mq_connector.errors import RemoteError, RequestRefusedError
from neon_mq_connector.testing import EmbeddedBroker
from tests.support.configurations import config_of
from tests.support.polling import eventually


class Shop(MQConnector):
    @create_mq_callback()
    def price(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["item"] != "tea":
            raise RequestRefusedError("we have none", type="NoSuchItem", details=body["item"])
        return {"price": 3}

    @consumer("parts_input")
    def parts(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from ({"number": 0}, {"number": 1})


@pytest.fixture
def shop(embedded: EmbeddedBroker, endings: ExitStack) -> Shop:
    shop = Shop(config_of(embedded, "shop"), "shop")
    endings.callback(shop.stop)
    return shop


def ask(folder: Path, broker: EmbeddedBroker, queue: str, request: Any) -> tuple[int, list[Any]]:
    done = subprocess.run(
        ["node", "client.js", broker.url(), queue, json.dumps(request), "30"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_client_asks_a_service_in_python(
    node_folder: Path, embedded: EmbeddedBroker, shop: Shop
) -> None:
    shop.register_consumer("price", "/", "price_input", shop.price, ack="on_success")
    shop.run(run_sync=False, run_observer=False)
    code, parts = ask(node_folder, embedded, "parts_input", {"to": 2})
    assert (code, [each.get("number") for each in parts]) == (0, [0, 1, None])
    code, answers = ask(node_folder, embedded, "price_input", {"item": "coal"})
    expected = {"type": "NoSuchItem", "message": "we have none", "details": "coal"}
    assert (code, [each["error"] for each in answers]) == (7, [expected])


def test_the_service_answers_a_client_in_python(
    node_folder: Path, embedded: EmbeddedBroker, shop: Shop, messages: BlockingChannel
) -> None:
    program = ["node", "service.js", embedded.url(), "js_input"]
    with subprocess.Popen(program, cwd=node_folder, stdout=subprocess.DEVNULL) as service:
        try:
            messages.queue_declare("js_input")

            def consumes() -> bool:
                found = messages.queue_declare("js_input", passive=True)
                return bool(found.method.consumer_count)

            eventually(consumes, what="the service consumes")
            asked: dict[str, Any] = {"wire_format": "json", "timeout": 60.0}
            assert shop.request({"text": "hi"}, "js_input", **asked)["text"] == "HI"
            with pytest.raises(RemoteError, match="InvalidRequest: a text is needed"):
                shop.request({"n": 1}, "js_input", **asked)
            letters: list[str] = []
            with closing(
                shop.stream_answer({"text": "hi", "parts": True}, "js_input", **asked)
            ) as parts:
                letters.extend(each["text"] for each in parts)
            assert letters == ["H", "I"]
        finally:
            service.terminate()
