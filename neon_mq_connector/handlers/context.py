"""The context of the message that a handler handles, and the type of middleware."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any


@dataclass(slots=True, eq=False, repr=False)
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

    message_id: str = ""
    queue: str = ""
    _: KW_ONLY
    headers: Mapping[str, Any] = field(default_factory=dict)
    redelivered: bool = False
    attempt: int = 1
    service: Any = None
    deadline: float | None = None
    has_replied: bool = field(default=False, init=False)
    _send: Callable[[Any], object] | None = None

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
        logger = logging.getLogger(type(self.service).__module__)
        return _BoundLogger(logger, {"message_id": self.message_id, "queue": self.queue})


class _BoundLogger(logging.LoggerAdapter):  # type: ignore[type-arg] # no generic before 3.11
    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        bound = dict(self.extra or {})
        kwargs["extra"] = {**bound, **kwargs.get("extra", {})}
        return f"{bound['message_id']}: {msg}", kwargs


#: Makes a context manager around each call of a handler.
Middleware = Callable[[Context], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]]
