"""Faults where answers leave: on the channel of their requests, or on the publisher's."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pika
import pytest

from neon_mq_connector import MQConnector, create_mq_callback
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.envelope import DIRECT_REPLY_TO
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.testing.embedded import publishing
from neon_mq_connector.testing.proxy import FaultProxy
from tests.faults.conftest import BREAKS, note, register, run
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.answering import MANY, Squares, ask, ask_until_it_has_moved, has_moved
from tests.support.polling import eventually, never

QUEUE = "squares"

Alarm = Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture
def squares() -> Squares:
    return Squares()


@pytest.fixture
def answering(
    make_service: Callable[..., MQConnector],
    client: RequestClient,
    squares: Squares,
    request: pytest.FixtureRequest,
) -> MQConnector:
    """A service whose consumer has moved; by default its callback is a function that acks."""
    kind = getattr(request, "param", "")
    callback: Any = squares.as_coroutine if kind == "coroutine" else squares
    service = make_service(Decorated, stop_timeout=1)
    assert isinstance(service, Decorated)
    if "on receipt" in kind:  # what is sent again is what the library sends
        service.may_go.set()
        squares.handled = service.handled
        callback = service.square_async if "coroutine" in kind else service.square
    service.register_consumer(
        "squares", service.vhost, QUEUE, callback, auto_ack="on receipt" in kind, durable=True
    )
    run(service)
    ask_until_it_has_moved(client, service, "squares", QUEUE)
    squares.handled.clear()
    return service


def have_it_blocked(service: MQConnector) -> None:
    """During an alarm: have the broker read no more from where answers leave."""
    session = service.consumers["squares"].consumer.session
    assert session is not None
    message = Message("", DIRECT_REPLY_TO + ".gone", b"", pika.BasicProperties())
    session.answer(message, timeout=120)
    eventually(lambda: session.link.blocked_reason is not None, what="the alarm is known")


@pytest.mark.parametrize(
    "answering",
    ["function", "coroutine", "function, on receipt", "coroutine, on receipt"],
    indirect=True,
)
def test_each_request_is_answered_whatever_becomes_of_the_line(
    answering: MQConnector, client: RequestClient, squares: Squares, proxy: FaultProxy
) -> None:
    consumer = answering.consumers["squares"].consumer

    def break_when_some_are_answered(kind: str) -> None:
        eventually(lambda: len(squares.handled) > 50, interval=0.001)
        BREAKS[kind](proxy)

    for kind in BREAKS:
        before = consumer.recoveries
        breaker = threading.Thread(target=break_when_some_are_answered, args=(kind,))
        breaker.start()
        # an ack that had gone without its answer would leave one without any
        assert ask(client, QUEUE, range(MANY)) == MANY
        breaker.join(120)
        eventually(lambda: consumer.recoveries > before, what="the line was broken")  # noqa: B023
        assert set(squares.handled) == set(range(MANY)), kind
        squares.handled.clear()
    eventually(lambda: has_moved(answering, "squares"), what="it is back where it was")
    assert answering.check_health()


@pytest.mark.embedded_broker
def test_an_alarm_holds_up_who_answers_and_nobody_else(
    answering: MQConnector,
    client: RequestClient,
    squares: Squares,
    ledger: Ledger,
    peer: Peer,
    alarm: Alarm,
) -> None:
    peer.declare("quiet")
    answering.register_consumer(
        "quiet", answering.vhost, "quiet", note(ledger), ack="on_success", durable=True
    )
    answering.run_consumers(("quiet",))
    eventually(lambda: answering.consumers["quiet"].is_consuming)
    quiet = peer.send("quiet", 50, prefix="quiet")
    with alarm():
        have_it_blocked(answering)
        peer.wait_until_handled(quiet)
        peer.wait_until_settled("quiet")
        assert has_moved(answering, "squares")
    assert ask(client, QUEUE, range(MANY)) == MANY
    assert set(squares.handled) == set(range(MANY))
    assert answering.check_health()


@pytest.mark.embedded_broker
def test_a_consumer_that_loses_its_queue_during_an_alarm_consumes_again_elsewhere(
    answering: MQConnector,
    peer: Peer,
    alarm: Alarm,
) -> None:
    consumer = answering.consumers["squares"].consumer
    with alarm():
        have_it_blocked(answering)
        with peer.channel() as other:
            other.queue_delete(QUEUE)
        eventually(lambda: consumer.recoveries > 0, what="the loss is seen")
        eventually(lambda: consumer.session is not None and consumer.session.is_open)
        assert not has_moved(answering, "squares")
        eventually(lambda: peer.consumers(QUEUE) == 1)
        eventually(answering.check_health)


@pytest.mark.embedded_broker
def test_a_stop_during_an_alarm_keeps_to_its_time(
    answering: MQConnector,
    alarm: Alarm,
) -> None:
    with alarm():
        have_it_blocked(answering)
        stopper = threading.Thread(target=answering.stop)
        stopper.start()
        stopper.join(120)
        assert not stopper.is_alive()


@pytest.mark.embedded_broker
def test_an_answer_that_the_broker_refuses_costs_others_nothing(
    answering: MQConnector, client: RequestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "MAX_BODY", 4_000)
    future = client.submit(RequestSpec(QUEUE, {"n": 3, "size": 5_000}, timeout=120))
    # the request came again, was answered where a refusal harms nobody, and was parked
    consumer = answering.consumers["squares"].consumer
    eventually(lambda: consumer.failures.parked == 1)
    future.cancel()
    assert ask(client, QUEUE, range(2 * MANY)) == 2 * MANY
    assert not has_moved(answering, "squares")
    assert consumer.recoveries == 1
    assert answering.check_health()


# -- answers that the broker does not confirm ------------------------------------------------------


FEW = 30


class Decorated(MQConnector):
    """A decorated callback that waits until it may go on, as a function and as a coroutine.

    Attributes:
        may_go: set when callbacks may go on.
        handled: the numbers that were asked for, each time that they were.
        errors: what was told to ``on_error``.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.may_go = threading.Event()
        self.handled: list[int] = []
        self.errors: list[BaseException] = []

    @create_mq_callback()
    def square(self, body: dict[str, Any]) -> dict[str, Any]:
        assert self.may_go.wait(120)
        self.handled.append(body["n"])
        return {"square": body["n"] ** 2}

    @create_mq_callback()
    async def square_async(self, body: dict[str, Any]) -> dict[str, Any]:
        while not self.may_go.is_set():
            await asyncio.sleep(0.01)
        self.handled.append(body["n"])
        return {"square": body["n"] ** 2}

    def on_error(self, _thread: Any, error: BaseException) -> None:
        self.errors.append(error)


