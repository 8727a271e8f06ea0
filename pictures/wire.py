"""What passes between programs and a broker, method by method."""

from __future__ import annotations

import time
from asyncio import StreamWriter
from dataclasses import dataclass
from typing import Any

from pika import frame, spec
from pika.exceptions import InvalidFrameError

from neon_mq_connector.testing import FaultProxy
from neon_mq_connector.testing.polling import poll
from neon_mq_connector.testing.proxy import Direction, _Line

#: Not worth to be seen: of connections, channels, consumers and declarations.
_SEEN = (
    spec.Basic.Publish,
    spec.Basic.Deliver,
    spec.Basic.Ack,
    spec.Basic.Nack,
    spec.Basic.Reject,
    spec.Basic.Return,
)


@dataclass
class Event:
    """A method on the wire, or something that a program tells of itself.

    Attributes:
        moment: when, on the monotonic clock.
        connection: the name that the client gave it.
        to_broker: which way it went.
        what: the name of the method, such as ``Basic.Ack``.
        method: itself; None of what is no method.
        properties: of a message.
    """

    moment: float
    connection: str
    to_broker: bool
    what: str
    method: Any = None
    properties: spec.BasicProperties | None = None


class Tap(FaultProxy):
    """Forward a port to a broker and keep what passes.

    The proxy's thread appends to `events`; so may a program under watch.

    Args:
        port: the broker's.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.events: list[Event] = []
        self._unread: dict[tuple[int, bool], bytes] = {}
        self._names: dict[int, str] = {}

    def note(self, what: str) -> None:
        """Keep what a program tells."""
        self.events.append(Event(time.monotonic(), "", True, what))

    def wait_until_quiet(self, seconds: float = 0.3) -> None:
        """Wait until nothing has passed for a while; acks follow the work by some milliseconds."""

        def since() -> float:
            return time.monotonic() - max((each.moment for each in list(self.events)), default=0.0)

        poll(since, lambda passed: passed >= seconds)

    async def _forward(
        self, line: _Line, direction: Direction, sink: StreamWriter, data: bytes
    ) -> None:
        self._read(id(line), direction is Direction.TO_BROKER, data)
        await super()._forward(line, direction, sink, data)

    def _read(self, line: int, to_broker: bool, data: bytes) -> None:
        unread = self._unread.get((line, to_broker), b"") + data
        while unread:
            try:
                length, found = frame.decode_frame(unread)
            except InvalidFrameError:
                break
            if not length:
                break
            unread = unread[length:]
            self._see(line, to_broker, found)
        self._unread[line, to_broker] = unread

    def _see(self, line: int, to_broker: bool, found: Any) -> None:
        method = getattr(found, "method", None)
        if isinstance(method, spec.Connection.StartOk):
            self._names[line] = method.client_properties.get("connection_name", "")
        elif isinstance(method, _SEEN):
            name = self._names.get(line, "")
            self.events.append(Event(time.monotonic(), name, to_broker, method.NAME, method))
        elif isinstance(found, frame.Header) and self.events:
            self.events[-1].properties = found.properties
