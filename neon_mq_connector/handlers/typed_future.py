"""The future of an answer that a handler declares."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

from neon_mq_connector.threads.futures import CancellableFuture

AnswerT = TypeVar("AnswerT")


class TypedFuture(CancellableFuture[AnswerT]):
    """A future of what is declared.

    Args:
        source: the answer as it comes; it is cancelled with this one.
        read: makes of it what is declared.
    """

    def __init__(
        self, source: Future[dict[str, Any]], read: Callable[[dict[str, Any]], AnswerT]
    ) -> None:
        super().__init__()
        self._read = read
        self._source: Future[dict[str, Any]] | None = source
        source.add_done_callback(self._take)

    def cancel(self) -> bool:
        """Wait no longer; the service may still do what it was asked."""
        source = self._source
        cancelled = super().cancel()
        if cancelled and source is not None:
            source.cancel()
        return cancelled

    def _take(self, source: Future[dict[str, Any]]) -> None:
        self._source = None  # or else the garbage collector would have to free both
        if source.cancelled():
            return
        with suppress(InvalidStateError):  # it was cancelled meanwhile
            try:
                answer = self._read(source.result())
            except Exception as error:
                self.set_exception(error)
            else:
                self.set_result(answer)
