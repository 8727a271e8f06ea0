"""A consumer that answers much moves to where answers leave by the channel of their requests."""

from __future__ import annotations

import time
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector, create_mq_callback
from neon_mq_connector.client import RequestClient
from neon_mq_connector.consumers import consumer as consumer_module
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.envelope import DIRECT_REPLY_TO, REPLY_QUEUE
from neon_mq_connector.testing.running import RunningBroker
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.integration.conftest import MakeConnector, run
from tests.support.answering import MANY, Squares, ask, ask_until_it_has_moved, has_moved
from tests.support.polling import eventually

QUEUE = "squares"


def start(make_connector: MakeConnector, squares: Squares, **registration: Any) -> MQConnector:
    service = make_connector()
    settings = {"auto_ack": False, **registration}
    service.register_consumer("squares", service.vhost, QUEUE, squares, **settings)
    return run(service)


def connection_names(broker: RunningBroker, vhost: str) -> set[str]:
    return {
        str(row.get("client_properties", {}).get("connection_name", "")).rpartition(" ")[2]
        for row in broker.list_connections(vhost)
    }


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_move_under_load_loses_nothing_and_repeats_nothing(
    make_connector: MakeConnector, client: RequestClient, concurrency: int
) -> None:
    squares = Squares()
    service = start(make_connector, squares, concurrency=concurrency)
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


class Decorated(MQConnector):
    """Squares that are returned."""

    @create_mq_callback()
    def square(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"square": body["n"] ** 2}

    @create_mq_callback()
    async def square_async(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"square": body["n"] ** 2}


@pytest.mark.parametrize("name", ["square", "square_async"])
def test_a_decorated_callback_that_acknowledges_on_success_moves_too(
    make_connector: MakeConnector, client: RequestClient, name: str
) -> None:
    service = make_connector(Decorated)
    callback = getattr(service, name)
    service.register_consumer("squares", service.vhost, QUEUE, callback, ack="on_success")
    run(service)
    ask_until_it_has_moved(client, service, "squares", QUEUE)
    assert ask(client, QUEUE, range(2 * MANY)) == 2 * MANY
    consumer = service.consumers["squares"].consumer
    assert consumer.recoveries == 0
    eventually(
        lambda: consumer.session is not None and consumer.session.settlement.open_count() == 0
    )


def test_others_stay_and_the_connections_say_what_they_are_for(
    make_connector: MakeConnector, client: RequestClient, broker: RunningBroker, vhost: str
) -> None:
    service = make_connector()
    for name in ("squares", "quiet"):
        service.register_consumer(name, vhost, name, Squares(), auto_ack=False)
    run(service)
    eventually(lambda: "consuming" in connection_names(broker, vhost))
    assert "answering" not in connection_names(broker, vhost)
    ask_until_it_has_moved(client, service, "squares", "squares")
    assert not has_moved(service, "quiet")
    assert ask(client, "quiet", range(5)) == 5
    eventually(lambda: {"consuming", "answering"} <= connection_names(broker, vhost))
    health = {each.name for each in service.health().connections}
    assert {f"mq-io:{vhost}", f"mq-io-answers:{vhost}"} <= health


@pytest.mark.parametrize(
    "registration",
    [
        pytest.param({"auto_ack": True}, id="acked-before-it-is-answered"),
        pytest.param({"arguments": {"x-single-active-consumer": True}}, id="would-lose-its-place"),
    ],
)
def test_a_consumer_that_must_not_move_stays(
    make_connector: MakeConnector, client: RequestClient, registration: dict[str, Any]
) -> None:
    squares = Squares()
    service = start(make_connector, squares, **registration)
    for _ in range(3):
        assert ask(client, QUEUE, range(MANY)) == MANY
    assert not has_moved(service, "squares")
    assert len(squares.handled) == 3 * MANY


