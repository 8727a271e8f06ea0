"""Why no answer has come in time, as far as the broker tells."""

from __future__ import annotations

from collections.abc import Callable

from neon_mq_connector.client.request import RequestSpec
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import RequestTimeoutError, StoppedError, WaitTimeoutError
from neon_mq_connector.link import Waiter
from neon_mq_connector.topology import DeclareQueue, Queue, QueueStatus

#: How long the error of a request that is late anyway waits for what the broker says, in seconds.
PATIENCE = 1.0


class _Status:
    """The state of a queue, for the control connection to answer; none where it is not told."""

    def __init__(self, tell: Callable[[QueueStatus | None], object]) -> None:
        self._tell = tell

    def resolve(self, status: QueueStatus | None) -> None:
        self._tell(status)

    def fail(self, _error: BaseException) -> None:
        self._tell(None)


def look_up(
    connections: Connections, spec: RequestSpec, tell: Callable[[QueueStatus | None], object]
) -> None:
    """Ask the broker for the state of the queue of a request; do not wait.

    Args:
        connections: how to reach it.
        spec: what was asked.
        tell: called with the state on the control connection's thread, or with None where the
            broker does not tell it.
    """
    if spec.exchange:  # whose queues are not known
        tell(None)
        return
    step = DeclareQueue(Queue(spec.queue), passive=True)
    try:
        connections.control.submit(
            lambda connection: connection.perform(step),
            _Status(tell),
            timeout=connections.policy.operation_timeout,
        )
    except StoppedError:
        tell(None)


def status_of(connections: Connections, spec: RequestSpec) -> QueueStatus | None:
    """Return the state of the queue of a request; None where the broker does not tell it soon."""
    waiter: Waiter[QueueStatus | None] = Waiter()
    look_up(connections, spec, waiter.resolve)
    try:
        return waiter.wait(PATIENCE, "looking up the queue")
    except WaitTimeoutError:
        return None


def timeout_error(text: str, status: QueueStatus | None) -> RequestTimeoutError:
    """Return the error for an answer that did not come in time.

    Args:
        text: what did not come.
        status: of the queue that was asked; None where it is not known.
    """
    if status is None:
        return RequestTimeoutError(text)
    if not status.consumers:
        reason = "no service consumes the queue"
    elif status.messages:
        reason = f"{status.messages} messages wait in the queue, {status.consumers} consumers"
    else:
        reason = f"consumers of the queue: {status.consumers}, and nobody has answered"
    error = RequestTimeoutError(f"{text}; {reason}")
    error.consumers, error.waiting = status.consumers, status.messages
    return error
