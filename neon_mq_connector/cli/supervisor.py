"""Keep several processes of a service running, and stop all of them together."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.cli.upgrade import own_files
from neon_mq_connector.cli.waiting import StopRequest
from neon_mq_connector.cli.worker import Worker

LOG = logging.getLogger("neon_mq_connector.cli")

_POLL_INTERVAL = 0.1
_RELOAD_INTERVAL = 1.0


class Supervisor:
    """Start workers, start anew what dies, and stop all on SIGTERM, Ctrl-C or SIGHUP.

    Args:
        workers: what is supervised.
        reload: whether to start all anew when a Python file below the working directory changes;
            one that another start would not mend waits for that.
        stop_timeout: how long they may take to stop, in seconds.
    """

    def __init__(self, workers: Sequence[Worker], *, reload: bool, stop_timeout: float) -> None:
        self._workers = workers
        self._changes = SourceChanges(Path.cwd()) if reload else None
        self._stop_timeout = stop_timeout

    def run(self) -> int:
        """Run until a signal comes or all have ended for good, and return the exit code.

        One that ends with a code which another start would not change ends all.
        """
        try:
            with StopRequest() as stop:
                for worker in self._workers:
                    worker.start()
                while not stop.wait(_POLL_INTERVAL):
                    code = self._poll()
                    if code is not None:
                        self._stop_all()
                        return code
                LOG.info("stopping")
                return ExitCode.OK if self._stop_all() else ExitCode.FAILED
        finally:
            for worker in self._workers:
                worker.kill()

    def _poll(self) -> int | None:
        """Check each worker once; return the exit code if all have ended for good."""
        if self._changes is not None and (path := self._changes.poll()):
            LOG.info("%s has changed, starting anew", path)
            self._stop_all()
            for worker in self._workers:
                worker.start()
        for worker in self._workers:
            worker.poll()
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
        deadline = time.monotonic() + self._stop_timeout
        left = list(self._workers)
        while left := [worker for worker in left if not worker.has_stopped()]:
            if time.monotonic() >= deadline:
                LOG.error("workers %s do not stop; killed", [worker.number for worker in left])
                for worker in left:
                    worker.kill()
                return False
            time.sleep(_POLL_INTERVAL)
        return True


class SourceChanges:
    """Notice when Python files below a folder change, come or go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._times = dict(self._found())
        self._poll_at = time.monotonic() + _RELOAD_INTERVAL

    def poll(self) -> str:
        """Return a path that has changed; empty if none has, or within a second."""
        if time.monotonic() < self._poll_at:
            return ""
        times = dict(self._found())
        changed = sorted(times.items() ^ self._times.items())
        self._times = times
        self._poll_at = time.monotonic() + _RELOAD_INTERVAL
        return os.path.relpath(changed[0][0], self._folder) if changed else ""

    def _found(self) -> Iterator[tuple[str, int]]:
        for path in own_files(self._folder):
            if path.suffix == ".py":
                with contextlib.suppress(FileNotFoundError):  # an editor has just replaced it
                    yield str(path), path.stat().st_mtime_ns
