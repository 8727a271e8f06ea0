"""How a dispatcher runs callbacks: the interface of what runs them on threads or a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from neon_mq_connector.errors import MQError, StoppedError


class CallbacksEndedError(StoppedError):
    """The workers or the loop that run the callbacks have ended; no callback runs any more."""


class HandlingError(MQError):
    """Handling a message failed by a fault of this library, which is treated as an outage.

    The broker delivers again what was unsettled. To end the consumer because of one message would
    end the handling of all others too.
    """


class Running(NamedTuple):
    """A callback that is running: its message, since when, and on which thread.

    Attributes:
        since: when it started, on the monotonic clock, in seconds.
        message_id: as the sender has set it.
        task: the asyncio task it runs in; None for a function.
    """

    tag: int
    since: float
    thread_id: int
    message_id: str | None = None
    task: Any = None


class CallbackRunner(Protocol):
    """Run callbacks for the messages in the backlog of a dispatcher.

    Attributes:
        is_nonblocking: whether `process_backlog` may be called on an I/O thread.
        blocked_for: for how long the loop of its callbacks had stood still when `stall_reason` was
            called last, in seconds.
    """

    is_nonblocking: bool
    blocked_for: float

    def running(self) -> list[Running]:
        """List the callbacks that are running; any thread may ask."""

    def start(self) -> None:
        """Start what runs callbacks; called on the consumer's thread."""

    def process_backlog(self, count: int) -> None:
        """Handle so many messages that were added to the backlog, or let other threads do so."""

    def run_blocking(self, call: Callable[[], object]) -> None:
        """Make a call that may wait for the broker, on a thread that may wait."""

    def stop_starting(self) -> None:
        """Note that no callback starts any more; any thread may call this."""

    def finish(self) -> None:
        """Wait until no callback runs; called on the consumer's thread."""

    def is_calling(self) -> bool:
        """Whether the caller is one of the callbacks."""

    def stall_reason(self) -> str:
        """Return what keeps all callbacks from running, or an empty text; one thread asks."""
