"""A TCP proxy between a service and its broker that does to the line what networks do.

Everything happens on one thread with one event loop; the methods may be called from any thread and
return when the line is in the state asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from neon_mq_connector.testing.ports import LOOPBACK

T = TypeVar("T")

_CHUNK = 65536
_PATIENCE_SECONDS = 60.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

#: So much of a frame passes when it is torn: a part of its header.
_TORN_AFTER = 3
_FRAME_END = b"\xce"


class Direction(enum.Enum):
    """Which way bytes go."""

    TO_BROKER = "to the broker"
    TO_CLIENT = "to the client"


class _Line:
    """One connection through the proxy; used on the loop's thread only."""

    def __init__(self) -> None:
        self.is_connected = False
        self.over = asyncio.Event()
        self.ended = asyncio.Event()
        self.silent = False
        self.torn: Direction | None = None
        self.reset = False


class FaultProxy:
    """Forward a local port to a broker, until told otherwise; a context manager.

    Args:
        target_port: the broker's port on the loopback interface; read anew for each connection, so
            that a broker may go and come back.
        port: where to listen; a free one by default. It stays the same for the proxy's life.

    Examples:
        >>> with FaultProxy(broker.port) as proxy:
        ...     config["port"] = proxy.port
        ...     proxy.blackhole()
    """

    def __init__(self, target_port: int, *, port: int = 0) -> None:
        self._target_port = target_port
        listener = socket.create_server((LOOPBACK, port))
        self.host = LOOPBACK
        self.port: int = listener.getsockname()[1]
        self.accepted = 0
        self._swallows_new = False
        self._latency = 0.0
        self._rate: float | None = None
        self._lines: set[_Line] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")
        self._thread.daemon = True
        self._thread.start()
        self._do(lambda: self._listen(listener))

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- any thread: faults --------------------------------------------------------------------

    def reset(self) -> int:
        """End every connection with a TCP reset; new ones are accepted.

        Returns:
            how many there were.
        """
        return self._do(lambda: self._end_all(reset=True))

    def hang_up(self) -> int:
        """End every connection with an ordinary end of stream; new ones are accepted.

        Returns:
            how many there were.
        """
        return self._do(lambda: self._end_all(reset=False))

    def blackhole(self, *, new: bool = False) -> int:
        """Swallow all that comes on the present connections, both ways, and keep them open.

        Args:
            new: do the same to connections that are made from now on.

        Returns:
            how many connections there were.
        """

        async def silence() -> int:
            self._swallows_new = new
            for line in self._lines:
                line.silent = True
            return len(self._lines)

        return self._do(silence)

    def delay(self, seconds: float) -> None:
        """Hold back everything that is read, in both directions, for this long."""
        self._latency = seconds

    def throttle(self, bytes_per_second: float | None) -> None:
        """Let each direction of each connection have no more than this; None for no limit."""
        self._rate = bytes_per_second

    def tear(self, direction: Direction = Direction.TO_BROKER) -> int:
        """Reset each connection within the next frame that goes this way.

        Returns:
            how many connections wait for that frame.
        """

        async def mark() -> int:
            for line in self._lines:
                line.torn = direction
            return len(self._lines)

        return self._do(mark)

    def refuse(self) -> None:
        """Stop listening, so that connecting is refused; connections that are open go on."""
        self._do(self._stop_listening)

    def restore(self) -> None:
        """Listen and forward again; connections that were swallowed are reset."""
        if self._loop.is_closed():
            return

        async def restore() -> None:
            self._swallows_new = False
            self._latency, self._rate = 0.0, None
            lost = [line for line in self._lines if line.silent or not line.is_connected]
            for line in self._lines:
                line.torn = None
            await self._end(lost, reset=True)
            if self._server is None:
                await self._listen(socket.create_server((LOOPBACK, self.port)))

        self._do(restore)

    @property
    def connections(self) -> int:
        """How many connections go through the proxy."""
        return len(self._lines)

    def close(self) -> None:
        """Stop listening, end every connection and the thread; a second time does no harm."""
        if self._loop.is_closed():
            return
        self.refuse()
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_SECONDS)
        self._loop.close()

    def _do(self, action: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(action(), self._loop).result(_PATIENCE_SECONDS)

    # -- the loop's thread ---------------------------------------------------------------------

    async def _listen(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._serve, sock=listener)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end_all(self, *, reset: bool) -> int:
        return await self._end(list(self._lines), reset=reset)

    @staticmethod
    async def _end(lines: list[_Line], *, reset: bool) -> int:
        for line in lines:
            line.reset = reset
            line.over.set()
        for line in lines:
            await line.ended.wait()
        return len(lines)

    async def _serve(self, near_reader: StreamReader, near: StreamWriter) -> None:
        self.accepted += 1
        line = _Line()
        self._lines.add(line)
        ends = [near]
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(line.over.wait())]
        try:
            if not self._swallows_new:
                far_reader, far = await asyncio.open_connection(LOOPBACK, self._target_port)
                ends.append(far)
                line.is_connected = True
                for direction, source, sink in (
                    (Direction.TO_BROKER, near_reader, far),
                    (Direction.TO_CLIENT, far_reader, near),
                ):
                    tasks.append(asyncio.create_task(self._pump(line, direction, source, sink)))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the broker is away
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for end in ends:
                await self._close(end, reset=line.reset)
            self._lines.discard(line)
            line.ended.set()

    @staticmethod
    async def _close(end: StreamWriter, *, reset: bool) -> None:
        with contextlib.suppress(OSError):
            if reset:
                end.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
                )
            end.transport.abort()
            await end.wait_closed()

    async def _pump(
        self, line: _Line, direction: Direction, source: StreamReader, sink: StreamWriter
    ) -> None:
        sink.transport.set_write_buffer_limits(0)  # what was drained is with the kernel
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                if self._latency and not line.silent:
                    await asyncio.sleep(self._latency)
                if line.silent:
                    continue
                if line.torn is direction:
                    line.reset = True
                    # if this begins within a frame, it is not to end with it
                    data = data[:_TORN_AFTER].removesuffix(_FRAME_END)
                await self._forward(line, direction, sink, data)
                if line.reset:
                    return
        if line.silent:
            await line.over.wait()

    async def _forward(
        self, line: _Line, direction: Direction, sink: StreamWriter, data: bytes
    ) -> None:
        rate = self._rate
        step = max(1, len(data) if rate is None else int(rate / 20))
        for start in range(0, len(data), step):
            part = data[start : start + step]
            if rate is not None:
                await asyncio.sleep(len(part) / rate)
            sink.write(part)
            await sink.drain()
