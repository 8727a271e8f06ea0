"""The health of a connector as data, for an endpoint or a log line."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import dropwhile
from typing import Any

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers import BaseConsumerThread
from neon_mq_connector.consumers.runner import Running
from neon_mq_connector.lifecycle import State
from neon_mq_connector.service.consuming import Consumers
from neon_mq_connector.service.liveness import stalled_for

#: How many frames of a coroutine are shown.
_DEEPEST = 100
#: Where the frames are by which a callback was reached.
_BEFORE_CALLBACKS = (threading.__file__, os.path.dirname(os.path.dirname(__file__)) + os.sep)
#: The states in which a consumer needs no thread.
_OVER = frozenset({State.STOPPED, State.FAILED})
#: States in which a consumer that was started gets nothing any more.
_ENDED = frozenset(state.value for state in (State.STOPPING, State.STOPPED, State.FAILED))


@dataclass(frozen=True)
class ConsumerHealth:
    """One consumer. Durations are in seconds.

    Attributes:
        name: as it was registered.
        queue: what it consumes.
        label: the same in metrics: for a queue whose name is made up, what it stands for.
        vhost: where.
        healthy: whether it consumes and nothing was found to be wrong with it.
        state: where it stands: new, connecting, consuming, recovering, failed, stopping, stopped.
        reason: why, or what was found to be wrong.
        state_age: for how long it has been in that state.
        handled: how many callbacks have returned.
        failed: how many callbacks have raised.
        parked: how many messages were parked.
        expired: how many requests were dropped whose sender no longer waited.
        recoveries: how often it had to recover.
        running: how many callbacks are running.
        waiting: how many messages wait for a callback to end.
        held: how many messages wait for another try, or until they can be parked.
        unsettled: how many messages were handed to a callback and are neither acked nor rejected.
        delivery_count: the highest count of deliveries that came with a message from a quorum
            queue.
        last_message_age: how long ago the last message was taken up; None when there was none.
        oldest_callback_age: how long the oldest running callback has been running; None when none
            is.
        oldest_callback_stack: where it is, when asked for.
    """

    name: str
    queue: str
    label: str
    vhost: str
    healthy: bool
    state: str
    reason: str
    state_age: float
    handled: int
    failed: int
    parked: int
    expired: int
    recoveries: int
    running: int
    waiting: int
    held: int
    unsettled: int
    delivery_count: int
    last_message_age: float | None
    oldest_callback_age: float | None
    oldest_callback_stack: str | None


@dataclass(frozen=True)
class ConnectionHealth:
    """One connection that is watched over.

    Attributes:
        name: of its thread.
        state: idle, connecting, open, waiting, closing, closed.
        connects: how often it was opened.
        blocked_reason: why the broker has blocked it; None when it has not.
        last_error: why it was lost last, while it is not open again; None otherwise.
        tick_age: how long ago its loop went round, in seconds.
    """

    name: str
    state: str
    connects: int
    blocked_reason: str | None
    last_error: str | None
    tick_age: float


@dataclass(frozen=True)
class Health:
    """A connector at one moment.

    Attributes:
        healthy: whether it runs and all of its started consumers are healthy.
        reasons: what is wrong, one line each.
        consumers: each registered consumer, by name.
        connections: each open or wanted connection.
        stuck: the part of what is wrong that only a restart of the process mends.
        publishes: how many messages were confirmed, and how many failed in which way.
    """

    healthy: bool
    reasons: tuple[str, ...]
    consumers: Mapping[str, ConsumerHealth]
    connections: tuple[ConnectionHealth, ...]
    stuck: tuple[str, ...] = ()
    publishes: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as dicts and lists, for JSON."""
        return asdict(self)


