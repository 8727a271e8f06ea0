"""Where RabbitMQ's own programs are on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neon_mq_connector.testing.errors import BrokerProgramsNotFoundError, PrivateBrokerError

_SERVER = "rabbitmq-server"

_FOLDERS = (
    "/usr/lib/rabbitmq/bin",  # Debian, Ubuntu, Fedora and their kin
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
    "/opt/homebrew/opt/rabbitmq/sbin",  # Homebrew on Apple's own processors
    "/usr/local/opt/rabbitmq/sbin",  # Homebrew on Intel
    "/opt/rabbitmq/sbin",  # the generic archive, and the official container image
)

_HOW_TO_INSTALL = (
    "RabbitMQ's programs were not found (looked in $RABBITMQ_HOME/sbin, {folders} and on PATH). "
    "Install it (Debian and Ubuntu: `apt-get install rabbitmq-server`; macOS: `brew install "
    "rabbitmq`), or let RABBITMQ_HOME name the folder that has `sbin/rabbitmq-server`. Without it, "
    "`neon-mq broker --embedded` and `EmbeddedBroker` are there for tests and demonstrations."
)


@dataclass(frozen=True)
class BrokerPrograms:
    """The folder with RabbitMQ's start scripts."""

    folder: Path

    @property
    def server(self) -> Path:
        """Return the path of `rabbitmq-server`."""
        return self.folder / _SERVER

    def run_ctl(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, timeout: float
    ) -> str:
        """Run `rabbitmqctl` and return what it printed.

        Args:
            arguments: the command and what it needs.
            environment: of the node that it is for.
            timeout: seconds.

        Raises:
            PrivateBrokerError: it failed or took too long; the message has what it said.
        """
        command = " ".join(("rabbitmqctl", *arguments))
        try:
            done = subprocess.run(
                [self.folder / "rabbitmqctl", "--quiet", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PrivateBrokerError(f"{command}: no end after {timeout} s") from error
        if done.returncode != 0:
            raise PrivateBrokerError(f"{command}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def find_broker_programs(environ: Mapping[str, str] | None = None) -> BrokerPrograms:
    """Find an installed RabbitMQ whose scripts run as the user that calls them.

    Args:
        environ: where `RABBITMQ_HOME` and `PATH` are looked up; by default the process's own.

    Returns:
        the first installation found: `RABBITMQ_HOME`, the usual folders, then `PATH`.

    Raises:
        BrokerProgramsNotFoundError: there is none; the message says how to install one.
    """
    environ = os.environ if environ is None else environ
    for folder in _candidates(environ):
        if _is_usable(folder):
            return BrokerPrograms(folder)
    raise BrokerProgramsNotFoundError(_HOW_TO_INSTALL.format(folders=", ".join(_FOLDERS)))


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("RABBITMQ_HOME"):
        yield Path(home) / "sbin"
        yield Path(home) / "bin"
    for pattern in _FOLDERS:
        yield from sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    if on_path := shutil.which(_SERVER, path=environ.get("PATH")):
        yield Path(on_path).resolve().parent


def _is_usable(folder: Path) -> bool:
    # Distributions put a wrapper on PATH that insists on being root and changes to the user
    # `rabbitmq`, which loses our environment. The real scripts stand beside `rabbitmq-env`.
    return all((folder / name).is_file() for name in (_SERVER, "rabbitmqctl", "rabbitmq-env"))
