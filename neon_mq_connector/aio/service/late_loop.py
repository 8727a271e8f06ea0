"""The caller's loop, where it is not known yet: consumers are registered before anything runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from neon_mq_connector.aio.loops import CallersLoop, CoroutineLoop
from neon_mq_connector.errors import StoppedError


class LateLoop(CoroutineLoop):
    """A `CallersLoop` that is told late which loop it is. It has one life.

    `bind` is called by the loop's thread, once, before anything is given to it.
    """

    def __init__(self) -> None:
        super().__init__("of the caller")
        self._callers: CallersLoop | None = None

    def bind(self, callers: CallersLoop) -> None:
        """Say which loop it is."""
        self._callers = callers

    @property
    def callers(self) -> CallersLoop:
        """What it is since it was bound.

        Raises:
            StoppedError: it was not.
        """
        if self._callers is None:
            raise StoppedError("no loop runs the coroutines: the connector was not run")
        return self._callers

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The asyncio loop.

        Raises:
            StoppedError: it is not known yet.
        """
        return self.callers.loop

    @property
    def has_ended(self) -> bool:
        """Whether `call` is of no use any more."""
        return self._callers is not None and self._callers.has_ended

    def start(self, timeout: float) -> None:
        """See that the loop can be used; its owner runs it.

        Raises:
            StoppedError: it was stopped or closed, or is not known yet.
        """
        self.callers.start(timeout)

    def stop(self, timeout: float) -> bool:
        """Take no more calls; the loop runs on."""
        return self._callers is None or self._callers.stop(timeout)

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call something; see `CoroutineLoop.call`."""
        self.callers.call(function, *args)

    def blocked_for(self) -> float:
        """Say for how long the loop has not come to what it was asked here."""
        return self.callers.blocked_for()
