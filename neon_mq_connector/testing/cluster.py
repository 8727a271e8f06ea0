"""A private cluster of RabbitMQ nodes, on one machine, for tests."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from neon_mq_connector.testing.broker import PrivateBroker
from neon_mq_connector.testing.folder import NodePorts
from neon_mq_connector.testing.leash import end_epmd
from neon_mq_connector.testing.ports import free_ports


class ClusterNode(PrivateBroker):
    """One node of a `PrivateCluster`; to be stopped, killed and started like any private broker.

    Args:
        epmd_port: of the port mapper daemon, by which the nodes find each other.
        cookie: the secret by which they know each other.
        password: of the administrator.
        config: more settings for `rabbitmq.conf`.
    """

    _shares_epmd = True

    def __init__(
        self, *, epmd_port: int, cookie: str, password: str, config: Mapping[str, str]
    ) -> None:
        super().__init__(password=password, config=config)
        self._epmd_port = epmd_port
        self._cookie = cookie

    @property
    def name(self) -> str:
        """Return the name by which the cluster knows the node."""
        return self._known()[2].nodename

    def prepare(self) -> None:
        """Choose name, ports and folder, which the other nodes have to know."""
        self._prepare()
        folder, _ports, _identity = self._known()
        folder.write_cookie(self._cookie)

    def join(self, nodes: Sequence[ClusterNode]) -> None:
        """Form a cluster with these nodes when it starts for the first time; itself included."""
        self._settings["cluster_formation.peer_discovery_backend"] = "classic_config"
        for number, node in enumerate(nodes, 1):
            self._settings[f"cluster_formation.classic_config.nodes.{number}"] = node.name

    def _choose_ports(self) -> NodePorts:
        amqp, management, distribution = free_ports(3)
        return NodePorts(amqp, management, distribution, self._epmd_port)

    def _environment(self) -> dict[str, str]:
        environment = super()._environment()
        # several nodes share the machine's cores
        environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] += " +S 1:1 +A 16"
        return environment


class PrivateCluster:
    """RabbitMQ nodes of one's own that form a cluster; see `PrivateBroker` for what each is.

    Args:
        size: how many nodes.
        config: more settings for `rabbitmq.conf`, node by node.

    Example:
        >>> with PrivateCluster() as cluster:
        ...     cluster.nodes[0].create_vhost("/neon")
        ...     cluster.nodes[0].kill()
    """

    def __init__(self, size: int = 3, *, config: Sequence[Mapping[str, str]] = ()) -> None:
        (self._epmd_port,) = free_ports(1)
        cookie, password = secrets.token_hex(16).upper(), secrets.token_urlsafe(16)
        self.nodes = [
            ClusterNode(
                epmd_port=self._epmd_port,
                cookie=cookie,
                password=password,
                config=config[number] if config else {},
            )
            for number in range(size)
        ]

    def __enter__(self) -> PrivateCluster:
        """Start the nodes."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End them for good."""
        self.close()

    def start(self, timeout: float = 120.0) -> None:
        """Start all nodes and wait until each takes connections.

        Args:
            timeout: seconds, for each node.

        Raises:
            BrokerProgramsNotFoundError: RabbitMQ is not installed; the message says how to.
            PrivateBrokerError: a node did not start; the message has its log.
        """
        for node in self.nodes:
            node.prepare()
        for node in self.nodes:
            node.join(self.nodes)
        with ThreadPoolExecutor(len(self.nodes), "private-cluster") as pool:
            list(pool.map(lambda node: node.start(timeout), self.nodes))

    def close(self) -> None:
        """End all nodes for good; idempotent."""
        with ExitStack() as stack:
            stack.callback(end_epmd, self._epmd_port)
            for node in self.nodes:
                stack.callback(node.close)
