"""The options that several commands have."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from neon_mq_connector.cli.connection import COMMAND, Connection
from neon_mq_connector.cli.exits import FROM_URL, remember_source
from neon_mq_connector.cli.logs import debug_option
from neon_mq_connector.config.sources import (
    CLIENT_ENTRY,
    Source,
    default_files,
    find_source,
    parse_url,
    read_json,
)
from neon_mq_connector.errors import ConfigurationError
from neon_mq_connector.topology import check_name

Command = Callable[..., Any]


class Seconds(click.FloatRange):
    """A number of seconds within bounds; what is no number is within none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number.

        Raises:
            click.BadParameter: it is none, or out of bounds.
        """
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


def checked_name(_ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Refuse a name, or one of several, that AMQP does not allow."""
    for name in (value,) if isinstance(value, str) else value or ():
        try:
            check_name((param.name or "").rstrip("s").replace("_", " "), name)
        except ValueError as error:
            raise click.BadParameter(f"{error}.") from error
    return value


def named(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Refuse a name as `checked_name` does, and one that is empty."""
    if "" in ((value,) if isinstance(value, str) else value or ()):
        raise click.BadParameter("a name is empty.")
    return checked_name(ctx, param, value)


def _read_url(_ctx: click.Context, _option: click.Parameter, value: str | None) -> Source | None:
    try:
        return None if value is None else parse_url(value, FROM_URL)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


_OPTIONS = (
    click.option(
        "--url",
        callback=_read_url,
        metavar="URL",
        help="Broker, user and virtual host: amqp://user:password@host:port/vhost, amqps:// with "
        "TLS. In the variable NEON_MQ_URL it is not seen in lists of processes.",
    ),
    click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Configuration file (JSON); by default it is looked for as services do.",
    ),
    click.option(
        "--user",
        metavar="NAME",
        help=f"Entry under users in the configuration to log in with.  [default: {CLIENT_ENTRY}]",
    ),
    click.option(
        "--vhost",
        callback=checked_name,
        metavar="NAME",
        help="Virtual host.  [default: that of the URL, or /]",
    ),
    debug_option,
)


#: For commands that list queues.
management_option = click.option(
    "--management",
    envvar="NEON_MQ_MANAGEMENT_URL",
    metavar="URL",
    help="RabbitMQ's management interface: http://host:15672.  [default: management_url of the "
    "configuration, or that port of the broker's host]",
)


def broker_options(function: Command) -> Command:
    """Add the options that say where the broker is, as `chosen_connection` takes them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def connection_options(function: Command) -> Command:
    """Add the options that say where the broker is; the command gets a `Connection` first."""

    @broker_options
    @functools.wraps(function)
    def command(
        *,
        url: Source | None,
        config_file: Path | None,
        user: str | None,
        vhost: str | None,
        **others: Any,
    ) -> Any:
        return function(chosen_connection(url, config_file, user, vhost), **others)

    return command


def chosen_source(url: Source | None, config_file: Path | None) -> Source | None:
    """Return the configuration that the options name; None where they name none.

    Raises:
        click.UsageError: both --url and --config are given.
        ConfigurationError: the file cannot be used.
    """
    if config_file is None:
        return url
    if url is not None:
        raise click.UsageError("--url and --config say the same: give one of them")
    return Source(str(config_file), read_json(config_file))


def chosen_connection(
    url: Source | None, config_file: Path | None, user: str | None, vhost: str | None
) -> Connection:
    """Return the connection that the values of the options lead to.

    Raises:
        click.UsageError: both --url and --config are given.
        ConfigurationError: a value cannot be used, or there are no credentials.
    """
    from neon_mq_connector.config.settings import MQSettings

    source = chosen_source(url, config_file) or find_source()
    if source is None:
        raise ConfigurationError(
            "there is no configuration that says where the broker is and how to log in there; "
            "set NEON_MQ_URL=amqp://user:password@host:port/vhost, or give that as --url, or "
            "give --config FILE, or write "
            f"{next(default_files(), 'a file, and name it with NEON_MQ_CONFIG_PATH')}"
        )
    remember_source(click.get_current_context(), source.name)
    settings = MQSettings.from_config(source.config, source=source.name)
    credentials = settings.credentials_for(user or CLIENT_ENTRY)
    entry = {"user": credentials.username, "password": credentials.password}
    # what is no setting has been warned of, and is of no use to the command
    known = {key: value for key, value in source.section.items() if key not in settings.extra}
    return Connection(
        vhost=vhost or source.vhost or "/",
        settings=settings,
        config={**known, "users": {COMMAND: entry}},
    )
