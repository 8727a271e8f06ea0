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
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from neon_mq_connector.testing.ports import LOOPBACK

T = TypeVar("T")

_CHUNK = 65536
_PATIENCE_SECONDS = 60.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_GREETING_BYTES = 8
_FRAME_HEADER_BYTES = 7
_FRAME_END_BYTES = 1


class Direction(enum.Enum):
    """Which way bytes go."""

    TO_BROKER = "to the broker"
    TO_CLIENT = "to the client"


class FrameTracker:
    """Know where the frames of AMQP end in a stream of bytes.

    Args:
        greeting: how many bytes come before the first frame; a client says 8.
    """

    def __init__(self, greeting: int = 0) -> None:
        self._left = greeting
        self._header = b""

    def feed(self, data: bytes) -> list[int]:
        """Take the next bytes of the stream.

        Args:
            data: the bytes.

        Returns:
            the positions in them at which a frame has just ended.
        """
        ends: list[int] = []
        position = 0
        while position < len(data):
            if self._left == 0:
                part = data[position : position + _FRAME_HEADER_BYTES - len(self._header)]
                self._header += part
                position += len(part)
                if len(self._header) == _FRAME_HEADER_BYTES:
                    size = int.from_bytes(self._header[3:], "big")
                    self._left, self._header = size + _FRAME_END_BYTES, b""
                continue
            taken = min(self._left, len(data) - position)
            position += taken
            self._left -= taken
            if self._left == 0:
                ends.append(position)
        return ends


def middle_of_a_frame(length: int, ends: list[int]) -> int:
    """Say where to cut bytes so that a frame is torn.

    Args:
        length: how many bytes there are.
        ends: where frames end in them.

    Returns:
        how many of the bytes still go through.
    """
    return (ends[0] if ends else length) // 2


class _Line:
    """One connection through the proxy; used on the loop's thread only."""

    def __init__(self, near: socket.socket) -> None:
        self.near = near
        self.far: socket.socket | None = None
        self.over = asyncio.Event()
        self.ended = asyncio.Event()
        self.silent = False
        self.torn: Direction | None = None
        self.reset = False

    def close(self) -> None:
        for end in (self.near, self.far):
            if end is None:
                continue
            if self.reset:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.close()
        self.ended.set()


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
        self._target = (LOOPBACK, target_port)
        self._listener: socket.socket | None = self._listen(port)
        self.host = LOOPBACK
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self._swallows_new = False
        self._latency = 0.0
        self._rate: float | None = None
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._acceptor: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")
        self._thread.daemon = True
        self._thread.start()
        self._do(self._accept_again)

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
        """Reset each connection in the middle of the next frame that goes this way.

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
            lost = [line for line in self._lines if line.silent or line.far is None]
            for line in self._lines:
                line.torn = None
            await self._end(lost, reset=True)
            if self._listener is None:
                self._listener = self._listen(self.port)
                await self._accept_again()

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

    @staticmethod
    def _listen(port: int) -> socket.socket:
        listener = socket.create_server((LOOPBACK, port), backlog=128)
        listener.setblocking(False)
        return listener

    async def _accept_again(self) -> None:
        assert self._listener is not None
        self._acceptor = asyncio.create_task(self._accept(self._listener))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(listener)
            self.accepted += 1
            task = asyncio.create_task(self._serve(_Line(near)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _stop_listening(self) -> None:
        acceptor, self._acceptor = self._acceptor, None
        listener, self._listener = self._listener, None
        if acceptor is None or listener is None:
            return
        acceptor.cancel()
        await asyncio.gather(acceptor, return_exceptions=True)
        await asyncio.sleep(0)
        listener.close()

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

    async def _serve(self, line: _Line) -> None:
        self._lines.add(line)
        line.near.setblocking(False)
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(line.over.wait())]
        try:
            if not self._swallows_new:
                far = await self._connect()
                if far is None:
                    return
                line.far = far
                for direction, source, sink in (
                    (Direction.TO_BROKER, line.near, far),
                    (Direction.TO_CLIENT, far, line.near),
                ):
                    tasks.append(asyncio.create_task(self._pump(line, direction, source, sink)))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # the loop forgets a socket one round after the task that used it: only then may the
            # number of its file be given to another
            await asyncio.sleep(0)
            self._lines.discard(line)
            line.close()

    async def _connect(self) -> socket.socket | None:
        far = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        far.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(far, self._target)
        except OSError:
            far.close()
            return None
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return far

    async def _pump(
        self, line: _Line, direction: Direction, source: socket.socket, sink: socket.socket
    ) -> None:
        loop = asyncio.get_running_loop()
        frames = FrameTracker(_GREETING_BYTES if direction is Direction.TO_BROKER else 0)
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(source, _CHUNK):
                ends = frames.feed(data)
                if self._latency and not line.silent:
                    await asyncio.sleep(self._latency)
                if line.silent:
                    continue
                if line.torn is direction:
                    await loop.sock_sendall(sink, data[: middle_of_a_frame(len(data), ends)])
                    line.reset = True
                    return
                await self._forward(sink, data)
        if line.silent:
            await line.over.wait()

    async def _forward(self, sink: socket.socket, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        rate = self._rate
        if rate is None:
            await loop.sock_sendall(sink, data)
            return
        step = max(1, int(rate / 20))
        for start in range(0, len(data), step):
            part = data[start : start + step]
            await asyncio.sleep(len(part) / rate)
            await loop.sock_sendall(sink, part)
