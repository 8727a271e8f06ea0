"""Callbacks that are coroutines: each runs as a task on an asyncio loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from neon_mq_connector import tracing
from neon_mq_connector.aio.channel import AwaitableChannel, ChannelHost
from neon_mq_connector.consumers.delivery_channel import current_channel
from neon_mq_connector.consumers.dispatcher import Dispatcher
from neon_mq_connector.consumers.runner import CallbacksEndedError, Running
from neon_mq_connector.consumers.session import ReceivedMessage
from neon_mq_connector.errors import StoppedError
from neon_mq_connector.link import Delivery

LOG = logging.getLogger("neon_mq_connector.aio")

#: Calls a callback with a message.
Invoke = Callable[[AwaitableChannel, Delivery], Coroutine[Any, Any, object]]

#: From when a loop that does not come round is reported, in seconds.
_LONGEST_STANDSTILL = 3.0
#: Of the time that a stop may take, what is kept for tasks that were cancelled, and its bound in
#: seconds.
_RESERVE, _LONGEST_RESERVE = 0.3, 2.0
_LOOK_AGAIN = 0.1
#: How long messages that had to wait may take to be sent after a stop, in seconds.
_OUTBOX_TIMEOUT = 5.0


class TaskRunner:
    """Run a coroutine for each message, up to a number at a time.

    The loop owns the counts and `_running`, which any thread may copy. Any thread sets
    `_stop_times`: after a stop, when tasks are cancelled, and when they are no longer waited for,
    on the monotonic clock.
    """

    is_nonblocking = True

    def __init__(
        self,
        invoke: Invoke,
        dispatcher: Dispatcher,
        host: ChannelHost,
        *,
        concurrency: int,
        queue: str,
        stop_timeout: float,
    ) -> None:
        self._running: dict[ReceivedMessage, asyncio.Task[None] | None] = {}
        self._thread_id = 0
        self._invoke = invoke
        self._dispatcher = dispatcher
        self._concurrency = concurrency
        self._host = host
        self._loop = host.loop
        self._stop_timeout = stop_timeout
        self._task_name = f"callback {host.callback_name} of queue {queue!r}"
        self._blocking = 0
        self.blocked_for = 0.0
        self._is_starting = False
        self._is_cancelling = False
        self._stop_times: tuple[float, float] | None = None
        self._idle = threading.Event()

    # -- any thread ----------------------------------------------------------------------------

    def process_backlog(self, count: int) -> None:
        """Start callbacks for the backlog, on the loop."""
        try:
            self._loop.call(self._start_waiting)
        except StoppedError as error:
            self._dispatcher.fail(CallbacksEndedError(str(error)))

    def run_blocking(self, call: Callable[[], object]) -> None:
        """Make a call on the consumer's thread; until then it counts as a running callback.

        So callbacks do not fail faster than that thread can deal with.
        """
        self._blocking += 1
        self._dispatcher.call_soon(partial(self._make, call))

    def running(self) -> list[Running]:
        """List the callbacks that are running."""
        return [
            Running(message.tag, message.started, self._thread_id, message.message_id, task)
            for message, task in self._running.copy().items()
        ]

    def is_calling(self) -> bool:
        """Whether the caller is the loop, or was called by a callback on another thread."""
        return self._loop.is_loop_thread or self.is_within()

    def is_within(self) -> bool:
        """Whether the caller is a callback, or a task or a thread that a running one started."""
        current = current_channel.get()
        return current is not None and any(
            message.delivery is current.delivery for message in self._running.copy()
        )

    def stop_starting(self) -> None:
        """Limit the time that running tasks may still take."""
        self.hurry(self._stop_timeout)

    def hurry(self, seconds: float) -> None:
        """Wait no longer than so many seconds for tasks to end; a longer limit is ignored."""
        reserve = min(_LONGEST_RESERVE, _RESERVE * seconds)
        end = time.monotonic() + seconds
        times = (end - reserve, end - reserve / 2)
        self._stop_times = times if self._stop_times is None else min(times, self._stop_times)

    def stall_reason(self) -> str:
        """Return what keeps all callbacks from running, or an empty text; one thread asks."""
        if self._loop.has_ended:
            reason = f"the asyncio loop {self._loop.name} has ended"
            self._dispatcher.fail(CallbacksEndedError(reason))
            return reason
        self.blocked_for = held_up = self._loop.blocked_for()
        with suppress(StoppedError):
            self._loop.call(self._look_after_tasks)
        if held_up < _LONGEST_STANDSTILL:
            return ""
        task = asyncio.current_task(self._loop.loop)
        culprit = "" if task is None else f" by {task.get_name()}"
        return f"the asyncio loop {self._loop.name} is held up{culprit}, for {held_up:.0f} s so far"

    # -- the consumer's thread -----------------------------------------------------------------

    def _make(self, call: Callable[[], object]) -> None:
        try:
            call()
        finally:
            with suppress(StoppedError):
                self._loop.call(self._made)

    def start(self) -> None:
        """Start the loop; raise `StoppedError` if it has ended."""
        self._loop.start()

    def finish(self) -> None:
        """Wait until no task runs; towards the end of the time cancel them, then leave them.

        What they have sent is waited for, too.
        """
        if self._stop_times is None:
            self.hurry(self._stop_timeout)
        try:
            self._loop.call(self._look_if_idle)
            while not self._idle.wait(_LOOK_AGAIN):
                assert self._stop_times is not None
                (cancel_at, end_at), now = self._stop_times, time.monotonic()
                if now >= cancel_at:
                    self._loop.call(self._cancel_all)
                if now >= end_at or self._loop.has_ended:
                    break
                self._loop.call(self._look_if_idle)
        except StoppedError:
            LOG.debug("%s: its loop has ended", self._task_name)
        self._host.outbox.wait_until_done(_OUTBOX_TIMEOUT)
        for each in self.running():
            LOG.warning(
                "%s: it did not end when it was cancelled and is left behind, after %.0f s",
                self._task_name,
                time.monotonic() - each.since,
            )

    # -- the loop ------------------------------------------------------------------------------

    def _start_waiting(self) -> None:
        """Start callbacks for the backlog, as far as there is room."""
        if self._is_starting:
            return  # a task that was started has run to its end at once
        dispatcher, running = self._dispatcher, self._running
        backlog = dispatcher.backlog
        self._is_starting = True
        try:
            while len(running) + self._blocking < self._concurrency:
                try:
                    message = backlog.popleft()
                except IndexError:
                    return
                try:
                    delivery = dispatcher.admit(message)
                    if delivery is not None:
                        self._start(message, delivery)
                except BaseException as error:  # its message must go back
                    dispatcher.fail(error)
        finally:
            self._is_starting = False

    def _start(self, message: ReceivedMessage, delivery: Delivery) -> None:
        self._thread_id = threading.get_ident()
        self._running[message] = None
        message.session.more_follows = len(self._running) > 1
        handling = self._handle(message, delivery)
        try:
            task = self._loop.loop.create_task(handling, name=self._task_name)
        except BaseException as error:  # a task factory of the user has failed
            handling.close()
            self._raised(message, error)
            self._ended(message)
            return
        if message in self._running:  # or an eager task has ended
            self._running[message] = task

    async def _handle(self, message: ReceivedMessage, delivery: Delivery) -> None:
        channel = AwaitableChannel(message.session, self._host, message)
        current_channel.set(channel)
        try:
            with tracing.processing(message):
                try:
                    await self._invoke(channel, delivery)
                except BaseException as error:  # what tasks pass on to their loop would end it
                    message.channel = channel
                    self._raised(message, error)
                else:
                    self._dispatcher.returned(message, channel)
        finally:
            channel.callback_over()
            self._ended(message)

    def _raised(self, message: ReceivedMessage, error: BaseException) -> None:
        if self._is_cancelling and isinstance(error, asyncio.CancelledError):
            self._dispatcher.cancelled(message, error)
        else:
            self._dispatcher.raised(message, error)

    def _ended(self, message: ReceivedMessage) -> None:
        del self._running[message]
        message.session.more_follows = len(self._running) > 1
        if self._stop_times is None:
            self._start_waiting()
        elif not self._running:
            self._idle.set()

    def _made(self) -> None:
        self._blocking -= 1
        self._start_waiting()

    def _look_if_idle(self) -> None:
        """Set `_idle` if no task runs; after a stop none starts any more."""
        self._look_after_tasks()
        if not self._running:
            self._idle.set()

    def _cancel_all(self) -> None:
        """Cancel what runs, once: a second time would cancel what a task does at its end."""
        if self._is_cancelling:
            return
        self._is_cancelling = True
        for task in list(self._running.values()):
            if task is not None:
                task.cancel()

    def _look_after_tasks(self) -> None:
        """Fail the messages whose tasks were cancelled before they began."""
        for message, task in list(self._running.items()):
            if task is not None and task.done():
                self._raised(message, asyncio.CancelledError())
                self._ended(message)
