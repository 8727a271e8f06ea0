"""Running callbacks, acknowledging as registered, and what becomes of what they raise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pika.spec import BasicProperties

from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.consumers.delivery_channel import current_channel
from neon_mq_connector.consumers.dispatcher import Dispatcher
from neon_mq_connector.consumers.failure import FailurePolicy
from neon_mq_connector.consumers.flow import Flow
from neon_mq_connector.consumers.parking import ParkingError
from neon_mq_connector.consumers.registration import AckMode, Registration, Retry
from neon_mq_connector.consumers.session import Session, SessionHost
from neon_mq_connector.envelope import (
    PARKED_ERROR,
    PARKED_EXCHANGE,
    PARKED_ROUTING_KEY,
    REPLY_QUEUE,
    TIME_ALLOWED,
)
from neon_mq_connector.errors import (
    ChannelShutError,
    DecodeError,
    FrameError,
    MQError,
    PublishTimeoutError,
)
from neon_mq_connector.link import Delivery, RawDelivery
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

SOON = Retry(backoff=ExponentialBackoff(first=0.0))


@dataclass
class Bench:
    """A dispatcher with a session on a channel that only writes down."""

    registration: Registration
    callback: Callable[..., object]
    connections: FakeConnections = field(default_factory=FakeConnections)
    reports: list[BaseException] = field(default_factory=list)
    later: list[Callable[[], object]] = field(default_factory=list)
    ended: list[MQError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.failures = FailurePolicy(
            self.registration, as_connections(self.connections), lambda: None
        )
        self.dispatcher = Dispatcher(
            self.registration,
            self.callback,
            self.failures,
            report=self.reports.append,
            later=self.later.append,
            name="bench",
        )
        self.host = SessionHost(
            stop=lambda: None,
            later=self.later.append,
            publish_failed=self.dispatcher.publish_failed,
            report=self.reports.append,
            answered=lambda _session: None,
            ended=lambda _session, error: self.ended.append(error),
            is_stopping=lambda: False,
            acks_on_receipt=self.registration.ack is AckMode.ON_RECEIPT,
            flow=Flow(self.registration, lambda: self.failures.held, lambda: False),
        )
        self.session, self.channel = self.new_session()

    def new_session(self) -> tuple[Session, FakeChannel]:
        channel = FakeChannel()
        connections = as_connections(self.connections)
        return Session(self.host, connections, as_channel(channel), "q", {}), channel

    def handle(self, *tags: int, properties: BasicProperties | None = None, **more: Any) -> None:
        self.come(*(make_delivery(tag, b"body %d" % tag, properties, **more) for tag in tags))

    def come(self, *deliveries: Delivery | RawDelivery, ago: float = 0.0) -> None:
        batch = [as_raw(each) if isinstance(each, Delivery) else each for each in deliveries]
        self.session.delivered(batch)
        self.dispatcher.handle_batch(self.session, batch, time.monotonic() - ago)

    @property
    def held(self) -> int:
        return self.failures.held

    @property
    def settled(self) -> list[tuple[str, int, bool]]:
        return self.channel.settled

    @property
    def parked(self) -> list[bytes]:
        return [message.body for message in self.connections.publisher.messages]


def bench(callback: Callable[..., object], **options: Any) -> Bench:
    options.setdefault("dead_queue", "q.dead")
    return Bench(Registration(Queue("q"), **options), callback)


def fail(*_: object) -> None:
    raise ValueError("boom")


def do_nothing(*_: object) -> None:
    pass


def nested_table(depth: int) -> bytes:
    """Make a table that holds a table that holds a table."""
    table = b"\x00\x00\x00\x00"
    for _ in range(depth):
        content = b"\x01aF" + table
        table = len(content).to_bytes(4, "big") + content
    return table


# -- acknowledging -----------------------------------------------------------------------------


def test_on_receipt_the_ack_leaves_before_the_callback_starts() -> None:
    seen: list[list[tuple[str, int, bool]]] = []
    it = bench(lambda *_: seen.append(list(it.settled)), ack=AckMode.ON_RECEIPT)
    it.handle(1, 2)
    assert seen == [[("ack", 1, False)], [("ack", 1, False), ("ack", 2, False)]]


def test_on_success_the_ack_follows_the_callback() -> None:
    seen: list[int] = []
    it = bench(lambda *_: seen.append(len(it.settled)), ack=AckMode.ON_SUCCESS)
    it.handle(1)
    assert seen == [0]
    assert it.settled == [("ack", 1, False)]


def test_on_success_a_callback_that_settles_itself_is_not_overruled() -> None:
    it = bench(
        lambda channel, method, *_: channel.basic_reject(method.delivery_tag, requeue=False),
        ack=AckMode.ON_SUCCESS,
    )
    it.handle(1)
    assert it.settled == [("reject", 1, False)]


def test_a_manual_consumer_settles_nothing_by_itself() -> None:
    it = bench(do_nothing, ack=AckMode.MANUAL)
    it.handle(1, 2)
    assert it.settled == []
    assert it.session.settlement.open_count() == 2


@pytest.mark.parametrize("ack", list(AckMode))
def test_a_callback_that_acks_twice_settles_once(ack: AckMode) -> None:
    def twice(channel: Any, method: Any, *_: object) -> None:
        channel.basic_ack(method.delivery_tag)
        channel.basic_ack(method.delivery_tag)
        channel.basic_nack(method.delivery_tag)

    it = bench(twice, ack=ack)
    it.handle(1)
    assert it.settled == [("ack", 1, False)]


def test_an_ack_of_what_waits_in_the_same_batch_is_ignored() -> None:
    it = bench(lambda channel, *_: channel.basic_ack(3), ack=AckMode.MANUAL)
    it.handle(1, 2)
    it.handle(3)
    assert it.settled == [("ack", 3, False)]


# -- what callbacks raise ----------------------------------------------------------------------


@pytest.mark.parametrize("ack", [AckMode.ON_SUCCESS, AckMode.MANUAL])
def test_a_message_that_always_fails_is_tried_three_times_and_then_parked(ack: AckMode) -> None:
    tries: list[int] = []

    def failing(_channel: object, method: Any, *_: object) -> None:
        tries.append(method.delivery_tag)
        raise ValueError("boom")

    it = bench(failing, ack=ack, retry=SOON)
    it.handle(1)
    for _ in range(5):
        it.dispatcher.retry_due(it.session)
    assert tries == [1, 1, 1]
    assert it.parked == [b"body 1"]
    assert it.settled == [("ack", 1, False)]
    assert [str(error) for error in it.reports] == ["boom"] * 3
    assert it.dispatcher.failed == 3


def test_acked_on_receipt_it_is_parked_at_once_and_not_repeated() -> None:
    it = bench(fail, ack=AckMode.ON_RECEIPT, retry=SOON)
    it.handle(1)
    assert it.parked == [b"body 1"]
    assert it.held == 0
    assert it.settled == [("ack", 1, False)]


def test_a_message_that_was_settled_before_the_failure_is_left_alone() -> None:
    def ack_then_fail(channel: Any, method: Any, *_: object) -> None:
        channel.basic_ack(method.delivery_tag)
        raise ValueError("boom")

    it = bench(ack_then_fail, ack=AckMode.MANUAL, retry=SOON)
    it.handle(1)
    assert it.settled == [("ack", 1, False)]
    assert not it.held
    assert not it.parked
    assert len(it.reports) == 1


def test_what_cannot_be_decoded_is_parked_without_a_second_try() -> None:
    def undecodable(*_: object) -> None:
        raise DecodeError("no message")

    it = bench(undecodable, ack=AckMode.ON_SUCCESS)
    it.handle(1)
    assert it.parked == [b"body 1"]
    assert not it.held


#: Properties that no sender ought to make, and any can: the broker passes them on as they came.
UNREADABLE = {
    "text that is not UTF-8": b"\x80\x00\x02\xff\xfe",
    "a text that ends too soon": b"\x04\x00\x20abc",
    "a table that ends too soon": b"\x20\x00\x00\x00\x00\x09\x01aS\x00\x00",
    "a value of no known type": b"\x20\x00\x00\x00\x00\x03\x01a?",
    "more flags than there are": b"\x00\x01\x00\x00",
    "tables nested too deep": b"\x20\x00" + nested_table(2_000),
    "nothing at all": b"",
}


@pytest.mark.parametrize("header", UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize("ack", AckMode)
def test_a_message_whose_properties_cannot_be_read_is_parked_and_disturbs_no_other(
    ack: AckMode, header: bytes
) -> None:
    seen: list[int] = []

    def callback(channel: Any, method: Any, *_: object) -> None:
        seen.append(method.delivery_tag)
        if ack is not AckMode.ON_RECEIPT:
            channel.basic_ack(method.delivery_tag)

    it = bench(callback, ack=ack, retry=SOON)
    method, _, body = as_raw(make_delivery(2, b"poison"))
    it.come(make_delivery(1), (method, header, body), make_delivery(3))
    assert seen == [1, 3]
    assert it.parked == [b"poison"]
    assert [(kind, tag) for kind, tag, _ in it.settled] == [("ack", 1), ("ack", 2), ("ack", 3)]
    assert [type(error) for error in it.reports] == [FrameError]
    assert (it.dispatcher.handled, it.dispatcher.failed) == (2, 1)
    assert not it.held, "it would be as unreadable another time"
    assert it.session.settlement.open_count() == 0
    assert it.session.settlement.wait_until_sent(0)


def test_what_is_parked_unread_says_where_it_came_from_and_why() -> None:
    it = bench(do_nothing, ack=AckMode.ON_SUCCESS)
    method, _, body = as_raw(make_delivery(1, b"poison", exchange="x", routing_key="key"))
    it.come((method, b"\x80\x00\x02\xff\xfe", body))
    (message,) = it.connections.publisher.messages
    headers = message.properties.headers
    assert message.routing_key == "q.dead"
    assert headers[PARKED_EXCHANGE] == "x"
    assert headers[PARKED_ROUTING_KEY] == "key"
    assert headers[PARKED_ERROR].startswith("FrameError: malformed properties")


@pytest.mark.parametrize("ack", AckMode)
def test_a_routing_key_that_is_no_text_makes_a_message_unreadable_too(ack: AckMode) -> None:
    it = bench(do_nothing, ack=ack)
    method, header, body = as_raw(make_delivery(1, b"poison", routing_key="key"))
    it.come((method.replace(b"key", b"\xff\xfe\xfd"), header, body))
    assert it.parked == [b"poison"]
    assert it.settled == [("ack", 1, False)]
    assert [type(error) for error in it.reports] == [FrameError]


def test_what_cannot_be_read_is_rejected_without_parking() -> None:
    it = bench(do_nothing, ack=AckMode.ON_SUCCESS, retry=Retry(park=False))
    method, _, body = as_raw(make_delivery(1))
    it.come((method, b"", body))
    assert it.settled == [("reject", 1, False)]


def test_what_can_neither_be_read_nor_parked_is_kept() -> None:
    it = bench(do_nothing, ack=AckMode.ON_SUCCESS)
    it.connections.publisher.refusal = PublishTimeoutError("late", may_have_arrived=True)
    method, _, body = as_raw(make_delivery(1))
    it.come((method, b"", body))
    assert it.settled == []
    assert it.held == 1


def test_a_worker_goes_on_after_what_it_cannot_read() -> None:
    seen: list[int] = []
    it = bench(
        lambda _c, method, *_: seen.append(method.delivery_tag),
        ack=AckMode.ON_SUCCESS,
        concurrency=2,
    )
    it.dispatcher.start()
    batch: list[Delivery | RawDelivery] = []
    for tag in range(1, 11):
        method, header, body = as_raw(make_delivery(tag, b"%d" % tag))
        batch.append((method, b"" if tag % 2 else header, body))
    it.come(*batch)
    eventually(lambda: len(it.settled) == 10)
    it.dispatcher.finish()
    assert sorted(seen) == [2, 4, 6, 8, 10]
    assert sorted(it.parked) == [b"1", b"3", b"5", b"7", b"9"]


def test_without_parking_it_is_rejected_for_the_brokers_dead_lettering() -> None:
    it = bench(fail, ack=AckMode.ON_SUCCESS, retry=Retry(attempts=1, park=False))
    it.handle(1)
    assert it.settled == [("reject", 1, False)]
    assert not it.parked


@pytest.mark.parametrize("ack", [AckMode.ON_SUCCESS, AckMode.ON_RECEIPT])
def test_what_cannot_be_parked_is_kept_until_it_can(ack: AckMode) -> None:
    it = bench(fail, ack=ack, retry=Retry(attempts=1))
    it.connections.publisher.refusal = PublishTimeoutError("late", may_have_arrived=True)
    it.handle(1, 2)
    assert "late" in str(it.failures.trouble)
    assert it.connections.publisher.attempts == 1, "the second would meet the same"
    acked = [("ack", 1, False), ("ack", 2, False)]
    assert it.settled == (acked if ack is AckMode.ON_RECEIPT else [])
    it.connections.publisher.refusal = None

    def is_parked() -> bool:
        it.dispatcher.retry_due(it.session)
        return it.parked == [b"body 1", b"body 2"]

    eventually(is_parked)
    assert it.failures.trouble is None
    assert it.settled == acked


def test_what_was_acked_and_cannot_be_parked_outlives_its_connection_and_the_rest_does_not() -> (
    None
):
    acked, open_ = (
        bench(fail, ack=ack, retry=Retry(attempts=1))
        for ack in (AckMode.ON_RECEIPT, AckMode.ON_SUCCESS)
    )
    for it in (acked, open_):
        it.connections.publisher.refusal = PublishTimeoutError("late", may_have_arrived=True)
        it.handle(1)
        it.channel.error = ChannelShutError("gone")
        it.connections.publisher.refusal = None
        it.failures.before_attach()
        it.dispatcher.retry_due(it.new_session()[0])
        assert it.failures.trouble is None
    assert acked.parked == [b"body 1"]
    assert open_.parked == []


@pytest.mark.parametrize("limits", [{"prefetch_count": 3}, {"inbox_max_bytes": 3 * len(b"body 1")}])
def test_no_more_is_kept_than_there_are_bounds_for(limits: dict[str, int]) -> None:
    it = bench(fail, ack=AckMode.ON_RECEIPT, **limits)
    it.connections.publisher.refusal = PublishTimeoutError("late", may_have_arrived=True)
    it.handle(1)
    it.handle(2)
    assert not it.ended
    it.handle(3)
    assert "3 such messages" in str(it.ended[0])
    assert it.channel.closed
    with pytest.raises(ParkingError):
        it.failures.before_attach()
    it.connections.publisher.refusal = None
    it.failures.before_attach()
    assert sorted(it.parked) == [b"body 1", b"body 2", b"body 3"]


def test_one_message_that_can_never_be_parked_does_not_keep_others_from_it() -> None:
    it = bench(fail, ack=AckMode.ON_RECEIPT)
    refusal = PublishTimeoutError("never", may_have_arrived=False)
    publish = it.connections.publisher.publish

    def publish_some(message: Any, *, timeout: float) -> None:
        if message.body == b"body 1":
            raise refusal
        publish(message, timeout=timeout)

    it.connections.publisher.publish = publish_some  # type: ignore[method-assign]
    it.handle(1, 2, 3)

    def are_parked() -> bool:
        it.dispatcher.retry_due(it.session)
        return it.parked == [b"body 2", b"body 3"]

    eventually(are_parked)
    assert it.held == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_no_exception_of_a_callback_ends_the_consumer(error: BaseException) -> None:
    def leave(*_: object) -> None:
        raise error

    it = bench(leave, ack=AckMode.ON_SUCCESS, retry=Retry(attempts=1))
    it.handle(1)
    assert it.parked == [b"body 1"]
    assert it.reports == [error]


def test_a_held_message_of_a_connection_that_is_gone_is_not_tried_again() -> None:
    it = bench(fail, ack=AckMode.ON_SUCCESS, retry=SOON)
    it.handle(1)
    session, channel = it.new_session()
    it.dispatcher.retry_due(session)
    assert len(it.reports) == 1
    assert not channel.settled
    assert not it.settled
    assert it.failures.next_due() is None


def test_held_messages_come_in_the_order_in_which_they_are_due() -> None:
    seen: list[int] = []

    def failing(_channel: object, method: Any, *_: object) -> None:
        seen.append(method.delivery_tag)
        raise ValueError

    it = bench(failing, ack=AckMode.ON_SUCCESS, retry=SOON)
    for tag in (1, 2, 3):
        it.handle(tag)
    it.dispatcher.retry_due(it.session)
    assert seen[:6] == [1, 2, 3, 1, 2, 3]


def test_at_most_half_of_the_prefetch_is_held() -> None:
    it = bench(fail, ack=AckMode.ON_SUCCESS, prefetch_count=6, retry=Retry())
    for tag in range(1, 7):
        it.handle(tag)
    assert it.failures.held == 3
    assert len(it.parked) == 3


@pytest.mark.parametrize("moment", ["before the callback raises", "while it waits"])
def test_nothing_is_sent_on_a_channel_that_has_gone(moment: str) -> None:
    it = bench(fail, ack=AckMode.ON_SUCCESS, retry=SOON)
    if moment == "while it waits":
        it.handle(1)
    it.channel.error = ChannelShutError("gone")
    it.handle(2)
    it.dispatcher.retry_due(it.session)
    assert it.settled == []


def test_a_message_that_fails_during_a_stop_goes_back_with_its_tries_left() -> None:
    def interrupted(*_: object) -> None:
        it.dispatcher.stop_starting()
        raise ConnectionError("what it uses is being shut down as well")

    it = bench(interrupted, ack=AckMode.ON_SUCCESS)
    it.handle(1)
    assert not it.parked
    assert it.settled in ([], [("nack", 1, True)])  # unsettled, it goes back with the channel


# -- what is not handed to a callback ----------------------------------------------------------


def test_after_a_stop_no_callback_starts_and_nothing_is_settled() -> None:
    seen: list[int] = []

    def stop_at_two(_channel: object, method: Any, *_: object) -> None:
        seen.append(method.delivery_tag)
        if method.delivery_tag == 2:
            it.dispatcher.stop_starting()

    it = bench(stop_at_two, ack=AckMode.ON_SUCCESS)
    it.handle(1, 2, 3, 4)
    assert seen == [1, 2]
    assert it.settled == [("ack", 1, False), ("ack", 2, False)]


def test_a_request_whose_sender_has_given_up_is_acked_and_dropped() -> None:
    seen: list[int] = []
    it = bench(lambda _c, method, *_: seen.append(method.delivery_tag), ack=AckMode.MANUAL)
    properties = BasicProperties(headers={TIME_ALLOWED: 50})
    late = make_delivery(1, properties=properties)
    it.come(late, ago=1.0)
    it.handle(2, properties=BasicProperties(headers={TIME_ALLOWED: 60_000}))
    assert seen == [2]
    assert it.settled == [("ack", 1, False)]
    assert it.dispatcher.expired == 1


@pytest.mark.parametrize("ack", [AckMode.ON_SUCCESS, AckMode.MANUAL])
def test_with_acks_after_the_work_a_redelivered_message_is_handled(ack: AckMode) -> None:
    seen: list[int] = []
    it = bench(lambda _c, method, *_: seen.append(method.delivery_tag), ack=ack)
    it.handle(1, properties=BasicProperties(message_id="m"))
    it.handle(2, properties=BasicProperties(message_id="m"), redelivered=True)
    assert seen == [1, 2]


class Starts:
    """A callback, acked on receipt, and what came to it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.it = bench(self, ack=AckMode.ON_RECEIPT)

    def __call__(self, _channel: object, _method: object, _properties: object, body: bytes) -> None:
        self.bodies.append(body)

    def lose_the_connection(self) -> None:
        """Begin another session, whose broker may not have read the acks of this one."""
        it, before = self.it, self.it.session
        it.channel.error = ChannelShutError("lost")
        it.session, it.channel = it.new_session()
        it.session.lost = before.started

    def come(self, *numbers: int, again: bool = False, **properties: Any) -> None:
        for number in numbers:
            body = b"%d" % number
            self.it.come(
                make_delivery(number, body, BasicProperties(**properties), redelivered=again)
            )


