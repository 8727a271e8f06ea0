"""What a decorated callback returns is the answer to its request, whatever runs the callback."""

from __future__ import annotations

from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import MQConnector, Retry, create_mq_callback
from neon_mq_connector.client import RequestClient
from neon_mq_connector.utils.network_utils import dict_to_b64
from tests.integration.conftest import MakeConnector, Seen, messages_in, run
from tests.support.polling import eventually

SAME = {"constant": 1}


class Answering(MQConnector):
    """Callbacks that are methods, of each kind."""

    @create_mq_callback()
    def square(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"square": body["n"] ** 2}

    @create_mq_callback()
    async def square_async(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"square": body["n"] ** 2}

    @create_mq_callback()
    def the_same(self, body: dict[str, Any]) -> dict[str, Any]:
        return SAME

    @create_mq_callback()
    async def the_same_async(self, body: dict[str, Any]) -> dict[str, Any]:
        return SAME

    @create_mq_callback()
    def count(self, body: dict[str, Any]) -> dict[str, Any]:
        for n in range(body["to"]):
            part = {"n": n, "message_id": body["message_id"], "is_final": False}
            self.send_message(part, queue=body["routing_key"], expiration=20_000)
        return {"n": body["to"], "is_final": True}


@create_mq_callback()
def cube(body: dict[str, Any]) -> dict[str, Any]:
    return {"cube": body["n"] ** 3}


@create_mq_callback()
async def cube_async(body: dict[str, Any]) -> dict[str, Any]:
    return {"cube": body["n"] ** 3}


@pytest.fixture
def service(make_connector: MakeConnector) -> Answering:
    service = make_connector(Answering)
    assert isinstance(service, Answering)
    return service


@pytest.fixture
def is_async(engine: dict[str, Any]) -> bool:
    """Whether the engine is that of coroutines."""
    return not engine


def test_what_is_returned_is_the_answer_and_stays_as_it_was(
    service: Answering, client: RequestClient, engine: dict[str, Any], is_async: bool
) -> None:
    for queue, function, coroutine in (
        ("cube", cube, cube_async),
        ("square", service.square, service.square_async),
        ("same", service.the_same, service.the_same_async),
    ):
        callback = coroutine if is_async else function
        service.register_consumer(queue, service.vhost, queue, callback, **engine)
    run(service)
    answer = client.request("cube", {"n": 3, "message_id": "m"})
    assert answer["cube"] == 27
    assert answer["context"]["mq"]["message_id"] == "m"
    for _ in range(2):
        assert client.request("same", {"n": 1})["constant"] == 1
    assert SAME == {"constant": 1}
    service.vhost = "/of-something-else"  # the answer goes where its request was
    assert client.request("square", {"n": 3})["square"] == 9


def test_parts_that_were_sent_come_before_what_is_returned(
    service: Answering, client: RequestClient, engine: dict[str, Any]
) -> None:
    service.register_consumer("count", service.vhost, "count", service.count, **engine)
    run(service)
    parts: list[Any] = []
    client.request("count", {"to": 20}, on_part=parts.append, timeout=20.0)
    assert [part["n"] for part in parts] == list(range(21))


def test_a_message_whose_answer_is_refused_has_failed(
    service: Answering,
    channel: BlockingChannel,
    seen: Seen,
    engine: dict[str, Any],
    is_async: bool,
) -> None:
    channel.queue_declare(
        "full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    channel.basic_publish("", "full", b"enough")
    channel.queue_declare("square.dead", durable=True)
    callback = service.square_async if is_async else service.square
    service.register_consumer(
        "square",
        service.vhost,
        "square",
        callback,
        seen.on_error,
        ack="on_success",
        retry=Retry(attempts=1),
        durable=True,
        **engine,
    )
    run(service)
    request = {"n": 1, "routing_key": "full", "message_id": "m"}
    channel.basic_publish("", "square", dict_to_b64(request), BasicProperties())
    eventually(lambda: seen.errors, what="the failure is told")
    eventually(lambda: messages_in(channel, "square.dead") == 1, what="the request is parked")
