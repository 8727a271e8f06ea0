"""The publisher's books: each message is told its own end, exactly once."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import Future
from typing import Any

import pika.exceptions as pika_errors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika.spec import BasicProperties

from neon_mq_connector.errors import (
    AuthenticationError,
    BrokerUnreachableError,
    ChannelShutError,
    ConnectionLostError,
    FrameError,
    MQError,
    PublishError,
    PublishLostError,
    PublishRejectedError,
    PublishTimeoutError,
    UnroutableError,
)
from neon_mq_connector.publishing import unconfirmed as unconfirmed_module
from neon_mq_connector.publishing.message import Flush, Message
from neon_mq_connector.publishing.publisher import Publisher
from neon_mq_connector.topology import BrokerFacts, Queue, Steps, declare_queue
from tests.support.polling import eventually
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
        assert self.publisher._repairs.wait_until_done(10.0)

    def submit(self, body: bytes = b"m", *, queue: str = "q", **more: Any) -> Future[None]:
        message = Message(
            more.pop("exchange", ""), queue, body, BasicProperties(), **{"mandatory": True, **more}
        )
        return submit(self.publisher, message, timeout=2.0)


@pytest.fixture
def it() -> Bench:
    return Bench()


def shut_by_missing_exchange(channel: FakeChannel, exchange: str) -> None:
    cause = pika_errors.ChannelClosedByBroker(
        404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/v'"
    )
    channel.shut(ChannelShutError(f"no exchange '{exchange}'"), cause)


def test_a_message_is_done_when_its_own_confirm_comes(it: Bench) -> None:
    first, second, third = it.submit(b"1"), it.submit(b"2"), it.submit(b"3")
    it.channel.confirms(2)
    assert (first.done(), second.done(), third.done()) == (False, True, False)
    it.channel.confirms(3, multiple=True)
    assert first.result(0) is third.result(0) is None
    assert it.publisher.unconfirmed == 0


def test_one_that_no_queue_takes_fails_and_its_neighbours_do_not(it: Bench) -> None:
    futures = [it.submit(b"%d" % n) for n in range(3)]
    it.channel.returns(2)
    it.channel.confirms(3, multiple=True)
    with pytest.raises(UnroutableError, match="'q'") as caught:
        futures[1].result(0)
    assert not caught.value.may_have_arrived
    assert futures[0].result(0) is futures[2].result(0) is None


def test_a_nack_of_the_broker_is_a_rejection_and_not_a_maybe(it: Bench) -> None:
    future = it.submit()
    it.channel.confirms(1, nacked=True)
    with pytest.raises(PublishRejectedError) as caught:
        future.result(0)
    assert not caught.value.may_have_arrived


def test_a_lost_connection_fails_what_is_unconfirmed_as_a_maybe(it: Bench) -> None:
    first, second = it.submit(b"1"), it.submit(b"2")
    it.channel.confirms(1)
    it.channel.shut(ConnectionLostError("lost"))
    assert first.result(0) is None
    with pytest.raises(PublishLostError, match="lost") as caught:
        second.result(0)
    assert caught.value.may_have_arrived


def test_after_a_loss_the_next_message_opens_another_channel_and_counts_anew(it: Bench) -> None:
    it.submit()
    it.channel.shut(ConnectionLostError("lost"))
    future = it.submit()
    assert len(it.link.channels) == 2
    it.channel.confirms(1)
    assert future.result(0) is None


def test_a_confirm_that_comes_twice_is_ignored(it: Bench) -> None:
    future = it.submit()
    it.channel.confirms(1)
    it.channel.confirms(1)
    assert future.done()


@pytest.mark.parametrize("tag", [0, 99, 2**63])
def test_a_confirm_for_what_was_never_sent_is_an_error_of_the_connection(
    it: Bench, tag: int
) -> None:
    future = it.submit()
    with pytest.raises(FrameError, match=f"confirms message {tag}"):
        it.channel.confirms(tag, multiple=True)
    assert not future.done()


def test_publishing_waits_for_the_confirm(it: Bench) -> None:
    it.submit()
    it.channel.confirms(1)
    message = Message("", "q", b"m", BasicProperties())
    answers: list[str] = []

    def publish() -> None:
        it.publisher.publish(message, timeout=5.0)
        answers.append("done")

    waiting = threading.Thread(target=publish)
    waiting.start()
    eventually(lambda: len(it.channel.published) == 2)
    assert not answers
    it.channel.confirms(2)
    waiting.join(30.0)
    assert answers == ["done"]


def test_without_a_confirm_the_wait_ends_and_says_that_it_may_be_there(it: Bench) -> None:
    message = Message("", "q", b"m", BasicProperties())
    with pytest.raises(PublishTimeoutError, match=r"within 0\.05 s") as caught:
        it.publisher.publish(message, timeout=0.05)
    assert caught.value.may_have_arrived


def test_under_an_alarm_the_error_names_it(it: Bench) -> None:
    it.link.blocked_reason = "low on memory"
    message = Message("", "q", b"m", BasicProperties())
    with pytest.raises(PublishTimeoutError, match="low on memory"):
        it.publisher.publish(message, timeout=0.05)


def test_without_a_broker_nothing_is_sent_and_that_is_said(it: Bench) -> None:
    it.link.refusals = [BrokerUnreachableError("nobody there")]
    with pytest.raises(PublishLostError, match="nobody there") as caught:
        it.submit()
    assert not caught.value.may_have_arrived


def test_wrong_credentials_are_said_as_such(it: Bench) -> None:
    it.link.refusals = [AuthenticationError("wrong password")]
    with pytest.raises(AuthenticationError):
        it.submit()


# -- queues and exchanges that are missing -----------------------------------------------------


def test_a_missing_queue_is_declared_once_and_the_message_sent_again(it: Bench) -> None:
    future = it.submit(b"m", declare_missing=True)
    it.channel.returns(1)
    it.channel.confirms(1)
    it.repair()
    assert it.control.performed == ["declaring what a message for queue 'q' needs"]
    assert [each.body for each in it.channel.published] == [b"m", b"m"]
    assert not future.done()
    it.channel.confirms(2)
    assert future.result(0) is None


def test_a_queue_that_is_missing_again_is_an_error(it: Bench) -> None:
    future = it.submit(b"m", declare_missing=True)
    for number in (1, 2):
        it.channel.returns(number)
        it.channel.confirms(number)
        it.repair()
    with pytest.raises(UnroutableError):
        future.result(0)
    assert it.publisher.unconfirmed == 0


def test_a_queue_that_may_not_be_declared_is_an_error(it: Bench) -> None:
    it.control.refusal = pika_errors.ChannelClosedByBroker(403, "ACCESS_REFUSED")
    future = it.submit(b"m", declare_missing=True)
    it.channel.returns(1)
    it.channel.confirms(1)
    with pytest.raises(UnroutableError, match="ACCESS_REFUSED"):
        future.result(0)
    assert it.publisher.flush(0.1)


def test_flushing_waits_for_a_message_whose_queue_is_still_being_declared(it: Bench) -> None:
    it.control.manual = True
    future = it.submit(b"m", declare_missing=True)
    it.channel.returns(1)
    it.channel.confirms(1)
    assert not it.publisher.flush(0.05)
    it.control.manual = False
    it.repair()
    it.channel.confirms(2)
    assert future.result(0) is None
    assert it.publisher.flush(0.05)


def test_a_message_for_a_missing_exchange_takes_no_other_with_it(it: Bench) -> None:
    for exchange in ("x", "gone"):
        it.publisher._exchanges.add(exchange)
    before = it.submit(b"before", exchange="x")
    culprit = it.submit(b"culprit", exchange="gone")
    after = it.submit(b"after", exchange="x")
    shut_by_missing_exchange(it.channel, "gone")
    with pytest.raises(UnroutableError, match="gone"):
        culprit.result(0)
    with pytest.raises(PublishLostError) as caught:
        before.result(0)
    assert caught.value.may_have_arrived  # the broker took it, perhaps
    it.repair()
    assert [each.body for each in it.channel.published] == [b"after"]
    it.channel.confirms(1)
    assert after.result(0) is None
    assert "gone" not in it.publisher._exchanges
    assert "x" in it.publisher._exchanges


def test_an_exchange_is_looked_up_once(it: Bench) -> None:
    it.submit(exchange="x", mandatory=False)
    it.submit(exchange="x", mandatory=False)
    assert it.control.performed == ["looking up exchange 'x'"]


def test_an_exchange_that_does_not_exist_is_said_before_anything_is_sent(it: Bench) -> None:
    it.control.refusal = pika_errors.ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'x'")
    with pytest.raises(pika_errors.ChannelClosedByBroker):
        it.submit(exchange="x")
    assert it.channel.published == []
    assert it.publisher.flush(0.1)


# -- how much may be on its way ----------------------------------------------------------------


def test_what_is_unconfirmed_is_bounded_and_who_comes_then_waits(
    it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unconfirmed_module, "MAX_UNCONFIRMED_BYTES", 100)
    it.submit(b"x" * 80)
    message = Message("", "q", b"x" * 30, BasicProperties())
    with pytest.raises(PublishTimeoutError, match="too much is unconfirmed") as caught:
        submit(it.publisher, message, timeout=0.05)
    assert not caught.value.may_have_arrived
    done: list[Any] = []
    waiting = threading.Thread(target=lambda: done.append(submit(it.publisher, message, timeout=5)))
    waiting.start()
    it.channel.confirms(1)
    waiting.join(30.0)
    assert done


def test_a_message_larger_than_the_bound_goes_alone(
    it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unconfirmed_module, "MAX_UNCONFIRMED_BYTES", 100)
    future = it.submit(b"x" * 500)
    it.channel.confirms(1)
    assert future.done()


@pytest.mark.parametrize(
    "way", ["confirmed", "nacked", "returned", "lost", "exchange", "no broker", "declare refused"]
)
def test_however_a_message_ends_its_space_is_free_again(
    it: Bench, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(unconfirmed_module, "MAX_UNCONFIRMED_BYTES", 100)
    it.publisher._exchanges.add("x")
    for _ in range(3):
        if way == "no broker":
            it.link.refusals = [BrokerUnreachableError("down")]
            with pytest.raises(PublishLostError):
                it.submit(b"x" * 90)
            continue
        if way == "declare refused":
            it.control.refusal = pika_errors.ChannelClosedByBroker(403, "no")
        it.publisher._exchanges.add("x")
        future = it.submit(
            b"x" * 90,
            exchange="x" if way == "exchange" else "",
            declare_missing=way == "declare refused",
        )
        number = len(it.channel.published)
        if way in ("returned", "declare refused"):
            it.channel.returns(number)
        if way == "exchange":
            shut_by_missing_exchange(it.channel, "x")
        elif way == "lost":
            it.channel.shut(ConnectionLostError("lost"))
        else:
            it.channel.confirms(number, nacked=way == "nacked")
        it.repair()
        assert future.done()


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
@settings(max_examples=100, deadline=None)
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
    for future, error in expected:
        assert future.done()
        assert type(future.exception(0)) is (type(None) if error is None else error)


@pytest.mark.parametrize("_round", range(5))
def test_numbers_are_given_in_the_order_in_which_messages_leave(_round: int, it: Bench) -> None:
    it.submit(b"first")
    it.channel.confirms(1)
    futures: dict[bytes, Future[None]] = {}

    def send(thread: int) -> None:
        for number in range(100):
            body = b"%d-%d" % (thread, number)
            futures[body] = it.submit(body)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert len(it.channel.published) == 801
    # the broker nacks every third; exactly those senders are told
    for tag, sent in enumerate(it.channel.published, 1):
        if tag == 1:
            continue
        it.channel.confirms(tag, nacked=tag % 3 == 0)
        error = futures[sent.body].exception(0)
        assert type(error) is (PublishRejectedError if tag % 3 == 0 else type(None))


@pytest.mark.parametrize("_round", range(10))
def test_a_loss_while_many_publish_leaves_nobody_without_an_answer(_round: int, it: Bench) -> None:
    it.submit(b"first")
    outcomes: list[BaseException | None] = []
    futures: list[Future[None]] = []

    def send() -> None:
        for _ in range(50):
            try:
                futures.append(it.submit())
            except MQError as error:
                outcomes.append(error)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        it.channel.shut(ConnectionLostError("lost"))
        time.sleep(0.001)
    for thread in threads:
        thread.join(30.0)
    for channel in it.link.channels:
        if channel.error is None and channel.published:
            channel.confirms(len(channel.published), multiple=True)
    assert len(futures) + len(outcomes) == 200
    assert all(future.done() for future in futures)
    assert it.publisher.flush(0.1)


def test_what_is_held_back_is_written_when_there_is_enough_or_when_asked_for(
    it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    it.submit()  # opens the channel
    written: list[int] = []
    monkeypatch.setattr(it.channel, "flush", lambda: written.append(len(it.channel.published)))
    deadline = time.monotonic() + 5.0

    def post(body: bytes) -> None:
        message = Message("", "q", body, BasicProperties())
        it.publisher.post(message, FutureAnswer(), deadline, Flush.HELD)

    post(b"small")
    assert written == []
    it.publisher.write_out()
    assert written == [2]
    post(b"x" * 40_000)
    assert written == [2, 3]
    post(b"small")
    it.publisher.post(Message("", "q", b"", BasicProperties()), FutureAnswer(), deadline, Flush.NOW)
    assert written == [2, 3, 5], "what must leave now takes along what was held back"


def test_what_a_message_needs_is_declared_once_and_it_is_sent_again(it: Bench) -> None:
    asked: list[object] = []

    def steps(facts: BrokerFacts) -> Steps:
        asked.append(facts)
        return declare_queue(Queue("q"), facts)

    it.publisher._exchanges.add("x")
    future = it.submit(exchange="x", declare=steps)
    it.channel.returns(1)
    it.channel.confirms(1)
    eventually(lambda: len(it.channel.published) == 2)
    assert asked == [it.control.facts]
    it.channel.returns(2)
    it.channel.confirms(2)
    with pytest.raises(UnroutableError):
        future.result(30.0)
