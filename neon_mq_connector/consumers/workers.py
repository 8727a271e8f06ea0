"""Callbacks that are functions: called on the consumer's thread, or by workers side by side."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NoReturn

from neon_mq_connector.consumers.callback_channel import CallbackChannel
from neon_mq_connector.consumers.delivery_channel import current_channel
from neon_mq_connector.consumers.registration import MessageCallback
from neon_mq_connector.consumers.reply_route import reply_route
from neon_mq_connector.consumers.runner import Waiting
from neon_mq_connector.threads.mailbox import Mailbox

if TYPE_CHECKING:
    from neon_mq_connector.consumers.dispatcher import Dispatcher


class ThreadRunner:
    """Call a function for each message, one after another or on workers side by side.

    Workers take from the dispatcher's backlog, each time that there is an item in `_work`: True for
    a message, None when one of them is to end. `running` has one key per thread. `_workers` is
    owned by the consumer's thread, and copied by the one that looks for those that have ended;
    `_stopping` is set once, by any thread.

    Args:
        dispatcher: whose messages are handled.
        callback: called with ``(channel, method, properties, body)``.
        concurrency: 1 for the consumer's thread, or how many workers there are.
        later: has the consumer's thread call something.
        name: of the workers, with a number behind it.
    """

    never_waits = False

    def __init__(
        self,
        dispatcher: Dispatcher,
        callback: MessageCallback,
        *,
        concurrency: int,
        later: Callable[[Callable[[], object]], None],
        name: str,
    ) -> None:
        self.running: dict[int, tuple[int, float, int]] = {}
        self._dispatcher = dispatcher
        self._callback = callback
        self._concurrency = concurrency
        self._later = later
        self._name = name
        self._work: Mailbox[bool | None] = Mailbox()
        self._workers: list[threading.Thread] = []
        self._numbers = itertools.count()
        self._stopping = False

    # -- the consumer's thread -----------------------------------------------------------------

    def start(self) -> None:
        """Start the workers, if callbacks may run side by side."""
        if self._concurrency == 1:
            return
        for _ in range(self._concurrency):
            self._start_worker()

    def work_off(self, added: int) -> None:
        """Handle what is in the backlog, or have the workers do it.

        Args:
            added: how many messages were added to it since the last call.
        """
        if self._workers:
            for _ in range(added):
                self._work.put(True)
            return
        backlog = self._dispatcher.backlog
        while True:
            try:
                waiting = backlog.popleft()
            except IndexError:
                return
            waiting.session.more_follows = bool(backlog)
            self._handle(waiting)

    def finish(self) -> None:
        """Wait until no callback runs."""
        for _ in self._workers:
            self._work.put(None)
        for worker in self._workers:
            while worker.is_alive():
                worker.join(timeout=1.0)
        self._workers.clear()

    def _start_worker(self) -> None:
        # a daemon where this thread is one, which it may be since it was made
        name = f"{self._name}-{next(self._numbers)}"
        worker = threading.Thread(target=self._work_loop, name=name)
        worker.start()
        self._workers.append(worker)

    def _replace(self, ended: list[threading.Thread]) -> None:
        for worker in ended:
            if worker in self._workers:  # another look may have found the same
                self._workers.remove(worker)
                self.running.pop(worker.ident or 0, None)
                self._start_worker()

    # -- any thread ----------------------------------------------------------------------------

    def stop_starting(self) -> None:
        """Take note that no callback is to start any more: workers that end are not missed."""
        self._stopping = True

    def is_calling(self) -> bool:
        """Whether it is one of the callbacks that asks."""
        return threading.get_ident() in self.running

    def is_within(self) -> bool:
        """Whether it is one of the callbacks that asks."""
        return self.is_calling()

    def standstill(self) -> str:
        """Say that workers have ended, and have the consumer's thread start others."""
        ended = [worker for worker in self._workers.copy() if not worker.is_alive()]
        if not ended or self._stopping:
            return ""
        self._later(partial(self._replace, ended))
        return f"{len(ended)} of {self._concurrency} workers had ended; others take their places"

    # -- the consumer's thread or a worker -----------------------------------------------------

    def aside(self, call: Callable[[], object]) -> None:
        """Make a call here: the thread that handled the message sees to what comes of it."""
        call()

    def _work_loop(self) -> None:
        backlog = self._dispatcher.backlog
        while True:
            try:
                if self._work.get() is None:
                    return
                try:
                    waiting = backlog.popleft()
                except IndexError:
                    continue  # it was given back
                self._handle(waiting)
            except BaseException as error:  # the consumer's thread does with it what it always does
                self._later(partial(_raise, error))

    def _handle(self, waiting: Waiting) -> None:
        dispatcher = self._dispatcher
        delivery = dispatcher.take_up(waiting)
        if delivery is None:
            return
        session = waiting.session
        method, properties, body = delivery
        tag = method.delivery_tag
        route = reply_route(properties) if properties.headers else None
        channel = CallbackChannel(session, delivery, route)
        thread_id = threading.get_ident()
        self.running[thread_id] = (tag, time.monotonic(), thread_id)
        token = current_channel.set(channel)
        try:
            result = self._callback(channel, method, properties, body)
            if result is not None and type(result) is CoroutineType:
                self._refuse(result)
        except BaseException as error:  # sys.exit() in a callback must not end the consumer unseen
            dispatcher.raised(session, delivery, error)
        else:
            dispatcher.returned(session, tag, channel)
        finally:
            current_channel.reset(token)
            del self.running[thread_id]

    def _refuse(self, coroutine: CoroutineType[Any, Any, Any]) -> NoReturn:
        coroutine.close()
        raise TypeError(
            f"the callback returned the coroutine {coroutine.__qualname__} without awaiting it; "
            "register a function that is `async def`"
        )


def _raise(error: BaseException) -> NoReturn:
    raise error
