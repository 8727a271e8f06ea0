"""Compatibility contract: the hooks of `SelectConsumerThread`, and its connection in pika's style.

What it has in common with the threaded consumer is tested with that one, in
`test_consumer_threads.py`.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import pika
import pika.exceptions
import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.consumers import SelectConsumerThread
from neon_mq_connector.testing.proxy import FaultProxy
from tests.contract.peer import Errors, Inbox, Peer
from tests.support.nodes import free_port
from tests.support.polling import eventually

Build = Callable[..., Any]
HOOKS = ("on_connected", "on_connection_fail", "on_channel_open", "on_close")


@pytest.fixture
def consumer_class() -> Any:
    return SelectConsumerThread


class Events:
    """What hooks were called, with what, and where."""

    def __init__(self, consumer: Any) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.threads: set[threading.Thread] = set()
        for name in HOOKS:
            setattr(consumer, name, self._recorder(name))

    def _recorder(self, name: str) -> Callable[..., None]:
        def record(*arguments: Any) -> None:
            self.threads.add(threading.current_thread())
            self.calls.append((name, arguments))

        return record

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for each, arguments in self.calls if each == name]


@pytest.fixture
def nowhere(consumer_class: Any, endings: contextlib.ExitStack) -> Build:
    """Construct consumers of a port where nothing listens."""

    def build(errors: Errors) -> Any:
        parameters = pika.ConnectionParameters("127.0.0.1", free_port())
        consumer = consumer_class(parameters, "q", print, error_func=errors, daemon=True)
        endings.callback(consumer.join, 120.0)
        return consumer

    return build


@pytest.fixture
def through(proxy: FaultProxy, connection_params: pika.ConnectionParameters) -> Any:
    """How to get to the broker by way of the proxy."""
    return pika.ConnectionParameters(
        "127.0.0.1",
        proxy.port,
        connection_params.virtual_host,
        connection_params.credentials,
    )


class TestHooks:
    def test_it_tells_that_it_is_connected_and_has_a_channel_and_that_both_are_closed(
        self, consumer_thread: Build, peer: Peer, errors: Errors
    ) -> None:
        inbox = Inbox(lambda *_: seen.append(list(events.names)))
        seen: list[list[str]] = []
        consumer = consumer_thread("input", inbox, errors)
        events = Events(consumer)
        peer.channel.queue_declare("input")
        peer.publish({"n": 1}, queue="input")
        consumer.start()
        eventually(lambda: consumer.is_consuming)
        inbox.wait()
        assert seen == [["on_connected", "on_channel_open"]]
        assert events.of("on_connected") == [(consumer.connection,)]
        assert events.of("on_channel_open") == [(consumer.channel,)]
        consumer.join(120.0)
        assert events.names == ["on_connected", "on_channel_open", "on_close"]
        ((connection, reason),) = events.of("on_close")
        assert connection is consumer.connection
        assert connection.is_closed
        assert isinstance(reason, Exception)
        assert events.threads == {consumer}
        consumer.join(120.0)
        assert len(events.calls) == 3
        assert errors.calls == []

    def test_hooks_may_be_overridden_and_call_up(
        self, consumer_class: Any, connection_params: Any
    ) -> None:
        called = []

        class Own(consumer_class):  # type: ignore[misc]  # what it is is known when it runs
            def on_channel_open(self, channel: Any) -> None:
                called.append(channel)
                super().on_channel_open(channel)

            def on_close(self, *_: Any, **__: Any) -> None:
                called.append("closed")
                super().on_close(*_, **__)

        consumer = Own(connection_params, "input", print)
        consumer.start()
        eventually(lambda: consumer.is_consuming)  # the broker knows of it before its hooks do
        consumer.join(120.0)
        assert called == [consumer.channel, "closed"]

    def test_a_hook_need_not_take_what_it_does_not_want(self, consumer_thread: Build) -> None:
        connected, closed = threading.Event(), []
        consumer = consumer_thread("input", print)
        consumer.on_connected = connected.set
        consumer.start()
        assert connected.wait(120.0)
        eventually(lambda: consumer.is_consuming)
        consumer.on_close = lambda connection: closed.append(connection)  # it is looked up late
        consumer.join(120.0)
        assert closed == [consumer.connection]

    def test_a_hook_that_fails_does_no_harm(
        self, consumer_thread: Build, peer: Peer, errors: Errors
    ) -> None:
        inbox = Inbox()
        consumer = consumer_thread("input", inbox, errors)
        consumer.on_connected = Mock(side_effect=ValueError("kaput"))
        consumer.on_channel_open = Mock(side_effect=SystemExit)
        consumer.start()
        peer.wait_for_consumer("input")
        peer.publish({"n": 1}, queue="input")
        inbox.wait()
        eventually(lambda: consumer.is_consuming)
        consumer.join(120.0)
        consumer.on_channel_open.assert_called_once()
        assert errors.calls == []

    def test_what_a_hook_declares_is_there(self, consumer_thread: Build, peer: Peer) -> None:
        consumer = consumer_thread("input", print)
        consumer.on_channel_open = lambda channel: channel.queue_declare("made", durable=True)
        consumer.start()
        eventually(lambda: consumer.is_consuming)
        assert peer.depth("made") == 0


class TestNoBroker:
    @pytest.mark.parametrize("attempts", [0, 1, None])
    def test_the_error_function_comes_after_the_attempts(
        self, nowhere: Build, errors: Errors, attempts: int | None
    ) -> None:
        consumer = nowhere(errors)
        if attempts is None:
            attempts = 3
            assert consumer.max_connection_failed_attempts == attempts
        consumer.max_connection_failed_attempts = attempts
        events = Events(consumer)
        told_after: list[int] = []

        def error_func(*told: Any) -> None:
            told_after.append(len(events.calls))
            errors(*told)

        consumer.error_func = error_func
        consumer.start()
        ((thread, error),) = errors.wait()
        assert thread is consumer
        eventually(lambda: consumer.consumer.recoveries > attempts + 3, what="it is tried again")
        assert told_after in ([attempts], [max(attempts, 1)])
        assert events.names == ["on_connection_fail"] * max(attempts, 1)
        assert events.calls[-1][1] == (None, error)
        assert consumer.is_consumer_alive is True
        assert len(errors.calls) == 1

    def test_a_wrong_password_is_told_at_once(
        self, consumer_class: Any, broker: Any, errors: Errors
    ) -> None:
        parameters = pika.ConnectionParameters(
            broker.host, broker.port, "/", pika.PlainCredentials(broker.username, "wrong")
        )
        consumer = consumer_class(parameters, "q", print, errors, daemon=True)
        events = Events(consumer)
        consumer.start()
        errors.wait()
        consumer.join(120.0)
        assert events.names == ["on_connection_fail"]
        assert len(errors.calls) == 1


class TestOutages:
    def test_a_line_that_is_cut_closes_once_and_opens_once(
        self, consumer_thread: Build, peer: Peer, proxy: FaultProxy, through: Any, errors: Errors
    ) -> None:
        inbox = Inbox()
        consumer = consumer_thread("input", inbox, errors, connection_params=through)
        events = Events(consumer)
        consumer.start()
        eventually(lambda: consumer.is_consuming)
        before = consumer.connection
        proxy.hang_up()
        eventually(lambda: events.names.count("on_channel_open") == 2)
        eventually(lambda: consumer.is_consuming)
        opened = ["on_connected", "on_channel_open"]
        assert [name for name in events.names if name != "on_connection_fail"] == [
            *opened,
            "on_close",
            *opened,
        ]
        ((closed, reason),) = events.of("on_close")
        assert closed is before
        assert isinstance(reason, ConnectionError)
        peer.publish({"n": 1}, queue="input")
        inbox.wait()
        assert errors.calls == []  # connecting again did not fail three times
        consumer.join(120.0)
        assert events.names.count("on_close") == 2

    def test_stopped_while_the_broker_is_away_it_closes_no_second_time(
        self, consumer_thread: Build, proxy: FaultProxy, through: Any, errors: Errors
    ) -> None:
        consumer = consumer_thread("input", print, errors, connection_params=through)
        events = Events(consumer)
        consumer.start()
        eventually(lambda: consumer.is_consuming)
        proxy.close()
        errors.wait()
        assert consumer.is_consuming is False
        assert consumer.is_consumer_alive is True
        consumer.join(120.0)
        assert not consumer.is_alive()
        assert events.names == [
            "on_connected",
            "on_channel_open",
            "on_close",
            *["on_connection_fail"] * 3,
        ]
        assert len(errors.calls) == 1

    def test_a_queue_that_is_deleted_is_told_at_once(
        self, consumer_thread: Build, peer: Peer, errors: Errors
    ) -> None:
        consumer = consumer_thread("input", print, errors)
        events = Events(consumer)
        consumer.start()
        eventually(lambda: consumer.is_consuming)
        peer.channel.queue_delete("input")
        eventually(lambda: events.names.count("on_connected") == 2)
        errors.wait()
        assert events.names.count("on_close") == 1
        assert "on_connection_fail" not in events.names
        assert len(errors.calls) == 1


class TestPikasStyle:
    """Whatever thread it is: here it is never the consumer's, unless it says so."""

    @pytest.fixture
    def consumer(self, consumer_thread: Build, errors: Errors) -> Any:
        consumer = consumer_thread("input", print, errors)
        consumer.start()
        eventually(lambda: consumer.is_consuming)
        return consumer

    def test_a_channel_is_opened_and_used_with_callbacks(self, consumer: Any, peer: Peer) -> None:
        steps: list[Any] = []

        def opened(channel: Any) -> None:
            channel.exchange_declare("ex", "fanout", callback=lambda _: declare(channel))

        def declare(channel: Any) -> None:
            channel.queue_declare("made", durable=True, callback=lambda frame: bind(channel, frame))

        def bind(channel: Any, frame: Any) -> None:
            steps.append(frame.method.queue)
            channel.queue_bind("made", "ex", callback=lambda _: publish(channel))

        def publish(channel: Any) -> None:
            channel.confirm_delivery(lambda frame: steps.append(frame.method.NAME))
            channel.basic_publish("ex", "", b"{}")
            channel.close()
            steps.append(channel.is_closed)

        consumer.connection.channel(on_open_callback=opened)
        eventually(lambda: len(steps) == 3)
        assert steps[0] == "made"
        assert set(steps[1:]) == {"Basic.Ack", True}
        assert peer.depth("made") == 1
        assert consumer.is_consuming  # closing the one channel has left the other alone

    def test_a_message_is_fetched_as_pikas_asynchronous_channel_does(
        self, consumer: Any, peer: Peer
    ) -> None:
        queue = peer.queue()
        peer.publish(b"{}", queue=queue)
        fetched: list[bytes] = []
        consumer.connection.channel().basic_get(
            queue, lambda _channel, _method, _properties, body: fetched.append(body), True
        )
        eventually(lambda: fetched == [b"{}"])
        assert peer.depth(queue) == 0

    def test_its_loop_calls_on_the_consumers_thread(self, consumer: Any) -> None:
        threads: list[threading.Thread] = []
        loop = consumer.connection.ioloop
        loop.add_callback_threadsafe(lambda: threads.append(threading.current_thread()))
        loop.call_later(0.01, lambda: threads.append(threading.current_thread()))
        loop.remove_timeout(loop.call_later(0.01, lambda: threads.append(threading.main_thread())))
        eventually(lambda: len(threads) == 2)
        assert threads == [consumer, consumer]

    def test_it_tells_those_who_asked_when_it_is_closed(self, consumer: Any) -> None:
        connection, channel = consumer.connection, consumer.channel
        of_connection, of_channel = Mock(), Mock()
        connection.add_on_close_callback(of_connection)
        channel.add_on_close_callback(of_channel)
        consumer.join(120.0)
        ((closed, reason), _) = of_connection.call_args
        assert closed is connection
        of_connection.assert_called_once()
        of_channel.assert_called_once_with(channel, reason)

    def test_messages_are_emitted_on_it_from_any_thread(self, consumer: Any, peer: Peer) -> None:
        queue = peer.queue()
        emit = functools.partial(MQConnector.emit_mq_message, expiration=60_000, queue=queue)
        with ThreadPoolExecutor(8) as pool:
            for number in range(8):
                pool.submit(emit, consumer.connection, {"n": number})
        assert sorted(peer.get(queue).body["n"] for _ in range(8)) == list(range(8))
        assert consumer.is_consuming

    def test_nothing_is_emitted_on_it_once_it_is_closed(self, consumer: Any) -> None:
        connection = consumer.connection
        consumer.join(120.0)
        with pytest.raises(pika.exceptions.ConnectionWrongStateError):
            MQConnector.emit_mq_message(connection, {"n": 1}, queue="q")
        with pytest.raises(pika.exceptions.ConnectionWrongStateError):
            connection.channel(on_open_callback=print)
