"""What a dispatcher asks of whatever runs the callbacks: threads, or an asyncio loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from neon_mq_connector.consumers.session import Session
from neon_mq_connector.errors import MQError, StoppedError
from neon_mq_connector.link import Delivery, RawDelivery, delivery_tag

if TYPE_CHECKING:
    from neon_mq_connector.consumers.dispatcher import Dispatcher


class CallbacksEndedError(StoppedError):
    """What runs the callbacks has ended, and will run none any more."""


class HandlingError(MQError):
    """Something failed that has no reason to; what is not settled goes back to the broker."""


class Running(NamedTuple):
    """A callback that is running.

    Attributes:
        tag: the delivery tag of its message.
        since: when it started, on the monotonic clock, in seconds.
        thread_id: the thread it runs on.
        task: the asyncio task it runs in; None for a function.
    """

    tag: int
    since: float
    thread_id: int
    task: Any = None


class Waiting(NamedTuple):
    """A message whose callback has not started.

    Attributes:
        session: the generation it was delivered on.
        message: as it came, or as it was tried before.
        arrived: when it came, on the monotonic clock, in seconds.
        attempt: which try this is, from 1.
    """

    session: Session
    message: RawDelivery | Delivery
    arrived: float
    attempt: int = 1

    @property
    def tag(self) -> int:
        """Its delivery tag."""
        method = self.message[0]
        return delivery_tag(method) if isinstance(method, bytes) else method.delivery_tag


class CallbackRunner(Protocol):
    """Run callbacks for a dispatcher, of whose backlog it takes."""

    @property
    def never_waits(self) -> bool:
        """Whether `work_off` may be called on an I/O thread."""

    @property
    def running(self) -> Mapping[Any, tuple[Any, ...]]:
        """The callbacks that are running: what a `Running` is made of, which takes longer."""

    def start(self) -> None:
        """Make ready; called on the consumer's thread."""

    def work_off(self, added: int) -> None:
        """Handle what is in the backlog, or see to it that it is handled.

        Args:
            added: how many messages were added to it since the last call.
        """

    def aside(self, call: Callable[[], object]) -> None:
        """Make a call that may wait for the broker, where it holds up no more than it has to."""

    def stop_starting(self) -> None:
        """Take note that no callback is to start any more; on any thread."""

    def finish(self) -> None:
        """Wait until no callback runs; called on the consumer's thread."""

    def is_calling(self) -> bool:
        """Whether it is one of its callbacks that asks."""

    def is_within(self) -> bool:
        """Whether it is one of its callbacks that asks, or what it has started meanwhile."""

    def standstill(self) -> str:
        """Say what keeps all callbacks from running, if something does; asked by one thread."""


class RunnerFactory(Protocol):
    """What makes a runner."""

    def __call__(
        self,
        dispatcher: Dispatcher,
        callback: Callable[..., Any],
        *,
        concurrency: int,
        later: Callable[[Callable[[], object]], None],
        name: str,
    ) -> CallbackRunner:
        """Make one.

        Args:
            dispatcher: whose messages are handled.
            callback: what handles them.
            concurrency: how many callbacks may run side by side.
            later: has the consumer's thread call something.
            name: of the consumer's thread.
        """
