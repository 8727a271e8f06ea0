"""Callbacks that are coroutines: each runs as a task on an asyncio loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from neon_mq_connector.aio.channel import AwaitableChannel, ChannelHost
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.aio.outbox import Outbox
from neon_mq_connector.consumers.delivery_channel import current_channel
from neon_mq_connector.consumers.reply_route import reply_route
from neon_mq_connector.consumers.runner import CallbacksEndedError
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.errors import StoppedError
from neon_mq_connector.link import Delivery

if TYPE_CHECKING:
    from neon_mq_connector.consumers.dispatcher import Dispatcher

LOG = logging.getLogger("neon_mq_connector.aio")

#: Calls a callback with a message.
Invoke = Callable[[AwaitableChannel, Delivery], Coroutine[Any, Any, object]]

_START_TIMEOUT = 10.0
#: From when a loop that does not come round is reported, in seconds.
_LONGEST_STANDSTILL = 3.0
#: Of the time that a stop may take, what is kept for tasks that were cancelled, and its bound in
#: seconds.
_RESERVE, _LONGEST_RESERVE = 0.3, 2.0
_LOOK_AGAIN = 0.1


@dataclass(frozen=True)
class Patience:
    """Until when tasks may go on after a stop; times are on the monotonic clock, in seconds.

    Attributes:
        cancel_at: from when they are cancelled.
        end_at: from when they are no longer waited for.
    """

    cancel_at: float
    end_at: float

    @classmethod
    def of(cls, seconds: float) -> Patience:
        """Divide the time that a stop may take from now on."""
        now = time.monotonic()
        reserve = min(_LONGEST_RESERVE, _RESERVE * seconds)
        return cls(now + seconds - reserve, now + seconds - reserve / 2)


class TaskRunner:
    """Run a coroutine for each message, up to a number at a time.

    The loop owns what is not said to be another's: the counts, and `running`, of which any thread
    may take a copy. `_patience` is set by any thread; a shorter one replaces a longer one.

    Args:
        dispatcher: whose messages are handled.
        invoke: makes the coroutine of a message.
        concurrency: how many may run at a time.
        later: has the consumer's thread call something.
        loop: where they run.
        outbox: does what their channels may have to wait for.
        callback_name: what to call the callback in messages.
        queue: the name of the queue, for messages.
        stop_timeout: how long tasks may go on after a stop, in seconds.
    """

    never_waits = True

    def __init__(
        self,
        dispatcher: Dispatcher,
        invoke: Invoke,
        *,
        concurrency: int,
        later: Callable[[Callable[[], object]], None],
        loop: CoroutineLoop,
        outbox: Outbox,
        callback_name: str,
        queue: str,
        stop_timeout: float,
    ) -> None:
        self.running: dict[int, tuple[int, float, int, asyncio.Task[None] | None]] = {}
        self._dispatcher = dispatcher
        self._invoke = invoke
        self._concurrency = concurrency
        self._later = later
        self._loop = loop
        self._stop_timeout = stop_timeout
        self._task_name = f"callback {callback_name} of queue {queue!r}"
        self._host = ChannelHost(loop, outbox, callback_name, self._report)
        self._numbers = itertools.count()
        self._handling: dict[int, tuple[Session, Delivery]] = {}
        self._asides = 0
        self._is_starting = False
        self._is_cancelling = False
        self._patience: Patience | None = None
        self._idle = threading.Event()

    # -- any thread ----------------------------------------------------------------------------

    def work_off(self, added: int) -> None:
        """Have the loop take from the backlog."""
        try:
            self._loop.call(self._start_waiting)
        except StoppedError as error:
            self._later(partial(_raise, CallbacksEndedError(str(error))))

    def aside(self, call: Callable[[], object]) -> None:
        """Have a call made on the consumer's thread; until then it counts as a running callback.

        So no more fail than that thread can deal with.
        """
        self._asides += 1
        self._later(partial(self._make, call))

    def is_calling(self) -> bool:
        """Whether it is the loop that asks, or what a callback has called on another thread."""
        return self._loop.is_loop_thread or self.is_within()

    def is_within(self) -> bool:
        """Whether a callback asks, or a task or a thread that it has started, while it runs."""
        current = current_channel.get()
        return current is not None and any(
            delivery is current.delivery for _session, delivery in self._handling.copy().values()
        )

    def stop_starting(self) -> None:
        """Have the time begin that tasks may still take."""
        self.hurry(self._stop_timeout)

    def hurry(self, seconds: float) -> None:
        """Wait no longer than so many seconds for tasks to end."""
        patience = Patience.of(seconds)
        if self._patience is None or patience.end_at < self._patience.end_at:
            self._patience = patience

    def _report(self, error: BaseException) -> None:
        if self._loop.is_loop_thread:
            self._later(partial(self._dispatcher.report, error))  # whoever is told may wait
        else:
            self._dispatcher.report(error)

    def standstill(self) -> str:
        """Say what keeps all callbacks from running, if something does; asked by one thread."""
        if self._loop.has_ended:
            reason = f"the asyncio loop {self._loop.name} has ended"
            self._later(partial(_raise, CallbacksEndedError(reason)))
            return reason
        held_up = self._loop.blocked_for()
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
        """Have the loop run.

        Raises:
            StoppedError: it has ended.
        """
        self._loop.start(_START_TIMEOUT)

    def finish(self) -> None:
        """Wait until no task runs: let them end by themselves, then cancel them, then go on."""
        if self._patience is None:
            self.hurry(self._stop_timeout)
        try:
            self._loop.call(self._look_if_idle)
            while not self._idle.wait(_LOOK_AGAIN):
                patience, now = self._patience, time.monotonic()
                assert patience is not None
                if now >= patience.cancel_at:
                    self._loop.call(self._cancel_all)
                if now >= patience.end_at or self._loop.has_ended:
                    break
                self._loop.call(self._look_if_idle)
        except StoppedError:
            LOG.debug("%s: its loop has ended", self._task_name)
        for _tag, since, _thread, _task in self.running.copy().values():
            LOG.warning(
                "%s: it runs since %.0f s and did not end when it was cancelled; it is left behind",
                self._task_name,
                time.monotonic() - since,
            )

    # -- the loop ------------------------------------------------------------------------------

    def _start_waiting(self) -> None:
        """Start what waits, as far as there is room."""
        dispatcher, handling = self._dispatcher, self._handling
        backlog = dispatcher.backlog
        self._is_starting = True
        try:
            while len(handling) + self._asides < self._concurrency:
                try:
                    waiting = backlog.popleft()
                except IndexError:
                    return
                try:
                    delivery = dispatcher.take_up(waiting)
                    if delivery is not None:
                        self._start(waiting.session, delivery)
                except BaseException as error:  # its message must go back
                    self._later(partial(_raise, error))
        finally:
            self._is_starting = False

    def _start(self, session: Session, delivery: Delivery) -> None:
        number = next(self._numbers)
        self._handling[number] = (session, delivery)
        session.more_follows = len(self._handling) > 1
        started = (delivery.method.delivery_tag, time.monotonic(), threading.get_ident())
        self.running[number] = (*started, None)
        handling = self._handle(number, session, delivery)
        try:
            task = self._loop.loop.create_task(handling, name=self._task_name)
        except BaseException as error:  # a task factory may be anybody's
            handling.close()
            self._raised(session, delivery, error)
            self._ended(number)
            return
        if number in self.running:  # a loop may run a task at once, to its end
            self.running[number] = (*started, task)

    async def _handle(self, number: int, session: Session, delivery: Delivery) -> None:
        dispatcher = self._dispatcher
        route = reply_route(delivery.properties)
        channel = AwaitableChannel(session, self._host, delivery, route)
        current_channel.set(channel)
        try:
            await self._invoke(channel, delivery)
        except BaseException as error:  # what tasks pass on to their loop would end it
            self._raised(session, delivery, error)
        else:
            dispatcher.returned(session, delivery.method.delivery_tag, channel)
        finally:
            channel.callback_over()
            self._ended(number)

    def _raised(self, session: Session, delivery: Delivery, error: BaseException) -> None:
        if self._is_cancelling and isinstance(error, asyncio.CancelledError):
            self._dispatcher.cancelled(session, delivery, error)
        else:
            self._dispatcher.raised(session, delivery, error)

    def _ended(self, number: int) -> None:
        del self.running[number]
        session, _delivery = self._handling.pop(number)
        session.more_follows = len(self._handling) > 1
        dispatcher = self._dispatcher
        if self._patience is not None:
            if not self.running:
                self._idle.set()
        elif dispatcher.backlog and not self._is_starting:
            self._start_waiting()

    def _made(self) -> None:
        self._asides -= 1
        if self._dispatcher.backlog and not self._is_starting:
            self._start_waiting()

    def _look_if_idle(self) -> None:
        """Say that no task runs, if that is so; after a stop none starts any more."""
        self._look_after_tasks()
        if not self.running:
            self._idle.set()

    def _cancel_all(self) -> None:
        """Cancel what runs, once: a second time would cancel what a task does at its end."""
        if self._is_cancelling:
            return
        self._is_cancelling = True
        for _tag, _since, _thread, task in list(self.running.values()):
            if task is not None:
                task.cancel()

    def _look_after_tasks(self) -> None:
        """Take the end of tasks that were cancelled before they began, by whomever."""
        for number, (_tag, _since, _thread, task) in list(self.running.items()):
            if task is not None and task.done() and number in self.running:
                session, delivery = self._handling[number]
                self._raised(session, delivery, asyncio.CancelledError())
                self._ended(number)


def _raise(error: BaseException) -> NoReturn:
    raise error
