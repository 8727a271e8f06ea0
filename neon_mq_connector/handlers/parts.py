"""An answer in parts, as its handler declares them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from neon_mq_connector.client.request import is_final
from neon_mq_connector.handlers.models import ENVELOPE

if TYPE_CHECKING:
    from neon_mq_connector.aio.reply_stream import AsyncReplyStream
    from neon_mq_connector.client import ReplyStream

PartT = TypeVar("PartT")


def _is_end(part: Mapping[str, Any]) -> bool:
    """Whether a part only says that those before it were all."""
    return part.keys() <= ENVELOPE and is_final(part)


class Parts(Generic[PartT]):
    """Iterate over the parts of an answer; close it where they may not be read to the end.

    Args:
        stream: the parts as they come.
        read: makes of each what is declared.
    """

    def __init__(self, stream: ReplyStream, read: Callable[[dict[str, Any]], PartT]) -> None:
        self._stream = stream
        self._read = read

    def __iter__(self) -> Parts[PartT]:
        """Return itself: the parts can be read once."""
        return self

    def __next__(self) -> PartT:
        """Wait for the next part; raises what `MQConnector.request` raises."""
        part = next(self._stream)
        return next(self) if _is_end(part) else self._read(part)

    def __enter__(self) -> Parts[PartT]:
        """Close it at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what was not read; a second time does no harm."""
        self._stream.close()


class AsyncParts(Generic[PartT]):
    """Iterate over the parts of an answer with ``async for``.

    An ``async with`` around it is needed where they may not be read to the end.

    Args:
        stream: the parts as they come.
        read: makes of each what is declared.
    """

    def __init__(self, stream: AsyncReplyStream, read: Callable[[dict[str, Any]], PartT]) -> None:
        self._stream = stream
        self._read = read

    async def __aiter__(self) -> AsyncIterator[PartT]:
        """Await the parts, once; raises what `AsyncMQConnector.request` raises."""
        stream: Any = aiter(self._stream)
        async with aclosing(stream) as parts:
            async for part in parts:
                if not _is_end(part):
                    yield self._read(part)

    async def __aenter__(self) -> AsyncParts[PartT]:
        """Send the request; close it at the end of the block."""
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Drop what was not read; a second time does no harm."""
        await self._stream.aclose()
