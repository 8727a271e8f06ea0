"""A callback that does what the broker forbids gets its error; nobody else notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.exceptions import AMQPError, ChannelClosedByBroker

from neon_mq_connector import MQConnector
from tests.faults.conftest import note, run
from tests.faults.peer import DEAD, Peer
from tests.support.polling import eventually

SIBLINGS = ("sibling-a", "sibling-b")
GUILTY = "guilty"
LOCKED = "locked"


def _declares_with_other_properties(channel: Any, method: Any) -> None:
    # a queue that exists is used as it is, with a line in the log
    channel.queue_declare("other-properties", durable=False, auto_delete=True)


def _declares_an_exchange_of_another_type(channel: Any, method: Any) -> None:
    channel.exchange_declare("amq.topic", exchange_type="fanout")


def _declares_a_queue_that_another_connection_holds(channel: Any, method: Any) -> None:
    channel.queue_declare(LOCKED, passive=True)


def _deletes_a_queue_that_another_connection_holds(channel: Any, method: Any) -> None:
    channel.queue_delete(LOCKED)


def _deletes_a_queue_that_is_in_use(channel: Any, method: Any) -> None:
    channel.queue_delete(SIBLINGS[0], if_unused=True)


def _binds_to_a_missing_exchange(channel: Any, method: Any) -> None:
    channel.queue_bind(GUILTY, "no-such-exchange", "key")


def _looks_for_a_missing_queue(channel: Any, method: Any) -> None:
    channel.queue_declare("no-such-queue", passive=True)


def _gets_from_a_missing_queue(channel: Any, method: Any) -> None:
    channel.basic_get("no-such-queue")


def _publishes_to_a_missing_exchange(channel: Any, method: Any) -> None:
    channel.basic_publish("no-such-exchange", "key", b"")


def _acks_an_unknown_tag(channel: Any, method: Any) -> None:
    channel.basic_ack(method.delivery_tag + 1_000)


def _acks_twice(channel: Any, method: Any) -> None:
    channel.basic_ack(method.delivery_tag)
    channel.basic_ack(method.delivery_tag)


def _rejects_what_is_acked(channel: Any, method: Any) -> None:
    channel.basic_ack(method.delivery_tag)
    channel.basic_reject(method.delivery_tag)
    channel.basic_nack(method.delivery_tag)


def _asks_for_global_qos(channel: Any, method: Any) -> None:
    channel.basic_qos(prefetch_count=10, global_qos=True)


REFUSED: list[tuple[Callable[[Any, Any], None], int]] = [
    (_declares_an_exchange_of_another_type, 406),
    (_declares_a_queue_that_another_connection_holds, 405),
    (_deletes_a_queue_that_another_connection_holds, 405),
    (_deletes_a_queue_that_is_in_use, 406),
    (_binds_to_a_missing_exchange, 404),
    (_looks_for_a_missing_queue, 404),
    (_gets_from_a_missing_queue, 404),
    (_publishes_to_a_missing_exchange, 404),
]
TOLERATED: list[Callable[[Any, Any], None]] = [
    _declares_with_other_properties,
    _acks_an_unknown_tag,
    _acks_twice,
    _rejects_what_is_acked,
    _asks_for_global_qos,
]


class Scene:
    """A service with two queues that behave, and one whose callback does as it is told."""

    def __init__(self, service: MQConnector, engine: dict[str, Any], peer: Peer) -> None:
        self.service = service
        self.peer = peer
        self.errors: list[BaseException] = []
        self.raised: list[BaseException | None] = []
        self.sibling_errors: list[BaseException] = []
        self._engine = engine
        self._done = threading.Event()
        for queue in SIBLINGS:
            service.register_consumer(
                queue,
                service.vhost,
                queue,
                note(peer.ledger),
                lambda _thread, error: self.sibling_errors.append(error),
                ack="on_success",
                durable=True,
                **engine,
            )

    def register(self, callback: Any, **registration: Any) -> None:
        """Register the one who will be guilty, and run."""
        self.service.register_consumer(
            GUILTY,
            self.service.vhost,
            GUILTY,
            callback,
            lambda _thread, error: self.errors.append(error),
            **{"ack": "on_success", "durable": True, **registration, **self._engine},
        )
        run(self.service)

    def commit(self, *deeds: Callable[[Any, Any], None]) -> None:
        """Have callbacks do these, one after another and all twice, while the siblings work."""

        def callback(channel: Any, method: Any, properties: Any, body: Any) -> None:
            self.peer.ledger.handled(properties.message_id)
            try:
                deeds[len(self.raised) % len(deeds)](channel, method)
            except BaseException as error:
                self.raised.append(error)
            else:
                self.raised.append(None)

        self.register(callback)
        for number in range(2):  # once more: the first time must not have spoilt anything
            self.peer.send(GUILTY, len(deeds), prefix=f"guilty{number}-")
            self.work(f"round{number}-")
        eventually(lambda: self.raised, what="the deed is done")

    def work(self, prefix: str) -> None:
        """See that the siblings do theirs."""
        for queue in SIBLINGS:
            ids = self.peer.send(queue, 10, prefix=f"{prefix}{queue}-")
            self.peer.wait_until_handled(ids)

    def nobody_noticed(self) -> None:
        """See that the siblings were not disturbed in the least."""
        self.work("after-")
        assert self.sibling_errors == []
        for queue in SIBLINGS:
            assert self.service.consumers[queue].consumer.recoveries == 0
            self.peer.wait_until_settled(queue)
        self.service.stop()
        account = self.peer.close_the_books(GUILTY, *SIBLINGS)
        assert account.repeated == 0


@pytest.fixture
def scene(service: MQConnector, engine: dict[str, Any], peer: Peer) -> Scene:
    return Scene(service, engine, peer)


@pytest.fixture
def locked(connection_params: pika.ConnectionParameters) -> Iterator[None]:
    """A queue that belongs to somebody else's connection."""
    holder = pika.BlockingConnection(connection_params)
    holder.channel().queue_declare(LOCKED, exclusive=True)
    yield
    holder.close()


