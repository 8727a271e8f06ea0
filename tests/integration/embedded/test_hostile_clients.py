"""Whatever comes over a socket, other clients are served and memory is bounded."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker
from pika.frame import Method
from pika.spec import Basic, Channel

from neon_mq_connector.testing import EmbeddedBroker
from tests.integration.embedded.conftest import pump, until
from tests.support.polling import eventually

_GREETING = b"AMQP\x00\x00\x09\x01"
_END = b"\xce"


def _answer(broker: EmbeddedBroker, data: bytes) -> bytes:
    """Send something on a socket of its own; return what comes until the broker hangs up."""
    with socket.create_connection((broker.host, broker.port), timeout=120) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while part := sock.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


def test_another_protocol_is_answered_with_ours(embedded: EmbeddedBroker) -> None:
    assert _answer(embedded, b"GET / HTTP/1.1\r\n\r\n") == _GREETING
    assert _answer(embedded, b"AMQP\x03\x01\x00\x00") == _GREETING


def test_garbage_disturbs_nobody(embedded: EmbeddedBroker, messages: BlockingChannel) -> None:
    chance = random.Random(7)
    for size in (1, 7, 100, 5000):
        garbage = chance.randbytes(size)
        for start in (b"", _GREETING, _GREETING + b"\x01\x00\x00" + struct.pack(">I", size)):
            _answer(embedded, start + garbage)
    messages.basic_publish("", "work", b"still here")
    assert messages.basic_get("work", auto_ack=True)[2] == b"still here"
    eventually(lambda: len(embedded.list_connections()) == 1)


@pytest.mark.parametrize(
    "frame, code",
    [
        (b"\x01\x00\x01\x00\xff\xff\xff", 501),  # too large
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x50X", 501),  # a wrong end
        (b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x50\x00" + _END, 501),  # a short Basic.Ack
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\xff\x00\xff" + _END, 503),  # no such method
        (b"\x09\x00\x01\x00\x00\x00\x00" + _END, 505),  # no such frame
        (b"\x03\x00\x01\x00\x00\x00\x01x" + _END, 505),  # a body without a message
        (Method(7, Basic.Ack(1)).marshal(), 504),  # a channel that is not open
        (Method(1, Channel.Open()).marshal(), 504),  # one that is
    ],
)
def test_frames_that_are_wrong_end_the_connection(
    embedded: EmbeddedBroker,
    open_channel: Callable[..., BlockingChannel],
    frame: bytes,
    code: int,
) -> None:
    victim, other = open_channel(), open_channel()
    victim.connection._impl._output_marshaled_frames([frame])
    with pytest.raises(ConnectionClosedByBroker) as caught:
        pump(victim)
    assert caught.value.reply_code == code
    other.queue_declare("fine")


def test_a_message_that_is_too_large_is_refused_and_not_kept(
    messages: BlockingChannel, open_channel: Callable[..., BlockingChannel]
) -> None:
    largest = 16 * 1024 * 1024
    messages.basic_publish("", "work", bytes(largest))
    assert messages.basic_get("work", auto_ack=True)[2] == bytes(largest)
    messages.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker, match=f"message size {largest + 1} is larger than"):
        messages.basic_publish("", "work", bytes(largest + 1))
    assert open_channel().basic_get("work")[2] is None


def test_a_consumer_that_does_not_read_does_not_fill_memory(
    embedded: EmbeddedBroker,
    messages: BlockingChannel,
    open_channel: Callable[..., BlockingChannel],
) -> None:
    lazy = open_channel()
    got: list[int] = []
    lazy.basic_consume("work", lambda *a: got.append(len(a[3])), auto_ack=True)
    for _ in range(100):
        messages.basic_publish("", "work", bytes(100_000))
    messages.queue_declare("work", passive=True)
    (queue,) = embedded.list_queues("/")
    assert queue["messages_ready"] > 0
    until(lazy, lambda: len(got) == 100)


@pytest.mark.parametrize("end", ["ack", "close"])
def test_messages_that_are_settled_purged_or_in_a_deleted_queue_fill_no_memory(
    embedded: EmbeddedBroker, messages: BlockingChannel, end: str
) -> None:
    assert embedded._node is not None
    shared = embedded._node._shared
    for _ in range(4):
        messages.basic_publish("", "work", b"a message")
    for auto_ack in (False, True, False):
        messages.basic_get("work", auto_ack=auto_ack)
    messages.basic_ack(1)
    messages.queue_purge("work")
    assert shared.stored > 0
    messages.queue_delete("work")
    messages.basic_ack(3) if end == "ack" else messages.close()
    eventually(lambda: shared.stored == 0)


def test_a_client_that_falls_silent_is_dropped(
    embedded: EmbeddedBroker, open_channel: Callable[..., BlockingChannel]
) -> None:
    # nobody processes its events, and its goodbye is not waited for
    open_channel(heartbeat=1, socket_timeout=0.5)
    eventually(lambda: embedded.list_connections() == [])