def test_a_move_that_takes_too_long_is_given_up_and_the_queue_is_served_on(
    make_connector: MakeConnector, client: RequestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "OLDEST", 1000.0)
    squares = Squares(keeps=lambda n: n == 7 and not squares.kept)  # one is left unsettled
    service = start(make_connector, squares)
    consumer = service.consumers["squares"].consumer
    given_up: list[bool] = []
    give_up = consumer._moves.given_up

    def note_and_give_up() -> None:
        given_up.append(True)
        give_up()

    monkeypatch.setattr(consumer._moves, "given_up", note_and_give_up)

    def is_given_up() -> bool:
        assert ask(client, QUEUE, range(MANY)) == MANY
        return bool(given_up)

    eventually(is_given_up, what="a move was tried")
    assert not has_moved(service, "squares")
    channel, tag = squares.kept.pop()
    assert channel.is_open  # and can be settled still
    channel.basic_ack(tag)
    assert ask(client, QUEUE, range(5)) == 5
    assert consumer.recoveries == 0
    service.stop()
    assert squares.redelivered == 0


def test_a_queue_with_a_slow_callback_is_not_stopped_for_a_move(
    make_connector: MakeConnector, client: RequestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    squares = Squares(keeps=lambda n: n == 7 and not squares.kept)
    service = start(make_connector, squares)
    consumer = service.consumers["squares"].consumer
    begun: list[bool] = []
    monkeypatch.setattr(Session, "finish_flow", lambda *_: begun.append(True))
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        assert ask(client, QUEUE, range(MANY)) == MANY
    assert not begun
    assert not consumer._moves.is_wanted()


def test_who_wants_to_know_of_a_loss_is_not_told_of_a_move(
    make_connector: MakeConnector, client: RequestClient
) -> None:
    told: list[object] = []

    class Cautious(Squares):
        def __call__(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
            if not self.handled:
                channel.add_on_close_callback(lambda _channel, reason: told.append(reason))
            super().__call__(channel, method, properties, body)

    service = start(make_connector, Cautious())
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        assert ask(client, QUEUE, range(MANY)) == MANY
    assert not told
    assert not has_moved(service, "squares")


def test_a_queue_that_somebody_else_has_made_otherwise_stays_where_it_is(
    make_connector: MakeConnector, client: RequestClient, channel: BlockingChannel
) -> None:
    # without a consumer for a moment it would be gone, and what waits in it
    channel.queue_declare(QUEUE, durable=True, auto_delete=True)
    squares = Squares()
    service = start(make_connector, squares, durable=True)
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        assert ask(client, QUEUE, range(MANY)) == MANY
    assert not has_moved(service, "squares")
    assert squares.redelivered == 0


def test_a_stop_in_the_middle_of_a_move_gives_back_what_is_not_settled(
    make_connector: MakeConnector,
    client: RequestClient,
    connection_params: pika.ConnectionParameters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer_module, "LONGEST_MOVE", 30.0)
    monkeypatch.setattr(consumer_module, "OLDEST", 1000.0)
    squares = Squares(keeps=lambda n: n == 7)
    service = start(make_connector, squares, durable=True)
    consumer = service.consumers["squares"].consumer
    asked = 0

    def has_no_flow() -> bool:
        nonlocal asked
        for n in range(100):
            client.submit(QUEUE, {"n": n}, timeout=60.0)
        asked += 100
        return consumer.session is not None and not consumer.session.consumer_tag

    eventually(has_no_flow)
    service.stop()
    with pika.BlockingConnection(connection_params) as connection:
        other = connection.channel()

        def left() -> int:
            return int(other.queue_declare(QUEUE, passive=True).method.message_count)

        eventually(lambda: left() == asked - len(squares.handled) + len(squares.kept))


class Parts(Squares):
    """Answers in parts, where it is asked to, every third of which is large; and then as ever."""

    def __init__(self, first_is_large: bool) -> None:
        super().__init__()
        self._shift = 0 if first_is_large else 2

    def __call__(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        for n in range(b64_to_dict(body).get("parts", 0)):
            channel.basic_publish(
                "",
                properties.reply_to,
                b"%d %s" % (n, b"x" * (100_000 if n % 3 == self._shift else 10)),
                pika.BasicProperties(correlation_id=properties.correlation_id),
            )
        super().__call__(channel, method, properties, body)


@pytest.mark.parametrize("first_is_large", [False, True])
def test_the_answers_to_one_request_stay_in_order_whatever_their_size(
    make_connector: MakeConnector,
    client: RequestClient,
    channel: BlockingChannel,
    first_is_large: bool,
) -> None:
    service = start(make_connector, Parts(first_is_large))
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
