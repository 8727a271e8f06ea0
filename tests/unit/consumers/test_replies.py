from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from pika.spec import Basic, BasicProperties

from neon_mq_connector import create_mq_callback, decoded_callback
from neon_mq_connector.codec import WireFormat, decode_body, encode_body
from neon_mq_connector.consumers import delivery_channel
from neon_mq_connector.consumers.callback_channel import CallbackChannel
from neon_mq_connector.consumers.delivery_channel import answer_in_kind, current_channel
from neon_mq_connector.consumers.reply_route import Reply
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.link import Delivery
from neon_mq_connector.publishing.message import Destination


def delivery(queue: str, wire_format: WireFormat = WireFormat.LEGACY, **data: Any) -> Delivery:
    body = encode_body({"routing_key": queue, **data}, wire_format)
    return Delivery(Basic.Deliver(), BasicProperties(correlation_id="c"), body)


@contextmanager
def handling(message: Delivery) -> Iterator[None]:
    token = current_channel.set(CallbackChannel(cast(Session, None), message))
    try:
        yield
    finally:
        current_channel.reset(token)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that are read."""
    bodies: list[bytes] = []

    def decode(body: bytes, content_type: str | None = None) -> Any:
        bodies.append(body)
        return decode_body(body, content_type)

    for module in (delivery_channel, decoded_callback):
        monkeypatch.setattr(module, "decode_body", decode)
    return bodies


def test_a_request_is_read_once_for_all_the_parts_of_its_answer(decoded: list[bytes]) -> None:
    with handling(delivery("answers")):
        replies = [answer_in_kind(Destination(queue="answers")) for _ in range(3)]
        assert answer_in_kind(Destination(queue="elsewhere")) is None
    assert replies == [Reply("answers", WireFormat.LEGACY, "c")] * 3
    assert len(decoded) == 1


def test_what_a_decoded_callback_has_read_is_not_read_again(decoded: list[bytes]) -> None:
    found = []

    @create_mq_callback()
    def callback(body: dict[str, Any]) -> None:
        body["routing_key"] = "overwritten"
        found.append(answer_in_kind(Destination(queue="answers")))

    message = delivery("answers", WireFormat.JSON)
    with handling(message):
        callback(None, *message)
    assert found == [Reply("answers", WireFormat.JSON, "c")]
    assert len(decoded) == 1


def test_each_message_is_answered_in_its_own_way(decoded: list[bytes]) -> None:
    for queue, wire_format in (("a", WireFormat.JSON), ("b", WireFormat.LEGACY)):
        with handling(delivery(queue, wire_format)):
            assert answer_in_kind(Destination(queue=queue)) == Reply(queue, wire_format, "c")
            assert answer_in_kind(Destination(queue="ab".replace(queue, ""))) is None
    assert answer_in_kind(Destination(queue="b")) is None


def test_a_body_that_is_read_by_hand_is_not_taken_for_the_message(decoded: list[bytes]) -> None:
    @create_mq_callback()
    def callback(body: dict[str, Any]) -> None: ...

    with handling(delivery("answers")):
        callback(None, *delivery("elsewhere"))
        assert answer_in_kind(Destination(queue="answers")) is not None
        assert answer_in_kind(Destination(queue="elsewhere")) is None


def test_a_body_that_cannot_be_read_is_tried_once(decoded: list[bytes]) -> None:
    with handling(Delivery(Basic.Deliver(), BasicProperties(), b"\xff")):
        assert [answer_in_kind(Destination(queue="q")) for _ in range(2)] == [None, None]
    assert len(decoded) == 1


def test_a_message_is_not_kept_when_it_has_been_handled() -> None:
    message = delivery("answers")
    method = weakref.ref(message.method)
    with handling(message):
        answer_in_kind(Destination(queue="answers"))
    del message
    gc.collect()
    assert method() is None
