"""Parking: in a form that no broker refuses, bounded while it is not possible, never a loop."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.spec import BasicProperties

from neon_mq_connector import MQConnector
from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.consumers import Retry
from neon_mq_connector.consumers.registration import dead_queue_name
from neon_mq_connector.lifecycle import State
from neon_mq_connector.link import encoder
from neon_mq_connector.testing import PrivateBroker
from tests.faults.conftest import Start, register
from tests.faults.peer import DEAD, Peer
from tests.support.polling import eventually, never
from tests.support.vhosts import User

pytestmark = pytest.mark.one_engine

QUEUE = "failing"
SOON = Retry(attempts=3, backoff=ExponentialBackoff(first=0.05))
#: How many failures are kept, and how long it takes at most until parking is tried again.
KEPT, AGAIN_AFTER = 5, 0.5

MakeService = Callable[..., MQConnector]


class Failing:
    """A callback that fails on everything but what begins with ``good``."""

    def __init__(self) -> None:
        self.calls: Counter[bytes] = Counter()

    def __call__(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self.calls[body] += 1
        if not body.startswith(b"good"):
            raise LookupError("no such thing: \udcff")  # as in the names of files: no Unicode


@pytest.fixture
def failing() -> Failing:
    return Failing()


def send(peer: Peer, body: bytes, properties: BasicProperties, queue: str = QUEUE) -> None:
    with peer.channel() as channel:
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, properties, mandatory=True)


def send_encoded(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, body: bytes, headers: bytes, queue: str = QUEUE
) -> None:
    """Send a message with headers that pika does not encode: the content of a table."""
    table = len(headers).to_bytes(4, "big") + headers
    with monkeypatch.context() as patch:
        patch.setattr(BasicProperties, "encode", lambda _self: [b"\x20\x00", table])
        send(peer, body, BasicProperties(), queue)


# -- a form that cannot be refused -------------------------------------------------------------

ENDLESS = {
    "CC": {"CC": [QUEUE, QUEUE + DEAD]},
    "BCC": {"BCC": [QUEUE]},
    "x-delay": {"x-delay": 3_600_000},
    "x-death": {"x-death": [{"queue": QUEUE + DEAD, "reason": "expired", "count": 1}]},
    "forged notes": {"neon-error": 5, "neon-queue": "elsewhere", "neon-original": [1]},
}


@pytest.mark.parametrize("headers", ENDLESS.values(), ids=ENDLESS.keys())
def test_what_a_sender_wants_done_is_not_done_again_by_parking(
    start: Start, headers: dict[str, Any], service: MQConnector, failing: Failing, peer: Peer
) -> None:
    start(QUEUE, failing, retry=SOON)
    properties = BasicProperties(
        message_id="m", reply_to="elsewhere", priority=9, headers={**headers, "mine": 1}
    )
    peer.declare(QUEUE + DEAD, arguments={"x-max-length": 10_000})
    to_itself = "CC" in headers
    send(peer, b"bad", properties)
    expected = 2 if to_itself else 1  # one copy of it by the sender's own wish
    eventually(lambda: peer.counts(QUEUE + DEAD) == (expected, 0), what="it is parked")
    peer.wait_until_settled(QUEUE)
    peer.send(QUEUE, 1, prefix="good")  # what came again would have come before it
    eventually(lambda: failing.calls[b"good0"], what="the next one is handled")
    assert failing.calls[b"bad"] == 3
    peer.wait_until_settled(QUEUE)
    service.stop()
    parked = peer.take_all(QUEUE + DEAD)[-1][0]
    assert parked.headers["neon-queue"] == QUEUE
    assert parked.headers["mine"] == 1
    original = parked.headers["neon-original"]
    assert (original["reply_to"], original["priority"]) == ("elsewhere", 9)
    assert set(original.get("headers", {})) == set(headers) - {
        "BCC",  # the broker takes it out
        "neon-error",
        "neon-queue",
    }


@pytest.mark.parametrize("ack", ["on_success", "on_receipt"])
def test_headers_that_cannot_be_sent_again_stop_no_queue(
    start: Start,
    ack: str,
    service: MQConnector,
    failing: Failing,
    peer: Peer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer.declare(QUEUE)
    double = b"\x03bigd" + b"\x43\xe0" + b"\x00" * 6  # 2**63
    year = b"\x04yearT" + (2**60).to_bytes(8, "big")  # that no calendar has
    decimal = b"\x03decD\xff\x7f\xff\xff\xff"
    deep = b""
    for _ in range(150):
        deep = b"\x01aF" + len(deep).to_bytes(4, "big") + deep
    for body, encoded in ((b"2", double), (b"y", year), (b"d", decimal), (b"t", deep)):
        send_encoded(peer, monkeypatch, body, encoded)
    many = {f"header-{n}": "x" * 100 for n in range(1_000)}
    send(peer, b"many", BasicProperties(headers=many))
    send(peer, b"large", BasicProperties(headers={"large": "x" * 122_000}))
    send(peer, b"good", BasicProperties())
    start(QUEUE, failing, ack=ack, retry=Retry(attempts=1))
    eventually(lambda: failing.calls[b"good"], what="the good one is handled")
    eventually(lambda: peer.counts(QUEUE + DEAD) == (6, 0), what="all others are parked")
    assert service.check_health()
    service.stop()
    parked = {body: properties.headers for properties, body in peer.take_all(QUEUE + DEAD)}
    told = parked.pop(b"many")["neon-cut"]
    assert told.partition(";")[0].endswith("of 1000 headers are missing")
    assert parked.pop(b"d")["dec"].as_tuple().digits == (2, 1, 4, 7, 4, 8, 3, 6, 4, 7)
    kept = {body: headers["neon-original"]["headers"] for body, headers in parked.items()}
    assert parked[b"2"]["neon-error"] == r"LookupError: no such thing: \udcff"
    assert kept[b"2"]["big"].startswith(str(2**63))
    assert kept[b"t"]["a"].startswith("{'a': {'a': ")
    assert kept[b"large"]["large"].startswith("xxx")
    assert year in kept[b"y"]["neon-unreadable"]


def test_a_message_is_parked_whatever_frames_were_agreed_upon(
    start: Start,
    service: MQConnector,
    failing: Failing,
    peer: Peer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = MQConnector.get_connection_params

    def with_small_frames(*args: Any, **kwargs: Any) -> pika.ConnectionParameters:
        return original(*args, **{**kwargs, "frame_max": 4096})

    monkeypatch.setattr(MQConnector, "get_connection_params", with_small_frames)
    longest = QUEUE.ljust(9, "x") + "\u20ac" * 82  # 255 bytes

    def fail_at_length(*_: Any) -> None:
        raise LookupError("no such thing " * 1_000)

    peer.declare(longest)
    names = ("message_id", "correlation_id", "type", "app_id", "content_type", "reply_to")
    properties = BasicProperties(**dict.fromkeys(names, "y" * 255), headers={"CC": ["nobody"]})
    send(peer, b"bad", properties, longest)
    start(longest, fail_at_length, retry=Retry(attempts=1))
    dead = dead_queue_name(longest)
    eventually(lambda: peer.counts(dead) == (1, 0), what="it is parked")
    peer.wait_until_settled(longest)
    service.stop()
    ((parked, body),) = peer.take_all(dead)
    assert (parked.message_id, body) == ("y" * 255, b"bad")
    assert parked.headers["neon-error"].startswith("LookupError: no such thing")


def test_a_dead_letter_queue_that_is_deleted_is_made_again_at_once(
    start: Start,
    service: MQConnector,
    failing: Failing,
    peer: Peer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deleted: list[bytes] = []
    encode = encoder.encode_publish

    def delete_and_encode(number: int, exchange: str, key: str, *args: Any, **more: Any) -> bytes:
        if key == QUEUE + DEAD and len(deleted) < 2:  # between its declare and the publish
            deleted.append(b"")
            with peer.channel() as other:
                other.queue_delete(key)
        return encode(number, exchange, key, *args, **more)

    monkeypatch.setattr("neon_mq_connector.link.channel.encode_publish", delete_and_encode)
    start(QUEUE, failing, retry=Retry(attempts=1))
    send(peer, b"bad", BasicProperties())
    eventually(lambda: peer.counts(QUEUE + DEAD) == (1, 0), what="it is parked")
    assert service.check_health()
    consumer = service.consumers["it"].consumer
    assert consumer.recoveries == 0
    assert len(deleted) == 2


# -- no right to park --------------------------------------------------------------------------


@pytest.fixture
def patient(make_service: MakeService) -> MQConnector:
    """A service that tries again soon, and keeps little."""
    return make_service(reconnect_delay_max=AGAIN_AFTER, prefetch_count=KEPT)


@pytest.fixture
def forbid(broker: PrivateBroker, mq_user: User, peer: Peer) -> Callable[[bool], None]:
    """Take the right to make dead-letter queues, or give it back."""

    def forbid(forbidden: bool) -> None:
        configure = r"^(?!.*\.dead$).*" if forbidden else ".*"
        broker.management.permit(mq_user.name, peer.vhost, configure=configure)

    return forbid


@pytest.fixture
def run_forbidden(
    patient: MQConnector,
    engine: dict[str, Any],
    failing: Failing,
    peer: Peer,
    forbid: Callable[[bool], None],
) -> Callable[..., Any]:
    """Run a consumer that may not park so many bad messages, and return its thread."""

    def run(count: int, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
        forbid(True)
        options = {"arguments": arguments, "retry": SOON, **options, **engine}
        register(patient, QUEUE, failing, **options)
        peer.declare(QUEUE, arguments=arguments)
        peer.send(QUEUE, count, prefix="bad")
        patient.run(run_sync=False, run_observer=False, mq_timeout=120)
        return patient.consumers["it"]

    return run


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_acked_on_receipt_a_bounded_number_of_failures_is_kept_until_they_can_be_parked(
    concurrency: int,
    patient: MQConnector,
    run_forbidden: Callable[..., Any],
    failing: Failing,
    peer: Peer,
    forbid: Callable[[bool], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    count = 60
    consumer = run_forbidden(count, ack="on_receipt", concurrency=concurrency).consumer
    eventually(lambda: consumer.lifecycle.state is State.FAILED, what="it has failed")
    most = KEPT + concurrency
    never(lambda: consumer.failures.held > most, during=3 * AGAIN_AFTER, what="more is kept")
    assert len(failing.calls) <= most
    assert not patient.check_health()
    assert QUEUE + DEAD in patient.health().reasons[0]

    def is_rest_back() -> bool:
        ready, unacked = peer.counts(QUEUE)
        # with the channel the ack of one that was being started may be lost: that comes again
        return not unacked and count - len(failing.calls) <= ready < count

    eventually(is_rest_back)
    assert len(_errors(caplog)) < 10, _errors(caplog)
    forbid(False)
    eventually(lambda: peer.counts(QUEUE + DEAD) == (count, 0), what="all are parked")
    eventually(patient.check_health, what="it is well again")
    assert set(failing.calls.values()) == {1}


def test_a_stop_tells_once_how_many_acknowledged_messages_are_lost_for_want_of_a_right(
    patient: MQConnector,
    run_forbidden: Callable[..., Any],
    failing: Failing,
    peer: Peer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    thread = run_forbidden(40, ack="on_receipt")
    eventually(lambda: len(failing.calls) >= KEPT and thread.snapshot.state is State.FAILED)
    patient.stop()
    assert not thread.is_alive()
    lost = [each for each in _errors(caplog) if "are lost" in each]
    assert len(lost) == 1
    assert lost[0].startswith(f"{len(failing.calls)} messages")
    eventually(lambda: peer.counts(QUEUE) == (40 - len(failing.calls), 0), what="the rest is back")


def test_a_message_that_cannot_be_parked_is_tried_no_more_often_and_holds_up_no_other(
    patient: MQConnector,
    run_forbidden: Callable[..., Any],
    failing: Failing,
    peer: Peer,
    forbid: Callable[[bool], None],
) -> None:
    thread = run_forbidden(2, {"x-queue-type": "quorum", "x-delivery-limit": 2})
    eventually(lambda: thread.snapshot.state is State.FAILED, what="it has failed")
    assert QUEUE + DEAD in thread.snapshot.reason
    peer.send(QUEUE, 20, prefix="good")
    eventually(lambda: len(failing.calls) == 22, what="the good ones are handled")
    never(lambda: thread.snapshot.state is not State.FAILED, during=3 * AGAIN_AFTER)
    patient.observe_consumers()
    assert patient.consumers["it"] is thread
    forbid(False)
    eventually(lambda: peer.counts(QUEUE + DEAD) == (2, 0), what="they are parked")
    eventually(patient.check_health, what="it is well again")
    assert max(failing.calls.values()) == 3
    peer.wait_until_settled(QUEUE)


def test_what_cannot_be_parked_goes_back_at_a_stop(
    patient: MQConnector, run_forbidden: Callable[..., Any], peer: Peer
) -> None:
    thread = run_forbidden(3)
    eventually(lambda: thread.consumer.failures.held == 3, what="all are kept")
    patient.stop()
    assert not thread.is_alive()
    eventually(lambda: peer.counts(QUEUE) == (3, 0), what="they are back")


# -- rejecting, and acks that come too late ----------------------------------------------------


def test_a_dead_letter_exchange_that_leads_back_is_no_hot_loop(
    start: Start, service: MQConnector, failing: Failing, peer: Peer
) -> None:
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": QUEUE}
    start(QUEUE, failing, arguments=back, prefetch_count=4, retry=Retry(attempts=1, park=False))
    began = time.monotonic()
    peer.send(QUEUE, 6, prefix="bad")
    eventually(lambda: len(failing.calls) == 6, what="each was tried")

    def is_hot() -> bool:
        # at once, after 1 s, after 2 s more, ...: no message more often than once in a second
        seconds = time.monotonic() - began
        return max(failing.calls.values()) > 3 + seconds

    never(is_hot, during=3.0, what="it is rejected again and again")
    eventually(lambda: min(failing.calls.values()) >= 2, what="they come again all the same")
    service.stop()
    eventually(lambda: peer.counts(QUEUE) == (6, 0), what="nothing is lost")


@pytest.mark.own_broker
def test_a_callback_that_always_outlasts_the_brokers_patience_is_called_a_few_times(
    start: Start, service: MQConnector, broker: PrivateBroker, peer: Peer
) -> None:
    calls: list[float] = []
    handled: list[bytes] = []

    def callback(channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        if body.startswith(b"good"):
            handled.append(body)
            return
        calls.append(time.monotonic())
        # its own channel: on a slow machine that may be closed before the callback begins
        eventually(lambda: channel.is_closed)

    def set_patience(tick: int, patience: int) -> None:
        values = {"channel_tick_interval": tick, "consumer_timeout": patience}
        settings = [f"application:set_env(rabbit, {name}, {ms})" for name, ms in values.items()]
        broker.rabbitmqctl("eval", f"{', '.join(settings)}.")

    set_patience(300, 1_000)
    try:
        peer.declare(QUEUE)
        peer.send(QUEUE, 1, prefix="slow")
        start(QUEUE, callback, retry=Retry(attempts=2))
        eventually(lambda: peer.counts(QUEUE + DEAD) == (1, 0), what="it is parked")
        assert 1 <= len(calls) <= 2
        peer.send(QUEUE, 3, prefix="good")
        eventually(lambda: len(set(handled)) == 3, what="the consumer goes on")
    finally:
        set_patience(60_000, 1_800_000)
    service.stop()
    ((properties, _body),) = peer.take_all(QUEUE + DEAD)
    assert "ack came too late" in properties.headers["neon-error"]
    assert properties.headers["neon-attempts"] == 2


# -- counts that a sender has forged -----------------------------------------------------------

FORGED = {"negative": -1_000_000, "huge": 2**62, "text": "many", "a list": [1]}


@pytest.mark.parametrize("redelivered", [False, True], ids=["first-time", "redelivered"])
def test_a_forged_count_makes_the_tries_neither_many_nor_none(
    start: Start, redelivered: bool, service: MQConnector, failing: Failing, peer: Peer
) -> None:
    peer.declare(QUEUE)
    for name, count in FORGED.items():
        death = {"queue": QUEUE, "reason": "rejected", "count": count}
        headers = {"x-death": [death] * 2_000, "x-delivery-count": count}
        send(peer, name.encode(), BasicProperties(headers=headers))
    if redelivered:
        with peer.channel() as channel:
            for _ in FORGED:
                channel.basic_get(QUEUE)  # given back when the channel closes
    start(QUEUE, failing, retry=SOON)
    eventually(lambda: peer.counts(QUEUE + DEAD) == (len(FORGED), 0), what="they are parked")
    assert {1, 2, 3} >= set(failing.calls.values())
    service.stop()
    for parked, _body in peer.take_all(QUEUE + DEAD):
        assert parked.headers["neon-attempts"] >= 1
