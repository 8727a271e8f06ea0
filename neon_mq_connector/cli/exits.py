"""How `neon-mq` ends: its exit codes, and one line on standard error for what went wrong."""

from __future__ import annotations

import enum

import click
import pika.exceptions as pika_errors

from neon_mq_connector.errors import AuthenticationError, BrokerUnreachableError, VhostAccessError

#: The source of an address that the user has just typed, which needs no mention.
FROM_URL = "--url"
_SOURCE = "neon_mq_connector.cli.source"
_ABOUT_THE_ADDRESS = (BrokerUnreachableError, AuthenticationError, VhostAccessError)
_NOT_SERVED = "; is a broker running there? Name another one with --url or --config"


class ExitCode(enum.IntEnum):
    """How a command ended.

    Attributes:
        meaning: what it tells, for a person to read.
    """

    meaning: str

    OK = 0, "done"
    FAILED = (
        1,
        "no answer came in time, no message has that id, a step of the demo failed, or an error "
        "was found",
    )
    USAGE = 2, "the command line or the JSON in it cannot be used"
    NO_BROKER = 3, "no broker or management interface answers there, or the connection was lost"
    REFUSED = 4, "the broker refused: password, virtual host, permission, or a declare"
    NOT_DELIVERED = 5, "no queue takes the message, or the broker did not confirm it"
    CONFIGURATION = 6, "the configuration cannot be used"
    REMOTE = 7, "the service has answered with an error"
    INTERNAL = 70, "something that should not happen; --debug shows where"
    INTERRUPTED = 130, "ended by Ctrl-C (for run, listen, top and broker that is 0)"

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        """Make a member of its number and what that means."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class CommandError(Exception):
    """A command cannot do what it was asked for; the message says what would make it work."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


#: By the names of classes: most of their modules need not be imported.
_BY_ERROR = {
    "ConfigurationError": ExitCode.CONFIGURATION,
    "AuthenticationError": ExitCode.REFUSED,
    "VhostAccessError": ExitCode.REFUSED,
    "TopologyError": ExitCode.REFUSED,
    "ChannelShutError": ExitCode.REFUSED,
    "QueueNotFoundError": ExitCode.REFUSED,
    "PublishRefusedError": ExitCode.REFUSED,
    "PublishError": ExitCode.NOT_DELIVERED,
    "MQConnectionError": ExitCode.NO_BROKER,
    "PrivateBrokerError": ExitCode.NO_BROKER,
    "ConnectionError": ExitCode.NO_BROKER,
    "RequestLostError": ExitCode.NO_BROKER,
    "RemoteError": ExitCode.REMOTE,
    "MQError": ExitCode.FAILED,
    "AMQPChannelError": ExitCode.REFUSED,
    "AMQPConnectionError": ExitCode.NO_BROKER,
    "ValueError": ExitCode.USAGE,
    "OSError": ExitCode.FAILED,
}


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an error; `ExitCode.INTERNAL` for one of no known class."""
    name, cause = type(error).__name__, error.__cause__
    if name == "ManagementError":
        return ExitCode.NO_BROKER if getattr(error, "status", None) is None else ExitCode.REFUSED
    is_reason = name == "ReplayInterruptedError" or type(cause).__name__ == "TopologyError"
    if is_reason and cause is not None:
        return exit_code_of(cause)
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((_BY_ERROR[each] for each in names if each in _BY_ERROR), ExitCode.INTERNAL)


def remember_source(ctx: click.Context, source: str) -> None:
    """Keep where the address of the broker came from, for the message of an error."""
    ctx.meta[_SOURCE] = source


def report(error: Exception, ctx: click.Context) -> ExitCode:
    """Print on standard error what went wrong, and return the exit code."""
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
