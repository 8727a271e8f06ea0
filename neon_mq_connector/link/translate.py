"""The one table that turns pika's exceptions into ours, where they enter the library."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence

import pika
import pika.exceptions as pika_errors
from pika.spec import CONNECTION_FORCED

from neon_mq_connector.errors import (
    AuthenticationError,
    BrokerUnreachableError,
    ChannelShutError,
    ConnectionLostError,
    FrameError,
    MQConnectionError,
    MQError,
    VhostAccessError,
)
from neon_mq_connector.topology import Refusal

#: How a broker says that a virtual host or a user has its number of connections.
_LIMIT_REACHED = re.compile(r"limit \(\d+\)")
#: What is wrong with TLS, in the text of pika's error: pika takes an end of the connection during
#: the handshake for another protocol.
_TLS_ERROR = re.compile(r"\[SSL: .*?(?= \(_ssl)")
#: The alerts by which a server refuses the client's certificate, or asks for one.
_CERTIFICATE_REFUSED = re.compile(r"ALERT_(?:\w*CERTIFICATE\w*|UNKNOWN_CA)\b")


def servers(parameters: Sequence[pika.connection.Parameters]) -> str:
    """Return the servers as ``host:port``, for messages."""
    return " or ".join(f"{each.host}:{each.port}" for each in parameters)


def refused_for_good(error: BaseException) -> bool:
    """Whether a first connect that failed so would go on failing: the broker refused."""
    return isinstance(error, (AuthenticationError, VhostAccessError))


def connect_error(
    error: BaseException,
    parameters: Sequence[pika.connection.Parameters],
    fault: FrameError | None = None,
) -> MQConnectionError:
    """Translate the failure to open a connection.

    Args:
        error: what pika reported; the causes inside of it are looked at too.
        parameters: one entry per server that was tried.
        fault: what is wrong with what the server sent, if that was the reason; pika guesses then.
    """
    where, vhost = servers(parameters), parameters[0].virtual_host
    user = getattr(parameters[0].credentials, "username", "?")
    if fault is not None:
        return BrokerUnreachableError(
            f"what listens at {where} does not speak AMQP 0-9-1, or not well: {fault}"
        )
    for cause in _causes(error):
        if isinstance(cause, MQConnectionError):
            return cause
        if isinstance(
            cause, (pika_errors.AuthenticationError, pika_errors.ProbableAuthenticationError)
        ):
            return AuthenticationError(
                f"{where} refused the password of user {user!r}; check NEON_MQ_URL, or "
                "its entry under 'users'"
            )
        if isinstance(cause, pika_errors.ProbableAccessDeniedError) or (
            isinstance(cause, pika_errors.ConnectionClosedByBroker)
            and cause.reply_code in (403, 530)
        ):
            if _LIMIT_REACHED.search(str(cause).replace(vhost, "")):
                return BrokerUnreachableError(f"{where} takes no more connections: {cause}")
            return VhostAccessError(
                f"virtual host {vhost!r} at {where} does not exist or user {user!r} has no "
                "permission for it"
            )
        if alert := _CERTIFICATE_REFUSED.search(str(cause)):
            return AuthenticationError(
                f"{where} does not trust the client's certificate, or asks for one ({alert[0]}): "
                "check 'tls.cert_file' and 'tls.key_file'"
            )
        if found := _TLS_ERROR.search(str(cause)):
            problem = found[0].replace("\\", "")  # it was quoted
            return BrokerUnreachableError(f"no broker answers at {where}: {problem}")
        if isinstance(cause, pika_errors.IncompatibleProtocolError):
            return BrokerUnreachableError(f"what listens at {where} does not speak AMQP 0-9-1")
        if isinstance(cause, socket.gaierror):
            return BrokerUnreachableError(f"the name in {where} is not known: {cause}")
    causes = [cause for cause in _causes(error) if str(cause)]
    detail = causes[-1] if causes else repr(error)
    return BrokerUnreachableError(f"no broker answers at {where}: {detail}")


def loss_error(error: BaseException, *, what: str) -> MQError:
    """Translate the end of a connection or channel that was open.

    Args:
        error: what pika reported, or what is wrong with what came.
        what: the connection or channel, for a person to read.
    """
    if isinstance(error, FrameError):
        return ConnectionLostError(f"{what} was lost: {error}")
    if isinstance(error, MQError):
        return error
    if isinstance(error, pika_errors.ChannelClosedByBroker):
        return ChannelShutError(f"{what} was closed by the broker: {error.reply_text}")
    if isinstance(error, pika_errors.AMQPChannelError):
        return ChannelShutError(f"{what} is closed: {error}")
    if isinstance(error, pika_errors.ConnectionClosedByBroker):
        return ConnectionLostError(f"{what} was closed by the broker: {error.reply_text}")
    return ConnectionLostError(f"{what} was lost: {str(error) or type(error).__name__}")


def broker_refusal(error: BaseException) -> Refusal | None:
    """Return what the broker refused, if that has ended a channel; its cause is pika's error."""
    cause = error.__cause__
    if not isinstance(error, (ChannelShutError, ConnectionLostError)):
        return None
    if not isinstance(
        cause, (pika_errors.ChannelClosedByBroker, pika_errors.ConnectionClosedByBroker)
    ):
        return None
    if cause.reply_code == CONNECTION_FORCED:
        return None  # it was only shut down
    refusal = Refusal(cause.reply_code, cause.reply_text)
    refusal.__cause__ = cause
    return refusal


def _causes(error: BaseException) -> list[BaseException]:
    """List an error and everything it wraps, outermost first; pika nests them in attributes."""
    found = [error]
    for item in found:  # which grows
        inner = (
            getattr(item, "exception", None),
            *getattr(item, "exceptions", ()),
            item.__cause__,
            *item.args,
        )
        found += [each for each in inner if isinstance(each, BaseException) and each not in found]
    return found
