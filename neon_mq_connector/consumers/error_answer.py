"""Tell the sender of a request that it has failed, or is refused.

The answer goes the way of any other: on the callback's channel, in the format of the request, under
its correlation id. It is sent only to senders that can read it. Others see what they always saw.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from neon_mq_connector.codec import decode_body
from neon_mq_connector.consumers.callback_channel import CallbackChannel
from neon_mq_connector.consumers.reply_route import EXPIRATION, PART_EXPIRATION, Reply, reply_route
from neon_mq_connector.consumers.session import ReceivedMessage
from neon_mq_connector.envelope import ACCEPTS_ERRORS, REPLY_QUEUE
from neon_mq_connector.errors import DecodeError, RequestRefusedError
from neon_mq_connector.link import Delivery
from neon_mq_connector.publishing.encoded_message import context_message_id

LOG = logging.getLogger("neon_mq_connector.consumers")

_LONGEST_TYPE = 100
_LONGEST_MESSAGE = 2_000
_LONGEST_DETAILS = 10_000


def answer_error(message: ReceivedMessage, error: BaseException, *, hide_message: bool) -> bool:
    """Send an error answer, if the sender of a message can read one; do not wait for its confirm.

    Args:
        message: what has failed for the last time; its channel is the one that was published on.
        error: why.
        hide_message: tell what the exception says only where it was raised to be told.

    Returns:
        Whether the request alone is at fault, and its sender was told: there is nothing to park.
    """
    delivery = message.delivery
    assert delivery is not None  # it was decoded before it could fail
    channel = message.channel
    if channel is None:
        route = reply_route(delivery.properties)
        channel = message.channel = CallbackChannel(message.session, delivery, route)
    try:
        request = _read(delivery)
        reply = channel.reply()
        if reply is None or not _accepts_errors(delivery, request):
            return False
        _send(channel, reply, delivery, request, error, hide_message)
    except Exception as failure:  # the message is dealt with all the same
        LOG.warning(
            "queue %r: the sender is not told of %s: %s",
            message.session.queue,
            type(error).__name__,
            failure,
        )
        return False
    is_unreadable = request is None and isinstance(error, DecodeError)
    return is_unreadable or isinstance(error, RequestRefusedError)


def _read(delivery: Delivery) -> dict[str, Any] | None:
    """Decode a request; return None for one that cannot be read."""
    try:
        return decode_body(delivery.body, delivery.properties.content_type)[0]
    except DecodeError:
        return None


def _accepts_errors(delivery: Delivery, request: dict[str, Any] | None) -> bool:
    """Whether the sender says that it reads error answers, or writes in another language."""
    headers = delivery.properties.headers or {}
    if headers.get(ACCEPTS_ERRORS):
        return True
    # earlier releases, which do not read them, name a reply queue
    return REPLY_QUEUE not in headers and not (request or {}).get("routing_key")


def _send(
    channel: Any,
    reply: Reply,
    delivery: Delivery,
    request: dict[str, Any] | None,
    error: BaseException,
    hide_message: bool,
) -> None:
    message_id = _id_of(delivery, request)
    refused = error if isinstance(error, RequestRefusedError) else None
    kind = _bounded(type(error).__name__ if refused is None else refused.type, _LONGEST_TYPE)
    told = "" if hide_message and refused is None else _bounded(error, _LONGEST_MESSAGE)
    data = {
        "error": {
            "type": kind,
            "message": told,
            "details": None if refused is None else _plain(refused.details),
        },
        "message_id": message_id,
        "context": {"mq": {"message_id": message_id}},
        "is_final": True,
    }
    # it may come behind parts that a slow reader has not read, in a queue of the reader's own
    expiration = EXPIRATION if reply.declares else PART_EXPIRATION
    channel.answer(data, reply, expiration=expiration, error=kind)


def _id_of(delivery: Delivery, request: dict[str, Any] | None) -> Any:
    """Return the id of a request; the correlation id of one that has none."""
    properties, message_id = delivery.properties, None
    if request is not None:
        message_id = request.get("message_id")
        if message_id is None:
            message_id = context_message_id(request)
    if message_id is None:
        message_id = properties.message_id or properties.correlation_id
    return message_id


def _bounded(value: object, length: int) -> str:
    """Return a text of what may have none, cut, and without what is no Unicode."""
    try:
        text = str(value)
    except Exception:
        return ""
    return text[:length].encode("utf-8", "replace").decode()


def _plain(details: object) -> Any:
    """Return details as every format can send them; what is too long, as the start of its JSON."""
    if details is None:
        return None
    try:
        text = json.dumps(details, default=str, ensure_ascii=False)
    except Exception:  # it contains itself, or has keys that are no texts
        return _bounded(details, _LONGEST_DETAILS)
    if len(text) > _LONGEST_DETAILS:
        return _bounded(text, _LONGEST_DETAILS)
    return json.loads(_bounded(text, _LONGEST_DETAILS))
