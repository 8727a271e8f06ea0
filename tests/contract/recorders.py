"""Callbacks that keep what they were called with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.contract.peer import DEADLINE, decode
from tests.support.polling import eventually

Act = Callable[[Any, Any, Any, bytes], Any]


class Inbox:
    """A consumer's callback that records each delivery, then acts on it.

    Args:
        act: called with the callback's own four arguments after recording; nothing by default.
    """

    def __init__(self, act: Act | None = None) -> None:
        self.deliveries: list[tuple[Any, Any, Any, bytes]] = []
        self.threads: list[threading.Thread] = []
        self._act = act

    def __call__(self, channel: Any, method: Any, properties: Any, body: bytes) -> Any:
        self.threads.append(threading.current_thread())
        self.deliveries.append((channel, method, properties, body))
        return None if self._act is None else self._act(channel, method, properties, body)

    @property
    def bodies(self) -> list[Any]:
        return [decode(body) for _, _, _, body in list(self.deliveries)]

    def values(self, key: str) -> list[Any]:
        return [body.get(key) for body in self.bodies]

    def wait(self, count: int = 1, timeout: float = DEADLINE) -> list[Any]:
        """Return the bodies once there are as many as that."""
        eventually(
            lambda: len(self.deliveries) >= count,
            timeout=timeout,
            what=f"{count} deliveries to the callback",
        )
        return self.bodies


class Errors:
    """An `on_error` that records who failed and why."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, BaseException]] = []

    def __call__(self, thread: Any, exception: BaseException) -> None:
        self.calls.append((thread, exception))

    def wait(self, count: int = 1, timeout: float = DEADLINE) -> list[tuple[Any, BaseException]]:
        eventually(
            lambda: len(self.calls) >= count, timeout=timeout, what=f"{count} calls of on_error"
        )
        return list(self.calls)


class Outcome:
    """What a piece of work in a callback came to: its value or its exception."""

    def __init__(self, work: Act) -> None:
        self._work = work
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def __call__(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        try:
            self._value = self._work(channel, method, properties, body)
        except BaseException as error:
            self._error = error
        self._done.set()

    def result(self, timeout: float = DEADLINE * 2) -> Any:
        """Return the value once there is one, or raise what the work raised."""
        assert self._done.wait(timeout), "the callback was not called, or did not end"
        if self._error is not None:
            raise self._error
        return self._value
