"""Run callbacks that are functions: on the consumer's thread, or on workers side by side."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from functools import partial
from types import CoroutineType
from typing import Any, NoReturn

from neon_mq_connector import tracing
from neon_mq_connector.consumers.callback_channel import CallbackChannel
from neon_mq_connector.consumers.delivery_channel import current_channel
from neon_mq_connector.consumers.dispatcher import Dispatcher
from neon_mq_connector.consumers.registration import MessageCallback
from neon_mq_connector.consumers.runner import Running
from neon_mq_connector.consumers.session import ReceivedMessage
from neon_mq_connector.threads.mailbox import Mailbox


class ThreadRunner:
    """Call a function for each message, one after another or on workers side by side.

    A worker takes a message from the backlog for each True in `_work`, and ends at a None.
    `_running` has one key per thread. `_workers` is owned by the consumer's thread; `stall_reason`
    copies it. `_stopping` is set once, by any thread.

    Args:
        callback: called with ``(channel, method, properties, body)``.
        concurrency: 1 for the consumer's thread, or how many workers there are.
        name: of the workers, with a number behind it.
    """

    def __init__(
        self,
        callback: MessageCallback,
        dispatcher: Dispatcher,
        *,
        concurrency: int,
        name: str,
    ) -> None:
        self.is_nonblocking = concurrency > 1
        self.blocked_for = 0.0
        self._running: dict[int, ReceivedMessage] = {}
        self._callback = callback
        self._dispatcher = dispatcher
        self._concurrency = concurrency
        self._name = name
        self._work: Mailbox[bool | None] = Mailbox()
        self._workers: list[threading.Thread] = []
        self._numbers = itertools.count()
        self._stopping = False

    # -- the consumer's thread -----------------------------------------------------------------

    def start(self) -> None:
        """Start the workers, if callbacks may run side by side."""
        for _ in range(self._concurrency if self.is_nonblocking else 0):
            self._start_worker()

    def process_backlog(self, count: int) -> None:
        """Handle so many messages that were added to the backlog, or let the workers do so."""
        if self.is_nonblocking:
            for _ in range(count):
                self._work.put(True)
            return
        backlog = self._dispatcher.backlog
        while count > 0:
            try:
                message = backlog.popleft()
            except IndexError:
                return  # it was given back
            message.session.more_follows = bool(backlog)
            # messages of a lost session do not count: those that came later must not wait
            count -= self._handle(message)

    def finish(self) -> None:
        """Wait until no callback runs."""
        for _ in self._workers:
            self._work.put(None)
        for worker in self._workers:
            while worker.is_alive():
                worker.join(timeout=1.0)
        self._workers.clear()

    def _start_worker(self) -> None:
        # as this thread, it may be a daemon
        name = f"{self._name}-{next(self._numbers)}"
        worker = threading.Thread(target=self._work_loop, name=name)
        worker.start()
        self._workers.append(worker)

    def _replace(self, ended: list[threading.Thread]) -> None:
        for worker in ended:
            if worker in self._workers:  # or it was replaced already
                self._workers.remove(worker)
                self._running.pop(worker.ident or 0, None)
                self._start_worker()

    # -- any thread ----------------------------------------------------------------------------

    def stop_starting(self) -> None:
        """Note that no callback starts any more: workers that end are not replaced."""
        self._stopping = True

    def running(self) -> list[Running]:
        """List the callbacks that are running."""
        return [
            Running(message.tag, message.started, thread_id, message.message_id)
            for thread_id, message in self._running.copy().items()
        ]

    def is_calling(self) -> bool:
        """Whether it is one of the callbacks that asks."""
        return threading.get_ident() in self._running

    def stall_reason(self) -> str:
        """Report workers that have ended, and let the consumer's thread replace them."""
        ended = [worker for worker in self._workers.copy() if not worker.is_alive()]
        if not ended or self._stopping:
            return ""
        self._dispatcher.call_soon(partial(self._replace, ended))
        return f"{len(ended)} of {self._concurrency} workers had ended; others take their places"

    # -- the consumer's thread or a worker -----------------------------------------------------

    def run_blocking(self, call: Callable[[], object]) -> None:
        """Make a call on this thread, which may wait."""
        call()

    def _work_loop(self) -> None:
        backlog = self._dispatcher.backlog
        while True:
            try:
                if self._work.get() is None:
                    return
                try:
                    message = backlog.popleft()
                except IndexError:
                    continue  # it was given back
                self._handle(message)
                del message  # or it would be kept alive while this waits for the next
            except BaseException as error:  # a fault of ours: the consumer's thread deals with it
                self._dispatcher.fail(error)

    def _handle(self, message: ReceivedMessage) -> bool:
        """Call the callback with a message; return whether it was called."""
        dispatcher = self._dispatcher
        delivery = dispatcher.admit(message)
        if delivery is None:
            return False
        method, properties, body = delivery
        channel = CallbackChannel(message.session, message)
        thread_id = threading.get_ident()
        self._running[thread_id] = message
        token = current_channel.set(channel)
        try:
            with tracing.processing(message):
                try:
                    result = self._callback(channel, method, properties, body)
                    if result is not None and type(result) is CoroutineType:
                        self._refuse(result)
                except BaseException as error:  # sys.exit() in one must not end the consumer unseen
                    message.channel = channel
                    dispatcher.raised(message, error)
                else:
                    dispatcher.returned(message, channel)
        finally:
            current_channel.reset(token)
            del self._running[thread_id]
        return True

    def _refuse(self, coroutine: CoroutineType[Any, Any, Any]) -> NoReturn:
        coroutine.close()
        raise TypeError(
            f"the callback returned the coroutine {coroutine.__qualname__} without awaiting it; "
            "register a function that is `async def`"
        )
