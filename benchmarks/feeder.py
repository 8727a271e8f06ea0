"""Where messages come from: as many and as fast as wanted, with little of the processor's time.

Messages are encoded once and written to the socket in blocks. A client library would take more of
the processor than what is to be measured leaves on a small machine.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from pika import frame, spec

from benchmarks.actor import PAYLOAD_BYTES, Actor, Load, Sample
from benchmarks.site import Site

_FRAME_MAX = 131_072
_FRAME_OVERHEAD = 8
#: How many bytes are written at once.
_BLOCK = 32_768


class Publisher:
    """A connection with one channel that does nothing but publish to the default exchange."""

    def __init__(self, site: Site) -> None:
        self._buffer = b""
        self._socket = socket.create_connection((site.host, site.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(frame.ProtocolHeader().marshal())
        self._expect(spec.Connection.Start)
        login = f"\0{site.user}\0{site.password}".encode()
        self._send(0, spec.Connection.StartOk({}, "PLAIN", login, "en_US"))
        self._expect(spec.Connection.Tune)
        self._send(0, spec.Connection.TuneOk(2047, _FRAME_MAX, 0))
        self._call(0, spec.Connection.Open(site.vhost), spec.Connection.OpenOk)
        self._call(1, spec.Channel.Open(), spec.Channel.OpenOk)

    def declare(self, queue: str, *, passive: bool = False) -> int:
        """Declare a queue and say how many messages are in it."""
        method = spec.Queue.Declare(queue=queue, passive=passive)
        count: int = self._call(1, method, spec.Queue.DeclareOk).message_count
        return count

    def delete(self, queue: str) -> None:
        """Delete a queue."""
        self._call(1, spec.Queue.Delete(queue=queue), spec.Queue.DeleteOk)

    def purge(self, queue: str) -> None:
        """Drop what is in a queue."""
        self._call(1, spec.Queue.Purge(queue=queue), spec.Queue.PurgeOk)

    def write(self, block: bytes) -> None:
        """Write encoded messages."""
        self._socket.sendall(block)

    def close(self) -> None:
        """Close the connection."""
        self._call(0, spec.Connection.Close(200, "done", 0, 0), spec.Connection.CloseOk)
        self._socket.close()

    def _send(self, channel: int, method: Any) -> None:
        self._socket.sendall(frame.Method(channel, method).marshal())

    def _call(self, channel: int, method: Any, answer: type[Any]) -> Any:
        self._send(channel, method)
        return self._expect(answer)

    def _expect(self, kind: type[Any]) -> Any:
        while True:
            used, decoded = frame.decode_frame(self._buffer)
            if decoded is None:
                received = self._socket.recv(65_536)
                if not received:
                    raise ConnectionError(f"closed instead of {kind.NAME}")
                self._buffer += received
                continue
            self._buffer = self._buffer[used:]
            method = getattr(decoded, "method", None)
            if isinstance(method, kind):
                return method
            if method is not None:
                raise ConnectionError(f"{method!r} instead of {kind.NAME}")


def encode_message(queue: str, body: bytes) -> bytes:
    """Encode a publish to a queue as it goes over the wire on channel 1."""
    part = _FRAME_MAX - _FRAME_OVERHEAD
    frames = [
        frame.Method(1, spec.Basic.Publish(exchange="", routing_key=queue)).marshal(),
        frame.Header(1, len(body), spec.BasicProperties()).marshal(),
        *(frame.Body(1, body[at : at + part]).marshal() for at in range(0, len(body), part)),
    ]
    return b"".join(frames)


class Filler(Actor):
    """Fill a queue with a round's messages.

    Args:
        site: where the broker is.
        queue: which queue; it is made anew.
        size: of a message's body, in bytes.
    """

    def __init__(self, site: Site, queue: str, *, size: int = PAYLOAD_BYTES) -> None:
        super().__init__(site, queue)
        self._size = size
        self._publisher = Publisher(site)
        self._message = encode_message(queue, b"x" * size)
        self._per_block = max(1, _BLOCK // len(self._message))

    def close(self) -> None:
        """Close the connection."""
        self._publisher.close()

    def round(self, load: Load) -> Sample:
        """Fill it, and wait until all messages are there."""
        wanted = load.bodies(self._size)
        self._publisher.delete(self.queue)
        self._publisher.declare(self.queue)
        for at in range(0, wanted, self._per_block):
            self._publisher.write(self._message * min(self._per_block, wanted - at))
        while self._publisher.declare(self.queue, passive=True) < wanted:
            time.sleep(0.01)
        return {}


class Stream(Actor):
    """Publish at a steady pace.

    Args:
        site: where the broker is.
        queue: where to; it exists.
        rate: messages a second.
    """

    _PAUSE = 0.005

    def __init__(self, site: Site, queue: str, *, rate: int) -> None:
        super().__init__(site, queue)
        self._publisher = Publisher(site)
        self._message = encode_message(queue, b"x" * PAYLOAD_BYTES)
        self._rate = rate

    def close(self) -> None:
        """Close the connection."""
        self._publisher.close()

    def round(self, load: Load) -> Sample:
        """Publish until the time is over, and drop what nobody has taken by then."""
        began = time.perf_counter()
        sent = 0
        while (passed := time.perf_counter() - began) < load.seconds:
            due = int(passed * self._rate) - sent
            self._publisher.write(self._message * due)
            sent += due
            time.sleep(self._PAUSE)
        self._publisher.purge(self.queue)
        return {"operations": sent, "seconds": passed, "rate": sent / passed}
