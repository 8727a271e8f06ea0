"""`SelectConsumerThread`: the consumer thread with hooks for its connection."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from neon_mq_connector.consumers.consumer import Consumer
from neon_mq_connector.consumers.consumer_thread import BaseConsumerThread
from neon_mq_connector.threads.guard import Guard


class SelectConsumerThread(BaseConsumerThread):
    """Consume one queue, and call hooks when its connection opens, fails and closes.

    It differs from `BlockingConsumerThread` in two ways. The four ``on_...`` methods are called
    with the arguments that pika gives to such callbacks. And ``error_func`` is called for a lost
    connection only when `max_connection_failed_attempts` attempts to connect again have failed; for
    all other errors it is called at once.

    A hook may be overridden, or replaced on the instance, by a callable that takes as many of the
    arguments as it wants. It is looked up when it is called. It is called on this thread, between
    two messages: a slow hook holds up this consumer and nothing else. What it raises is logged.

    However often connecting fails, the first time too, the consumer stays alive and tries again
    until it is stopped. Only when the broker is up and refuses the first connection (credentials,
    virtual host) does it fail at once.
    """

    #: How many attempts to connect must have failed in a row before ``error_func`` is called for an
    #: outage; 0 for at once.
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

    def _make_consumer(self, **hooks: Any) -> Consumer:
        return super()._make_consumer(
            call_hook=self._call_hook, told_after=lambda: self.max_connection_failed_attempts
        )

    def _call_hook(self, name: str, *arguments: Any) -> None:
        with Guard("consumer %s: its hook %s", self.name, name):
            hook = getattr(self, name)
            hook(*_as_many_as_it_takes(hook, arguments))


def _as_many_as_it_takes(
    hook: Callable[..., object], arguments: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Leave out the last arguments if a hook has no parameters for them."""
    try:
        kinds = [each.kind for each in inspect.signature(hook).parameters.values()]
    except (TypeError, ValueError):  # written in C, as a rule
        return arguments
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return arguments
    return arguments[: sum(kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds)]
