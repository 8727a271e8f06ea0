"""The same promises with threads that nobody directs, again and again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from neon_mq_connector.backoff import ExponentialBackoff, OutageBackoff
from neon_mq_connector.consumers.consumer import Consumer
from neon_mq_connector.consumers.registration import AckMode, Registration, Retry
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.consumers.sessions import Sessions
from neon_mq_connector.consumers.workers import ThreadRunner
from neon_mq_connector.errors import ConnectionLostError
from neon_mq_connector.topology import Queue
from tests.support.polling import eventually
from tests.unit.fakes import (
    FakeChannel,
    FakeConnections,
    as_channel,
    as_connections,
    as_raw,
    make_delivery,
)


class Lines:
    """Take the place of attaching: a queue that delivers again what a lost channel left open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.settled: set[int] = set()
        self.channels: list[FakeChannel] = []
        self.sent = 0
        self._sessions: list[tuple[Session, dict[int, int]]] = []
        self._host: Any = None

    def __call__(self, sessions: Sessions, *, reset: bool, answering: bool) -> Session:
        channel = FakeChannel()
        self._host = sessions._host
        session = sessions._use(
            Session(self._host, sessions._connections, as_channel(channel), "q")
        )
        with self.lock:
            self.channels.append(channel)
            self._sessions.append((session, {}))
            left = [n for n in range(1, self.sent + 1) if n not in self.settled]
        self._deliver(left, redelivered=True)
        return session

    def send(self, count: int) -> None:
        with self.lock:
            first, self.sent = self.sent + 1, self.sent + count
            if self._sessions and self.channels[-1].is_open:
                self._deliver(range(first, self.sent + 1), redelivered=False)

    def _deliver(self, numbers: Sequence[int], *, redelivered: bool) -> None:
        session, by_tag = self._sessions[-1]
        for number in numbers:
            tag = len(by_tag) + 1
            by_tag[tag] = number
            delivery = make_delivery(tag, b"%d" % number, redelivered=redelivered)
            self._host.arrived(session, (as_raw(delivery),))

    def cut(self) -> None:
        with self.lock:
            channel, (session, by_tag) = self.channels[-1], self._sessions[-1]
            error = ConnectionLostError("cut")
            channel.error = error
            self._count(channel, by_tag)
        session.ended(error)

    def _count(self, channel: FakeChannel, by_tag: dict[int, int]) -> None:
        tags = [tag for _, tag, _ in channel.settled]
        assert len(tags) == len(set(tags)), "settled twice"
        assert set(tags) <= set(by_tag), "settled what was not delivered there"
        self.settled |= {by_tag[tag] for kind, tag, _ in channel.settled if kind == "ack"}

    def count(self) -> set[int]:
        with self.lock:
            for channel, (_, by_tag) in zip(self.channels, self._sessions, strict=True):
                self._count(channel, by_tag)
            return self.settled


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_messages_are_all_handled_while_the_connection_is_cut_again_and_again(
    monkeypatch: pytest.MonkeyPatch, seed: int, concurrency: int
) -> None:
    lines = Lines()
    monkeypatch.setattr(Sessions, "_open", lambda *a, **k: lines(*a, **k))
    chance = random.Random(seed)
    handled: list[int] = []
    stopped = threading.Event()
    after_stop: list[int] = []
    failing = set(chance.sample(range(1, 151), 30))

    def callback(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        number = int(body)
        (after_stop if stopped.is_set() else handled).append(number)
        if number in failing:
            failing.discard(number)
            raise ValueError("the first time only")

    consumer = Consumer(
        Registration(
            Queue("q"),
            ack=AckMode.ON_SUCCESS,
            concurrency=concurrency,
            retry=Retry(backoff=ExponentialBackoff(first=0.001)),
            dead_queue="q.dead",
            prefetch_count=1_000,
        ),
        as_connections(FakeConnections()),
        partial(ThreadRunner, callback, concurrency=concurrency, name="real"),
        report=lambda _error: None,
        started=threading.Event(),
    )
    consumer._outages.backoff = OutageBackoff(floor=0.001, ceiling=0.01)
    thread = threading.Thread(target=consumer.run, name="real", daemon=True)
    thread.start()
    try:
        for _ in range(10):
            assert consumer.started.wait(30.0)
            lines.send(15)
            time.sleep(chance.random() * 0.002)
            lines.cut()
        eventually(lambda: len(lines.count()) == 150)
        lines.send(50)
    finally:
        consumer.request_stop()
        stopped.set()
        thread.join(30.0)
    assert not thread.is_alive()
    assert set(handled) >= set(range(1, 151))
    # a callback may have been at its first line when it was told
    assert len(after_stop) <= concurrency
    assert not consumer.dispatcher.running()
    lines.count()
