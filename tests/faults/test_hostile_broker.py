"""A broker, or what poses as one, says things that make no sense: one clear error, and then on."""

from __future__ import annotations

import contextlib
import logging
import struct
from collections.abc import Callable, Iterator

import pika
import pytest
from pika.frame import Header
from pika.spec import Basic, BasicProperties, Channel, Connection

from neon_mq_connector import MQConnector
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import MQConnectionError, MQError, PublishError
from neon_mq_connector.link import ChannelEvents, Link, LinkState
from tests.support.fake_broker import Conversation, FakeBroker, Lie, message
from tests.support.polling import eventually, never

SERVICE = "fault_service"
QUEUE = "q"
HUGE = 2**60


@pytest.fixture
def fake() -> Iterator[FakeBroker]:
    with FakeBroker() as fake:
        yield fake


@pytest.fixture
def handled() -> list[bytes]:
    return []


@pytest.fixture
def service(fake: FakeBroker, handled: list[bytes]) -> Iterator[MQConnector]:
    """A service that consumes from the fake broker, once it is run."""
    config = {
        "server": fake.host,
        "port": fake.port,
        "users": {SERVICE: {"user": "u", "password": "p"}},
        "connect_timeout": 60,
        "publish_timeout": 120,
        "reconnect_delay_max": 0.5,
        "stop_timeout": 600.0,
    }
    connector = MQConnector(config, SERVICE)
    connector.register_consumer(
        "it",
        "/v",
        QUEUE,
        lambda _channel, _method, _properties, body: handled.append(body),
        lambda *_: None,
    )
    yield connector
    connector.stop()


def warnings_of(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
        and record.name.startswith("neon_mq_connector.link")
        and words in record.getMessage()
    ]


def run(connector: MQConnector) -> None:
    connector.run(run_sync=False, run_observer=False, mq_timeout=120)


def send(*frames: bytes) -> Lie:
    return lambda conversation, _channel: conversation.send(*frames)


def on_channel(*frames: Callable[[int], bytes]) -> Lie:
    return lambda conversation, channel: conversation.send(*(each(channel) for each in frames))


def frame(kind: int, channel: int, payload: bytes, *, size: int | None = None) -> bytes:
    """Make a frame that may lie about its size."""
    return struct.pack(">BHI", kind, channel, len(payload) if size is None else size) + payload


#: What parser, decoder and settlement refuse; each form of it is in their own tests.
LIES_TO_A_CONSUMER: dict[str, tuple[Lie, str]] = {
    "a frame of 4 GB": (
        on_channel(lambda channel: frame(3, channel, b"x", size=2**32 - 1)),
        "4294967303 bytes, 131072 are allowed",
    ),
    "a method that does not exist": (
        on_channel(lambda channel: frame(1, channel, b"\x00\x3c\x99\x99\xce", size=4)),
        "connection was lost",
    ),
    "a delivery without its arguments": (
        on_channel(
            lambda channel: frame(1, channel, b"\x00\x3c\x00\x3c\xff\xce", size=5),
            lambda channel: bytes(Header(channel, 0, BasicProperties()).marshal()),
        ),
        "malformed arguments of Basic.Deliver",
    ),
    "a delivery tag out of the blue": (
        lambda conversation, channel: conversation.deliver(channel, HUGE, b"x"),
        f"delivery tag {HUGE}",
    ),
}


