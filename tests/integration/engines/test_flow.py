"""The flow of messages changes while it lasts: the queue keeps its consumer, nothing comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector
from neon_mq_connector.testing import PrivateBroker
from tests.integration.conftest import (
    DropConnections,
    MakeConnector,
    Seen,
    Serve,
    consume,
    messages_in,
    put,
    watch_over,
)
from tests.support.polling import eventually, never

Engine = dict[str, Any]
Act = Callable[[Any, int], None]

MANY = 40
LARGE = bytes(50_000)
#: So much of it that four of those fit.
ROOM = 200_000


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neon_mq_connector.consumers.consumer._IDLE_WAIT", 0.2)
    monkeypatch.setattr("neon_mq_connector.service.liveness._FAST_FOR", 2.0)


class Numbered(Seen):
    """A callback that notes the numbers of its messages, and does something with some of them."""

    def __init__(self, act: Act = lambda _channel, _number: None) -> None:
        super().__init__()
        self.counts: list[int] = []  # as quorum queues count deliveries
        self.release = threading.Event()
        self.act = act

    def __call__(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.counts.append((properties.headers or {}).get("x-delivery-count", 0))
        self.act(channel, int(body[:4]))
        super().__call__(channel, method, properties, body)

    def block(self, _channel: Any, number: int) -> None:
        """Take long for the first."""
        if number == 0:
            self.block_all(_channel, number)

    def block_all(self, _channel: Any, _number: int) -> None:
        """Take long."""
        self.release.wait(120)

    @property
    def numbers(self) -> list[int]:
        return [int(body[:4]) for body in self.bodies]


def numbered(count: int, tail: bytes = b"") -> list[bytes]:
    return [b"%04d" % number + tail for number in range(count)]


def count_consumers(channel: BlockingChannel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.consumer_count)


def unacknowledged(broker: PrivateBroker, vhost: str) -> int:
    return sum(each.get("messages_unacknowledged", 0) for each in broker.list_queues(vhost))


def prefetch_of(connector: MQConnector) -> int:
    """Return the prefetch of its consumer; 0 while one follows another."""
    session = connector.consumers["c"].consumer.session
    return 0 if session is None or session.subscription._is_changing else session.prefetch


# -- the queue keeps its consumer -----------------------------------------------------------------


@pytest.mark.parametrize("what", ["asks for another prefetch", "is slow", "gets large messages"])
def test_an_adopted_queue_that_deletes_itself_lives_on(
    serve: Serve, what: str, engine: Engine, channel: BlockingChannel
) -> None:
    def ask(channel: Any, number: int) -> None:
        if number % 10 == 0:
            channel.basic_qos(prefetch_count=1 + number)

    numbers = Numbered()
    numbers.act = {"is slow": numbers.block, "asks for another prefetch": ask}.get(
        what, lambda *_: None
    )
    channel.queue_declare("q", durable=True, auto_delete=True)
    tail = LARGE if what == "gets large messages" else b""
    put(channel, "q", *numbered(MANY, tail), declare=False)
    connector = serve(numbers, ack="on_success", durable=True, settings={"inbox_max_bytes": ROOM})
    if what == "is slow":
        watch = watch_over(connector, slow_callback_after=0.1)

        def is_slowed_down() -> bool:
            watch.look()
            return prefetch_of(connector) == 1

        if "async_consumer" in engine:  # coroutines run side by side: none holds up another
            eventually(is_slowed_down)
    numbers.release.set()
    numbers.wait_for(MANY)
    assert sorted(numbers.numbers) == list(range(MANY))
    assert not numbers.redelivered
    eventually(lambda: messages_in(channel, "q") == 0)


def test_the_order_is_kept_while_the_prefetch_changes(
    serve: Serve, channel: BlockingChannel
) -> None:
    def change(channel: Any, number: int) -> None:
        if number % 7 == 0:
            channel.basic_qos(prefetch_count=1 + number % 20)

    count, numbers = 100, Numbered(change)
    arguments = {"x-queue-type": "quorum"}
    channel.queue_declare("q", durable=True, arguments=arguments)
    channel.confirm_delivery()
    put(channel, "q", *numbered(count // 2), declare=False)
    serve(numbers, ack="on_success", durable=True, concurrency=1, arguments=arguments)
    put(channel, "q", *numbered(count)[count // 2 :], declare=False)
    numbers.wait_for(count)
    assert numbers.numbers == list(range(count))
    assert not numbers.redelivered
    assert not any(numbers.counts)


# -- how many come --------------------------------------------------------------------------------


@pytest.mark.one_engine
def test_large_messages_wait_at_the_broker_while_a_callback_is_busy(
    serve: Serve, channel: BlockingChannel, broker: PrivateBroker, vhost: str
) -> None:
    numbers = Numbered()
    numbers.act = numbers.block_all
    channel.confirm_delivery()  # so that it finds all of them when it attaches
    put(channel, "q", *numbered(30, LARGE))
    connector = serve(numbers, ack="on_success", durable=True, settings={"inbox_max_bytes": ROOM})
    eventually(lambda: unacknowledged(broker, vhost) >= 3, what="there is room for some")
    never(lambda: unacknowledged(broker, vhost) > 8)
    numbers.release.set()
    numbers.wait_for(30)
    eventually(lambda: messages_in(channel, "q") == 0)
    put(channel, "q", *[b"0000"] * 200)
    numbers.wait_for(230)
    eventually(lambda: prefetch_of(connector) == 50, what="it takes many small ones again")
    assert not numbers.redelivered


def test_a_callback_that_collects_messages_gets_all_that_it_waits_for(
    serve: Serve, channel: BlockingChannel
) -> None:
    batches: list[int] = []
    lock = threading.Lock()
    collected = 0

    def collect(channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        nonlocal collected
        with lock:
            collected += 1
            if collected % 20 == 0:
                channel.basic_ack(method.delivery_tag, multiple=True)
                batches.append(collected)

    put(channel, "q", *numbered(MANY, LARGE))
    serve(
        collect,
        auto_ack=False,
        prefetch_count=20,
        concurrency=1,
        durable=True,
        settings={"inbox_max_bytes": ROOM},
    )
    eventually(lambda: batches == [20, 40], what="two batches are complete")
    eventually(lambda: messages_in(channel, "q") == 0)


@pytest.mark.one_engine
def test_messages_that_come_behind_a_slow_callback_go_to_idle_workers(
    engine: Engine, make_connector: MakeConnector, channel: BlockingChannel, endings: ExitStack
) -> None:
    numbers, idle = Numbered(), Seen()
    numbers.act = numbers.block
    options = {"ack": "on_success", "durable": True, "concurrency": 1, **engine}
    put(channel, "q", *numbered(5))
    busy = consume(make_connector(), numbers, **options)
    eventually(lambda: busy.health().consumers["c"].waiting == 4, what="four wait behind one")
    watch = watch_over(busy, period=0.05, slow_callback_after=0.5)
    endings.callback(watch.cancel)
    watch.start()  # looked at too seldom it would count as fast again
    eventually(lambda: prefetch_of(busy) == 1)
    consume(make_connector(), idle, **options)
    put(channel, "q", *numbered(50)[5:])
    assert sorted(idle.wait_for(44)) == numbered(50)[6:]  # one more had been sent to the slow one
    numbers.release.set()
    assert numbers.wait_for(6) == numbered(6)
    assert not numbers.redelivered
    eventually(lambda: prefetch_of(busy) == 50, what="it is fast again")


def test_what_nobody_has_started_goes_back_before_the_broker_loses_patience(
    serve: Serve, channel: BlockingChannel
) -> None:
    numbers = Numbered()
    numbers.act = numbers.block
    put(channel, "q", *numbered(20))
    connector = serve(numbers, ack="on_success", durable=True, concurrency=1, prefetch_count=10)
    eventually(lambda: connector.health().consumers["c"].waiting == 9, what="nine wait behind one")
    watch = watch_over(connector, slow_callback_after=0.1, ack_timeout=1.0, ack_timeout_warning=0.5)

    def are_back() -> bool:
        watch.look()
        return messages_in(channel, "q") == 18

    eventually(are_back, what="all have gone back but those that one consumer has at least")
    numbers.release.set()
    numbers.wait_for(20)
    assert sorted(numbers.numbers) == list(range(20))
    eventually(lambda: messages_in(channel, "q") == 0)


def test_a_consumer_that_would_lose_its_place_keeps_its_prefetch(
    make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    numbers = Numbered(lambda channel, _number: channel.basic_qos(prefetch_count=7))
    connector = consume(
        make_connector(inbox_max_bytes=ROOM),
        numbers,
        ack="on_success",
        durable=True,
        arguments={"x-single-active-consumer": True},
    )
    session = connector.consumers["c"].consumer.session
    assert session is not None
    tag = session.consumer_tag
    put(channel, "q", *numbered(MANY, LARGE), declare=False)
    numbers.wait_for(MANY)
    assert (session.consumer_tag, session.prefetch) == (tag, 50)
    assert numbers.numbers == list(range(MANY))


def test_what_a_callback_asks_for_holds_for_later_messages_and_after_a_loss(
    serve: Serve,
    channel: BlockingChannel,
    broker: PrivateBroker,
    vhost: str,
    drop_connections: DropConnections,
) -> None:
    release = threading.Event()
    asked: list[bool] = []

    def ask_for_two(channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        if body == b"ask":
            channel.basic_qos(prefetch_count=2)
            asked.append(True)
            return
        release.wait(120)

    put(channel, "q", b"ask")
    connector = serve(ask_for_two, ack="on_success", prefetch_count=50)
    eventually(lambda: asked, what="the callback has asked")
    put(channel, "q", *[b"work"] * 10)
    eventually(lambda: unacknowledged(broker, vhost) == 2, what="two are sent ahead, and no more")
    drop_connections("consuming")
    release.set()
    eventually(connector.check_health, what="it has recovered")
    eventually(lambda: unacknowledged(broker, vhost) == 0, what="all are handled")
    release.clear()
    put(channel, "q", *[b"work"] * 10)
    eventually(
        lambda: unacknowledged(broker, vhost) == 2, what="two are sent ahead after the loss too"
    )
    release.set()
