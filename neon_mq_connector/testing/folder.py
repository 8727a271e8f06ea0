"""The files and the environment of one private RabbitMQ node."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from neon_mq_connector.testing.errors import PrivateBrokerError
from neon_mq_connector.testing.ports import LOOPBACK

_STATISTICS_SECONDS = 1

# What management shows is gathered every 5 s as it comes, which is long for a test to wait.
_ADVANCED_CONFIG = f"""\
[{{rabbitmq_management, [{{sample_retention_policies, [
    {{global, [{{60, {_STATISTICS_SECONDS}}}]}},
    {{basic, [{{60, {_STATISTICS_SECONDS}}}]}},
    {{detailed, [{{60, {_STATISTICS_SECONDS}}}]}}
]}}]}}].
"""


@dataclass(frozen=True)
class NodePorts:
    """The TCP ports of one node, all on the loopback interface."""

    amqp: int
    management: int
    distribution: int
    epmd: int


@dataclass(frozen=True, repr=False)
class NodeIdentity:
    """The name and the administrator of a node, which its data belong to."""

    nodename: str
    username: str
    password: str


class NodeFolder:
    """One folder with all that a node reads and writes, and nothing of the machine's own broker.

    Args:
        path: of the folder; made when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.console = path / "console.log"
        self.logs = path / "log"

    def lock(self) -> int:
        """Lock the folder for this process.

        Returns:
            The descriptor of a file; the folder is free again once it is closed.

        Raises:
            PrivateBrokerError: another broker lives here.
        """
        descriptor = self._open("lock", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise PrivateBrokerError(
                f"{self.path} is in use by another private broker: stop that one, or name another "
                "folder"
            ) from error
        return descriptor

    def identity(self, username: str, password: str | None) -> NodeIdentity:
        """Return the identity that the folder's data belong to, or make one for a new folder.

        Args:
            username: the administrator of a new node.
            password: of that user; made up when None.

        Raises:
            PrivateBrokerError: the folder was made for another user or another password.
        """
        file = self.path / "identity.json"
        if not file.exists():
            nodename = f"neon-{secrets.token_hex(4)}@localhost"  # unique on this machine
            identity = NodeIdentity(nodename, username, password or secrets.token_urlsafe(16))
            self._write(file.name, json.dumps(asdict(identity)))
            return identity
        identity = NodeIdentity(**json.loads(file.read_text()))
        if identity.username != username or password not in (None, identity.password):
            raise PrivateBrokerError(
                f"{self.path} holds the data of a node whose user is {identity.username!r} with a "
                "password of its own: give the same ones, or another folder"
            )
        return identity

    def write(self, identity: NodeIdentity, ports: NodePorts, settings: Mapping[str, str]) -> None:
        """Write the node's configuration.

        Args:
            identity: the administrator is created from it when the node starts for the first time.
            ports: where to listen.
            settings: more lines for `rabbitmq.conf`; they override ours.
        """
        for name in ("data", "log", "conf.d"):
            (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = {
            "listeners.tcp.1": f"{LOOPBACK}:{ports.amqp}",
            "management.tcp.ip": LOOPBACK,
            "management.tcp.port": str(ports.management),
            "default_user": identity.username,
            "default_pass": identity.password,
            "collect_statistics_interval": str(_STATISTICS_SECONDS * 1000 // 2),
            **settings,
        }
        text = "".join(f"{key} = {value}\n" for key, value in lines.items())
        self._write("rabbitmq.conf", text)
        self._write("advanced.config", _ADVANCED_CONFIG)
        self._write("enabled_plugins", "[rabbitmq_management].\n")
        self._write("rabbitmq-env.conf", "")

    def write_cookie(self, cookie: str) -> None:
        """Write the secret by which the nodes of a cluster know each other."""
        self._write(".erlang.cookie", cookie)

    def environment(
        self, identity: NodeIdentity, ports: NodePorts, environ: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return the environment for the node and for its tools.

        Args:
            identity: gives the node's name.
            ports: of the node.
            environ: where PATH and the locale come from; the process's environment by default.
                Nothing else of it is passed on: a machine may have settings for its own broker.
        """
        environ = os.environ if environ is None else environ
        kept = {key: environ[key] for key in ("LANG", "LC_ALL", "TMPDIR", "TZ") if key in environ}
        loopback_only = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "LANG": "C.UTF-8",
            **kept,
            "PATH": os.pathsep.join(filter(None, (environ.get("PATH"), os.defpath))),
            "HOME": str(self.path),  # Erlang keeps its cookie there
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(ports.epmd),
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",  # lets epmd be told to end in any case
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": identity.nodename,
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(ports.amqp),
            "RABBITMQ_DIST_PORT": str(ports.distribution),
            "RABBITMQ_MNESIA_BASE": str(self.path / "data"),
            "RABBITMQ_LOG_BASE": str(self.logs),
            "RABBITMQ_PID_FILE": str(self.path / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.path / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.path / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.path / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.path / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self.path / "rabbitmq-env.conf"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback_only,
            "RABBITMQ_CTL_ERL_ARGS": loopback_only,
        }

    def log_excerpt(self, lines: int = 20) -> str:
        """Return what the node's log files say of a failure, for an error message.

        Args:
            lines: of each file: its first errors (what follows them are reports of the crash that
                they led to), or its end where it has none.
        """
        excerpts = []
        for file in (self.console, *sorted(self.logs.glob("*.log"))):
            if file.exists() and (text := file.read_text(errors="replace").strip()):
                every = text.splitlines()
                errors = [line for line in every if "[error]" in line][:lines]
                title = "errors in" if errors else "end of"
                excerpts.append(
                    "\n".join((f"--- {title} {file.name}", *(errors or every[-lines:])))
                )
        return "\n".join(excerpts) or "(it wrote no log)"

    def _write(self, name: str, text: str) -> None:
        descriptor = self._open(name, os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)

    def _open(self, name: str, flags: int) -> int:
        # The password is in some of the files, so nobody else may read any.
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self.path / name, flags | os.O_CREAT, 0o600)
