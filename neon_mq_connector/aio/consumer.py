"""`AsyncConsumer`: the consumer thread whose callbacks are coroutines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from typing import Any

from neon_mq_connector.aio.channel import ChannelHost
from neon_mq_connector.aio.loops import CoroutineLoop, LoopThread
from neon_mq_connector.aio.outbox import Outbox
from neon_mq_connector.aio.signatures import is_coroutine_function, name_of, takes_message
from neon_mq_connector.aio.tasks import Invoke, TaskRunner
from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.consumer_thread import BaseConsumerThread
from neon_mq_connector.consumers.dispatcher import Dispatcher
from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import StoppedError

LOG = logging.getLogger("neon_mq_connector.aio")

_STOP_TIMEOUT = 10.0


class AsyncConsumer(BaseConsumerThread):
    """Consume one queue; the callback is a coroutine function, and runs on an asyncio loop.

    It takes the four arguments of pika's callbacks, or one aio-pika message. As for functions, this
    thread attaches, recovers, and deals with messages that failed; a loop that is blocked holds up
    none of that. As many coroutines run at a time as the registration says, by default as many as
    the broker sends ahead.

    Args:
        args: as for `BaseConsumerThread`.
        loop: where the coroutines run; a thread of the consumer's own by default, which ends with
            it.
        stop_timeout: how long coroutines may go on after a stop, in seconds (10); towards the end
            they are cancelled, error handlers after half of it. A `join` with a shorter timeout
            shortens it for callbacks.
        kwargs: as for `BaseConsumerThread`.

    Raises:
        TypeError: the callback is no coroutine function, or takes other arguments.
        ImportError: it takes a message, and aio-pika is not installed.
    """

    runs_coroutines = True
    callback_func: Callable[..., Any]
    error_func: Callable[..., Any]

    def __init__(
        self,
        *args: Any,
        loop: CoroutineLoop | None = None,
        stop_timeout: float = _STOP_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._loop = loop
        self._owns_loop = loop is None
        self._stop_timeout = stop_timeout
        self._invoke = self._invoke_in_form()
        self._runner: TaskRunner | None = None
        self._reports: set[Future[None]] = set()

    @property
    def can_start(self) -> bool:
        """Whether it may be started: it was not started yet, and its loop has not ended."""
        return super().can_start and not (self._loop is not None and self._loop.has_ended)

    # -- threading.Thread ----------------------------------------------------------------------

    def join(self, timeout: float | None = None) -> None:
        """Stop consuming and wait for it; a second time does no harm.

        Args:
            timeout: how long to wait at most, in seconds. Coroutines that run are cancelled when
                most of it is over; None for the time that a stop may take.
        """
        self.request_stop()
        if timeout is not None and self._runner is not None:
            self._runner.hurry(timeout)
        super().join(timeout)

    def _end(self) -> None:
        deadline = time.monotonic() + self._stop_timeout / 2
        wait(self._reports, time_left(deadline))  # error handlers may await something
        super()._end()
        if self._loop is None:
            return
        if self._owns_loop:
            self._loop.stop(max(0.1, time_left(deadline)))
        elif not self._loop.loop.is_closed():
            for report in tuple(self._reports):
                report.cancel()

    # -- making the consumer -------------------------------------------------------------------

    def _new_runner(
        self, registration: Registration, connections: Connections, dispatcher: Dispatcher
    ) -> TaskRunner:
        if self._loop is None:
            self._loop = LoopThread(f"mq-asyncio:{self.name}")
        outbox = Outbox(connections, f"mq-outbox:{self.name}")
        self._runner = TaskRunner(
            self._invoke,
            dispatcher,
            ChannelHost(self._loop, outbox, name_of(self.callback_func)),
            concurrency=registration.concurrency,
            queue=self._queue,
            stop_timeout=self._stop_timeout,
        )
        return self._runner

    def _describe(self) -> Registration:
        described = super()._describe()
        return replace(described, concurrency=described.prefetch_count)

    def _invoke_in_form(self) -> Invoke:
        """Return a function that calls the callback with the arguments it takes.

        The callback is looked up for each message: services replace it.
        """
        is_message = takes_message(self.callback_func, self._queue)
        if not is_coroutine_function(self.callback_func):
            raise TypeError(
                f"queue {self._queue!r}: callback {name_of(self.callback_func)} is no coroutine "
                "function (`async def`), as an AsyncConsumer needs; other consumer threads take "
                "functions"
            )
        if not is_message:
            return lambda channel, delivery: self.callback_func(channel, *delivery)
        try:
            from neon_mq_connector.aio.messages import make_message
        except ImportError as error:
            raise ImportError(
                "a callback that takes an aio-pika message needs aio-pika: "
                "pip install neon-mq-connector[aio]"
            ) from error
        return lambda channel, delivery: self.callback_func(make_message(channel, delivery))

    # -- errors --------------------------------------------------------------------------------

    def _report(self, error: BaseException) -> None:
        assert self._loop is not None
        if not is_coroutine_function(self.error_func):
            if self._loop.is_loop_thread:  # which must not wait, as a function may
                self.consumer.call_soon(partial(super()._report, error))
            else:
                super()._report(error)
            return
        report = self._report_async(error)
        try:
            future = self._loop.submit(report)
        except StoppedError:
            LOG.error("consumer %s: its loop has ended, on_error gets no %r", self.name, error)
            return
        self._reports.add(future)
        future.add_done_callback(self._reports.discard)
        # where a task factory has failed; what is cancelled may still run
        future.add_done_callback(lambda done: done.cancelled() or report.close())

    async def _report_async(self, error: BaseException) -> None:
        with self._error_guard():
            await self.error_func(self, error)
