"""The stand-ins for a connection and its channels, as pika's asynchronous style uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pika.exceptions
import pytest

from neon_mq_connector.consumers.callback_channel import CallbackConnection
from neon_mq_connector.consumers.flow import Flow
from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.consumers.session import Session, SessionHost
from neon_mq_connector.errors import ConnectionLostError, PublishRejectedError
from neon_mq_connector.topology import Queue
from tests.unit.fakes import FakeChannel, FakeConnections, as_channel, as_connections


@dataclass
class Bench:
    """A session on a channel that only writes down."""

    connections: FakeConnections = field(default_factory=FakeConnections)
    stops: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link_channel = FakeChannel()
        host = SessionHost(
            stop=lambda: self.stops.append("stop"),
            later=self._call,
            publish_failed=lambda *_: None,
            report=lambda _: None,
            answered=lambda _session: None,
            ended=lambda *_: None,
            is_stopping=lambda: bool(self.stops),
            acks_on_receipt=True,
            flow=Flow(Registration(Queue("q")), lambda: 0, lambda: False),
        )
        self.session = Session(
            host, as_connections(self.connections), as_channel(self.link_channel), "q", {}
        )

    def _call(self, call: Callable[[], object]) -> None:
        call()

    @property
    def connection(self) -> CallbackConnection:
        return self.session.connection


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_further_channel_closes_alone(bench: Bench) -> None:
    opened: list[Any] = []
    channel = bench.connection.channel(on_open_callback=opened.append)
    assert opened == [channel]
    assert channel.is_open
    channel.close()
    assert channel.is_closed
    assert not channel.is_open
    assert bench.connection.is_open
    assert bench.session.channel.is_open
    assert not bench.stops


def test_closing_its_own_channel_or_connection_stops_the_consumer(bench: Bench) -> None:
    further = bench.connection.channel()
    bench.session.channel.close()
    assert bench.stops == ["stop"]
    assert further.is_closed
    bench.connection.close()
    assert bench.stops == ["stop"] * 2


def test_a_closed_connection_opens_no_channel(bench: Bench) -> None:
    bench.link_channel.closed = True
    with pytest.raises(pika.exceptions.ConnectionWrongStateError, match="'q'"):
        bench.connection.channel(on_open_callback=print)


def test_its_end_is_told_once_to_each_who_asked(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []
    error = ConnectionLostError("lost")
    channel = bench.session.channel

    def fail(*_: Any) -> None:
        raise ValueError("kaput")

    bench.connection.add_on_close_callback(lambda *arguments: told.append(arguments))
    bench.connection.add_on_close_callback(fail)
    channel.add_on_close_callback(lambda *arguments: told.append(arguments))
    bench.connection.closed(error)
    bench.connection.closed(error)
    assert told == [(bench.connection, error), (channel, error)]
    assert len(caplog.records) == 1


def test_the_loop_calls_through_the_consumers_thread(bench: Bench) -> None:
    called: list[int] = []
    bench.connection.ioloop.add_callback(lambda: called.append(1))
    bench.connection.ioloop.add_callback_threadsafe(lambda: called.append(2))
    assert called == [1, 2]


@pytest.mark.parametrize(
    "method, arguments, name",
    [
        ("queue_declare", ("x",), "Queue.DeclareOk"),
        ("queue_delete", ("amq.rabbitmq.reply-to",), "Queue.DeleteOk"),
        ("basic_qos", (0, 5), "Basic.QosOk"),
        ("basic_cancel", ("tag",), "Basic.CancelOk"),
        ("confirm_delivery", (), "Confirm.SelectOk"),
    ],
)
def test_the_callback_gets_pikas_frame(
    bench: Bench, method: str, arguments: tuple[Any, ...], name: str
) -> None:
    frames: list[Any] = []
    getattr(bench.connection.channel(), method)(*arguments, callback=frames.append)
    assert [frame.method.NAME for frame in frames] == [name]


@pytest.mark.parametrize("method", ["queue_bind", "exchange_declare", "queue_purge"])
def test_what_the_control_connection_does_has_its_callback_called(
    bench: Bench, method: str
) -> None:
    frames: list[Any] = []
    getattr(bench.connection.channel(), method)("x", callback=frames.append)
    assert len(frames) == 1
    assert bench.connections.control.performed == [method]


def test_each_confirm_is_told_to_who_wants_to_see_it(bench: Bench) -> None:
    frames: list[Any] = []
    channel = bench.connection.channel()
    channel.confirm_delivery(frames.append)
    channel.basic_publish("", "q", b"1")
    bench.connections.publisher.refusal = PublishRejectedError("full", may_have_arrived=False)
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", "q", b"2")
    bench.connections.publisher.refusal = None
    channel.basic_publish("", "q", b"3")
    assert [(frame.method.NAME, frame.method.delivery_tag) for frame in frames] == [
        ("Basic.Ack", 1),
        ("Basic.Nack", 2),
        ("Basic.Ack", 3),
    ]


@pytest.mark.parametrize(
    "arguments, auto_ack",
    [(("q",), False), (("q", True), True), (("q", print), False), (("q", print, True), True)],
)
def test_a_fetch_is_understood_in_both_of_pikas_orders(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[Any, ...],
    auto_ack: bool,
) -> None:
    asked: list[tuple[str, bool]] = []

    def get(queue: str, auto_ack: bool) -> tuple[None, None, None]:
        asked.append((queue, auto_ack))
        return None, None, None

    monkeypatch.setattr(bench.session, "get", get)
    cast(Any, bench.connections).has_exclusive = lambda _queue: False
    bench.connection.channel().basic_get(*arguments)
    assert asked == [("q", auto_ack)]
