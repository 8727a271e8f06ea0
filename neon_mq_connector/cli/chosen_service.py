"""The service that a command is about: a class of the user's, or the command's own connector."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from neon_mq_connector.cli.exits import CommandError, ExitCode
from neon_mq_connector.cli.options import broker_options, chosen_connection, chosen_source
from neon_mq_connector.cli.service_class import Service, load_service, make_service
from neon_mq_connector.config.sources import CLIENT_ENTRY
from neon_mq_connector.errors import MQError
from neon_mq_connector.handlers.registering import declared_in

_PRE_RUN = click.option(
    "--pre-run",
    is_flag=True,
    help="Call the service's pre_run, for services that register their consumers there.",
)


def service_options(
    *, required: bool = False, several: bool = False
) -> Callable[[Callable[..., Any]], Any]:
    """Add what `chosen_service` takes: the class, where its broker is, and `--pre-run`.

    Args:
        required: whether there has to be a class.
        several: whether there may be several; the command then gets a tuple.
    """
    metavar = "MODULE:CLASS" if required else "[MODULE:CLASS]"
    argument = click.argument(
        "where", metavar=metavar + "..." * several, required=required, nargs=-1 if several else 1
    )
    return lambda function: argument(_PRE_RUN(broker_options(function)))


def chosen_service(
    *,
    where: str | None,
    url: Any,
    config_file: Path | None,
    user: str | None,
    vhost: str | None,
    pre_run: bool,
) -> tuple[Service, str]:
    """Construct the service that the command line names, without running it.

    Consumers that it registers in its constructor are registered then, and its declared handlers.

    Args:
        where: ``module:Class``; None for a connector that logs in as `user`. The other arguments
            are the values of `service_options`.

    Returns:
        The service, and the virtual host to look at.

    Raises:
        click.UsageError: both --url and --config are given.
        CommandError: there is no such class, it cannot be constructed, or a handler cannot work.
        ConfigurationError: the configuration cannot be used.
    """
    if where is None:
        connection = chosen_connection(url, config_file, user, vhost)
        return connection.connector(user or CLIENT_ENTRY), connection.vhost
    source = chosen_source(url, config_file)
    kind = load_service(where)
    try:
        service = make_service(kind, user, None if source is None else source.config)
        if named := vhost or (source.vhost if source else ""):
            service.vhost = named
        for handler in declared_in(kind).values():
            handler.signature.prepare()
        if pre_run:
            called: Any = service.pre_run()
            if inspect.iscoroutine(called):
                asyncio.run(called)
    except (MQError, CommandError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CommandError(
            f"{where} cannot be used: {type(error).__name__}: {reason}", ExitCode.USAGE
        ) from error
    return service, service.vhost
