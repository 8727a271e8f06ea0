"""A consumer's loop, with attaching replaced by what the test decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from neon_mq_connector.backoff import OutageBackoff
from neon_mq_connector.consumers import consumer as consumer_module
from neon_mq_connector.consumers.consumer import Consumer
from neon_mq_connector.consumers.observer import ConsumerObserver
from neon_mq_connector.consumers.parking import ParkingError
from neon_mq_connector.consumers.registration import AckMode, Registration, Retry
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.errors import (
    AuthenticationError,
    BrokerUnreachableError,
    ConnectionLostError,
    MQError,
    PublishTimeoutError,
    StoppedError,
    TopologyError,
    VhostAccessError,
)
from neon_mq_connector.lifecycle import State
from neon_mq_connector.link import Delivery, RawDelivery, Waiter
from neon_mq_connector.topology import Queue
from tests.support.polling import eventually, never
from tests.unit.fakes import (
    FakeChannel,
    FakeConnections,
    as_channel,
    as_connections,
    as_raw,
    make_delivery,
)


class Attaching:
    """Take the place of `attach`: succeed at once, or do what the test says."""

    def __init__(self) -> None:
        self.attempts: list[dict[str, Any]] = []
        self.outcomes: list[MQError | Callable[[Waiter[Any]], None]] = []
        self.channels: list[FakeChannel] = []
        self.queue = "q"
        self._sessions: list[Session] = []
        self._on_deliveries: Callable[[Session, Sequence[RawDelivery]], None] = lambda *_: None
        self._on_ended: Callable[[Session, MQError], None] = lambda *_: None

    def __call__(self, registration: Any, connections: Any, host: Any, **options: Any) -> Session:
        self.attempts.append(options)
        waiter = options["new_waiter"]()
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, MQError):
                raise outcome
            outcome(waiter)
        channel = FakeChannel()
        session = Session(host, connections, as_channel(channel), self.queue, {})
        self._on_deliveries = options["on_deliveries"]
        self._on_ended = options["on_ended"]
        options["on_session"](session)
        self.channels.append(channel)
        self._sessions.append(session)
        return session

    def deliver(self, *deliveries: Delivery, session: int = -1) -> None:
        self._on_deliveries(self._sessions[session], [as_raw(each) for each in deliveries])

    def end(self, error: MQError, session: int = -1) -> None:
        channel = self.channels[session]
        channel.error = error
        self._on_ended(self._sessions[session], error)


class Observer(ConsumerObserver):
    """Write down what happens, in which state, and have outages told from some attempt on."""

    def __init__(self, tells_after: int = 0) -> None:
        self.events: list[tuple[str, State]] = []
        self.errors: list[BaseException] = []
        self.state: Callable[[], State] = lambda: State.NEW
        self._tells_after = tells_after
        self._failed = 0

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def opened(self, session: Session) -> None:
        self.events.append(("opened", self.state()))

    def attempt_failed(self, error: BaseException) -> None:
        self._failed += 1
        self.events.append(("failed", self.state()))
        self.errors.append(error)

    def closed(self, session: Session, error: BaseException) -> None:
        assert session.connection.is_closed
        self.events.append(("closed", self.state()))
        self.errors.append(error)

    def is_to_be_told(self, error: BaseException) -> bool:
        return self._failed >= self._tells_after


class Bench:
    """A consumer on a thread of its own."""

    def __init__(
        self,
        callback: Callable[..., object],
        *,
        observer: Observer | None = None,
        **options: Any,
    ) -> None:
        self.reports: list[BaseException] = []
        self.connections = FakeConnections()
        self.started = threading.Event()
        self.consumer = Consumer(
            Registration(Queue("q"), dead_queue="q.dead", **options),
            as_connections(self.connections),
            callback,
            report=self.reports.append,
            started=self.started,
            observer=observer,
            name="bench",
        )
        self.thread = threading.Thread(target=self.consumer.run, name="bench", daemon=True)
        if observer is not None:
            observer.state = lambda: self.consumer.lifecycle.state

    def is_in(self, state: State) -> bool:
        return self.consumer.lifecycle.state is state

    def start(self) -> None:
        self.thread.start()

    def stop(self, within: float = 3.0) -> None:
        self.consumer.request_stop()
        if self.thread.ident is not None:
            self.thread.join(within)
        assert not self.thread.is_alive(), f"not stopped within {within} s"


@pytest.fixture
def attaching(monkeypatch: pytest.MonkeyPatch) -> Attaching:
    attaching = Attaching()
    monkeypatch.setattr(consumer_module, "attach", attaching)
    return attaching


@pytest.fixture
def make(attaching: Attaching) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(callback: Callable[..., object] = lambda *_: None, **options: Any) -> Bench:
        made.append(Bench(callback, **options))
        return made[-1]

    yield make
    for each in made:
        each.consumer.request_stop()
        if each.thread.ident is not None:
            each.thread.join(30.0)


def test_it_consumes_and_stops(make: Callable[..., Bench], attaching: Attaching) -> None:
    seen: list[int] = []
    it = make(lambda _c, method, *_: seen.append(method.delivery_tag))
    it.start()
    assert it.started.wait(30.0)
    assert it.is_in(State.CONSUMING)
    attaching.deliver(make_delivery(1), make_delivery(2))
    eventually(lambda: seen == [1, 2])
    it.stop()
    assert it.is_in(State.STOPPED)
    assert not it.started.is_set()
    assert attaching.channels[0].closed
    assert not it.reports


def test_an_outage_is_told_once_and_recovered_from(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    it = make()
    it.start()
    assert it.started.wait(30.0)
    attaching.outcomes = [BrokerUnreachableError("down")] * 3
    lost = ConnectionLostError("lost")
    attaching.end(lost)
    eventually(lambda: len(attaching.attempts) == 5 and it.is_in(State.CONSUMING))
    assert it.reports == [lost]
    assert it.consumer.recoveries == 4


def test_resets_belong_to_the_first_attach_only(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    attaching.outcomes = [BrokerUnreachableError("down")]
    it = make(queue_reset=True)
    it.start()
    assert it.started.wait(30.0)
    attaching.end(ConnectionLostError("lost"))
    eventually(lambda: len(attaching.attempts) == 3)
    assert [each["reset"] for each in attaching.attempts] == [True, True, False]


def test_the_name_that_the_broker_chose_is_kept_for_the_next_attach(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    attaching.queue = "amq.gen-1"
    it = make()
    it.start()
    assert it.started.wait(30.0)
    attaching.end(ConnectionLostError("lost"))
    eventually(lambda: len(attaching.attempts) == 2)
    assert attaching.attempts[1]["queue_name"] == "amq.gen-1"


@pytest.mark.parametrize("refusal", [AuthenticationError("no"), VhostAccessError("no")], ids=repr)
def test_refused_at_first_it_fails_at_once_with_the_reason(
    make: Callable[..., Bench], attaching: Attaching, refusal: MQError
) -> None:
    attaching.outcomes = [refusal]
    it = make()
    it.start()
    it.thread.join(30.0)
    assert not it.thread.is_alive()
    assert it.consumer.lifecycle.snapshot.reason == "no"
    assert it.is_in(State.FAILED)
    assert it.reports == [refusal]


def test_refused_on_a_reconnect_it_goes_on_trying(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    it = make()
    it.start()
    assert it.started.wait(30.0)
    attaching.outcomes = [AuthenticationError("password changed")]
    attaching.end(ConnectionLostError("lost"))
    eventually(lambda: len(attaching.attempts) == 3 and it.is_in(State.CONSUMING))


@pytest.mark.parametrize("allowed", [0, 2])
def test_attempts_to_recover_can_be_limited(
    make: Callable[..., Bench], attaching: Attaching, allowed: int
) -> None:
    it = make(restart_attempts=allowed)
    it.start()
    assert it.started.wait(30.0)
    attaching.outcomes = [TopologyError("refused")] * 10
    attaching.end(MQError("the broker ended the consumer"))
    it.thread.join(30.0)
    assert it.is_in(State.FAILED)
    assert len(attaching.attempts) == 1 + allowed


def test_a_broker_that_is_away_uses_up_no_attempts(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    it = make(restart_attempts=0)
    it.start()
    assert it.started.wait(30.0)
    attaching.outcomes = [BrokerUnreachableError("down")] * 3
    attaching.end(ConnectionLostError("lost"))
    eventually(lambda: len(attaching.attempts) == 5 and it.is_in(State.CONSUMING))


def test_what_comes_late_from_a_connection_that_is_gone_is_not_handled(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    seen: list[int] = []
    it = make(lambda _c, method, *_: seen.append(method.delivery_tag))
    it.start()
    assert it.started.wait(30.0)
    attaching.end(ConnectionLostError("lost"))
    eventually(lambda: len(attaching.channels) == 2 and it.is_in(State.CONSUMING))
    attaching.deliver(make_delivery(1), session=0)
    attaching.end(ConnectionLostError("an echo"), session=0)
    attaching.deliver(make_delivery(2), session=1)
    eventually(lambda: seen == [2])
    never(lambda: len(attaching.attempts) != 2, during=0.2)


@pytest.mark.parametrize("_round", range(10))
def test_a_stop_ends_an_attach_that_waits(
    _round: int, make: Callable[..., Bench], attaching: Attaching
) -> None:
    waiting = threading.Event()

    def hang(waiter: Waiter[Any]) -> None:
        waiting.set()
        waiter.wait(30.0, "the broker")

    attaching.outcomes = [hang]
    it = make()
    it.start()
    assert waiting.wait(30.0)
    it.stop(within=2.0)
    assert it.is_in(State.STOPPED)
    assert not it.reports


@pytest.mark.parametrize("_round", range(30))
def test_a_stop_at_any_moment_of_the_start_is_a_stop(
    _round: int, make: Callable[..., Bench], attaching: Attaching
) -> None:
    it = make()
    stopping = threading.Thread(target=it.consumer.request_stop)
    it.start()
    stopping.start()
    stopping.join(30.0)
    it.thread.join(30.0)
    assert not it.thread.is_alive()
    assert it.is_in(State.STOPPED)
    assert all(channel.closed for channel in attaching.channels)


def test_stopped_before_it_ran_it_never_attaches(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    it = make()
    it.consumer.request_stop()
    it.consumer.request_stop()
    it.start()
    it.thread.join(30.0)
    assert it.is_in(State.STOPPED)
    assert not attaching.attempts


def test_a_stop_ends_the_wait_between_attempts(
    make: Callable[..., Bench], attaching: Attaching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutageBackoff, "delay", lambda *_: 60.0)
    attaching.outcomes = [BrokerUnreachableError("down")]
    it = make()
    it.start()
    eventually(lambda: it.is_in(State.RECOVERING))
    it.stop(within=1.0)


def test_calls_from_other_threads_are_made_even_between_attempts(
    make: Callable[..., Bench], attaching: Attaching, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = make()
    it.start()
    assert it.started.wait(30.0)
    session = it.consumer.session
    assert session is not None
    monkeypatch.setattr(OutageBackoff, "delay", lambda *_: 60.0)
    attaching.end(ConnectionLostError("lost"))
    eventually(lambda: it.is_in(State.RECOVERING))
    called: list[str] = []
    session.connection.add_callback_threadsafe(
        lambda: called.append(threading.current_thread().name)
    )
    eventually(lambda: called == ["bench"])


def test_a_call_that_raises_is_told_and_harms_nothing(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    seen: list[int] = []
    it = make(lambda _c, method, *_: seen.append(method.delivery_tag))
    it.start()
    assert it.started.wait(30.0)
    session = it.consumer.session
    assert session is not None

    def fail() -> None:
        raise ValueError("boom")

    session.connection.add_callback_threadsafe(fail)
    attaching.deliver(make_delivery(1))
    eventually(lambda: seen == [1])
    assert [str(error) for error in it.reports] == ["boom"]


def test_a_stop_waits_for_the_running_callback_and_sends_its_ack(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        entered.set()
        release.wait(30.0)

    it = make(slow, ack=AckMode.ON_SUCCESS)
    it.start()
    assert it.started.wait(30.0)
    attaching.deliver(make_delivery(1), make_delivery(2))
    assert entered.wait(30.0)
    it.consumer.request_stop()
    it.thread.join(0.1)
    assert it.thread.is_alive()
    release.set()
    it.thread.join(30.0)
    assert attaching.channels[0].settled == [("ack", 1, False)]


def test_a_message_that_waits_for_another_try_does_not_hold_up_a_stop(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("boom")

    it = make(fail, ack=AckMode.ON_SUCCESS, retry=Retry())
    it.start()
    assert it.started.wait(30.0)
    attaching.deliver(make_delivery(1))
    eventually(lambda: it.reports)
    it.stop(within=2.0)


def test_a_message_that_failed_while_the_connection_was_lost_is_parked_when_it_is_back(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    entered, lost = threading.Event(), threading.Event()

    def fail_when_the_line_is_cut(*_: object) -> None:
        entered.set()
        lost.wait(30.0)
        raise ValueError("boom")

    it = make(fail_when_the_line_is_cut, ack=AckMode.ON_RECEIPT)
    it.start()
    assert it.started.wait(30.0)
    attaching.deliver(make_delivery(1, b"precious"))
    assert entered.wait(30.0)
    it.connections.publisher.refusal = PublishTimeoutError("down", may_have_arrived=False)
    attaching.end(ConnectionLostError("lost"))
    lost.set()
    eventually(lambda: len(attaching.attempts) == 2 and it.started.is_set())
    it.connections.publisher.refusal = None
    eventually(lambda: [m.body for m in it.connections.publisher.messages] == [b"precious"])
    eventually(lambda: it.is_in(State.CONSUMING))


def test_a_message_that_cannot_be_parked_while_stopping_does_not_keep_the_channel_open(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("boom")

    it = make(fail, ack=AckMode.ON_RECEIPT)
    it.start()
    assert it.started.wait(30.0)
    it.connections.publisher.refusal = PublishTimeoutError("down", may_have_arrived=False)
    attaching.deliver(make_delivery(1))
    eventually(lambda: it.consumer.failures.held)
    it.stop()
    assert attaching.channels[0].closed


def test_while_nothing_can_be_parked_it_has_failed_and_handles_what_comes(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    handled: list[bytes] = []

    def pick(_channel: object, _method: object, _properties: object, body: bytes) -> None:
        if body == b"bad":
            raise ValueError("boom")
        handled.append(body)

    it = make(pick, ack=AckMode.ON_SUCCESS, retry=Retry(attempts=1))
    it.start()
    assert it.started.wait(30.0)
    it.connections.publisher.refusal = PublishTimeoutError("no", may_have_arrived=False)
    attaching.deliver(make_delivery(1, b"bad"))
    eventually(lambda: it.is_in(State.FAILED))
    assert "q.dead" in it.consumer.lifecycle.snapshot.reason
    attaching.deliver(make_delivery(2, b"good"))
    eventually(lambda: handled == [b"good"])
    assert it.is_in(State.FAILED)
    assert [type(each) for each in it.reports] == [ValueError, ParkingError]
    it.connections.publisher.refusal = None
    eventually(lambda: it.is_in(State.CONSUMING), timeout=5.0)
    assert len(attaching.attempts) == 1


def test_an_error_nobody_thought_of_is_a_reason_and_not_a_silent_end(
    make: Callable[..., Bench], attaching: Attaching, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = make()
    broken = RuntimeError("a fault of ours")

    def fail(*_: object) -> None:
        raise broken

    monkeypatch.setattr(it.consumer, "_serve", fail)
    it.start()
    it.thread.join(30.0)
    assert it.is_in(State.FAILED)
    assert "a fault of ours" in it.consumer.lifecycle.snapshot.reason
    assert it.reports == [broken]


def test_closed_connections_end_it(make: Callable[..., Bench], attaching: Attaching) -> None:
    attaching.outcomes = [StoppedError("the connections are closed")]
    it = make()
    it.start()
    it.thread.join(30.0)
    assert not it.thread.is_alive()
    assert it.is_in(State.STOPPED)


def test_a_pause_never_turns_into_a_busy_loop(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    attaching.outcomes = [BrokerUnreachableError("down")] * 1000
    it = make()
    it.start()
    began = time.monotonic()
    never(lambda: len(attaching.attempts) > 3 + 11 * (time.monotonic() - began), during=0.5)


# -- who is told how the connection fares ------------------------------------------------------


def test_an_observer_hears_of_each_step_before_it_shows(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    observer = Observer()
    attaching.outcomes = [BrokerUnreachableError("down")]
    it = make(observer=observer)
    it.start()
    assert it.started.wait(30.0)
    assert observer.events == [("failed", State.RECOVERING), ("opened", State.RECOVERING)]
    attaching.outcomes = [BrokerUnreachableError("down")] * 2
    lost = ConnectionLostError("lost")
    attaching.end(lost)
    eventually(lambda: observer.names.count("opened") == 2 and it.is_in(State.CONSUMING))
    assert observer.names == ["failed", "opened", "closed", "failed", "failed", "opened"]
    assert observer.events[2] == ("closed", State.RECOVERING)
    assert observer.errors[1] is lost
    it.stop()
    assert observer.names[6:] == ["closed"]
    assert isinstance(observer.errors[-1], StoppedError)
    assert "it was stopped" in str(observer.errors[-1])


def test_an_observer_has_an_outage_told_later_and_still_once(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    it = make(observer=Observer(tells_after=2))
    it.start()
    assert it.started.wait(30.0)
    third = BrokerUnreachableError("3")
    attaching.outcomes = [BrokerUnreachableError("1"), third, BrokerUnreachableError("4")]
    attaching.end(ConnectionLostError("lost"))
    eventually(lambda: len(attaching.attempts) == 5 and it.is_in(State.CONSUMING))
    assert it.reports == [third]


def test_an_outage_that_is_over_before_is_not_told(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    it = make(observer=Observer(tells_after=1))
    it.start()
    assert it.started.wait(30.0)
    attaching.end(ConnectionLostError("lost"))
    eventually(lambda: len(attaching.attempts) == 2 and it.is_in(State.CONSUMING))
    assert it.reports == []


def test_what_ends_the_consumer_is_told_whatever_the_observer_says(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    observer, refusal = Observer(tells_after=9), AuthenticationError("no")
    attaching.outcomes = [refusal]
    it = make(observer=observer)
    it.start()
    it.thread.join(30.0)
    assert it.reports == [refusal]
    assert observer.events == [("failed", State.FAILED)]


def test_nothing_is_closed_for_an_observer_when_nothing_is_open(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    observer = Observer()
    it = make(observer=observer)
    it.start()
    assert it.started.wait(30.0)
    attaching.outcomes = [BrokerUnreachableError("down")] * 100
    attaching.end(ConnectionLostError("lost"))
    eventually(lambda: "failed" in observer.names)
    it.stop()
    assert observer.names.count("closed") == 1


def test_those_who_asked_the_connection_hear_of_its_end_first(
    make: Callable[..., Bench], attaching: Attaching
) -> None:
    observer = Observer()
    it = make(observer=observer)
    it.start()
    assert it.started.wait(30.0)
    session = it.consumer.session
    assert session is not None
    session.connection.add_on_close_callback(
        lambda *_: observer.events.append(("told", State.RECOVERING))
    )
    attaching.end(ConnectionLostError("lost"))
    eventually(lambda: observer.names.count("opened") == 2)
    assert observer.names[:3] == ["opened", "told", "closed"]
