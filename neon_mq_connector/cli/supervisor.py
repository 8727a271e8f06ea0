"""Keep several processes of a service running, and stop all of them in good order."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.cli.waiting import StopRequest
from neon_mq_connector.cli.worker import Worker

LOG = logging.getLogger("neon_mq_connector.cli")

_LOOK_EVERY = 0.1
_LOOK_AT_FILES_EVERY = 1.0
_NO_SOURCES = {"node_modules", "site-packages", "__pycache__"}


class Supervisor:
    """Start workers, start anew what dies, and stop all on SIGTERM, Ctrl-C or SIGHUP.

    Args:
        workers: what is supervised.
        reload: whether to start all anew when a Python file below the working directory changes;
            one that another start would not mend waits for that.
        patience: how long they may take to stop, in seconds.
    """

    def __init__(self, workers: Sequence[Worker], *, reload: bool, patience: float) -> None:
        self._workers = workers
        self._changes = SourceChanges(Path.cwd()) if reload else None
        self._patience = patience

    def run(self) -> int:
        """Run until a signal comes or all have ended for good, and return the exit code.

        One that ends with a code which another start would not change ends all.
        """
        try:
            with StopRequest() as stop:
                for worker in self._workers:
                    worker.start()
                while not stop.wait(_LOOK_EVERY):
                    code = self._look()
                    if code is not None:
                        self._stop_all()
                        return code
                LOG.info("stopping")
                return ExitCode.OK if self._stop_all() else ExitCode.FAILED
        finally:
            for worker in self._workers:
                worker.kill()

    def _look(self) -> int | None:
        """Look at each worker once; return the exit code where all is over."""
        if self._changes is not None and (path := self._changes.look()):
            LOG.info("%s has changed, starting anew", path)
            self._stop_all()
            for worker in self._workers:
                worker.start()
        for worker in self._workers:
            worker.look()
        codes = [worker.code for worker in self._workers]
        if self._changes is not None:
            return None
        failed = [code for code in codes if code]
        if failed:
            return failed[0]
        return ExitCode.OK if None not in codes else None

    def _stop_all(self) -> bool:
        """Stop all; return whether none had to be killed."""
        for worker in self._workers:
            worker.ask_to_stop()
        deadline = time.monotonic() + self._patience
        left = list(self._workers)
        while left := [worker for worker in left if not worker.has_stopped()]:
            if time.monotonic() >= deadline:
                LOG.error("workers %s do not stop; killed", [worker.number for worker in left])
                for worker in left:
                    worker.kill()
                return False
            time.sleep(_LOOK_EVERY)
        return True


class SourceChanges:
    """Notice when Python files below a folder change, come or go.

    Args:
        folder: where to look; hidden folders, virtual environments and installed packages are
            left out.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._times = dict(self._found())
        self._look_at = time.monotonic() + _LOOK_AT_FILES_EVERY

    def look(self) -> str:
        """Return a path that has changed; empty when none has, or it is too early to look."""
        if time.monotonic() < self._look_at:
            return ""
        times = dict(self._found())
        changed = sorted(times.items() ^ self._times.items())
        self._times = times
        self._look_at = time.monotonic() + _LOOK_AT_FILES_EVERY
        return os.path.relpath(changed[0][0], self._folder) if changed else ""

    def _found(self) -> Iterator[tuple[str, int]]:
        for folder, folders, files in os.walk(self._folder):
            if "pyvenv.cfg" in files:
                folders.clear()
                continue
            folders[:] = (each for each in folders if each[0] != "." and each not in _NO_SOURCES)
            for name in files:
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    try:
                        yield path, os.stat(path).st_mtime_ns
                    except FileNotFoundError:  # an editor has just replaced it
                        continue
