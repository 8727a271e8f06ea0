"""A job of the control connection that never ends stops nothing but itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.connections import Connections
from neon_mq_connector.control import control as control_module
from neon_mq_connector.errors import WaitTimeoutError
from neon_mq_connector.link import LinkState, Waiter
from neon_mq_connector.topology import BrokerFacts, Call, Queue, declare_queue
from tests.faults.conftest import Start, note, register, run
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually

#: Long enough for whatever is answered at all.
PATIENCE = 120


def connections_of(service: MQConnector) -> Connections:
    return service._mq_core.hosts.connections(service.vhost)


def hanging(_facts: BrokerFacts) -> Generator[Call, Any, None]:
    """Ask what pika waits for without end: the broker answers with another name."""
    yield Call("queue_declare", ("a\n",), {})


def declare(connections: Connections, name: str) -> str:
    return connections.control.perform(
        f"declaring {name}", lambda facts: declare_queue(Queue(name), facts), timeout=PATIENCE
    ).name


def control_threads() -> int:
    return sum(thread.name.startswith("mq-control") for thread in threading.enumerate())


def test_what_waits_behind_a_job_that_does_not_end_is_done_by_the_same_thread(
    service: MQConnector, peer: Peer
) -> None:
    connections = connections_of(service)
    for number in range(3):
        hangs: Waiter[None] = Waiter()
        connections.control.submit("hanging", hanging, hangs, timeout=0.3)
        assert declare(connections, f"q{number}") == f"q{number}"
        with pytest.raises(WaitTimeoutError):
            hangs.wait(0, "the job")
        assert peer.counts(f"q{number}") == (0, 0)
        assert control_threads() == 1
    service.stop()
    eventually(lambda: control_threads() == 0, what="nothing is left after a stop")


def test_an_idle_connection_is_closed_unless_a_queue_is_exclusive_to_it(
    start: Start, service: MQConnector, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_module, "IDLE_TIMEOUT", 0.3)
    link = connections_of(service).control.link
    for name in ("first", "second"):
        declare(connections_of(service), name)
        eventually(lambda: link.state is LinkState.IDLE, what="it is closed")
    assert link.generation == 2
    taken: Future[Any] = Future()

    def callback(channel: Any, _method: Any, _properties: Any, _body: Any) -> None:
        if taken.done():
            channel.queue_delete(taken.result())
            return
        own = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("", own, b"mine")
        taken.set_result(own)

    start("stage", callback, ack="on_receipt", durable=True)
    service.send_message({"a": 1}, queue="stage", expiration=None)
    own = taken.result(PATIENCE)
    control = connections_of(service).control
    eventually(
        lambda: control.get(own, timeout=PATIENCE)[2] == b"mine", interval=1.0, what="it is there"
    )
    service.send_message({"a": 2}, queue="stage", expiration=None)
    eventually(lambda: link.state is LinkState.IDLE, what="it is closed without the queue")


def test_two_exchanges_that_are_deleted_under_busy_senders_cost_no_message(
    service: MQConnector, peer: Peer
) -> None:
    exchanges = ("first", "second")
    for exchange in exchanges:
        service.send_message({"n": 0}, exchange=exchange, exchange_type="fanout")
    for _round in range(5):
        with peer.channel() as channel:
            for exchange in exchanges:
                channel.exchange_delete(exchange)
        futures = [
            service.submit_message({"n": number}, exchange=exchange, exchange_type="fanout")
            for number in range(100)
            for exchange in exchanges
        ]
        assert declare(connections_of(service), "meanwhile") == "meanwhile"
        assert [each.exception(PATIENCE) for each in futures] == [None] * 200


def test_a_consumer_of_a_durable_queue_does_not_wait_for_a_job_that_hangs(
    make_service: Callable[..., MQConnector], ledger: Ledger
) -> None:
    # as for a classic queue whose node is down: RabbitMQ takes a minute to answer its declare
    service = make_service(stop_timeout=1)
    connections_of(service).control.submit("hanging", hanging, Waiter(), timeout=PATIENCE)
    register(service, "other", note(ledger))
    run(service)
    eventually(service.check_health, timeout=PATIENCE / 2, what="it consumes")
