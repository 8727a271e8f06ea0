"""The publisher's books: each message is told its own end, exactly once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pika.exceptions as pika_errors
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.spec import BasicProperties

from neon_mq_connector.errors import (
    BrokerUnreachableError,
    ChannelShutError,
    ConnectionLostError,
    PublishError,
    PublishLostError,
    PublishRejectedError,
    PublishTimeoutError,
    UnroutableError,
)
from neon_mq_connector.publishing import confirm_channel
from neon_mq_connector.publishing import unconfirmed as unconfirmed_module
from neon_mq_connector.publishing.message import Flush, Message, declare_missing
from neon_mq_connector.publishing.publisher import Publisher
from tests.support.publishing import FutureAnswer, submit
from tests.unit.fakes import FakeChannel, FakeControl, FakeLink, make_publisher


class Bench:
    """A publisher on a link that only writes down."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.control = FakeControl()
        self.publisher: Publisher = make_publisher(self.link, self.control)

    @property
    def channel(self) -> FakeChannel:
        return self.link.channel

    def repair(self) -> None:
        """Wait until what was to be sent again is."""
        assert self.publisher._repairs.wait_until_done(120.0)

    def submit(self, body: bytes = b"m", *, queue: str = "q", **more: Any) -> Future[None]:
        message = Message(
            more.pop("exchange", ""), queue, body, BasicProperties(), **{"mandatory": True, **more}
        )
        return submit(self.publisher, message, timeout=600.0)


@pytest.fixture
def it() -> Bench:
    return Bench()


def test_flushing_waits_for_a_message_whose_queue_is_still_being_declared(it: Bench) -> None:
    it.control.may_answer.clear()
    future = it.submit(b"m", declare=partial(declare_missing, "q"))
    it.channel.returns(1)
    it.channel.confirms(1)
    assert not it.publisher.flush(0.05)
    it.control.may_answer.set()
    it.repair()
    it.channel.confirms(2)
    assert future.result(0) is None
    assert it.publisher.flush(0.05)


def test_a_connection_that_is_lost_while_a_channel_is_opened_costs_no_message(it: Bench) -> None:
    it.link.refusals = [ConnectionLostError("cut"), ConnectionLostError("cut")]
    future = it.submit()
    it.channel.confirms(1)
    assert future.result(0) is None


# -- how much may be on its way ----------------------------------------------------------------


