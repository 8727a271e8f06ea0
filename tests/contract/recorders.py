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