@pytest.mark.own_broker
@pytest.mark.parametrize("ack", ["on_success", "on_receipt"])
def test_callbacks_go_on_while_their_answers_wait_and_one_whose_confirm_is_lost_is_sent_again(
    make_service: Callable[..., MQConnector],
    engine: dict[str, Any],
    client: RequestClient,
    peer: Peer,
    proxy: FaultProxy,
    alarm: Alarm,
    ack: str,
) -> None:
    service = make_service(Decorated)
    assert isinstance(service, Decorated)
    callback = service.square if engine else service.square_async
    register(service, QUEUE, callback, service.on_error, ack=ack, **engine)
    run(service)
    service.send_message({"message_id": "first"}, queue="elsewhere")  # there is a connection
    publisher = service._mq_core.hosts.connections(service.vhost).publisher
    futures = [client.submit(RequestSpec(QUEUE, {"n": n}, timeout=120.0)) for n in range(FEW)]
    eventually(lambda: peer.counts(QUEUE)[0] == 0, what="the requests are there")
    with alarm():
        service.may_go.set()
        eventually(lambda: len(service.handled) == FEW, what="all callbacks have run")
        if ack == "on_success":
            never(lambda: sum(peer.counts(QUEUE)) != FEW, what="a request is acked too early")
        assert not any(future.done() for future in futures)
        if ack == "on_receipt":
            eventually(lambda: publisher.unconfirmed == FEW, what="the answers wait")
            proxy.reset()
    assert [future.result(120.0)["square"] for future in futures] == [n**2 for n in range(FEW)]
    peer.wait_until_settled(QUEUE)
    assert sorted(service.handled) == list(range(FEW))
    assert ack == "on_receipt" or service.errors == []
