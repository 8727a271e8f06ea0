"""Running coroutines in tests: on the loop of asyncio, or of uvloop, with nothing left behind."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

LOOPS = ("asyncio", "uvloop")
_PATIENCE = 150.0
#: How long tasks that the loop itself started may take to end, in seconds: it closes generators
#: that were left behind in tasks of their own.
_TO_END = 30.0


class LoopRunner:
    """Run coroutines, each on a loop of its own.

    Args:
        kind: one of `LOOPS`.
    """

    def __init__(self, kind: str = "asyncio") -> None:
        self.kind = kind

    def __call__(self, main: Coroutine[Any, Any, T]) -> T:
        """Run one to its end, and check that it leaves no task."""
        loop = self.new_loop()
        try:
            result = loop.run_until_complete(asyncio.wait_for(main, _PATIENCE))
            loop.run_until_complete(self._ended(loop))
            left = [repr(task) for task in asyncio.all_tasks(loop)]
            assert not left, f"tasks are left: {left}"
            return result
        finally:
            self._close(loop)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Make a loop that somebody else runs and closes."""
        if self.kind == "uvloop":
            uvloop = pytest.importorskip("uvloop")
            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return loop
        return asyncio.new_event_loop()

    @staticmethod
    async def _ended(loop: asyncio.AbstractEventLoop) -> None:
        tasks = asyncio.all_tasks(loop) - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=_TO_END)

    @staticmethod
    def _close(loop: asyncio.AbstractEventLoop) -> None:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=_TO_END))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture(autouse=True)
def arun(request: pytest.FixtureRequest) -> LoopRunner:
    """Run a coroutine; on both loops where the test is marked with `ON_BOTH_LOOPS`."""
    return LoopRunner(getattr(request, "param", LOOPS[0]))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests that are coroutine functions, where a `conftest` imports this and `arun`."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    runner = pyfuncitem.funcargs["arun"]
    assert isinstance(runner, LoopRunner)
    runner(pyfuncitem.obj(**{n: pyfuncitem.funcargs[n] for n in pyfuncitem._fixtureinfo.argnames}))
    return True


ON_BOTH_LOOPS = pytest.mark.parametrize("arun", LOOPS, indirect=True)


async def eventually_true(probe: Any, *, timeout: float = 120.0, what: str = "") -> None:
    """Wait without holding up the loop until something is true; see `polling.eventually`."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not probe():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or probe}")
        await asyncio.sleep(0.02)


class Heartbeat:
    """Count how often the loop goes round while something else is awaited; ``async with`` it.

    Attributes:
        beats: how often, at most once in 10 ms.
    """

    def __init__(self) -> None:
        self.beats = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Heartbeat:
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            self.beats += 1
