"""A process that plays one role, and does a round when it is told to.

This module imports nothing of the library: what plain pika needs of memory is not to include it.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.actor import Actor, Load, Sample, Skipped
from benchmarks.site import Site

_ANSWER_TIMEOUT = 180.0
_END_TIMEOUT = 20.0


@dataclass(frozen=True)
class Role:
    """Who is to be made in a process.

    Attributes:
        make: the class of the actor, which is named to the process and imported there.
        queue: the queue that it is about.
        options: further arguments.
    """

    make: Callable[..., Actor]
    queue: str
    options: dict[str, Any] = field(default_factory=dict)


class WorkerError(Exception):
    """A process failed; the message has its traceback."""


class Worker:
    """The process, seen from where it is started. Making it waits until the actor is ready.

    Raises:
        Skipped: the actor cannot play its role here.
        WorkerError: it failed.
    """

    def __init__(self, role: Role, site: Site) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, role, site), name=role.make.__name__, daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process's id, for a profiler."""
        assert self._process.pid is not None
        return self._process.pid

    def begin(self, load: Load) -> None:
        """Start a round and return."""
        self._pipe.send(("round", load))

    def end(self) -> Sample:
        """Wait for the round that was started."""
        sample: Sample = self._answer()
        return sample

    def round(self, load: Load) -> Sample:
        """Do a round."""
        self.begin(load)
        return self.end()

    def vitals(self) -> tuple[int, float]:
        """Ask how many messages were handled, and how much of the processor's time was used (s)."""
        self._pipe.send(("vitals", None))
        count, cpu = self._answer()
        return count, cpu

    def close(self) -> None:
        """End the process in good order, or else by force."""
        with suppress(OSError):
            self._pipe.send(("close", None))
        self._process.join(_END_TIMEOUT)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def _answer(self) -> Any:
        if not self._pipe.poll(_ANSWER_TIMEOUT):
            raise WorkerError(f"{self._process.name} says nothing for {_ANSWER_TIMEOUT:g} s")
        try:
            kind, content = self._pipe.recv()
        except EOFError:
            raise WorkerError(f"{self._process.name} has ended") from None
        if kind == "skipped":
            raise Skipped(content)
        if kind == "failed":
            raise WorkerError(f"{self._process.name} failed:\n{content}")
        return content


def _work(pipe: Connection, role: Role, site: Site) -> None:
    try:
        actor = role.make(site, role.queue, **role.options)
        pipe.send(("ready", None))
        while True:
            command, load = pipe.recv()
            if command == "close":
                break
            if command == "vitals":
                pipe.send(("vitals", (actor.count(), time.process_time())))
            else:
                pipe.send(("sample", actor.round(load)))
        actor.close()
    except Skipped as reason:
        pipe.send(("skipped", str(reason)))
    except (EOFError, KeyboardInterrupt):
        pass  # whoever started us is gone, or going
    except BaseException:
        with suppress(OSError):
            pipe.send(("failed", traceback.format_exc()))
