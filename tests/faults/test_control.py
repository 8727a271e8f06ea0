"""A job of the control connection that never ends stops nothing but itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import WaitTimeoutError
from neon_mq_connector.link import Waiter
from neon_mq_connector.topology import Queue, declare_queue
from tests.faults.conftest import Start, note, register, run
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually

#: Long enough for whatever is answered at all.
PATIENCE = 60


def connections_of(service: MQConnector) -> Connections:
    return service._mq_core.hosts.connections(service.vhost)


def hang(connections: Connections) -> None:
    """Ask what pika waits for without end: the broker answers with another name."""
    with pytest.raises(WaitTimeoutError):
        connections.control.call(
            "hanging", lambda channel: channel.queue_declare("a\n", passive=False), timeout=0.3
        )


def block(connections: Connections, release: threading.Event) -> None:
    """Have the thread wait for something that no end of a connection ends."""
    with pytest.raises(WaitTimeoutError):
        connections.control.call("blocking", lambda _: release.wait(PATIENCE), timeout=0.3)


def declare(connections: Connections, name: str) -> str:
    return connections.control.perform(
        f"declaring {name}", lambda facts: declare_queue(Queue(name), facts), timeout=PATIENCE
    ).name


def control_threads() -> int:
    return sum(thread.name.startswith("mq-control") for thread in threading.enumerate())


@pytest.mark.parametrize("how", ["hangs", "blocks"])
def test_what_comes_after_a_job_that_does_not_end_is_done_and_its_thread_ends(
    service: MQConnector, peer: Peer, release: threading.Event, how: str
) -> None:
    connections = connections_of(service)
    for number in range(6 if how == "hangs" else 1):
        hang(connections) if how == "hangs" else block(connections, release)
        assert declare(connections, f"q{number}") == f"q{number}"
        assert peer.counts(f"q{number}") == (0, 0)
        assert control_threads() <= 2
    if how == "blocks":  # no end of a connection frees these
        for _ in range(2):
            block(connections, release)
        assert control_threads() <= 2
    release.set()
    eventually(lambda: control_threads() == 1, what="the threads that were given up have ended")
    assert declare(connections, "at last") == "at last"
    service.stop()
    eventually(lambda: control_threads() == 0, what="nothing is left after a stop")


def test_what_waits_behind_a_job_that_hangs_is_done_by_a_successor(service: MQConnector) -> None:
    connections = connections_of(service)
    declare(connections, "before")
    waiting = threading.Event()
    answers: Future[str] = Future()

    def wait_behind() -> None:
        waiting.set()
        answers.set_result(declare(connections, "behind"))

    behind = threading.Thread(target=wait_behind)

    def operation(channel: Any) -> Any:
        behind.start()
        waiting.wait(PATIENCE)
        return channel.queue_declare("a\n")

    with pytest.raises(WaitTimeoutError):
        connections.control.call("hanging", operation, timeout=1)
    assert answers.result(PATIENCE) == "behind"
    behind.join()


def test_a_callback_declares_while_a_job_hangs(
    start: Start, service: MQConnector, peer: Peer
) -> None:
    declared: Future[str] = Future()

    def callback(channel: Any, _method: Any, _properties: Any, _body: Any) -> None:
        try:
            declared.set_result(channel.queue_declare("its own").method.queue)
        except BaseException as error:
            declared.set_exception(error)

    start("stage", callback, ack="on_receipt", durable=False)
    hang(connections_of(service))
    service.send_message({"a": 1}, queue="stage", expiration=None)
    assert declared.result(PATIENCE) == "its own"
    assert peer.counts("its own") == (0, 0)
    assert service.check_health()


def test_two_exchanges_that_are_deleted_under_busy_senders_cost_no_message(
    make_service: Callable[..., MQConnector], peer: Peer
) -> None:
    service: Any = make_service(publish_timeout=10, operation_timeout=10)
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
        errors = [error for each in futures if (error := each.exception(PATIENCE)) is not None]
        assert errors == []


def test_a_consumer_of_a_durable_queue_does_not_wait_for_a_job_that_hangs(
    service: MQConnector, ledger: Ledger
) -> None:
    # as for a classic queue whose node is down: RabbitMQ takes a minute to answer its declare
    release = threading.Event()
    connections_of(service).control.submit(
        lambda _: release.wait(PATIENCE), Waiter(), timeout=PATIENCE
    )
    try:
        register(service, "other", note(ledger))
        run(service)
        eventually(service.check_health, timeout=PATIENCE / 2, what="it consumes")
    finally:
        release.set()