@pytest.mark.parametrize("lie", LIES_TO_A_CONSUMER)
def test_a_consumer_gives_up_the_connection_with_one_clear_error_and_comes_back(
    lie: str,
    fake: FakeBroker,
    service: MQConnector,
    handled: list[bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    act, words = LIES_TO_A_CONSUMER[lie]
    fake.lies["consuming"] = act
    run(service)
    eventually(lambda: fake.told >= 2, what="the service comes back, and is lied to again")
    fake.lies["consuming"] = lambda conversation, channel: conversation.deliver(
        channel, 1, b"honest"
    )
    eventually(lambda: b"honest" in handled, what="the service works with an honest broker")
    lies = fake.told - 1
    reports = warnings_of(caplog, words)
    assert 0 < len(reports) <= lies, [record.getMessage() for record in caplog.records]
    assert "mq-io:/v" in reports[0]
    assert not [each for each in caplog.records if each.exc_info and each.name != "pika"]


def unreadable(conversation: Conversation, channel: int) -> None:
    """Deliver a message whose routing key is no text."""
    method, *content = message(channel, 1, b"stray", conversation.consumers[channel])
    conversation.send(method.replace(b"\x01q\xce", b"\x01\xff\xce"), *content)


HARMLESS: dict[str, Lie] = {
    "for a channel that does not exist": lambda c, channel: c.deliver(channel + 1, 1, b"stray"),
    "for a channel that cannot exist": lambda c, _: c.deliver(65_535, 1, b"stray"),
    "an answer that nobody has asked for": lambda c, _: c.method(0, Channel.CloseOk()),
    "for another consumer": on_channel(
        lambda channel: b"".join(message(channel, 1, b"other", consumer="another"))
    ),
    "unreadable": unreadable,
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_for_nobody_harms_nobody(
    what: str, fake: FakeBroker, service: MQConnector, handled: list[bytes]
) -> None:
    def tell(conversation: Conversation, channel: int) -> None:
        HARMLESS[what](conversation, channel)
        conversation.deliver(channel, 2 if what in list(HARMLESS)[-2:] else 1, b"honest")

    fake.lies["consuming"] = tell
    run(service)
    eventually(lambda: b"honest" in handled, what="what is for us arrives")
    assert b"stray" not in handled
    if what == "unreadable":
        eventually(lambda: service.health().consumers["it"].parked == 1, what="it is parked")


# -- lies to a publisher ---------------------------------------------------------------------------


def confirm(tag: int, *, multiple: bool) -> Lie:
    return lambda conversation, channel: conversation.method(channel, Basic.Ack(tag, multiple))


@pytest.mark.parametrize(
    "lie, words",
    [
        pytest.param(confirm(77, multiple=False), "confirms message 77", id="never published"),
        pytest.param(confirm(2**63, multiple=True), "confirms message", id="all there will be"),
        pytest.param(confirm(0, multiple=True), "confirms message 0", id="no number"),
    ],
)
def test_a_false_confirm_confirms_nothing(
    lie: Lie, words: str, fake: FakeBroker, service: MQConnector, caplog: pytest.LogCaptureFixture
) -> None:
    fake.lies["published"] = lie
    with pytest.raises(PublishError, match=words):
        service.send_message({"a": 1}, vhost="/v", queue=QUEUE)
    eventually(lambda: warnings_of(caplog, words), what="the log says so")
    del fake.lies["published"]
    service.send_message({"a": 1}, vhost="/v", queue=QUEUE)


def test_a_message_is_confirmed_once_however_often_the_broker_says_so(
    fake: FakeBroker, service: MQConnector
) -> None:
    def twice(conversation: Conversation, channel: int) -> None:
        conversation.method(channel, Basic.Ack(1, False))
        conversation.method(channel, Basic.Ack(1, True))

    fake.lies["published"] = twice
    service.send_message({"a": 1}, vhost="/v", queue=QUEUE)
    fake.lies["published"] = lambda conversation, channel: conversation.method(
        channel, Basic.Ack(2, False)
    )
    service.send_message({"a": 1}, vhost="/v", queue=QUEUE)


# -- no broker at all ------------------------------------------------------------------------------


def parameters(fake: FakeBroker, timeout: float = 120) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(
        fake.host, fake.port, "/v", socket_timeout=timeout, stack_timeout=timeout
    )


def end_with(data: bytes) -> Lie:
    def act(conversation: Conversation, _channel: int) -> None:
        conversation.send(data)
        conversation.hang_up()

    return act


HANDSHAKES: dict[str, tuple[str, Lie, str]] = {
    "a web server": (
        "greeting",
        send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
        "unknown type 72; is this AMQP",
    ),
    "another version": (
        "greeting",
        end_with(b"AMQP\x00\x01\x00\x00"),
        "does not speak AMQP 0-9-1",
    ),
    "a frame of 4 GB": ("greeting", send(frame(1, 0, b"x", size=2**32 - 1)), "are allowed"),
    "the end at once": ("greeting", lambda c, _: c.hang_up(), "does not speak AMQP"),
    "silence": ("greeting", lambda c, _: c.wait_for_the_end(), "no broker answers"),
    "silence before the end": (
        "Connection.Open",
        lambda c, _: c.wait_for_the_end(),
        "no broker answers",
    ),
    "half of the greeting": (
        "greeting",
        end_with(b"AMQ"),
        "does not speak AMQP",
    ),
    "garbage after the greeting": (
        "Connection.StartOk",
        lambda c, _: c.send(b"\xff" * 1000),
        "unknown type 255",
    ),
    "frames too small for anything": (
        "Connection.StartOk",
        lambda c, _: c.method(0, Connection.Tune(2047, 10, 0)),
        "Frame Size is 4096, but got 10",
    ),
}


@pytest.mark.parametrize("what", HANDSHAKES)
def test_what_is_no_broker_is_said_to_be_none_and_tried_again(what: str, fake: FakeBroker) -> None:
    moment, act, words = HANDSHAKES[what]
    fake.lies[moment] = act
    link = Link("mq-test", [parameters(fake, 1.0 if "silence" in what else 120)])
    try:
        with pytest.raises(MQConnectionError, match=words) as caught:
            link.open_channel(ChannelEvents(), timeout=120)
        assert f"{fake.host}:{fake.port}" in str(caught.value)
        told = fake.told
        eventually(lambda: fake.told > told, what="it tries again")
        fake.lies.clear()
        eventually(lambda: link.state is LinkState.OPEN, what="it connects to an honest broker")
        link.open_channel(ChannelEvents(), timeout=120)
    finally:
        assert link.close(600.0)


def test_the_second_server_is_used_when_the_first_is_none(fake: FakeBroker) -> None:
    fake.lies["greeting"] = send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with FakeBroker() as honest:
        connections = Connections([parameters(fake), parameters(honest)])
        try:
            channel = connections.consuming.open_channel(ChannelEvents(), timeout=120)
            assert channel.is_open
        finally:
            assert connections.close(120)


@pytest.mark.parametrize("moment", ["greeting", "Connection.StartOk", "Connection.Open"])
def test_a_link_can_be_closed_while_the_other_side_is_silent(moment: str, fake: FakeBroker) -> None:
    fake.lies[moment] = lambda conversation, _channel: conversation.wait_for_the_end()
    link = Link("mq-test", [parameters(fake, 600.0)])
    with contextlib.suppress(MQError):
        link.open_channel(ChannelEvents(), timeout=0.2)
    eventually(lambda: fake.told > 0, what="it waits for the broker")
    assert link.close(600.0)


def test_a_link_is_closed_in_time_when_the_broker_does_not_say_good_bye(
    fake: FakeBroker,
) -> None:
    fake.lies["Connection.Close"] = lambda conversation, _channel: conversation.wait_for_the_end()
    link = Link("mq-test", [parameters(fake)])
    link.open_channel(ChannelEvents(), timeout=120)
    eventually(lambda: link.close(0.5), what="its thread has ended")


def test_a_step_that_is_never_answered_ends_in_time_and_the_channel_can_be_closed(
    fake: FakeBroker,
) -> None:
    fake.lies["Basic.Qos"] = lambda _conversation, _channel: None
    link = Link("mq-test", [parameters(fake)])
    try:
        channel = link.open_channel(ChannelEvents(), timeout=120)
        with pytest.raises(TimeoutError):
            channel.consume("q", prefetch_count=1, timeout=0.2)
        channel.close_soon()
        never(lambda: link.state is not LinkState.OPEN, during=0.3)
    finally:
        eventually(lambda: link.close(0.3), what="its thread has ended")
