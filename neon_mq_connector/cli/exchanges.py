"""Find out what type an exchange has, which AMQP tells only by refusing to declare another."""

from __future__ import annotations

import enum
import re

import pika.exceptions as pika_errors

from neon_mq_connector.control.control import Control
from neon_mq_connector.topology import PRECONDITION_FAILED

_CURRENT_TYPE = re.compile(r"arg 'type'.*current is '(?P<type>[^']+)'")


class ExchangeKind(enum.Enum):
    """How an exchange decides which queues get a message."""

    FANOUT = "fanout"
    DIRECT = "direct"
    TOPIC = "topic"
    HEADERS = "headers"


def find_exchange(
    control: Control, name: str, wanted: ExchangeKind, *, timeout: float
) -> ExchangeKind:
    """Look an exchange up; one that does not exist is declared.

    Args:
        control: where to ask.
        name: of the exchange.
        wanted: the type to declare it with.
        timeout: seconds.

    Returns:
        The type that it has. For one of a plugin's types, the wanted one.

    Raises:
        pika.exceptions.ChannelClosedByBroker: the broker refused, e.g. for lack of permission.
        MQConnectionError: there is no connection.
    """
    try:
        control.call(
            f"declaring exchange {name!r}",
            lambda channel: channel.exchange_declare(name, exchange_type=wanted.value),
            timeout=timeout,
        )
    except pika_errors.ChannelClosedByBroker as refusal:
        if refusal.reply_code != PRECONDITION_FAILED:
            raise
        found = _CURRENT_TYPE.search(refusal.reply_text)
        kinds = {kind.value: kind for kind in ExchangeKind}
        # other words: it is of the wanted type and differs elsewhere, in being durable as a rule
        return kinds.get(found["type"], wanted) if found else wanted
    return wanted
