"""The error for an answer that did not come in time, with what the broker tells of the queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty

from neon_mq_connector.client.inbox import Inbox
from neon_mq_connector.client.request import RequestSpec
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import RequestTimeoutError, StoppedError
from neon_mq_connector.link import CallbackAnswer
from neon_mq_connector.topology import QueueStatus

#: How long the error of a request that is late anyway waits for what the broker says, in seconds.
PATIENCE = 1.0


def look_up(
    connections: Connections, spec: RequestSpec, tell: Callable[[QueueStatus | None], object]
) -> None:
    """Ask the broker for the state of the queue of a request; do not wait.

    Args:
        connections: how to reach it.
        spec: what was asked.
        tell: called once with the state, by any thread; with None where it is not known.
    """
    if spec.exchange:  # whose queues are not known
        tell(None)
        return
    answer = CallbackAnswer(tell, lambda _error: tell(None))
    timeout = connections.policy.operation_timeout
    try:
        connections.control.look_up(spec.queue, answer, timeout=timeout)
    except StoppedError:
        tell(None)


async def status_of(
    connections: Connections, spec: RequestSpec, inbox: Inbox[QueueStatus | None]
) -> QueueStatus | None:
    """Return the state of the queue of a request; None where the broker does not tell it soon."""
    look_up(connections, spec, inbox.put)
    try:
        return await inbox.get(time.monotonic() + PATIENCE)
    except Empty:
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
