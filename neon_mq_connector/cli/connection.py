"""The broker that a command talks to: settings, credentials and virtual host in one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pika

from neon_mq_connector.cli.failures import FROM_URL
from neon_mq_connector.config.sources import Source, default_files, find_source, read_json
from neon_mq_connector.config.url import BrokerURL
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.control.control import Control
from neon_mq_connector.control.probe import check
from neon_mq_connector.errors import ConfigurationError
from neon_mq_connector.operations.queues import QueueReader, find_queue
from neon_mq_connector.topology import QueueStatus

if TYPE_CHECKING:
    from neon_mq_connector.config.settings import MQSettings

#: The name under which the command's connections stand on the broker's management page.
COMMAND = "neon-mq"
DEFAULT_USER = "mq_handler"
DEFAULT_VHOST = "/"
_CLOSE_TIMEOUT = 3.0

ConnectorT = TypeVar("ConnectorT", bound=MQConnector)


@dataclass(frozen=True)
class Connection:
    """How a command reaches its broker; nothing is open yet.

    Attributes:
        vhost: the virtual host, as it is.
        source: where the settings came from, in words.
        settings: the validated settings.
        config: what a connector is given, with one user: the command itself.
    """

    vhost: str
    source: str
    settings: MQSettings = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)

    @property
    def where(self) -> str:
        """The servers, as ``host:port``."""
        return " or ".join(f"{each.host}:{each.port}" for each in self.settings.endpoints)

    def connector(self, kind: type[ConnectorT], name: str = COMMAND) -> ConnectorT:
        """Make a connector; it opens nothing yet.

        Args:
            kind: its class.
            name: the name of its service.
        """
        (credentials,) = self.config["users"].values()
        return kind({**self.config, "users": {name: credentials}}, name)

    def parameters(self, name: str = COMMAND) -> list[pika.ConnectionParameters]:
        """Make pika's parameters, one entry per server."""
        return self.connector(MQConnector, name)._all_parameters(self.vhost)

    def check(self) -> None:
        """Open and close a connection, which tells in one go whether anything can work.

        Raises:
            BrokerUnreachableError, AuthenticationError, VhostAccessError: it cannot.
        """
        check(self.parameters())

    def queue_reader(self, management: str | None) -> QueueReader:
        """Make what looks queues up; it is to be entered.

        Args:
            management: the URL of the management interface; that of the settings by default.
        """
        return QueueReader(
            self.parameters(),
            management=management or self.settings.management_url,
            timeout=self.settings.operation_timeout,
        )

    @contextmanager
    def control(self) -> Iterator[Control]:
        """Give a connection for questions to the broker; it is opened when first used."""
        control = Control(f"mq-control:{self.vhost}", self.parameters())
        try:
            yield control
        finally:
            control.close(_CLOSE_TIMEOUT)

    def find_queue(self, control: Control, queue: str) -> QueueStatus | None:
        """Look a queue up without making it, as `find_queue` does."""
        return find_queue(control, queue, timeout=self.settings.operation_timeout)


def find_connection(
    *,
    url: BrokerURL | None = None,
    config_file: Path | None = None,
    user: str | None = None,
    vhost: str | None = None,
    source: str = FROM_URL,
) -> Connection:
    """Find out where the broker is and how to log in.

    Args:
        url: says all of it; goes before everything.
        config_file: a configuration file; by default it is looked for as services do.
        user: the entry under ``users`` to log in with (``mq_handler``).
        vhost: the virtual host; by default that of the URL, or ``/``.
        source: what to call the URL in messages.

    Returns:
        The connection, not opened.

    Raises:
        ConfigurationError: a value cannot be used, or there are no credentials.
    """
    from neon_mq_connector.config.settings import MQSettings

    service = user or DEFAULT_USER
    found = _from_file(config_file) if url is None else Source(source, url.to_config(), url.vhost)
    settings = MQSettings.from_config(found.config, source=found.name)
    credentials = settings.credentials_for(service)
    entry = {"user": credentials.username, "password": credentials.password}
    # what is no setting has been told of, and is of no use to the command
    known = {key: value for key, value in found.section.items() if key not in settings.extra}
    return Connection(
        vhost=vhost or found.vhost or DEFAULT_VHOST,
        source=found.name,
        settings=settings,
        config={**known, "users": {COMMAND: entry}},
    )


def _from_file(path: Path | None) -> Source:
    if path is not None:
        return Source(str(path), read_json(path))
    source = find_source(None)
    if source is None:
        raise ConfigurationError(
            "there is no configuration that says where the broker is and how to log in there; "
            "set NEON_MQ_URL=amqp://user:password@host:port/vhost, or give that as --url, or "
            "give --config FILE, or write "
            f"{next(default_files(), 'a file, and name it with NEON_MQ_CONFIG_PATH')}"
        )
    return source
