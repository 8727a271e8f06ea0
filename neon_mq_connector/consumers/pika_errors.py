"""What pika would raise: for the broker's refusals, and for what no broker accepts."""

from __future__ import annotations

import pika.exceptions as pika_errors
from pika.spec import BasicProperties

from neon_mq_connector.envelope import LONGEST_EXPIRATION
from neon_mq_connector.errors import (
    PublishRejectedError,
    TopologyError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.topology import PRECONDITION_FAILED, Refusal


def as_pika_raises(error: BaseException) -> BaseException:
    """Return the exception by which pika would tell of an error; the error where there is none."""
    if isinstance(error, WaitTimeoutError):
        raised: BaseException = pika_errors.AMQPConnectionError(str(error))
    elif isinstance(error, UnroutableError):
        raised = pika_errors.UnroutableError([])
    elif isinstance(error, PublishRejectedError):
        raised = pika_errors.NackError([])
    else:
        refusal = error.__cause__ if isinstance(error, TopologyError) else error
        if isinstance(refusal, Refusal) and refusal.__cause__ is not None:
            return refusal.__cause__
        return error
    raised.__cause__ = error
    return raised


def check_properties(properties: BasicProperties) -> None:
    """Refuse what the broker refuses: it would close the channel on which others publish, too.

    Raises:
        pika.exceptions.ChannelClosedByBroker: as it would be on a channel of the callback's own.
    """
    expiration, headers = properties.expiration, properties.headers
    if isinstance(expiration, str) and not (
        expiration.isascii() and expiration.isdigit() and int(expiration) <= LONGEST_EXPIRATION
    ):
        raise pika_errors.ChannelClosedByBroker(
            PRECONDITION_FAILED,
            f"PRECONDITION_FAILED - invalid expiration '{expiration}': a number of milliseconds, "
            f"from 0 to {LONGEST_EXPIRATION}, as text",
        )
    for name in ("CC", "BCC") if headers else ():
        keys = headers.get(name)
        if keys is not None and not (
            isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        ):
            raise pika_errors.ChannelClosedByBroker(
                PRECONDITION_FAILED,
                f"PRECONDITION_FAILED - invalid header {name}: a list of routing keys is expected",
            )
