"""A supervised process that runs a service, side by side with others."""

from __future__ import annotations

import http.client
import json
import logging
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.health.status import Status, unreachable

LOG = logging.getLogger("neon_mq_connector.cli")

#: One that has run for so long has started well, in seconds.
_STARTED_WELL = 30.0
_ANSWER_TIMEOUT = 3.0
_BACKOFF = ExponentialBackoff(first=1.0, ceiling=30.0)
#: Exit codes that another start would not change.
_FINAL_CODES = (ExitCode.USAGE, ExitCode.REFUSED, ExitCode.CONFIGURATION)


class Worker:
    """A process of the command, started again and again; owned by the supervisor's main thread.

    Its end of a pipe is its standard input: it stops when the supervisor ends, however that was.
    The socket on which it serves its state is the supervisor's, so that its port stays.

    Args:
        number: from 1.
        command: the command line, without what makes it a worker.
        sock: a socket that listens on the loopback interface.

    Attributes:
        code: how it has ended for good; None while it runs or is started anew. A negative number
            is a signal.
    """

    def __init__(self, number: int, command: Sequence[str], sock: socket.socket) -> None:
        self.number = number
        self.code: int | None = None
        self._sock = sock
        descriptor = str(sock.fileno())
        self._command = [*command, "--worker", str(number), "--health-fd", descriptor]
        self._process: subprocess.Popen[bytes] | None = None
        self._since = 0.0
        self._failures = 0
        self._start_at = 0.0
        self._reason = "is not started yet"
        self._has_answered = False

    def start(self) -> None:
        """Start it; also after it has ended for good."""
        self.code = None
        self._has_answered = False
        self._since = time.monotonic()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            pass_fds=[self._sock.fileno()],
            start_new_session=True,  # Ctrl-C is for the supervisor, which passes it on once
        )
        LOG.info("worker %d is process %d", self.number, self._process.pid)

    def poll(self) -> None:
        """Check whether it has ended, and start it anew when it is time."""
        process, now = self._process, time.monotonic()
        if process is None:
            if self.code is None and now >= self._start_at:
                self.start()
            return
        code = process.poll()
        if code is None:
            return
        self._release(process)
        if code == ExitCode.OK or code in _FINAL_CODES:
            self.code, self._reason = code, f"has ended with exit code {code}"
            LOG.info("worker %d %s", self.number, self._reason)
            return
        self._failures = 1 if now - self._since >= _STARTED_WELL else self._failures + 1
        delay = _BACKOFF.delay(self._failures)
        self._start_at = now + delay
        self._reason = f"has ended with {_in_words(code)}; it is started anew in {delay:g} s"
        LOG.error("worker %d %s", self.number, self._reason)

    def ask_to_stop(self) -> None:
        """Send it SIGTERM."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def has_stopped(self) -> bool:
        """Whether it has ended after it was asked to."""
        process = self._process
        if process is not None and process.poll() is not None:
            self._release(process)
            self._reason = "was stopped"
        return self._process is None

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_ANSWER_TIMEOUT)
            self._release(self._process)

    def _release(self, process: subprocess.Popen[bytes]) -> None:
        self._process = None
        assert process.stdin is not None
        process.stdin.close()

    # -- any thread ----------------------------------------------------------------------------

    def status(self) -> Status:
        """Return the status that it reports, or that it reports none."""
        name = "neon-mq run"
        if self._process is None:
            status = unreachable(name, self._reason, live=True)
        else:
            try:
                status = self._fetch()
                self._has_answered = True
            except (OSError, http.client.HTTPException, ValueError) as error:
                is_new = not (self._has_answered or time.monotonic() - self._since >= _STARTED_WELL)
                reason = "is starting" if is_new else f"does not answer: {error!r}"
                status = unreachable(name, reason, live=is_new)
        return {**status, "worker": self.number}

    def _fetch(self) -> Status:
        host, port = self._sock.getsockname()
        connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_TIMEOUT)
        try:
            connection.request("GET", "/status")
            (status,) = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        found: Status = status
        return found


def statuses_of(workers: Sequence[Worker]) -> list[Status]:
    """Return the statuses of all, asked at the same time."""
    with ThreadPoolExecutor(len(workers), thread_name_prefix="neon-mq-health") as pool:
        return list(pool.map(Worker.status, workers))


def _in_words(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