def test_what_can_be_tolerated_is(scene: Scene, peer: Peer) -> None:
    peer.declare("other-properties")
    scene.commit(*TOLERATED)
    eventually(lambda: scene.raised == [None] * 2 * len(TOLERATED), what="all happened twice")
    assert scene.errors == []
    peer.wait_until_settled(GUILTY)
    assert scene.service.check_health()
    scene.nobody_noticed()


def test_what_the_broker_refuses_is_raised_as_pika_does(
    scene: Scene, locked: None, peer: Peer
) -> None:
    scene.commit(*(deed for deed, _code in REFUSED))
    eventually(lambda: len(scene.raised) == 2 * len(REFUSED), what="all happened twice")
    for (deed, code), error in zip(REFUSED * 2, scene.raised, strict=True):
        assert isinstance(error, ChannelClosedByBroker), deed.__name__
        assert error.reply_code == code, deed.__name__
    peer.wait_until_settled(GUILTY)
    assert scene.service.check_health()
    scene.nobody_noticed()


def _lets_a_refusal_pass(channel: Any, *_: Any) -> None:
    channel.queue_bind(GUILTY, "no-such-exchange", "key")


def _ends_its_thread(*_: Any) -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    "callback, kind", [(_lets_a_refusal_pass, AMQPError), (_ends_its_thread, SystemExit)]
)
def test_a_callback_that_fails_so_fails_alone(
    scene: Scene, peer: Peer, callback: Any, kind: type[BaseException]
) -> None:
    scene.register(callback, ack="on_receipt")
    peer.send(GUILTY, 3, prefix="doomed")
    eventually(lambda: peer.counts(GUILTY + DEAD) == (3, 0), what="the messages are parked")
    assert len(scene.errors) == 3
    assert all(isinstance(error, kind) for error in scene.errors)
    assert scene.service.check_health()
    scene.nobody_noticed()


@pytest.mark.parametrize("way", ["close", "stop_consuming", "basic_cancel"])
def test_a_callback_that_closes_its_channel_stops_its_own_consumer_only(
    way: str, scene: Scene, peer: Peer
) -> None:
    def deed(channel: Any, method: Any) -> None:
        getattr(channel, way)()

    scene.commit(deed)
    assert scene.raised == [None]
    eventually(lambda: peer.consumers(GUILTY) == 0, what="its consumer is gone")
    scene.nobody_noticed()


def test_a_callback_that_closes_its_connection_does_not_close_its_siblings(
    scene: Scene, peer: Peer
) -> None:
    def deed(channel: Any, method: Any) -> None:
        channel.connection.close()

    scene.commit(deed)
    scene.nobody_noticed()
