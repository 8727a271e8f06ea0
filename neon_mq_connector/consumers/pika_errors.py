"""What pika would raise: for the broker's refusals, and for what no broker accepts."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pika.exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector.envelope import LONGEST_EXPIRATION
from neon_mq_connector.errors import (
    PublishRejectedError,
    TopologyError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.topology import PRECONDITION_FAILED, Refusal, check_name


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


_NAMES = ("queue", "exchange", "destination", "source", "routing_key")
_signature = functools.lru_cache(inspect.signature)


def check_names(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse names that cannot be used, in the arguments for a method of pika's channel.

    Raises:
        ValueError: a name cannot be used; see `check_name`.
        TypeError: pika's method takes no such arguments.
    """
    given = (
        _signature(getattr(BlockingChannel, method)).bind_partial(None, *args, **kwargs).arguments
    )
    for kind in _NAMES:
        if isinstance(given.get(kind), str):
            check_name(kind.replace("_", " "), given[kind])
