"""The exit codes of `neon-mq`, and which error ends with which."""

from __future__ import annotations

import enum

import pika.exceptions as pika_errors

from neon_mq_connector.errors import (
    AuthenticationError,
    ChannelShutError,
    ConfigurationError,
    MQConnectionError,
    MQError,
    PublishError,
    PublishRefusedError,
    RemoteError,
    TopologyError,
    VhostAccessError,
)


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


# The first class that fits decides, so a class stands before those it derives from.
_BY_ERROR: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (ConfigurationError, ExitCode.CONFIGURATION),
    (AuthenticationError, ExitCode.REFUSED),
    (VhostAccessError, ExitCode.REFUSED),
    (TopologyError, ExitCode.REFUSED),
    (ChannelShutError, ExitCode.REFUSED),
    (PublishRefusedError, ExitCode.REFUSED),
    (PublishError, ExitCode.NOT_DELIVERED),
    (MQConnectionError, ExitCode.NO_BROKER),
    (ConnectionError, ExitCode.NO_BROKER),
    (RemoteError, ExitCode.REMOTE),
    (MQError, ExitCode.FAILED),
    (pika_errors.AMQPChannelError, ExitCode.REFUSED),
    (pika_errors.AMQPConnectionError, ExitCode.NO_BROKER),
    (ValueError, ExitCode.USAGE),
    (OSError, ExitCode.FAILED),
)


def exit_code_of(error: BaseException) -> ExitCode:
    """Tell with which code an error ends the command.

    Args:
        error: what was raised.

    Returns:
        The code; `ExitCode.INTERNAL` for what nobody expected.
    """
    # imported here: only who has such an error needs the modules
    from neon_mq_connector.operations.dead_letters import ReplayInterruptedError
    from neon_mq_connector.operations.management import ManagementError
    from neon_mq_connector.operations.queues import QueueNotFoundError
    from neon_mq_connector.testing import PrivateBrokerError

    if isinstance(error, PrivateBrokerError):
        return ExitCode.NO_BROKER
    if isinstance(error, ManagementError):
        return ExitCode.NO_BROKER if error.status is None else ExitCode.REFUSED
    if isinstance(error, ReplayInterruptedError) and error.__cause__ is not None:
        return exit_code_of(error.__cause__)
    if isinstance(error, QueueNotFoundError):
        return ExitCode.REFUSED
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.INTERNAL)
