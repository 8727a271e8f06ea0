"""What looks alive is alive: the broker is asked, slow callbacks hold up nobody, faults show."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Generator
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import ExponentialBackoff, MQConnector, Retry
from neon_mq_connector.config import MQSettings
from neon_mq_connector.consumers.consumer import Consumer
from neon_mq_connector.lifecycle import State
from neon_mq_connector.link import Waiter
from neon_mq_connector.service.liveness import LivenessWatch
from neon_mq_connector.topology import BrokerFacts, Call
from tests.integration.conftest import (
    MakeConnector,
    Seen,
    Serve,
    complaint,
    messages_in,
    put,
    run,
    watch_over,
)
from tests.support.polling import eventually, never

Engine = dict[str, Any]


def cancel_behind_its_back(connector: MQConnector, channel: BlockingChannel) -> None:
    """Cancel the consumer "c" at the broker, without the library's knowledge."""
    session = connector.consumers["c"].consumer.session
    session.link_channel.cancel(session.consumer_tag)
    eventually(
        lambda: channel.queue_declare("q", passive=True).method.consumer_count == 0,
        what="the broker counts no consumer",
    )


@pytest.mark.one_engine
def test_a_consumer_that_the_broker_does_not_know_of_is_reported_and_attached_anew(
    serve: Serve, channel: BlockingChannel, seen: Seen
) -> None:
    connector = serve(seen)
    watch = watch_over(connector)
    cancel_behind_its_back(connector, channel)
    put(channel, "q", b"waits", declare=False)

    assert "counts no consumer" in eventually(lambda: complaint(watch), what="the fault is found")
    assert seen.wait_for(1) == [b"waits"]
    eventually(lambda: not complaint(watch), what="it is well again")


@pytest.mark.one_engine
def test_a_consumer_that_gets_nothing_though_others_are_counted_attaches_anew(
    serve: Serve, channel: BlockingChannel, seen: Seen
) -> None:
    connector = serve(seen, durable=True)
    watch = watch_over(connector, stalled_after=0.3)
    cancel_behind_its_back(connector, channel)
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume("q", lambda *_: None)  # a worker that has all it can take
    put(channel, "q", b"theirs", b"1", b"2")
    eventually(lambda: messages_in(channel, "q") == 2)

    found = eventually(lambda: complaint(watch), what="the fault is found")
    assert "no callback was started for" in found
    assert sorted(seen.wait_for(2)) == [b"1", b"2"]
    eventually(lambda: not complaint(watch), what="it is well again")
    assert connector.consumers["c"].consumer.recoveries >= 1


@pytest.mark.one_engine
def test_workers_that_have_ended_are_missed_and_replaced(
    serve: Serve, channel: BlockingChannel, seen: Seen
) -> None:
    connector = serve(seen, durable=True, concurrency=2)
    runner = connector.consumers["c"].consumer.dispatcher.runner
    workers = list(runner._workers)
    for _ in workers:
        runner._work.put(None)
    eventually(lambda: not any(worker.is_alive() for worker in workers))
    put(channel, "q", b"1", b"2")
    watch = watch_over(connector)
    assert "2 of 2 workers had ended" in complaint(watch)
    assert sorted(seen.wait_for(2)) == [b"1", b"2"]
    eventually(lambda: not complaint(watch))


def hanging(_facts: BrokerFacts) -> Generator[Call, Any, None]:
    """Ask what pika waits for without end: the broker answers with another name."""
    yield Call("queue_declare", ("a\n",), {})


