"""A private RabbitMQ for tests and development, started from the installed programs.

The helpers that exist for this (mirakuru, port-for, pytest-rabbitmq) are made for test suites:
they bring pytest along, and to stop, kill and restart a node on the same data is not what they are
about. The `neon-mq broker` command of the installed package needs the same node without any of
them, so this is the standard library alone.
"""

from __future__ import annotations

import socket
import tempfile
import time
import weakref
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from neon_mq_connector.operations.management import ManagementError
from neon_mq_connector.testing.errors import PrivateBrokerError
from neon_mq_connector.testing.folder import NodeFolder, NodeIdentity, NodePorts
from neon_mq_connector.testing.ports import LOOPBACK, free_ports, is_free
from neon_mq_connector.testing.process import Belongings, NodeProcess
from neon_mq_connector.testing.programs import BrokerPrograms, find_broker_programs
from neon_mq_connector.testing.running import BrokerAddress, OwnBroker

_PERMIT_TRANSIENT = "deprecated_features.permit.transient_nonexcl_queues"
_AMQP_GREETING = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"
_POLL_SECONDS = 0.05


class _NodeEndedError(PrivateBrokerError):
    """The node ended before it was ready."""


class PrivateBroker(OwnBroker):
    """A RabbitMQ node of one's own: it touches no other broker and leaves nothing behind.

    Everything the node reads and writes is in one folder, all its ports are free ones on the
    loopback interface, and it ends with the process that started it, even when that is killed.
    The management interface is on. Durable things survive `stop`, `kill` and `start` of the same
    object; `close`, or the end of the `with` block, removes them.

    Args:
        refuse_transient: refuse queues that are neither durable nor exclusive, as RabbitMQ 4.3 does
            by default and 4.0 does when it is told to. False leaves the broker as it comes.
        config: more settings for `rabbitmq.conf`.
        directory: where the node lives; its data are found again by the next one who names it. A
            temporary folder, removed by `close`, when None.
        port: for AMQP; a free one when None.
        management_port: for the management interface; a free one when None.
        username: the administrator.
        password: of the administrator; made up when None.

    Examples:
        >>> with PrivateBroker() as broker:
        ...     broker.create_vhost("/neon")
        ...     connection = pika.BlockingConnection(pika.URLParameters(broker.url("/neon")))
    """

    #: Whether other nodes use the port mapper daemon too, so that it outlives this one.
    _shares_epmd = False

    def __init__(
        self,
        *,
        refuse_transient: bool = False,
        config: Mapping[str, str] | None = None,
        directory: str | Path | None = None,
        port: int | None = None,
        management_port: int | None = None,
        username: str = "neon",
        password: str | None = None,
    ) -> None:
        super().__init__(refuse_transient=refuse_transient)
        self._settings = {_PERMIT_TRANSIENT: "false"} if refuse_transient else {}
        self._settings |= config or {}
        self._directory = directory
        self._wanted_ports = (port, management_port)
        self._wanted_user = (username, password)
        self._folder: NodeFolder | None = None
        self._ports: NodePorts | None = None
        self._identity: NodeIdentity | None = None
        self._has_run = False
        self._owned = Belongings()
        weakref.finalize(self, self._owned.give_up)

    # --- the node's life

    def start(self, timeout: float = 180.0) -> None:
        """Start the node and wait until it takes connections (about 4 s); nothing if it runs.

        After `stop` or `kill` it comes back on the same ports with the same data.

        Args:
            timeout: seconds.

        Raises:
            BrokerProgramsNotFoundError: RabbitMQ is not installed; the message says how to.
            PrivateBrokerError: the node ended or was not ready in time; the message has its log.
        """
        with self._lock:
            if self.running:
                return
            self._prepare()
            try:
                self._run(timeout)
            except _NodeEndedError:
                if self._has_run:
                    raise
                # another program may have taken one of the ports, or the machine was too slow for
                # Erlang's port mapper
                self._ports = self._choose_ports()
                self._run(timeout)
            self._has_run = True

    def stop(self, timeout: float = 20.0) -> None:
        """End the node in good order and keep its data for `start`; idempotent.

        Args:
            timeout: seconds after which the node is killed.
        """
        with self._lock:
            if self._owned.process is not None:
                self._owned.process.stop(timeout)

    def kill(self) -> None:
        """End the node with SIGKILL, as a crash would, and keep its data for `start`."""
        with self._lock:
            if self._owned.process is not None:
                self._owned.process.kill()

    def close(self) -> None:
        """End the node for good and remove its temporary folder if it has one; idempotent."""
        with self._lock:
            if self._owned.temporary is None:  # otherwise there is no data to bring to safety
                self.stop()
            self._owned.give_up()
            self._folder = self._identity = self._ports = None

    @property
    def running(self) -> bool:
        """Whether the node's process runs."""
        process = self._owned.process
        return process is not None and process.exit_code is None

    @property
    def pid(self) -> int:
        """Return the process id of the node, to send it signals."""
        if self._owned.process is None:
            raise self._not_started()
        return self._owned.process.pid

    # --- where it is

    @property
    def address(self) -> BrokerAddress:
        """Return where it listens and who may do everything; the same for this object's life."""
        _folder, ports, identity = self._known()
        return BrokerAddress(
            LOOPBACK, ports.amqp, ports.management, identity.username, identity.password
        )

    @property
    def directory(self) -> Path:
        """Return the folder that the node lives in."""
        return self._known()[0].path

    def rabbitmqctl(self, *arguments: str, timeout: float = 180.0) -> str:
        """Run RabbitMQ's own tool against this node; it takes half a second and more.

        Args:
            arguments: the command and what it needs.
            timeout: seconds.

        Returns:
            what it printed.

        Raises:
            PrivateBrokerError: it failed or took too long; the message has what it said.
        """
        environment = self._environment()
        return self._programs.run_ctl(arguments, environment, timeout=timeout)

    # --- inside

    @cached_property
    def _programs(self) -> BrokerPrograms:
        return find_broker_programs()

    def _prepare(self) -> None:
        _ = self._programs  # before a folder is made
        if self._folder is None:
            folder = NodeFolder(self._make_directory())
            self._owned.lock = folder.lock()
            self._folder = folder
        self._identity = self._identity or self._folder.identity(*self._wanted_user)
        self._ports = self._ports or self._choose_ports()

    def _make_directory(self) -> Path:
        if self._directory is not None:
            return Path(self._directory).resolve()
        self._owned.temporary = Path(tempfile.mkdtemp(prefix="neon-mq-broker-")).resolve()
        return self._owned.temporary

    def _choose_ports(self) -> NodePorts:
        wanted = self._wanted_ports
        for port in filter(None, wanted):
            if not is_free(port):
                raise PrivateBrokerError(f"port {port} on {LOOPBACK} is in use: name another one")
        amqp, management, distribution, epmd = free_ports(4)
        return NodePorts(wanted[0] or amqp, wanted[1] or management, distribution, epmd)

    def _environment(self) -> dict[str, str]:
        folder, ports, identity = self._known()
        return folder.environment(identity, ports)

    def _run(self, timeout: float) -> None:
        folder, ports, identity = self._known()
        folder.write(identity, ports, self._settings)
        process = NodeProcess(
            self._programs.server,
            self._environment(),
            folder.console,
            epmd_port=ports.epmd,
            shares_epmd=self._shares_epmd,
            remove_with_parent=self._owned.temporary,
        )
        self._owned.process = process
        try:
            self._wait_until_ready(process, timeout)
        except BaseException:
            process.kill()
            raise

    def _wait_until_ready(self, process: NodeProcess, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self._is_ready():
            if process.exit_code is not None:
                raise self._failed(
                    f"ended with exit code {process.exit_code} while starting", _NodeEndedError
                )
            if time.monotonic() > deadline:
                raise self._failed(f"was not ready after {timeout} s")
            time.sleep(_POLL_SECONDS)

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1.0) as probe:
                probe.sendall(_AMQP_GREETING)
                if probe.recv(1) != _METHOD_FRAME:
                    return False
            self.management.call("GET", "whoami")
        except (OSError, ManagementError):
            return False
        return True

    def _failed(
        self, what: str, kind: type[PrivateBrokerError] = PrivateBrokerError
    ) -> PrivateBrokerError:
        folder, ports, _ = self._known()
        return kind(f"the private broker on port {ports.amqp} {what}\n{folder.log_excerpt()}")

    def _known(self) -> tuple[NodeFolder, NodePorts, NodeIdentity]:
        if self._folder is None or self._ports is None or self._identity is None:
            raise self._not_started()
        return self._folder, self._ports, self._identity

    @staticmethod
    def _not_started() -> PrivateBrokerError:
        return PrivateBrokerError("the private broker has not been started: call start() first")
