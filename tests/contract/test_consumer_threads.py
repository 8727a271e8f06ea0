"""Compatibility contract: consumer threads that are constructed directly, without a connector.

Covers their arguments and attributes, starting, joining, and a broker that is not there. What they
do with messages is the same as for registered ones: see the tests of the connector's lifecycle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.exchange_type import ExchangeType

from tests.contract.peer import Errors, Inbox, Peer
from tests.support.nodes import free_port
from tests.support.polling import eventually

Build = Callable[..., Any]


@pytest.fixture
def nowhere() -> pika.ConnectionParameters:
    return pika.ConnectionParameters("127.0.0.1", free_port())


class TestBeforeTheStart:
    @pytest.fixture
    def consumer(self, consumer_class: Any, nowhere: pika.ConnectionParameters) -> Any:
        return consumer_class(nowhere, "queue", print)

    def test_nothing_is_open(self, consumer: Any) -> None:
        assert consumer.channel is None
        assert consumer.is_consuming is False
        assert consumer.is_consumer_alive is True
        assert not consumer._consumer_started.is_set()
        assert not consumer.is_alive()

    @pytest.mark.parametrize(
        "given, seen",
        [
            ([], [None, True, False, False, "", False, ExchangeType.direct]),
            *(([repr, False, True, True, "ex", True, kind],) * 2 for kind in ExchangeType),
        ],
    )
    def test_arguments_may_be_positional_and_can_be_read(
        self, consumer_class: Any, nowhere: Any, given: list[Any], seen: list[Any]
    ) -> None:
        consumer = consumer_class(nowhere, "q", print, *given)
        assert consumer.connection_params is nowhere
        assert (consumer.queue, consumer.callback_func) == ("q", print)
        assert callable(consumer.error_func)
        names = "auto_ack queue_reset queue_exclusive exchange exchange_reset exchange_type"
        assert [getattr(consumer, name) for name in names.split()] == seen[1:]
        assert seen[0] in (None, consumer.error_func)

    @pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
    def test_an_exchange_type_given_as_text_becomes_pikas(
        self, consumer_class: Any, nowhere: pika.ConnectionParameters, kind: str
    ) -> None:
        consumer = consumer_class(nowhere, "q", print, exchange="ex", exchange_type=kind)
        assert isinstance(consumer.exchange_type, ExchangeType)
        assert consumer.exchange_type.value == kind

    def test_the_rest_goes_to_the_thread_and_auto_ack_is_a_bool(
        self, consumer_class: Any, nowhere: pika.ConnectionParameters
    ) -> None:
        consumer = consumer_class(nowhere, "q", print, name="the-name", daemon=True, auto_ack=None)
        assert consumer.auto_ack is False
        assert isinstance(consumer, threading.Thread)
        assert (consumer.name, consumer.daemon) == ("the-name", True)


class TestRunning:
    @pytest.mark.every_broker
    def test_it_consumes_within_a_second(self, consumer_thread: Build, peer: Peer) -> None:
        inbox, errors = Inbox(), Errors()
        consumer = consumer_thread("input", inbox, errors)
        consumer.start()
        eventually(lambda: consumer.is_consuming)
        assert consumer._consumer_started.is_set()
        assert consumer.is_consumer_alive is True
        assert consumer.is_alive()
        assert consumer.channel.is_open
        assert consumer.connection.is_open
        assert peer.consumers("input") == 1
        peer.publish({"n": 1}, queue="input")
        assert inbox.wait() == [{"n": 1}]
        assert errors.calls == []

    def test_join_stops_it(self, consumer_thread: Build, peer: Peer) -> None:
        errors = Errors()
        consumer = consumer_thread("input", print, errors)
        consumer.start()
        eventually(lambda: consumer.is_consuming)
        consumer.join(600)
        consumer.join()  # a second time does no harm
        assert consumer.channel.is_closed
        assert not consumer.channel.is_open
        assert consumer.is_consuming is False
        assert consumer.is_consumer_alive is False
        assert not consumer.is_alive()
        assert errors.calls == []
        assert peer.consumers("input") == 0


class TestNoBroker:
    def test_the_error_function_is_called_once(
        self, consumer_class: Any, nowhere: pika.ConnectionParameters, errors: Errors
    ) -> None:
        consumer = consumer_class(nowhere, "q", print, error_func=errors, daemon=True)
        consumer.start()
        try:
            ((thread, error),) = errors.wait()
            assert thread is consumer
            assert isinstance(error, Exception)
            eventually(lambda: consumer.consumer.recoveries > 3, what="it is tried again")
            assert len(errors.calls) == 1
            assert consumer.channel is None
            assert consumer.is_consuming is False
            assert not consumer._consumer_started.is_set()
        finally:
            consumer.join(120.0)
        assert not consumer.is_alive()
        assert consumer.is_consumer_alive is False
        assert consumer.is_consuming is False
        assert len(errors.calls) == 1
