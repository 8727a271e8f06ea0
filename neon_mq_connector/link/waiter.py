"""A one-shot place where one thread waits for an answer of another.

A lock carries it, taken from the start and released by the answer. It costs a twentieth of an
`Event`, and its time-out holds while signal handlers run. Only the first answer is taken. A later
one is refused, so that what it brought, such as an open channel, can be released.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from neon_mq_connector.errors import WaitTimeoutError

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_LONGEST = 1e6  # seconds; more than a lock can wait for


class Answer(Protocol[T_contra]):
    """What is told how something ended: a waiting thread, a future, a coroutine, a held ack.

    The first call counts; none may wait.
    """

    def resolve(self, value: T_contra) -> object: ...

    def fail(self, error: BaseException) -> object: ...


class CallbackAnswer(NamedTuple):
    """An answer that calls a function."""

    resolve: Callable[[Any], object]
    fail: Callable[[BaseException], object]


class Waiter(Generic[T]):
    """Carry one result or one exception from any thread to the one that waits."""

    __slots__ = ("_answered", "_error", "_unanswered", "_value")

    def __init__(self) -> None:
        self._answered = Lock()
        self._answered.acquire()
        self._value: T | None = None
        self._error: BaseException | None = None
        # popping from a list is atomic: the thread that gets the item answers
        self._unanswered = [None]

    def has_answer(self) -> bool:
        """Whether there is an answer, so that `wait` does not wait."""
        return not self._unanswered

    def resolve(self, value: T) -> bool:
        """Set the result.

        Returns:
            Whether it was the first answer; a later one is dropped.
        """
        return self._answer(value, None)

    def fail(self, error: BaseException) -> bool:
        """Set the exception that the waiting thread raises.

        Returns:
            Whether it was the first answer; a later one is dropped.
        """
        return self._answer(None, error)

    def wait(self, timeout: float, what: object) -> T:
        """Wait for the answer.

        Args:
            timeout: how long at most, in seconds.
            what: what is waited for, as the message of the error names it.

        Raises:
            WaitTimeoutError: no answer in time; what was asked for may still happen.
            BaseException: whatever `fail` was given.
        """
        if not self._answered.acquire(timeout=min(max(0.0, timeout), _LONGEST)):
            late = WaitTimeoutError(f"{what}: no answer within {timeout:g} s")
            self.fail(late)  # or else another thread is about to give an answer
            self._answered.acquire(timeout=1.0)
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # T may itself be Optional

    def _answer(self, value: T | None, error: BaseException | None) -> bool:
        try:
            self._unanswered.pop()
        except IndexError:
            return False
        self._value = value
        self._error = error
        self._answered.release()
        return True
