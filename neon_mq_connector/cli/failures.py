"""One line on standard error for what went wrong, with what would make it work."""

from __future__ import annotations

import click
import pika.exceptions as pika_errors

from neon_mq_connector.cli.exits import ExitCode, exit_code_of
from neon_mq_connector.errors import (
    AuthenticationError,
    BrokerUnreachableError,
    VhostAccessError,
)

#: The source of an address that the user has just typed, which needs no mention.
FROM_URL = "--url"
_SOURCE = "neon_mq_connector.cli.source"
_ABOUT_THE_ADDRESS = (BrokerUnreachableError, AuthenticationError, VhostAccessError)
_NOT_SERVED = "; is a broker running there? Name another one with --url or --config"


class CommandError(Exception):
    """A command cannot do what it was asked for.

    Args:
        message: what is wrong, and what would make it work.
        code: how the command ends.
    """

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


def remember_source(ctx: click.Context, source: str) -> None:
    """Note where the address of the broker came from, to be named if it turns out wrong."""
    ctx.meta[_SOURCE] = source


def report(error: Exception, ctx: click.Context) -> ExitCode:
    """Say on standard error what went wrong.

    Args:
        error: what was raised.
        ctx: the context of the command.

    Returns:
        How the command ends.
    """
    code = error.code if isinstance(error, CommandError) else exit_code_of(error)
    click.echo(f"Error: {_in_words(error, code, ctx.meta.get(_SOURCE))}", err=True)
    return code


def _in_words(error: Exception, code: ExitCode, source: str | None) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, (pika_errors.ChannelClosedByBroker, pika_errors.ConnectionClosedByBroker)):
        text = f"the broker refused: {error.reply_text}"
    if code is ExitCode.INTERNAL:
        return f"{type(error).__name__}: {text} (run it with --debug to see where)"
    if isinstance(error, BrokerUnreachableError):
        text += _NOT_SERVED
    if source not in (None, FROM_URL) and isinstance(error, _ABOUT_THE_ADDRESS):
        text += f" (these settings are from {source})"
    return text
