"""What somebody wants to ask, checked before anything is opened for it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from neon_mq_connector.codec import WireFormat
from neon_mq_connector.errors import RequestTimeoutError, WaitTimeoutError
from neon_mq_connector.sending.outgoing import check_data
from neon_mq_connector.topology import check_name


class Question(NamedTuple):
    """What is asked, of whom, and until when it is of interest.

    Attributes:
        queue: the queue that the service consumes; the routing key where there is an exchange.
        data: the request.
        exchange: the exchange; empty for the default one.
        wire_format: how the request is encoded.
        timeout: how long the answer may take, in seconds.
        deadline: until when it is waited for, on the monotonic clock, in seconds.
    """

    queue: str
    data: Mapping[str, Any]
    exchange: str
    wire_format: WireFormat
    timeout: float
    deadline: float

    @classmethod
    def of(
        cls,
        queue: str,
        data: Mapping[str, Any],
        timeout: float,
        wire_format: WireFormat,
        exchange: str = "",
    ) -> Question:
        """Check what is to be asked; its time begins to run.

        Raises:
            TypeError, ValueError: the data is no dict, or is empty; a name is too long; the timeout
                is no number of seconds above 0.
        """
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout={timeout!r} is not a number of seconds above 0")
        check_data(data)
        check_name("queue", queue)
        check_name("exchange", exchange)
        return cls(queue, data, exchange, wire_format, timeout, time.monotonic() + timeout)

    @property
    def place(self) -> str:
        """Where it goes, for messages."""
        return f"exchange {self.exchange!r}" if self.exchange else f"queue {self.queue!r}"

    def not_sent(self, error: WaitTimeoutError) -> RequestTimeoutError:
        """Make the error for a request that never left."""
        late = RequestTimeoutError(f"a request to {self.place}: not sent: {error}")
        late.__cause__ = error
        return late
