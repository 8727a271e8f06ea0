"""What looks alive is alive: the broker is asked, slow callbacks hold up nobody, faults show."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import ExponentialBackoff, MQConnector, Retry
from neon_mq_connector.service.liveness import LivenessPolicy, LivenessWatch
from neon_mq_connector.testing import PrivateBroker
from tests.integration.conftest import MakeConnector, Seen, messages_in, put, run
from tests.support.polling import eventually

Engine = dict[str, Any]


def watch_over(connector: MQConnector, **policy: float) -> LivenessWatch:
    """Make a watch that looks when the test says so."""
    return LivenessWatch("test-watch", LivenessPolicy(**policy), lambda: connector.consumers)


def test_a_consumer_that_the_broker_does_not_know_of_is_reported_and_attached_anew(
    engine: Engine, make_connector: MakeConnector, channel: BlockingChannel, seen: Seen
) -> None:
    connector = make_connector()
    connector.register_consumer("c", connector.vhost, "q", seen, **engine)
    run(connector)
    watch = watch_over(connector)
    session = connector.consumers["c"].consumer.session
    session._link_channel.cancel(session.consumer_tag)  # behind the library's back
    eventually(
        lambda: channel.queue_declare("q", passive=True).method.consumer_count == 0,
        what="the broker counts no consumer",
    )
    put(channel, "q", b"waits", declare=False)

    def look() -> bool:
        watch.look()
        return "c" in watch.complaints

    eventually(look, what="the fault is found")
    assert "counts no consumer" in watch.complaints["c"]
    assert seen.wait_for(1) == [b"waits"]
    eventually(lambda: not look(), what="it is well again")


def test_what_waits_behind_a_slow_callback_goes_to_idle_workers(
    engine: Engine, make_connector: MakeConnector, channel: BlockingChannel, seen: Seen
) -> None:
    release = threading.Event()

    def slow(*_: Any) -> None:
        release.wait(20.0)

    put(channel, "q", *[b"%d" % number for number in range(5)])
    busy, idle = make_connector(), make_connector()
    for connector, callback in ((busy, slow), (idle, seen)):
        connector.register_consumer(
            "c", connector.vhost, "q", callback, ack="on_success", durable=True, **engine
        )
    run(busy)
    eventually(lambda: busy.health().consumers["c"].waiting == 4, what="four wait behind one")
    run(idle)
    watch = watch_over(busy, slow_callback_after=0.1)

    def look() -> int:
        watch.look()
        return len(seen.bodies)

    eventually(lambda: look() == 4, what="the idle worker has the four")
    assert not release.is_set()
    release.set()
    eventually(lambda: busy.health().consumers["c"].handled == 1, what="the slow one ends")
    idle.stop()
    put(channel, "q", b"later", declare=False)
    eventually(
        lambda: busy.health().consumers["c"].handled == 2, what="the busy one consumes again"
    )


def test_a_callback_that_forgets_to_acknowledge_is_named(
    engine: Engine,
    make_connector: MakeConnector,
    channel: BlockingChannel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def forgets(*_: Any) -> None:
        """Acknowledge nothing."""

    put(channel, "q", b"1", b"2", b"3")
    connector = make_connector()
    connector.register_consumer(
        "c", connector.vhost, "q", forgets, auto_ack=False, prefetch_count=2, **engine
    )
    run(connector)
    eventually(lambda: connector.health().consumers["c"].unsettled == 2)
    watch = watch_over(connector, forgotten_ack_after=0.1)
    with caplog.at_level(logging.WARNING):

        def look() -> bool:
            watch.look()
            return "c" in watch.complaints

        eventually(look, what="it is found")
    assert "forgets" in watch.complaints["c"]
    assert "queue 'q'" in watch.complaints["c"]
    warnings = [each.getMessage() for each in caplog.records if "forget to ack" in each.message]
    assert len(warnings) == 1
    assert "forgets" in warnings[0]


def test_health_says_where_a_callback_is(
    engine: Engine, make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    release = threading.Event()

    def stuck_in_here(*_: Any) -> None:
        release.wait(20.0)

    put(channel, "q", b"1")
    connector = make_connector()
    connector.register_consumer("c", connector.vhost, "q", stuck_in_here, durable=True, **engine)
    run(connector)
    # of a coroutine it is said what it awaits: a thread, here
    where = "stuck_in_here" if engine else "call_in_thread"

    def stack() -> str:
        return connector.health(stacks=True).consumers["c"].oldest_callback_stack or ""

    eventually(lambda: where in stack())
    health = connector.health(stacks=True)
    assert (health.consumers["c"].oldest_callback_age or 0.0) > 0.0
    assert connector.health().consumers["c"].oldest_callback_stack is None
    assert health.to_dict()["consumers"]["c"]["state"] == "consuming"
    release.set()


def test_big_messages_do_not_fill_the_memory_while_a_callback_is_busy(
    engine: Engine,
    make_connector: MakeConnector,
    channel: BlockingChannel,
    broker: PrivateBroker,
    vhost: str,
    seen: Seen,
) -> None:
    release = threading.Event()

    def slow(*delivery: Any) -> None:
        release.wait(20.0)
        seen(*delivery)

    put(channel, "q", *[b"%02d" % number + bytes(50_000) for number in range(30)])
    connector = make_connector(inbox_max_bytes=200_000)
    connector.register_consumer(
        "c", connector.vhost, "q", slow, ack="on_success", durable=True, **engine
    )
    run(connector)

    def unacknowledged() -> int:
        return sum(each["messages_unacknowledged"] for each in broker.list_queues(vhost))

    eventually(lambda: 1 <= unacknowledged() <= 8, what="the flow has stopped")
    release.set()
    bodies = {body[:2] for body in seen.wait_for(30)}
    assert len(bodies) == 30
    eventually(lambda: messages_in(channel, "q") == 0)


def test_deaths_in_a_dead_letter_loop_count_as_tries(
    engine: Engine, make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work", "x-message-ttl": 50}
    channel.queue_declare("wait", durable=True, arguments=back)
    to_wait = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"}
    channel.queue_declare("work", durable=True, arguments=to_wait)
    calls: list[int] = []

    def twice_round_then_fail(channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        calls.append(method.delivery_tag)
        if len(calls) < 3:
            channel.basic_reject(method.delivery_tag, requeue=False)
        else:
            raise ValueError("again")

    connector = make_connector()
    connector.register_consumer(
        "c",
        connector.vhost,
        "work",
        twice_round_then_fail,
        auto_ack=False,
        retry=Retry(attempts=3, backoff=ExponentialBackoff(first=60.0)),
        **engine,
    )
    run(connector)
    put(channel, "work", b"x", declare=False)
    eventually(lambda: connector.health().consumers["c"].parked == 1, what="it is parked, not held")
    assert len(calls) == 3
    assert messages_in(channel, "work.dead") == 1
