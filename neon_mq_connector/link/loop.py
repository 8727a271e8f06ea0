"""The event loop of an I/O thread: sockets, timers, and work that other threads hand over.

pika runs on it through `AbstractSelectorIOLoop`, its public interface for loops. What is ours: any
thread may hand over work, and wakes the loop only if it sleeps.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pika.adapters.utils.selector_ioloop_adapter import AbstractSelectorIOLoop

LOG = logging.getLogger("neon_mq_connector.link")

#: epoll's flags; the last are those of a broken socket, which are told unasked.
READ, WRITE, ERROR = 1, 4, 8 | 16
_LONGEST_SLEEP = 5.0
#: Reads are delayed by no less and no more, in seconds.
_SHORTEST_DELAY = 0.25e-3
_LONGEST_DELAY = 1e-3


@dataclass(order=True, slots=True)
class _Timer:
    due: float
    number: int
    callback: Callable[[], object] | None = field(compare=False)


class Waker:
    """A descriptor that becomes readable when a thread wakes the one that polls it.

    `_lock` owns whether it is open: once closed, its number may stand for another socket. It is
    reentrant: a signal handler that calls ``stop()`` may interrupt its holder.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self.fd = self._reader.fileno()

    def wake(self) -> None:
        # full: there is enough to wake up from; closed: there is nothing to wake
        with self._lock, contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def clear(self) -> None:
        with contextlib.suppress(OSError):  # nothing is there, or it is closed
            self._reader.recv(4096)

    def close(self) -> None:
        with self._lock:
            self._reader.close()
            self._writer.close()