def test_acked_on_receipt_a_message_is_not_started_again_when_its_ack_was_lost() -> None:
    starts = Starts()
    starts.come(1, 2, message_id="m")
    starts.lose_the_connection()
    starts.come(2, again=True, message_id="m")
    starts.come(3, again=True, message_id="m")
    assert starts.bodies == [b"1", b"2", b"3"]
    assert [tag for _, tag, _ in starts.it.settled] == [2, 3]


def test_what_the_broker_adds_does_not_make_it_another_message() -> None:
    starts = Starts()
    starts.come(1)
    starts.lose_the_connection()
    starts.come(1, again=True, headers={"x-delivery-count": 1})
    assert starts.bodies == [b"1"]


def test_a_message_that_is_dropped_is_known_again_if_that_ack_is_lost_too() -> None:
    starts = Starts()
    starts.come(1)
    for _ in range(3):
        starts.lose_the_connection()
        starts.come(1, again=True)
    assert starts.bodies == [b"1"]


@pytest.mark.parametrize(
    "one, other",
    [
        ({"message_id": "1"}, {"message_id": "2"}),
        ({"type": "1"}, {"type": "2"}),
        ({"headers": {"x": 1}}, {"headers": {"x": 2}}),
    ],
)
def test_a_message_that_differs_in_a_property_is_another(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    starts = Starts()
    starts.come(1, **one)
    starts.lose_the_connection()
    starts.come(1, again=True, **other)
    assert len(starts.bodies) == 2


def test_a_redelivery_on_the_same_session_is_handled() -> None:
    starts = Starts()
    starts.come(1)
    starts.come(1, again=True)  # somebody else has given it back
    assert len(starts.bodies) == 2


def test_each_start_excuses_one_redelivery() -> None:
    starts = Starts()
    starts.come(1)
    starts.lose_the_connection()
    starts.come(1, 1, again=True)
    assert len(starts.bodies) == 2


@pytest.mark.parametrize("started", [1, 2])
def test_of_equal_messages_none_is_dropped(started: int) -> None:
    starts = Starts()
    starts.come(*[1] * started)
    if started == 1:
        starts.it.channel.error = ChannelShutError("lost")
        starts.come(1)  # which is read when its session is over
    starts.lose_the_connection()
    starts.come(1, again=True)
    assert len(starts.bodies) == started + 1


# -- the callback's surroundings ---------------------------------------------------------------


def test_a_callback_knows_what_it_handles_and_nobody_else_does() -> None:
    seen: list[Any] = []
    given: list[Any] = []

    def callback(*arguments: Any) -> None:
        given.extend(arguments)
        seen.append(current_channel.get())

    it = bench(callback, ack=AckMode.ON_SUCCESS)
    properties = BasicProperties(
        reply_to="amq.rabbitmq.reply-to.x",
        correlation_id="7",
        headers={REPLY_QUEUE: "neon.reply.r"},
    )
    it.handle(1, properties=properties)
    assert seen[0].delivery.properties == properties
    for mine, of_callback in zip(seen[0].delivery, given[1:], strict=True):
        assert mine is of_callback
    assert seen[0].route.queue == "neon.reply.r"
    assert current_channel.get() is None


def test_after_a_failure_nothing_is_current() -> None:
    it = bench(fail, ack=AckMode.ON_SUCCESS)
    it.handle(1)
    assert current_channel.get() is None
    assert it.dispatcher.running() == []


def test_a_running_callback_is_listed() -> None:
    seen: list[Any] = []
    it = bench(lambda *_: seen.extend(it.dispatcher.running()), ack=AckMode.ON_SUCCESS)
    it.handle(7)
    assert [(each.tag, each.thread_id) for each in seen] == [(7, threading.get_ident())]


# -- side by side ------------------------------------------------------------------------------


def test_as_many_callbacks_run_side_by_side_as_asked_for() -> None:
    together = threading.Barrier(4)
    it = bench(lambda *_: together.wait(30.0), ack=AckMode.ON_SUCCESS, concurrency=4)
    it.dispatcher.start()
    it.handle(1, 2, 3, 4)
    eventually(lambda: len(it.settled) == 4)
    it.dispatcher.finish()
    assert not it.reports


def test_with_workers_failures_are_retried_and_parked_too() -> None:
    it = bench(fail, ack=AckMode.ON_SUCCESS, concurrency=3, retry=SOON)
    it.dispatcher.start()
    it.handle(1, 2, 3, 4, 5)

    def parked() -> bool:
        it.dispatcher.retry_due(it.session)
        return len(it.parked) == 5

    eventually(parked)
    it.dispatcher.finish()
    assert sorted(it.settled) == [("ack", tag, False) for tag in range(1, 6)]


def test_a_worker_that_may_keep_no_more_tells_the_consumer_and_no_more_are_started() -> None:
    it = bench(fail, ack=AckMode.ON_RECEIPT, concurrency=2, prefetch_count=3)
    it.connections.publisher.refusal = PublishTimeoutError("late", may_have_arrived=True)
    it.dispatcher.start()
    it.handle(*range(1, 20))
    eventually(lambda: it.ended)
    it.dispatcher.finish()
    assert {type(each) for each in it.ended} == {ParkingError}
    assert it.channel.closed
    assert 3 <= it.held <= 4
    assert it.dispatcher.failed == it.held


def test_finishing_waits_for_running_callbacks_and_drops_what_was_not_started() -> None:
    release = threading.Event()
    started = threading.Event()

    def slow(*_: object) -> None:
        started.set()
        release.wait(30.0)

    it = bench(slow, ack=AckMode.ON_SUCCESS, concurrency=2)
    it.dispatcher.start()
    it.handle(*range(1, 21))
    assert started.wait(30.0)
    finishing = threading.Thread(target=it.dispatcher.finish)
    it.dispatcher.stop_starting()
    finishing.start()
    finishing.join(0.1)
    assert finishing.is_alive()
    release.set()
    finishing.join(30.0)
    assert not finishing.is_alive()
    assert len(it.settled) <= 2


def test_a_publish_that_failed_makes_its_message_one_that_failed() -> None:
    it = bench(do_nothing, ack=AckMode.MANUAL)
    it.handle(1)
    (item,) = it.session.settlement.claim(1)
    lost = PublishTimeoutError("late", may_have_arrived=True)
    it.dispatcher.publish_failed(it.session, item, lost)
    assert it.reports == [lost]
    assert it.held == 1
