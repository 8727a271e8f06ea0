"""A consumer that answers much moves to where answers leave by the channel of their requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector, create_mq_callback
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.consumers.sessions import Sessions
from neon_mq_connector.envelope import DIRECT_REPLY_TO, REPLY_QUEUE
from neon_mq_connector.errors import ConnectionLostError
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.integration.conftest import MakeConnector, run
from tests.support.answering import MANY, Squares, ask, ask_until_it_has_moved, has_moved
from tests.support.polling import eventually

QUEUE = "squares"


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neon_mq_connector.consumers.consumer._IDLE_WAIT", 0.2)


def start(make_connector: MakeConnector, squares: Squares, **registration: Any) -> MQConnector:
    service = make_connector()
    settings = {"auto_ack": False, **registration}
    service.register_consumer("squares", service.vhost, QUEUE, squares, **settings)
    return run(service)


class Returning(Squares):
    """Squares that are returned by a decorated callback."""

    @create_mq_callback()
    def square(self, body: dict[str, Any]) -> dict[str, Any]:
        self.handled.append(body["n"])
        return {"square": body["n"] ** 2}

    @create_mq_callback()
    async def square_async(self, body: dict[str, Any]) -> dict[str, Any]:
        self.handled.append(body["n"])
        return {"square": body["n"] ** 2}


@pytest.mark.parametrize("how", ["one at a time", "four at a time", "square", "square_async"])
def test_a_move_under_load_loses_nothing_and_repeats_nothing(
    make_connector: MakeConnector, client: RequestClient, how: str
) -> None:
    squares, service = Returning(), make_connector()
    callback: Any = getattr(squares, how, squares)
    options: dict[str, Any] = {"ack": "on_success"}
    if callback is squares:
        options = {"auto_ack": False, "concurrency": 4 if how == "four at a time" else 1}
    service.register_consumer("squares", service.vhost, QUEUE, callback, **options)
    run(service)
    assert not has_moved(service, "squares")
    asked = ask_until_it_has_moved(client, service, "squares", QUEUE)
    assert sorted(squares.handled) == sorted(list(range(MANY)) * (asked // MANY))
    assert squares.redelivered == 0
    assert service.check_health()

    # from there on, too
    squares.handled.clear()
    assert ask(client, QUEUE, range(2 * MANY)) == 2 * MANY
    assert sorted(squares.handled) == list(range(2 * MANY))
    consumer = service.consumers["squares"].consumer
    assert consumer.recoveries == 0
    eventually(
        lambda: consumer.session is not None and consumer.session.settlement.open_count() == 0
    )


class Cautious(Squares):
    """Wants to know of a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []

    def __call__(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if not self.handled:
            channel.add_on_close_callback(lambda _channel, reason: self.told.append(reason))
        super().__call__(channel, method, properties, body)


@pytest.mark.parametrize(
    "squares, registration",
    [
        pytest.param(
            Squares, {"arguments": {"x-single-active-consumer": True}}, id="would-lose-its-place"
        ),
        pytest.param(Squares, {"durable": True}, id="a-queue-that-would-be-gone-for-a-moment"),
        pytest.param(Cautious, {}, id="wants-to-know-of-a-loss"),
        # it may count on having no more of them than its prefetch
        pytest.param(lambda: Squares(keeps=lambda n: n == 7), {}, id="leaves-messages-unsettled"),
    ],
)
def test_a_consumer_that_must_not_move_stays_where_its_sibling_moves(
    make_connector: MakeConnector,
    client: RequestClient,
    channel: BlockingChannel,
    squares: Callable[[], Squares],
    registration: dict[str, Any],
) -> None:
    if "durable" in registration:
        channel.queue_declare(QUEUE, durable=True, auto_delete=True)
    stays = squares()
    service = start(make_connector, stays, **registration)
    service.register_consumer("sibling", service.vhost, "sibling", Squares(), auto_ack=False)
    service.run_consumers(["sibling"])

    def has_sibling_moved() -> bool:
        for queue in (QUEUE, "sibling"):
            assert ask(client, queue, range(MANY)) == MANY
        return has_moved(service, "sibling")

    eventually(has_sibling_moved, what="the sibling has moved")
    assert ask(client, QUEUE, range(MANY)) == MANY
    assert not has_moved(service, "squares")
    assert stays.redelivered == 0
    assert not getattr(stays, "told", ())
    for kept, tag in stays.kept:
        assert kept.is_open
        kept.basic_ack(tag)


class OneIsSlow(Squares):
    """One request, the first of number 0, is answered when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.release = threading.Event(), threading.Event()

    def __call__(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if not self.entered.is_set() and b64_to_dict(body)["n"] == 0:
            self.entered.set()
            assert self.release.wait(120)
        super().__call__(channel, method, properties, body)


def move_past_one(
    make_connector: MakeConnector, client: RequestClient
) -> tuple[MQConnector, OneIsSlow, Future[dict[str, Any]], Session]:
    """Have a consumer move while one request is not answered; its session is the former one."""
    squares = OneIsSlow()
    service = start(make_connector, squares, concurrency=2, durable=True)
    slow = client.submit(RequestSpec(QUEUE, {"n": 0}, timeout=120))
    assert squares.entered.wait(120)
    former = service.consumers["squares"].consumer.session
    assert former is not None
    ask_until_it_has_moved(client, service, "squares", QUEUE)
    return service, squares, slow, former


def test_what_is_unsettled_at_a_move_is_answered_and_settled_where_it_came(
    make_connector: MakeConnector, client: RequestClient, channel: BlockingChannel
) -> None:
    service, squares, slow, former = move_past_one(make_connector, client)
    consumer = service.consumers["squares"].consumer
    assert former.is_attached
    eventually(lambda: former.settlement.open_count() == 1, what="all others are acked")
    assert not slow.done()
    squares.release.set()
    assert slow.result(120)["square"] == 0
    eventually(lambda: not former.is_attached, what="the former channel is closed")
    assert has_moved(service, "squares")
    assert (squares.redelivered, consumer.recoveries) == (0, 0)
    service.stop()
    assert channel.queue_declare(QUEUE, passive=True).method.message_count == 0


@pytest.mark.parametrize("lost", ["the former connection", "the answering connection", "both"])
def test_after_a_loss_while_a_message_of_before_a_move_is_unsettled_all_are_answered(
    make_connector: MakeConnector, client: RequestClient, lost: str
) -> None:
    service, squares, slow, former = move_past_one(make_connector, client)
    consumer = service.consumers["squares"].consumer
    moved = consumer.session
    assert moved is not None
    if lost != "the answering connection":
        cut(former)
        eventually(lambda: not former.is_attached)
    if lost != "the former connection":
        cut(moved)
        eventually(lambda: consumer.recoveries == 1)
    assert ask(client, QUEUE, range(MANY)) == MANY
    squares.release.set()
    assert slow.result(120)["square"] == 0
    eventually(lambda: not former.is_attached)
    assert ask(client, QUEUE, range(5)) == 5
    assert consumer.recoveries == (0 if lost == "the former connection" else 1)
    assert service.check_health()


def cut(session: Session) -> None:
    """Lose the connection of a session: the broker closes it for a frame that makes no sense."""
    transport: Any = session.link_channel._transport
    transport.send(b"x" * 8, session.link_channel)


@pytest.mark.parametrize("fault", ["cut before it leaves", "cut when it has left", "attaching"])
def test_all_are_answered_whatever_fails_in_the_middle_of_a_move(
    make_connector: MakeConnector,
    client: RequestClient,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    leave, attach, faults = Sessions.leave, Sessions._open, [fault] * 3

    def leave_and_fail(sessions: Sessions, session: Session) -> None:
        if faults and faults[0] == "cut before it leaves":
            faults.pop()
            cut(session)
            eventually(lambda: not session.is_attached)
        leave(sessions, session)
        if faults and faults[0] == "cut when it has left":
            faults.clear()
            cut(session)
            eventually(lambda: not session.is_attached)

    def attach_or_fail(sessions: Sessions, *, reset: bool, answering: bool) -> Session:
        if answering and faults:
            faults.pop()
            raise ConnectionLostError("as the test says")
        return attach(sessions, reset=reset, answering=answering)

    monkeypatch.setattr(Sessions, "leave", leave_and_fail)
    monkeypatch.setattr(Sessions, "_open", attach_or_fail)
    squares = Squares()
    service = start(make_connector, squares, durable=True, concurrency=4)
    ask_until_it_has_moved(client, service, "squares", QUEUE)
    assert not faults
    assert set(squares.handled) == set(range(MANY))
    recoveries = service.consumers["squares"].consumer.recoveries
    assert recoveries == (0 if fault == "cut when it has left" else 3)
    assert service.check_health()


def test_a_stop_waits_for_callbacks_of_before_a_move_and_sends_their_acks(
    make_connector: MakeConnector, client: RequestClient, channel: BlockingChannel
) -> None:
    service, squares, slow, _former = move_past_one(make_connector, client)
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    eventually(lambda: service.consumers["squares"].consumer.is_stopping)
    squares.release.set()
    stopping.join(120)
    assert slow.result(120)["square"] == 0
    assert channel.queue_declare(QUEUE, passive=True).method.message_count == 0
    assert squares.redelivered == 0


class Parts(Squares):
    """Answers in parts, where it is asked to, every third of which is large; and then as ever."""

    def __call__(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        for n in range(b64_to_dict(body).get("parts", 0)):
            channel.basic_publish(
                "",
                properties.reply_to,
                b"%d %s" % (n, b"x" * (100_000 if n % 3 == 2 else 10)),
                pika.BasicProperties(correlation_id=properties.correlation_id),
            )
        super().__call__(channel, method, properties, body)


def test_the_answers_to_one_request_stay_in_order_whatever_their_size(
    make_connector: MakeConnector,
    client: RequestClient,
    channel: BlockingChannel,
) -> None:
    service = start(make_connector, Parts())
    ask_until_it_has_moved(client, service, "squares", QUEUE)
    seen: list[bytes] = []
    channel.basic_consume(
        DIRECT_REPLY_TO, lambda _c, _m, _p, body: seen.append(body), auto_ack=True
    )
    request = {"n": 1, "parts": 20, "message_id": "it", "routing_key": "neon.reply.nowhere"}
    properties = pika.BasicProperties(
        reply_to=DIRECT_REPLY_TO, correlation_id="1", headers={REPLY_QUEUE: "neon.reply.nowhere"}
    )
    channel.basic_publish("", QUEUE, dict_to_b64(request), properties)

    def has_come() -> bool:
        channel.connection.process_data_events(0.02)
        return len(seen) == 21

    eventually(has_come)
    assert [int(each.split()[0]) for each in seen[:20]] == list(range(20))
    assert has_moved(service, "squares")