@pytest.mark.parametrize("size", [80, 500], ids=["one that fits", "one larger than the bound"])
def test_what_is_unconfirmed_is_bounded_and_who_comes_then_waits(
    it: Bench, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(unconfirmed_module, "MAX_UNCONFIRMED_BYTES", 100)
    it.submit(b"x" * size)
    message = Message("", "q", b"x" * 30, BasicProperties())
    with pytest.raises(PublishTimeoutError, match="too much is unconfirmed") as caught:
        submit(it.publisher, message, timeout=0.05)
    assert not caught.value.may_have_arrived
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(submit, it.publisher, message, timeout=600.0)
        it.channel.confirms(1)
        waiting.result(120.0)


@pytest.mark.parametrize("way", ["no such exchange", "no broker", "declare refused"])
def test_however_a_message_fails_its_space_is_free_again(it: Bench, way: str) -> None:
    if way == "no broker":
        it.link.refusals = [BrokerUnreachableError("down")]
        with pytest.raises(PublishLostError):
            it.submit()
    elif way == "declare refused":
        it.control.refusal = pika_errors.ChannelClosedByBroker(403, "no")
        future = it.submit(declare=partial(declare_missing, "q"))
        it.channel.returns(1)
        it.channel.confirms(1)
        it.repair()
        assert future.done()
    else:
        it.publisher._exchanges.add("x")
        future = it.submit(exchange="x")
        missing = pika_errors.ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'x'")
        it.channel.shut(ChannelShutError("no exchange 'x'"), missing)
        assert future.done()
    assert (it.publisher.unconfirmed, it.publisher._limit._bytes) == (0, 0)


def test_a_return_costs_what_is_pending_and_not_what_was_sent_before(it: Bench) -> None:
    futures = [it.submit(b"%d" % number) for number in range(2_000)]
    for tag in (2, 1, *range(3, 1_991)):  # one of them out of order
        it.channel.confirms(tag)
    steps = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        it.channel.returns(2_000)
    finally:
        sys.setprofile(None)
    assert steps < 200  # with ten pending
    it.channel.confirms(2_000, multiple=True)
    with pytest.raises(UnroutableError):
        futures[-1].result(0)
    assert futures[-2].result(0) is None


# -- any order of events, any number of threads ------------------------------------------------

EVENTS = st.lists(
    st.sampled_from(["send", "send", "send", "confirm", "multiple", "nack", "return", "lose"]),
    max_size=40,
)


@given(events=EVENTS, data=st.data())
def test_in_any_order_of_events_each_message_ends_once_and_as_the_broker_said(
    events: list[str], data: st.DataObject
) -> None:
    it = Bench()
    waiting: dict[int, Future[None]] = {}
    expected: list[tuple[Future[None], type[PublishError] | None]] = []
    returned: set[int] = set()
    sent = 0
    for event in events:
        if event == "send":
            sent += 1
            waiting[sent] = it.submit(b"%d" % len(expected) + b"-%d" % sent)
        elif event == "lose" and it.link.channels and sent:
            it.channel.shut(ConnectionLostError("lost"))
            expected += [(future, PublishLostError) for future in waiting.values()]
            waiting, returned, sent = {}, set(), 0
        elif waiting and event != "lose":
            number = data.draw(st.sampled_from(sorted(waiting)))
            if event == "return":
                if number not in returned:
                    returned.add(number)
                    it.channel.returns(number)
                continue
            nacked = event == "nack"
            it.channel.confirms(number, multiple=event == "multiple", nacked=nacked)
            done = [n for n in waiting if n == number or (event == "multiple" and n <= number)]
            for each in done:
                kind: type[PublishError] | None = None
                if each in returned:
                    kind = UnroutableError
                elif nacked:
                    kind = PublishRejectedError
                expected.append((waiting.pop(each), kind))
        assert it.publisher.unconfirmed == len(waiting)
    assert not any(future.done() for future in waiting.values())
    if not waiting:
        assert it.publisher._limit._bytes == 0
    for future, error in expected:
        assert future.done()
        assert type(future.exception(0)) is (type(None) if error is None else error)


def test_what_is_held_back_is_written_when_there_is_enough_or_asked_for_or_after_a_while(
    it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    it.submit()  # opens the channel
    monkeypatch.setattr(confirm_channel, "_LONGEST_HOLD", 600.0)
    written: list[int] = []
    timers: list[Callable[[], None]] = []
    monkeypatch.setattr(it.channel.link, "call_later", lambda _delay, work: timers.append(work))
    monkeypatch.setattr(it.channel, "flush", lambda: written.append(len(it.channel.published)))
    deadline = time.monotonic() + 600.0

    def post(body: bytes) -> None:
        message = Message("", "q", body, BasicProperties())
        it.publisher.post(message, FutureAnswer(), deadline, Flush.HELD)

    post(b"small")
    post(b"small")
    assert written == []
    it.publisher.write_out()
    assert written == [3]
    post(b"x" * 40_000)
    assert written == [3, 4]
    post(b"small")
    it.publisher.post(Message("", "q", b"", BasicProperties()), FutureAnswer(), deadline, Flush.NOW)
    assert written == [3, 4, 6], "what must leave now takes along what was held back"
    post(b"small")
    assert len(timers) == 1
    timers[0]()
    assert written == [3, 4, 6, 7]
    post(b"small")
    assert len(timers) == 2, "what is held back later has a timer of its own"
