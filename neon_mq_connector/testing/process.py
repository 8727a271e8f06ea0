"""One RabbitMQ node as an ordinary child process that never outlives its parent."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from neon_mq_connector.testing import leash
from neon_mq_connector.testing.leash import end_epmd

_LOG = logging.getLogger("neon_mq_connector.testing")


class NodeProcess:
    """A running node.

    Args:
        program: `rabbitmq-server`.
        environment: the whole environment of the node.
        console: the file that gets what the node prints.
        epmd_port: where the node's port mapper daemon listens, or will.
        shares_epmd: whether that daemon stays when the node ends: other nodes use it.
        remove_with_parent: a folder that the node removes when its parent vanishes.
    """

    def __init__(
        self,
        program: Path,
        environment: Mapping[str, str],
        console: Path,
        *,
        epmd_port: int,
        shares_epmd: bool = False,
        remove_with_parent: Path | None = None,
    ) -> None:
        self._epmd_port = None if shares_epmd else epmd_port
        folder = "" if remove_with_parent is None else str(remove_with_parent)
        leashed = [sys.executable, "-IS", leash.__file__, str(epmd_port), folder]
        with console.open("ab") as output:
            self._popen = subprocess.Popen(
                [*leashed, program, "-noinput"],
                # With this the start script becomes the node instead of waiting beside it, so
                # signals reach the node itself.
                env={**environment, "RABBITMQ_ALLOW_INPUT": "1"},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=console.parent,
                start_new_session=True,  # Ctrl-C in our terminal is not for the node
            )

    @property
    def pid(self) -> int:
        """Return the process id of the node."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """Return the exit code, or None while the node runs."""
        return self._popen.poll()

    def stop(self, timeout: float) -> None:
        """End the node in good order, or by force when that takes too long; idempotent.

        Args:
            timeout: seconds after which it is killed.
        """
        if self.exit_code is None:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                _LOG.warning("private broker %s did not stop in %s s: killed", self.pid, timeout)
        self.kill()

    def kill(self) -> None:
        """End the node at once, as a crash would; idempotent."""
        if self.exit_code is None:
            self._popen.kill()
            self._popen.wait()
        pipe = self._popen.stdin
        if pipe is not None and not pipe.closed:
            with contextlib.suppress(BrokenPipeError), pipe:
                pipe.write(leash.ENDED)
        if self._epmd_port is not None:
            end_epmd(self._epmd_port)


class Belongings:
    """What is given up when a broker object is closed, forgotten, or the interpreter ends."""

    def __init__(self) -> None:
        self.process: NodeProcess | None = None
        self.temporary: Path | None = None
        #: a descriptor that keeps the folder from others
        self.lock: int | None = None
        self._owner = os.getpid()

    def give_up(self) -> None:
        """End the process and remove the temporary folder, but never from a forked child."""
        if os.getpid() != self._owner:
            return
        if self.process is not None:
            self.process.kill()
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)
        if self.lock is not None:
            os.close(self.lock)
        self.process = self.temporary = self.lock = None
