"""Actors that live in an event loop, and libraries that need not be there."""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import quote

from benchmarks.actor import Actor, Load, Sample, Skipped, Stopwatch
from benchmarks.site import Site

T = TypeVar("T")


def need(module: str) -> Any:
    """Import a library.

    Raises:
        Skipped: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Skipped(f"{module} is not installed") from None


def url_of(site: Site) -> str:
    """Return what these libraries take."""
    user, password = quote(site.user, safe=""), quote(site.password, safe="")
    return f"amqp://{user}:{password}@{site.host}:{site.port}/{quote(site.vhost, safe='')}"


async def ask_from_many(ask: Callable[[], Awaitable[None]], tasks: int, load: Load) -> Sample:
    """Ask from many tasks, each one request after another, until the time is over.

    Args:
        ask: sends a request and waits for its answer.
        tasks: how many there are.
        load: says for how long.
    """
    answered = 0
    stopwatch = Stopwatch()
    until = time.perf_counter() + load.seconds

    async def go_on_asking() -> None:
        nonlocal answered
        while time.perf_counter() < until:
            await ask()
            answered += 1

    await asyncio.gather(*(go_on_asking() for _ in range(tasks)))
    return stopwatch.sample(answered)


class AsyncActor(Actor):
    """Run an event loop in a thread of its own, and everything else in that loop.

    Args:
        site: where the broker is.
        queue: the queue that it is about.
    """

    def __init__(self, site: Site, queue: str) -> None:
        super().__init__(site, queue)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._open())

    def round(self, load: Load) -> Sample:
        """Do a round in the loop."""
        return self._run(self._round(load))

    def close(self) -> None:
        """Close what was opened, and the loop."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    async def _open(self) -> None:
        raise NotImplementedError

    async def _round(self, load: Load) -> Sample:
        return {}

    async def _close(self) -> None:
        raise NotImplementedError
