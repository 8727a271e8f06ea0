"""The asyncio loop that coroutines run on: the caller's, or one on a thread of our own.

Other threads call functions on it by `call`; many calls wake it once.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import StoppedError
from neon_mq_connector.threads.guard import Guard

LOG = logging.getLogger("neon_mq_connector.aio")

T = TypeVar("T")


class CoroutineLoop:
    """An asyncio loop that its owner runs, and the calls of other threads for it.

    Consumers are registered before any loop runs. So it may be made without one, and be bound to it
    later, when the calls until then are made.

    `_calls` is a deque: any thread appends, the loop removes. `_wake_is_due` is set by the thread
    that wakes the loop, and reset by the loop before it looks. `_ended` is set once; a thread looks
    at it after it has appended, so that no call is forgotten.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop | None = None, name: str = "of the caller"
    ) -> None:
        self.name = name
        self._loop = loop
        self._process = os.getpid()
        self._calls: deque[Callable[[], object]] = deque()
        self._wake_is_due = False
        self._ended = False
        self._asked_at: float | None = None
        # tasks start in copies of it, and not of the context of the thread that wakes the loop
        self._context = contextvars.copy_context()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The asyncio loop; `StoppedError` is raised where there is none (yet)."""
        if self._loop is None:
            raise StoppedError(f"the asyncio loop {self.name} was not started")
        return self._loop

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the loop; tasks start in copies of the context of this call."""
        self._loop = loop
        self._context = contextvars.copy_context()
        self._wake()

    @property
    def has_ended(self) -> bool:
        """Whether `call` raises: it was stopped, the loop was closed, or this is a fork."""
        is_closed = self._loop is not None and self._loop.is_closed()
        return self._ended or is_closed or self._process != os.getpid()

    def start(self) -> None:
        """Run the loop; one that its owner runs is checked only.

        Raises:
            StoppedError: it was stopped or closed, or is not bound yet.
        """
        if self.has_ended:
            raise StoppedError(f"the asyncio loop {self.name} has ended")
        _ = self.loop

    def stop(self, timeout: float) -> bool:
        """Refuse further calls; those before are made soon. A second time does no harm.

        Returns:
            Whether a thread of its own has ended within so many seconds; True when called on it.
        """
        self._ended = True  # each call before has woken the loop
        return True

    @property
    def is_loop_thread(self) -> bool:
        """Whether the caller runs on the loop."""
        try:
            return asyncio.get_running_loop() is self.loop
        except (RuntimeError, StoppedError):
            return False

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the loop, after those before it; never wait.

        The function must not block; an exception that it raises is logged.

        Raises:
            StoppedError: the loop has ended; the function is not called.
        """
        call = partial(function, *args)
        self._calls.append(call)
        if self._ended:
            self._withdraw(call)
        elif not self._wake_is_due:
            self._wake_is_due = True
            try:
                self._wake()
            except RuntimeError:  # its owner has closed the loop
                self._ended = True
                self._withdraw(call)

    def blocked_for(self) -> float:
        """Return for how many seconds the loop has not made a call that this method gave it.

        To be called from time to time by one thread; 0 when the last such call was made.
        """
        asked_at, now = self._asked_at, time.monotonic()
        if asked_at is not None:
            return now - asked_at
        self._asked_at = now
        with suppress(StoppedError):
            self.call(self._answer)
        return 0.0

    def _answer(self) -> None:
        self._asked_at = None

    def _withdraw(self, call: Callable[[], object]) -> None:
        try:
            self._calls.remove(call)
        except ValueError:
            return  # the loop has made it meanwhile
        raise StoppedError(f"the asyncio loop {self.name} has ended")

    def _wake(self) -> None:
        """Make the calls soon, on the loop; any thread may call this."""
        loop = self._loop
        if loop is not None:  # or else `bind` does so
            loop.call_soon_threadsafe(self._make_calls, context=self._context)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop, as `asyncio.run_coroutine_threadsafe` does.

        Raises:
            StoppedError: the loop has ended; the coroutine does not run.
        """
        with suppress(RuntimeError):  # its owner closes the loop just now
            if not self.has_ended:
                context = self._context.copy()  # one context can be entered once at a time
                return context.run(asyncio.run_coroutine_threadsafe, coroutine, self.loop)
        coroutine.close()
        raise StoppedError(f"the asyncio loop {self.name} has ended")

    # -- the loop ------------------------------------------------------------------------------

    def _make_calls(self) -> None:
        self._wake_is_due = False
        calls = self._calls
        left = len(calls)  # later calls wake it again, so that other tasks have their turn
        while left > 0:
            with Guard("asyncio loop %s: a call of another thread", self.name):
                while left > 0:
                    left -= 1
                    try:
                        call = calls.popleft()
                    except IndexError:
                        return
                    call()


class LoopThread(CoroutineLoop):
    """Run an asyncio loop on a daemon thread of its own; it cannot be started again.

    `_starting` owns the thread and its loop.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        # reentrant: a signal handler may stop what it interrupts
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._end_by = 0.0

    def start(self) -> None:
        """Start the thread; does nothing when it runs."""
        with self._starting:
            if self._stopping:
                raise StoppedError(f"the asyncio loop {self.name} has ended")
            if self._thread is not None:
                return
            thread = self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            loop = self._loop = asyncio.new_event_loop()
            self._wake()
            try:
                thread.start()
            except BaseException:
                loop.close()
                self._thread = self._loop = None
                raise

    def stop(self, timeout: float) -> bool:
        """End the loop and its thread: make the last calls, and cancel the tasks that still run.

        A task that does not end then is left behind, and named in the log.
        """
        deadline = time.monotonic() + timeout
        with self._starting:
            first, self._stopping = not self._stopping, True
            loop, thread = self._loop, self._thread
            if loop is None or thread is None:
                self._ended = True
                return True
            if first:
                self._end_by = deadline
                loop.call_soon_threadsafe(loop.stop)
        if thread is threading.current_thread():
            return True
        if thread.is_alive():  # or a signal handler has interrupted its start
            thread.join(time_left(deadline))
        return not thread.is_alive()

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        while not self._stopping and not loop.is_closed():
            try:
                loop.run_forever()
            except BaseException:  # a task of a callback has raised SystemExit, say
                LOG.exception("asyncio loop %s: a task broke out of it; it goes on", self.name)
        self._ended = True
        try:
            self._context.run(self._make_calls)
            self._cancel_tasks(loop)
        except BaseException:
            LOG.exception("asyncio loop %s: its end failed", self.name)
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def _cancel_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            left = max(0.1, time_left(self._end_by))
            _, tasks = loop.run_until_complete(asyncio.wait(tasks, timeout=left))
        for task in tasks:
            LOG.warning("asyncio loop %s: %r has not ended when it was cancelled", self.name, task)
        if not tasks:
            loop.run_until_complete(loop.shutdown_asyncgens())
