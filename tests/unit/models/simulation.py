"""Threads that take turns and a clock that moves when told: concurrency without chance.

Real threads run the library's code, but one at a time: each hands the turn back where it would
have waited, and on demand also where another thread might have come between (before a lock, a hand-
over, a call of the broker). Who goes next is a choice of the test, so hypothesis can make it, and
an interleaving that failed can be played again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from queue import Empty
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from neon_mq_connector.link import Waiter

T = TypeVar("T")

_CONSUMERS = "neon_mq_connector.consumers"
#: How long a turn may take before the test says that it hangs, in seconds.
_TURN = 120.0


class TornDownError(BaseException):
    """The test is over; raised in every thread that still waits."""


class Task:
    """A thread that runs only in its turns."""

    def __init__(self, simulation: Simulation, name: str, target: Callable[[], object]) -> None:
        self.name = name
        self.is_over = False
        self.failure: BaseException | None = None
        #: whether it waits for something, or was only made to stand still
        self.is_waiting = False
        self.where = "not started"
        self._simulation = simulation
        self._target = target
        self._turn = threading.Semaphore(0)
        self._wakes: Callable[[], bool] = lambda: True
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._simulation.tasks.append(self)
        self._thread.start()

    @property
    def can_go(self) -> bool:
        return not self.is_over and (self._wakes() or self._is_late())

    @property
    def deadline(self) -> float | None:
        """Until when it waits at most; None when that does not end its wait."""
        return None if self.is_over else self._deadline

    def _is_late(self) -> bool:
        return self._deadline is not None and self._simulation.now >= self._deadline

    def _run(self) -> None:
        self._turn.acquire()
        try:
            if not self._simulation.is_over:
                self._target()
        except TornDownError:
            pass
        except BaseException as error:
            self.failure = error
        finally:
            self.is_over = True
            self._simulation._hand_back()

    def go(self) -> None:
        """Have it run until it hands the turn back."""
        self._turn.release()

    def stand(
        self, where: str, wakes: Callable[[], bool], timeout: float | None, *, waiting: bool
    ) -> bool:
        """Hand the turn back until something holds; in the task's own thread."""
        now = self._simulation.now
        self.where, self.is_waiting, self._wakes = where, waiting, wakes
        self._deadline = None if timeout is None else now + timeout
        self._simulation._hand_back()
        self._turn.acquire()
        self._deadline = None
        if self._simulation.is_over:
            raise TornDownError
        return wakes()

    def join(self) -> None:
        self._thread.join(_TURN)


class Simulation:
    """The clock and the tasks, for the thread of the test, which is the broker and all others."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.tasks: list[Task] = []
        #: what is to be called when, on a thread that is nobody's
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.is_over = False
        #: how many locks are held, inside of which nobody comes between
        self.locked = 0
        self._current: Task | None = None
        self._back = threading.Semaphore(0)
        self._finely = False

    @property
    def current(self) -> Task | None:
        """Whose turn it is; None for the test itself."""
        return self._current

    def run(self, task: Task, *, finely: bool = False) -> None:
        """Give a task the turn, finely as far as where another thread might come between."""
        assert self._current is None
        assert task.can_go, f"{task.name} waits at {task.where}"
        self._current, self._finely = task, finely
        task.go()
        assert self._back.acquire(timeout=_TURN), f"{task.name} hangs after {task.where}"
        if task.failure is not None and not isinstance(task.failure, TornDownError):
            raise task.failure

    def run_all(self, limit: int = 2_000) -> None:
        """Give everybody turns until all wait."""
        for _ in range(limit):
            ready = [task for task in self.tasks if task.can_go]
            if not ready:
                return
            for task in ready:
                if task.can_go:
                    self.run(task)
        stuck = [(task.name, task.where) for task in self.tasks if task.can_go]
        raise AssertionError(f"they go round and round: {stuck}")

    def next_deadline(self) -> float | None:
        """When the first of those who wait has waited long enough, or a timer is due."""
        deadlines = [t.deadline for t in self.tasks if t.deadline is not None]
        return min(deadlines + [due for due, _ in self.timers], default=None)

    def advance(self, seconds: float) -> None:
        """Move the clock, and make the calls that come due."""
        self.now += seconds
        while self.timers and (first := min(self.timers, key=itemgetter(0)))[0] <= self.now:
            self.timers.remove(first)
            first[1]()

    def end(self) -> None:
        """End every task, wherever it stands."""
        self.is_over = True
        for _ in range(2_000):
            alive = [task for task in self.tasks if not task.is_over]
            if not alive:
                break
            for task in alive:
                self._current = task
                task.go()
                assert self._back.acquire(timeout=_TURN), f"{task.name} hangs at {task.where}"
        for task in self.tasks:
            task.join()

    def _hand_back(self) -> None:
        self._current = None
        self._back.release()

    # -- what the library's code comes to ------------------------------------------------------

    def wait(self, where: str, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until something holds, and return whether it does."""
        if self.is_over:
            raise TornDownError
        task = self._current
        if ready() or (timeout is not None and timeout <= 0):
            return ready()
        assert task is not None, f"a thread that may not wait would wait at {where}"
        return task.stand(where, ready, timeout, waiting=True)

    def between(self, where: str) -> None:
        """Let others come between, if this turn is a fine one."""
        if self._current is not None and self._finely and not self.is_over and not self.locked:
            self._current.stand(where, lambda: True, None, waiting=False)

    def call_later(self, delay: float, work: Callable[[], None]) -> None:
        """Have something called when the clock has moved so far."""
        self.timers.append((self.now + delay, work))

    @property
    def threads(self) -> SimpleNamespace:
        """What takes the place of `threading`."""
        return SimpleNamespace(
            Condition=partial(SimulatedCondition, self),
            Lock=partial(SimulatedLock, self),
            RLock=partial(SimulatedLock, self),
            Thread=partial(SimulatedThread, self),
            get_ident=threading.get_ident,
        )


