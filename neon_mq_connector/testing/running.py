"""A running broker: where it is, and what is in it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

from neon_mq_connector.testing.management import ManagementClient

Self = TypeVar("Self", bound="OwnBroker")


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker listens, and its administrator.

    Attributes:
        host: the address that it listens on.
        port: for AMQP.
        management_port: for the management interface; 0 where there is none.
        username: of the administrator.
        password: of the administrator.
    """

    host: str
    port: int
    management_port: int
    username: str
    password: str = field(repr=False)


class RunningBroker:
    """A running broker, started by whatever program.

    Args:
        address: of the broker.
    """

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address

    @property
    def address(self) -> BrokerAddress:
        """Return where it listens, and its administrator."""
        return self._address

    @property
    def host(self) -> str:
        """Return the address that it listens on."""
        return self.address.host

    @property
    def port(self) -> int:
        """Return the AMQP port."""
        return self.address.port

    @property
    def management_url(self) -> str:
        """Return the address of the management interface, for browsers too."""
        return f"http://{self.host}:{self.address.management_port}"

    @property
    def username(self) -> str:
        """Return the name of the administrator."""
        return self.address.username

    @property
    def password(self) -> str:
        """Return the password of the administrator."""
        return self.address.password

    def url(self, vhost: str = "/", *, username: str | None = None, password: str = "") -> str:
        """Return an AMQP URL, password included.

        Args:
            vhost: the virtual host.
            username: of a user; the administrator when None.
            password: of that user.
        """
        user, secret = (self.username, self.password) if username is None else (username, password)
        credentials = f"{quote(user, safe='')}:{quote(secret, safe='')}"
        return f"amqp://{credentials}@{self.host}:{self.port}/{quote(vhost, safe='')}"

    @property
    def management(self) -> ManagementClient:
        """Return a client of the management interface."""
        return ManagementClient(self.management_url, self.username, self.password)

    def create_vhost(self, name: str, *, users: Iterable[str] = ()) -> None:
        """Create a virtual host that the administrator and these users may do everything in."""
        management = self.management
        management.create_vhost(name)
        for user in (self.username, *users):
            management.permit(user, name)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all in it, and end its connections; a missing one is fine."""
        self.management.delete_vhost(name)

    def add_user(
        self, name: str, password: str, *, vhosts: Iterable[str] = (), tags: str = ""
    ) -> None:
        """Create a user.

        Args:
            name: of the user.
            password: of the user.
            vhosts: virtual hosts that it may do everything in.
            tags: such as `administrator`.
        """
        management = self.management
        management.create_user(name, password, tags=tags)
        for vhost in vhosts:
            management.permit(name, vhost)

    def delete_user(self, name: str) -> None:
        """Delete a user; a missing one is fine."""
        self.management.delete_user(name)

    def list_queues(self, vhost: str) -> list[dict[str, Any]]:
        """List the queues as they are now, with their messages; see `ManagementClient.queues`."""
        return self.management.queues(vhost)

    def list_consumers(self, vhost: str) -> list[dict[str, Any]]:
        """List the consumers as they were at most a second ago."""
        return self.management.consumers(vhost)

    def list_connections(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """List the connections as they were at most a second ago."""
        return self.management.connections(vhost)


class OwnBroker(RunningBroker, ABC):
    """A broker that this process starts, stops and breaks.

    `PrivateBroker` and `EmbeddedBroker` have this interface: code need not care which it has.

    Args:
        refuse_transient: refuse queues that are neither durable nor exclusive.
    """

    def __init__(self, *, refuse_transient: bool) -> None:
        self.refuse_transient = refuse_transient
        #: held while the broker starts or ends
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        where = f" on port {self.port}" if self.running else ""
        kind = ", refusing transient queues" if self.refuse_transient else ""
        return f"<{type(self).__name__}{where}{kind}: {'up' if self.running else 'down'}>"

    def __enter__(self: Self) -> Self:
        """Start the broker."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it for good."""
        self.close()

    @abstractmethod
    def start(self, timeout: float = 180.0) -> None:
        """Start the broker and return when it takes connections; nothing if it runs."""

    @abstractmethod
    def stop(self, timeout: float = 20.0) -> None:
        """End the broker in good order and keep what is durable for `start`; idempotent."""

    @abstractmethod
    def kill(self) -> None:
        """End the broker as a crash does, and keep what is durable for `start`."""

    @abstractmethod
    def close(self) -> None:
        """End the broker for good and remove what it had; idempotent."""

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether the broker is there."""

    def restart(self, timeout: float = 180.0) -> None:
        """End the broker in good order and start it again, on the same ports.

        Args:
            timeout: seconds that the start may take.
        """
        with self._lock:
            self.stop()
            self.start(timeout)