class _SelectorPoller:
    """Stand in for `select.epoll` where there is none: under gevent, on macOS and Windows.

    epoll is used without `selectors` for two reasons: what `selectors` adds to each call costs more
    than the call, and only of epoll is it known that another thread may change what is waited for.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.unregister = self._selector.unregister
        self.close = self._selector.close

    def register(self, fd: int, flags: int) -> None:
        self._selector.register(fd, _as_selectors_flags(flags))

    def modify(self, fd: int, flags: int) -> None:
        self._selector.modify(fd, _as_selectors_flags(flags))

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        ready = self._selector.select(timeout)
        return [
            (key.fd, events & READ | (events & selectors.EVENT_WRITE) << 1) for key, events in ready
        ]


def _as_selectors_flags(flags: int) -> int:
    return flags & READ | (flags & WRITE) >> 1


class Loop(AbstractSelectorIOLoop):
    """Serve sockets, timers and work, on the thread that calls `start`.

    `outbox` and the callbacks are deques, to which any thread may add; `_asleep` is written by the
    loop alone. All else is owned by the thread that runs it.

    Args:
        outbox: work that other threads hand over, with `wake` after it; an exception in one piece
            of it is logged and ends nothing.

    Attributes:
        any_thread_may_watch: whether any thread may call `watch`, and for no events.
        watch: watches a socket for other events.
    """

    READ, WRITE, ERROR = READ, WRITE, ERROR

    def __init__(self, outbox: deque[Callable[[], object]]) -> None:
        self._outbox = outbox
        self._callbacks: deque[Callable[[], object]] = deque()
        self._timers: list[_Timer] = []
        self._numbers = itertools.count()
        self._handlers: dict[int, Callable[[int, int], object]] = {}
        self.any_thread_may_watch = hasattr(select, "epoll")
        self._poller: Any = select.epoll() if self.any_thread_may_watch else _SelectorPoller()
        self.watch: Callable[[int, int], object] = self._poller.modify
        self._waker = Waker()
        self._poller.register(self._waker.fd, READ)
        self._last_calls: list[tuple[Callable[[Any], object], Any]] = []
        self._asleep = False
        self._reads_delay = 0.0
        self._stopped = False

    # -- any thread ----------------------------------------------------------------------------

    def wake(self) -> None:
        """Wake the loop, if it sleeps, to look at its outbox and callbacks."""
        # a thread that has added something and finds the loop awake is seen before it sleeps
        if self._asleep:
            self._waker.wake()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call something on the loop's thread; an exception of it ends the loop."""
        self._callbacks.append(callback)
        self.wake()

    # -- the loop's thread ---------------------------------------------------------------------

    def start(self) -> None:
        """Serve until `stop`."""
        try:
            while not self._stopped:
                self._serve_once()
        finally:
            self._make_last_calls()

    def stop(self) -> None:
        """End `start`, also one that is still to come."""
        self._stopped = True
        self.wake()

    def close(self) -> None:
        """Release the descriptors."""
        self._poller.close()
        self._waker.close()

    def call_last(self, call: Callable[[Any], object], argument: Any) -> None:
        """Call something at the end of this round, just before the loop sleeps.

        For what wakes another thread: that one can run at once, since this one releases the
        interpreter lock to sleep.
        """
        self._last_calls.append((call, argument))

    def delay_reads(self, seconds: float) -> None:
        """Sleep after this round, so that what comes meanwhile is read and handled together.

        Where much comes one by one, each piece costs a change of thread or two, which is more than
        all else that is done with it.

        Args:
            seconds: how long there is enough to do without what comes. No more than 1 ms is
                slept, and nothing when it is less than 0.25 ms.
        """
        if seconds > self._reads_delay:
            self._reads_delay = seconds

    def call_later(self, delay: float, callback: Callable[[], object]) -> _Timer:
        """Call something once after a delay in seconds."""
        timer = _Timer(time.monotonic() + delay, next(self._numbers), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def remove_timeout(self, timeout_handle: _Timer) -> None:
        """Cancel a timer."""
        timeout_handle.callback = None

    def add_handler(self, fd: int, handler: Callable[[int, int], Any], events: int) -> None:
        """Watch a socket; the handler is called with it and its events."""
        self._handlers[fd] = handler
        self._poller.register(fd, events)

    def update_handler(self, fd: int, events: int) -> None:
        """Watch a socket for other events."""
        self._poller.modify(fd, events)

    def remove_handler(self, fd: int) -> None:
        """Stop watching a socket."""
        del self._handlers[fd]
        self._poller.unregister(fd)

    def abort_connections(self) -> None:
        """End every connection at once; its reader finds the end and closes the socket.

        There is no public way to have pika drop a connection without closing it first. A copy of
        the descriptor is shut down, which ends the connection for both and leaves pika its own.
        """
        for fd in list(self._handlers):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as copy:
                copy.shutdown(socket.SHUT_RDWR)

    def _serve_once(self) -> None:
        if self._reads_delay:
            self._delay_reads_now()
        self._asleep = True
        timeout = self._time_to_sleep()
        if self._last_calls:
            self._make_last_calls()
        ready = self._poller.poll(timeout)
        self._asleep = False
        for fd, events in ready:
            handler = self._handlers.get(fd)  # one handler may have removed another
            if handler is not None:
                handler(fd, events)
            elif fd == self._waker.fd:
                self._waker.clear()
        outbox, callbacks = self._outbox, self._callbacks
        # in this order: a connection that a thread has given up ends before the thread's next work
        handed_over = len(outbox)
        for _ in range(len(callbacks)):
            callbacks.popleft()()
        for _ in range(handed_over):
            try:
                outbox.popleft()()
            except Exception:
                LOG.exception("work for the I/O thread failed")
        if self._timers:
            self._call_due()

    def _delay_reads_now(self) -> None:
        seconds, self._reads_delay = self._reads_delay, 0.0
        if seconds >= _SHORTEST_DELAY and not self._stopped:
            self._make_last_calls()
            time.sleep(min(seconds, _LONGEST_DELAY))

    def _make_last_calls(self) -> None:
        calls, self._last_calls = self._last_calls, []
        for call, argument in calls:
            try:
                call(argument)
            except Exception:
                LOG.exception("a call at the end of a round failed")

    def _time_to_sleep(self) -> float:
        # looked at after `_asleep` is set: see `wake`
        if self._outbox or self._callbacks or self._stopped:
            return 0.0
        if self._timers:
            return min(max(0.0, self._timers[0].due - time.monotonic()), _LONGEST_SLEEP)
        return _LONGEST_SLEEP

    def _call_due(self) -> None:
        now = time.monotonic()
        timers = self._timers
        while timers and timers[0].due <= now:
            callback = heapq.heappop(timers).callback
            if callback is not None:
                callback()