class SimulatedQueue:
    """Take the place of a `Mailbox`."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self._simulation.between("put")
        self._items.append(item)

    def get(self, timeout: float | None = None) -> Any:
        if not self._simulation.wait("get", lambda: bool(self._items), timeout):
            raise Empty
        return self._items.popleft()

    def qsize(self) -> int:
        return len(self._items)

    def empty(self) -> bool:
        self._simulation.between("empty")
        return not self._items


class SimulatedLock:
    """Take the place of a lock that is held only for moments; no task stands still with it."""

    def __init__(self, simulation: Simulation, _lock: object = None) -> None:
        self._simulation = simulation

    def __enter__(self) -> None:
        self._simulation.between("lock")
        self._simulation.locked += 1

    def __exit__(self, *_: object) -> None:
        self._simulation.locked -= 1


class SimulatedCondition(SimulatedLock):
    """Take the place of a `Condition`."""

    def notify_all(self) -> None:
        pass

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        self._simulation.locked -= 1  # it is let go of while waiting
        try:
            return self._simulation.wait("condition", predicate, timeout)
        finally:
            self._simulation.locked += 1


class SimulatedThread:
    """Take the place of a `Thread`."""

    def __init__(self, simulation: Simulation, target: Callable[[], object], name: str) -> None:
        self._simulation = simulation
        self._task = Task(simulation, name, target)

    def start(self) -> None:
        self._task.start()

    def is_alive(self) -> bool:
        return not self._task.is_over

    def join(self, timeout: float | None = None) -> None:
        self._simulation.wait(f"join {self._task.name}", lambda: self._task.is_over, timeout)


class SimulatedWaiter(Waiter[Any]):
    """A waiter whose wait is one of the simulation's."""

    __slots__ = ("_simulation",)

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation

    @property
    def is_answered(self) -> bool:
        return not self._unanswered

    def wait(self, timeout: float | None, what: object) -> Any:
        self._simulation.wait(str(what), lambda: self.is_answered, timeout)
        return super().wait(0.0, what)


def install(patch: pytest.MonkeyPatch, simulation: Simulation) -> None:
    """Have the modules of consumers use the simulation's clock, threads and queues."""
    clock = SimpleNamespace(monotonic=lambda: simulation.now)
    for name in ("deadline", "lifecycle"):
        patch.setattr(f"neon_mq_connector.{name}.time", clock)
    for name in ("consumer", "dispatcher", "failure", "flow", "outages", "session"):
        patch.setattr(f"{_CONSUMERS}.{name}.time", clock)
    threads = simulation.threads
    patch.setattr("neon_mq_connector.lifecycle.threading", threads)
    for name in ("consumer", "settlement", "workers"):
        patch.setattr(f"{_CONSUMERS}.{name}.threading", threads)
    for name in ("consumer", "workers"):
        patch.setattr(f"{_CONSUMERS}.{name}.Mailbox", partial(SimulatedQueue, simulation))
    patch.setattr(f"{_CONSUMERS}.sessions.Waiter", partial(SimulatedWaiter, simulation))