def connector_health(
    consumers: Consumers, connections: list[Connections], is_off: str, *, stacks: bool
) -> Health:
    """Return the health of a connector; ``is_off`` is why it does not run, or empty."""
    started, watch = consumers.running(), consumers.watch
    complaints = {} if watch is None else watch.complaints
    described = {
        name: _describe(name, thread, complaints.get(name, ""), stacks=stacks)
        for name, thread in list(consumers.threads.items())
    }
    reasons = [
        f"consumer {name!r} is {each.state}: {each.reason}{_held_up(each)}"
        for name, each in described.items()
        if (name in started and not each.healthy)
        or (each.state in _ENDED and name not in consumers.stopped)
    ]
    stuck = [
        f"consumer {name!r} has ended"
        for name, thread in started.items()
        if not thread.is_alive() and not consumers.may_restart(name)
    ]
    if watch is not None:
        stuck += [f"consumer {name!r}: {problem}" for name, problem in watch.stuck.items()]
        if problem := watch.stall_reason():
            reasons.append(problem)
            stuck.append(problem)
    reasons = [is_off] if is_off else reasons
    publishes: Counter[str] = Counter()
    for each in connections:
        publishes.update(each.publish_outcomes())
    return Health(
        healthy=not reasons,
        reasons=tuple(reasons),
        consumers=described,
        connections=tuple(
            ConnectionHealth(
                name=link.name,
                state=link.state.value,
                connects=link.generation,
                blocked_reason=link.blocked_reason,
                last_error=None if link.last_error is None else str(link.last_error),
                tick_age=stalled_for(link),
            )
            for each in connections
            for link in each.links()
        ),
        stuck=tuple(stuck),
        publishes=dict(publishes),
    )


def _held_up(consumer: ConsumerHealth) -> str:
    """Say what a consumer waits for before it attaches anew: its callbacks run on its thread."""
    age = consumer.oldest_callback_age
    if age is None or consumer.state != State.RECOVERING.value:
        return ""
    return f"; its oldest callback has been running for {age:.0f} s"


def _describe(
    name: str, thread: BaseConsumerThread, complaint: str, *, stacks: bool
) -> ConsumerHealth:
    """Return the health of one consumer; the complaint is what was found to be wrong with it."""
    now = time.monotonic()
    consumer = thread.consumer
    snapshot = consumer.lifecycle.snapshot
    if thread.ident is not None and not thread.is_alive() and snapshot.state not in _OVER:
        complaint = "its thread has ended"
    dispatcher, session = consumer.dispatcher, consumer.session
    running = dispatcher.running()
    last = dispatcher.last_message
    return ConsumerHealth(
        name=name,
        queue=consumer.queue,
        label=consumer.registration.label,
        vhost=consumer.vhost,
        healthy=snapshot.state is State.CONSUMING and not complaint,
        state=snapshot.state.value,
        reason=complaint or snapshot.reason,
        state_age=now - snapshot.since,
        handled=dispatcher.handled,
        failed=dispatcher.failed,
        parked=consumer.failures.parked,
        expired=dispatcher.expired,
        recoveries=consumer.recoveries,
        running=len(running),
        waiting=len(dispatcher.backlog),
        held=consumer.failures.held,
        unsettled=0 if session is None else session.settlement.open_count(),
        delivery_count=dispatcher.highest_delivery_count,
        last_message_age=None if last is None else now - last,
        oldest_callback_age=now - running[0].since if running else None,
        oldest_callback_stack=_stack(running[0]) if running and stacks else None,
    )


def describe_running(consumers: Mapping[str, BaseConsumerThread]) -> list[dict[str, Any]]:
    """Return each running callback of consumers, by name, the oldest first.

    Returns:
        The names of its consumer, queue and virtual host, the id of its message, its age in
        seconds, and where it is: None when that cannot be seen.
    """
    now = time.monotonic()
    found = [
        {
            "consumer": name,
            "queue": thread.consumer.queue,
            "vhost": thread.consumer.vhost,
            "message_id": each.message_id,
            "age": now - each.since,
            "stack": _stack(each),
        }
        for name, thread in consumers.items()
        for each in thread.consumer.dispatcher.running()
    ]
    return sorted(found, key=lambda each: -each["age"])


def _stack(callback: Running) -> str | None:
    """Return where a callback is, from its own first line on."""
    coroutine = None if callback.task is None else callback.task.get_coro()
    if coroutine is not None and not getattr(coroutine, "cr_running", False):
        frames = _frames_of_coroutine(coroutine)
    else:
        frame = sys._current_frames().get(callback.thread_id)
        frames = [] if frame is None else traceback.extract_stack(frame)
    own = list(dropwhile(lambda each: each.filename.startswith(_BEFORE_CALLBACKS), frames))
    return "".join(traceback.format_list(own or frames)) or None


def _frames_of_coroutine(coroutine: Any) -> list[traceback.FrameSummary]:
    """Return its own frame and those of what it awaits, the innermost last."""
    frames: list[traceback.FrameSummary] = []
    while coroutine is not None and len(frames) < _DEEPEST:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            break
        code = frame.f_code
        frames.append(traceback.FrameSummary(code.co_filename, frame.f_lineno, code.co_name))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return frames