@pytest.mark.one_engine
def test_a_job_of_the_control_connection_that_does_not_end_is_a_reason(
    serve: Serve, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neon_mq_connector.service.liveness._QUERY_TIMEOUT", 0.5)
    connector = serve(seen)
    control = connector.consumers["c"].consumer.session.connections.control
    control.submit("hanging", hanging, Waiter(), timeout=2.0)
    watch = watch_over(connector, stalled_after=0.2)

    def look() -> str:
        watch.look()
        return watch.complaints.get("c", "")

    assert "has been busy with one job" in eventually(look, what="it is found")
    eventually(lambda: not look(), what="it is well again")


def test_what_is_slow_or_waits_its_turn_is_well(
    engine: Engine, make_connector: MakeConnector, channel: BlockingChannel, seen: Seen
) -> None:
    entered, release = threading.Semaphore(0), threading.Event()

    def slow(*_: Any) -> None:
        entered.release()
        release.wait(120)

    def call_slowly(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        channel.connection.add_callback_threadsafe(slow)
        channel.basic_ack(method.delivery_tag)

    one_at_a_time = {"x-single-active-consumer": True}
    connector, active = make_connector(), make_connector()
    vhost = connector.vhost
    registered = {"durable": True, **engine}
    active.register_consumer("s", vhost, "s", slow, arguments=one_at_a_time, **registered)
    run(active)
    connector.register_consumer("s", vhost, "s", seen, arguments=one_at_a_time, **registered)
    connector.register_consumer("one", vhost, "one", slow, prefetch_count=1, **registered)
    connector.register_consumer("q", vhost, "q", slow, auto_ack=False, **registered)
    connector.register_consumer("idle", vhost, "idle", seen, **registered)
    if engine:  # on a loop, a call that is slow is a fault
        connector.register_consumer(
            "call", vhost, "call", call_slowly, auto_ack=False, **registered
        )
    connector.register_consumer("stopped", vhost, "stopped", seen, **registered)
    run(connector)
    connector.stop_consumers(["stopped"])
    for queue in ("one", "q", "call", "stopped"):
        put(channel, queue, b"1", b"2", b"3")
    channel.basic_publish("", "s", b"1")
    channel.basic_publish("", "s", b"2")
    for _ in range(4 if engine else 3):
        assert entered.acquire(timeout=120)
    settings = MQSettings.from_config({"stalled_after": 1.0})
    watch = LivenessWatch("test-watch", settings, connector._mq_core.consumers.running)

    def look() -> Any:
        watch.look()
        return watch.complaints or connector.health().reasons

    never(look, during=1.5)
    release.set()


@pytest.mark.one_engine
def test_one_check_that_fails_or_hangs_ends_no_other(
    engine: Engine, make_connector: MakeConnector, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = make_connector()
    for name in ("raises", "lost"):
        connector.register_consumer(name, connector.vhost, name, seen, **engine)
    run(connector)
    release = threading.Event()
    runner = connector.consumers["raises"].consumer.dispatcher.runner
    with monkeypatch.context() as patch:
        patch.setattr(runner, "stall_reason", lambda: sys.exit(6))
        watch = watch_over(connector, period=0.05)
        watch.start()
        session = connector.consumers["lost"].consumer.session
        session.link_channel.cancel(session.consumer_tag)  # behind the library's back
        eventually(lambda: "lost" in watch.complaints, what="the other is looked after")
        assert not watch.stall_reason()
        patch.setattr("neon_mq_connector.service.liveness._LONGEST_LOOK", 0.2)
        patch.setattr(runner, "stall_reason", lambda: release.wait(120) and "")
        eventually(watch.stall_reason, what="it is found that nobody looks")
    release.set()
    eventually(lambda: not watch.stall_reason(), what="it looks again")
    watch.cancel()


@pytest.mark.one_engine
def test_a_watch_that_has_ended_makes_the_service_unhealthy(serve: Serve, seen: Seen) -> None:
    connector = serve(seen)
    assert connector.check_health()
    watch = connector._mq_core.consumers.watch
    assert watch is not None
    watch.cancel()
    eventually(lambda: not connector.check_health(), what="health says so")
    assert "looks after the consumers" in connector.health().reasons[0]


@pytest.mark.one_engine
def test_a_consumer_whose_thread_is_gone_is_unhealthy_whatever_its_state_says(
    serve: Serve, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_at_once(consumer: Consumer) -> None:
        consumer.lifecycle.move(State.CONNECTING)
        consumer.lifecycle.move(State.CONSUMING)

    monkeypatch.setattr(Consumer, "run", end_at_once)
    connector = serve(seen)
    eventually(lambda: not connector.consumers["c"].is_alive())
    assert connector.consumers["c"].is_consuming
    assert connector.health().reasons == ("consumer 'c' is consuming: its thread has ended",)


@pytest.mark.one_engine
def test_a_consumer_that_was_stopped_on_purpose_is_no_reason(
    engine: Engine, make_connector: MakeConnector, seen: Seen
) -> None:
    connector = make_connector()
    for name in ("stays", "goes"):
        connector.register_consumer(name, connector.vhost, name, seen, **engine)
    run(connector)
    connector.stop_consumers(["goes"])
    assert connector.check_health(), connector.health().reasons
    assert connector.health().consumers["goes"].state == "stopped"
    connector.consumers["stays"].join(120)  # behind the connector's back
    assert not connector.check_health()
    connector.run_consumers()
    eventually(connector.check_health)
    connector.stop()
    assert not connector.check_health()


def test_a_callback_that_forgets_to_acknowledge_is_named(
    serve: Serve, channel: BlockingChannel, caplog: pytest.LogCaptureFixture
) -> None:
    def forgets(*_: Any) -> None:
        """Acknowledge nothing."""

    put(channel, "q", b"1", b"2", b"3")
    connector = serve(forgets, auto_ack=False, prefetch_count=2)
    eventually(lambda: connector.health().consumers["c"].unsettled == 2)
    watch = watch_over(connector, forgotten_ack_after=0.1)
    with caplog.at_level(logging.WARNING):
        found = eventually(lambda: complaint(watch), what="it is found")
    assert "forgets" in found
    assert "queue 'q'" in found
    warnings = [each.getMessage() for each in caplog.records if "forget to ack" in each.message]
    assert len(warnings) == 1
    assert "forgets" in warnings[0]


def test_deaths_in_a_dead_letter_loop_count_as_tries(
    serve: Serve, channel: BlockingChannel
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

    connector = serve(
        twice_round_then_fail,
        auto_ack=False,
        retry=Retry(attempts=3, backoff=ExponentialBackoff(first=60.0)),
        queue="work",
    )
    put(channel, "work", b"x", declare=False)
    eventually(lambda: connector.health().consumers["c"].parked == 1, what="it is parked, not held")
    assert len(calls) == 3
    assert messages_in(channel, "work.dead") == 1
