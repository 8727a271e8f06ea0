"""Which messages the broker refused when it closed a channel because of one of them.

RabbitMQ says what is wrong, and not with which message. So all that are wrong in the same way are
refused: the broker did not look at those behind the first one.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pika.exceptions as pika_errors
from pika.spec import ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED

from neon_mq_connector.errors import MQError, PublishError, PublishRefusedError, UnroutableError
from neon_mq_connector.publishing.message import Message

_EXCHANGE = re.compile(
    r"(?:topic '(.*)' in )?exchange '(.*)' in vhost '(.*?)'(?: refused for user '(.*)'|$)"
)
_SIZE = re.compile(r"message size (\d+) is larger than")
_USER = re.compile(r"user_id property set to '(.*)' but")
#: RabbitMQ's name for the exchange whose name is empty.
_DEFAULT_EXCHANGE = "amq.default"


def refusal_of(error: MQError) -> Callable[[Message], PublishError | None]:
    """Return a function that makes the error for a refused message, and None for another."""
    cause, remedy = error.__cause__, ""
    kind: type[PublishError] = PublishRefusedError
    is_refused: Callable[[Message], bool] = _none
    if isinstance(cause, pika_errors.ChannelClosedByBroker):
        code, text = cause.reply_code, str(cause.reply_text)
        if code in (NOT_FOUND, ACCESS_REFUSED) and (found := _EXCHANGE.search(text)):
            key, name, vhost, user = found.groups()
            is_refused, remedy = _to_exchange(key, name), _remedy(key, name, vhost, user)
            if code == NOT_FOUND:
                kind = UnroutableError
        elif code == PRECONDITION_FAILED:
            is_refused = _with_precondition(text)

    def refusal(message: Message) -> PublishError | None:
        if not is_refused(message):
            return None
        failure = kind(f"{message}: {error}{remedy}", may_have_arrived=False)
        failure.__cause__ = error
        return failure

    return refusal


def _none(_message: Message) -> bool:
    return False


def _to_exchange(key: str | None, name: str) -> Callable[[Message], bool]:
    exchange = "" if name == _DEFAULT_EXCHANGE else name
    return lambda message: message.exchange == exchange and key in (None, message.routing_key)


def _remedy(key: str | None, name: str, vhost: str, user: str | None) -> str:
    """Return how to grant a user the right to write, to a topic exchange with a routing key."""
    if user is None:
        return ""  # no right is missing
    what, matched = f"set_permissions -p '{vhost}' '{user}' CONFIGURE", name
    if key is not None:
        what, matched = f"set_topic_permissions -p '{vhost}' '{user}' '{name}'", key
    return f"; to allow it: rabbitmqctl {what} WRITE READ, with a WRITE that matches {matched!r}"


def _with_precondition(text: str) -> Callable[[Message], bool]:
    """Return what picks the messages that are too large, or name another user than theirs."""
    if found := _SIZE.search(text):
        size = int(found.group(1))
        return lambda message: len(message.body) == size
    if found := _USER.search(text):
        user = found.group(1)
        return lambda message: getattr(message.properties, "user_id", None) == user
    return _none
