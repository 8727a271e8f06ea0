"""What runs callbacks, and what it runs them for.

Callbacks run on threads (`workers`) or as coroutines (`aio.tasks`); which messages reach them, and
what follows, is decided by a `Dispatcher`. Each knows the other by the protocols here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, Protocol

from neon_mq_connector.consumers.session import ReceivedMessage
from neon_mq_connector.errors import MQError, StoppedError
from neon_mq_connector.link import Delivery

#: Has the consumer's thread call something.
CallSoon = Callable[[Callable[[], object]], None]


class CallbacksEndedError(StoppedError):
    """What runs the callbacks has ended, and will run none any more."""


class HandlingError(MQError):
    """Handling a message failed where it has no reason to, which is treated as an outage.

    The broker delivers again what it was about. To end because of one message would end the others'
    handling too.
    """


class Running(NamedTuple):
    """A callback that is running.

    Attributes:
        tag: the delivery tag of its message.
        since: when it started, on the monotonic clock, in seconds.
        thread_id: the thread it runs on.
        message_id: the id of its message, as its sender has set it.
        task: the asyncio task it runs in; None for a function.
    """

    tag: int
    since: float
    thread_id: int
    message_id: str | None = None
    task: Any = None


class MessageHandler(Protocol):
    """What a runner takes messages from, and reports to.

    Attributes:
        backlog: the messages whose callback is to start; any thread may take from it.
    """

    backlog: deque[ReceivedMessage]

    def take_up(self, message: ReceivedMessage) -> Delivery | None:
        """Return the message if its callback is to start now; None otherwise."""

    def returned(self, message: ReceivedMessage, channel: Any) -> None:
        """Take the end of a callback that has returned; `channel` is the callback's."""

    def raised(self, message: ReceivedMessage, error: BaseException) -> None:
        """Take the end of a callback that has raised."""

    def cancelled(self, message: ReceivedMessage, error: BaseException) -> None:
        """Take the end of a callback that a stop has cancelled."""

    def report(self, error: BaseException) -> None:
        """Tell the user of an error."""


class CallbackRunner(Protocol):
    """Run callbacks for the messages in the backlog of a handler.

    Attributes:
        held_up_for: for how long the loop of its callbacks had stood still when `standstill` was
            called last, in seconds.
    """

    held_up_for: float

    @property
    def never_waits(self) -> bool:
        """Whether `work_off` may be called on an I/O thread."""

    def running(self) -> list[Running]:
        """List the callbacks that are running; on any thread."""

    def start(self) -> None:
        """Make ready; called on the consumer's thread."""

    def work_off(self, count: int) -> None:
        """Handle what is in the backlog, or see to it that it is handled.

        Args:
            count: how many messages were added to it for this call.
        """

    def aside(self, call: Callable[[], object]) -> None:
        """Make a call that may wait for the broker, where it holds up no more than it has to."""

    def stop_starting(self) -> None:
        """Take note that no callback is to start any more; on any thread."""

    def finish(self) -> None:
        """Wait until no callback runs; called on the consumer's thread."""

    def is_calling(self) -> bool:
        """Whether it is one of its callbacks that asks."""

    def standstill(self) -> str:
        """Say what keeps all callbacks from running, if something does; asked by one thread."""


#: Makes what runs the callbacks of a handler.
RunnerFactory = Callable[[MessageHandler, CallSoon], CallbackRunner]


def raise_error(error: BaseException) -> NoReturn:
    """Raise an error: to be called on the thread that deals with it."""
    raise error
