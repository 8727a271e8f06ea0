"""What a decorated callback returns is the answer to its request, whatever runs the callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector, Retry, create_mq_callback
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.utils.network_utils import dict_to_b64
from tests.integration.conftest import MakeConnector, Seen, consume, messages_in, put
from tests.support.polling import eventually

SAME = {"constant": 1}


class Answering(MQConnector):
    """Callbacks that return their answer, of each kind."""

    @create_mq_callback()
    def function(self, body: dict[str, Any]) -> dict[str, Any]:
        return SAME

    @create_mq_callback()
    async def coroutine(self, body: dict[str, Any]) -> dict[str, Any]:
        return SAME


@pytest.fixture
def answer(make_connector: MakeConnector, engine: dict[str, Any]) -> Callable[..., MQConnector]:
    """Run a service that answers by returning, by each engine."""

    def run(*on_error: Any, **options: Any) -> MQConnector:
        service = make_connector(Answering)
        assert isinstance(service, Answering)
        callback = service.function if engine else service.coroutine
        return consume(service, callback, *on_error, **options, **engine)

    return run


def test_what_is_returned_is_the_answer_and_stays_as_it_was(
    answer: Callable[..., MQConnector], client: RequestClient
) -> None:
    service = answer()
    service.vhost = "/of-something-else"  # the answer goes where its request was
    for message_id in ("m", "n"):
        got = client.request(RequestSpec("q", {"n": 3, "message_id": message_id}))
        assert got["constant"] == 1
        assert got["context"]["mq"]["message_id"] == message_id
    assert SAME == {"constant": 1}


def test_a_message_whose_answer_is_refused_has_failed(
    answer: Callable[..., MQConnector], channel: BlockingChannel, seen: Seen
) -> None:
    limits = {"x-max-length": 1, "x-overflow": "reject-publish"}
    channel.queue_declare("full", durable=True, arguments=limits)
    put(channel, "full", b"enough", declare=False)
    answer(seen.on_error, ack="on_success", retry=Retry(attempts=1), durable=True)
    request = {"n": 1, "routing_key": "full", "message_id": "m"}
    put(channel, "q", dict_to_b64(request))
    eventually(lambda: seen.errors, what="the failure is told")
    channel.queue_declare("q.dead", durable=True, arguments={"x-max-length": 10_000})
    eventually(lambda: messages_in(channel, "q.dead") == 1, what="the request is parked")
