"""`SelectConsumerThread`: the consumer thread with hooks for what becomes of its connection."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from neon_mq_connector.consumers.consumer_thread import BaseConsumerThread
from neon_mq_connector.consumers.outages import ConsumerObserver
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.errors import ChannelShutError, MQConnectionError
from neon_mq_connector.threads.guard import Guard


class SelectConsumerThread(BaseConsumerThread):
    """Consume one queue, and call hooks when its connection opens, fails and closes.

    It differs from `BlockingConsumerThread` in two ways. The four ``on_...`` methods are called,
    with the arguments that pika gives to such callbacks; and ``error_func`` is told of a lost
    connection only when `max_connection_failed_attempts` attempts to connect again have failed.
    What has nothing to do with the connection is told at once: a callback that raised, a queue that
    cannot be declared, a consumer that the broker has ended.

    A hook may be overridden, or replaced on the instance, by anything that takes as many of the
    arguments as it wants. It is looked up when it is called. That is done on this thread, between
    two messages: a slow hook holds up this consumer and nothing else. What it raises is logged.

    However often connecting fails, the first time too, it is tried again for as long as the
    consumer is not stopped: it stays alive. Only when the broker is up and refuses the first
    connection (credentials, virtual host) does the consumer fail at once.
    """

    #: How many attempts to connect have failed in a row when ``error_func`` is told of an outage; 0
    #: has it told when the outage begins.
    max_connection_failed_attempts: int = 3

    def on_connected(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing; called with the connection, each time that it was opened."""

    def on_connection_fail(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing; called with the connection and the error for each attempt that failed.

        The connection is the previous one, or None. Of one outage it is called for as many attempts
        as `max_connection_failed_attempts` says, and for the first one in any case.
        """

    def on_channel_open(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing; called with the channel after `on_connected`, before the first message."""

    def on_close(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing; called with the connection and the reason when what was opened is closed.

        That is once per outage, and once for a stop while it is open.
        """

    def _make_observer(self) -> ConsumerObserver:
        return _Hooks(self)


class _Hooks(ConsumerObserver):
    """Call the hooks of a consumer thread. `_failed` is owned by that thread."""

    bears_moves = False  # they tell of the one connection

    def __init__(self, thread: SelectConsumerThread) -> None:
        self._thread = thread
        self._failed = 0

    def opened(self, session: Session) -> None:
        self._failed = 0
        self._call("on_connected", session.connection)
        self._call("on_channel_open", session.channel)

    def attempt_failed(self, error: BaseException) -> None:
        if not _is_of_the_connection(error):
            return
        self._failed += 1
        if self._failed <= max(1, self._thread.max_connection_failed_attempts):
            self._call("on_connection_fail", self._thread.connection, error)

    def closed(self, session: Session, error: BaseException) -> None:
        self._call("on_close", session.connection, error)

    def is_to_be_told(self, error: BaseException) -> bool:
        if not _is_of_the_connection(error):
            return True
        return self._failed >= self._thread.max_connection_failed_attempts

    def _call(self, name: str, *arguments: Any) -> None:
        with Guard("consumer %s: its hook %s", self._thread.name, name):
            hook = getattr(self._thread, name)
            hook(*_as_many_as_it_takes(hook, arguments))


def _is_of_the_connection(error: BaseException) -> bool:
    """Say whether there is no connection; a channel may be shut while there is one."""
    return isinstance(error, MQConnectionError) and not isinstance(error, ChannelShutError)


def _as_many_as_it_takes(
    hook: Callable[..., object], arguments: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Leave out the last arguments if a hook has no parameters for them."""
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # written in C, as a rule
        return arguments
    for count in range(len(arguments), 0, -1):
        try:
            signature.bind(*arguments[:count])
        except TypeError:
            continue
        return arguments[:count]
    return ()
