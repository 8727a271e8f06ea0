"""What a handler may want to know of the message that it handles, and what stands around it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any


class Context:
    """A message that a handler handles; any thread may use it.

    The library makes one for each message of a handler that takes it, or that has middleware. In a
    test of a handler make one with what the handler needs.

    Attributes:
        message_id: the id of the request; empty if it has none.
        queue: the queue that it came from.
        headers: its application headers.
        redelivered: whether the broker has delivered it before, or may have.
        attempt: which try this is, from 1.
        service: the connector.
        deadline: until when its sender waits, on the monotonic clock, in seconds; None if that is
            not known.
        has_replied: whether `reply` was called.
    """

    __slots__ = (
        "_logger",
        "_send",
        "attempt",
        "deadline",
        "has_replied",
        "headers",
        "message_id",
        "queue",
        "redelivered",
        "service",
    )

    def __init__(
        self,
        message_id: str = "",
        queue: str = "",
        *,
        headers: Mapping[str, Any] | None = None,
        redelivered: bool = False,
        attempt: int = 1,
        service: Any = None,
        deadline: float | None = None,
        send: Callable[[Any], object] | None = None,
    ) -> None:
        self.message_id = message_id
        self.queue = queue
        self.headers: Mapping[str, Any] = headers or {}
        self.redelivered = redelivered
        self.attempt = attempt
        self.service = service
        self.deadline = deadline
        self.has_replied = False
        self._send = send
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None

    def __repr__(self) -> str:
        """Name the message by its id and its queue."""
        return f"<Context of message {self.message_id!r} from queue {self.queue!r}>"

    def time_left(self) -> float | None:
        """Return how long the sender still waits, in seconds; None if that is not known.

        It is counted from when the message arrived here, so the sender's own count may be lower.
        """
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def reply(self, part: Any) -> None:
        """Send a part of the answer now; what the handler returns is the last one then.

        A handler that returns None has ended the answer.

        Args:
            part: a dict, a model or a dataclass. It is dropped where no answer is wanted.

        Raises:
            InvalidAnswerError: it is something else.
            PublishError: there is no connection to publish on.
        """
        self.has_replied = True
        if self._send is not None:
            self._send(part)

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """The logger of the service's module; its lines begin with the id of the message."""
        if self._logger is None:
            logger = logging.getLogger(type(self.service).__module__)
            extra = {"message_id": self.message_id, "queue": self.queue}
            self._logger = _BoundLogger(logger, extra)
        return self._logger


class _BoundLogger(logging.LoggerAdapter):  # type: ignore[type-arg] # no generic before 3.11
    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        bound = dict(self.extra or {})
        kwargs["extra"] = {**bound, **kwargs.get("extra", {})}
        return f"{bound['message_id']}: {msg}", kwargs


#: Makes a context manager around each call of a handler.
Middleware = Callable[[Context], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]]
