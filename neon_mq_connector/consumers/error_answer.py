"""Tell the sender of a request that it has failed, or is refused.

The answer is sent like any other: on the callback's channel, in the format of the request, under
its correlation id. Senders that cannot read error answers are sent none.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from neon_mq_connector.codec import decode_body
from neon_mq_connector.consumers.callback_channel import CallbackChannel
from neon_mq_connector.consumers.reply_route import EXPIRATION, PART_EXPIRATION
from neon_mq_connector.consumers.session import ReceivedMessage
from neon_mq_connector.envelope import REPLY_QUEUE
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
        message: a message that has failed for the last time.
        error: why.
        hide_message: leave out the text of an exception that is no `RequestRefusedError`.

    Returns:
        Whether the request alone is at fault, and its sender was told: there is nothing to park.
    """
    delivery = message.delivery
    assert delivery is not None  # it was decoded before it could fail
    if message.channel is None:
        message.channel = CallbackChannel(message.session, message)
    is_at_fault = isinstance(error, RequestRefusedError)
    try:
        try:
            request = decode_body(delivery.body, delivery.properties.content_type)[0]
        except DecodeError:
            request, is_at_fault = {}, is_at_fault or isinstance(error, DecodeError)
        reply = message.channel.reply()
        if reply is None or not _accepts_errors(delivery, request):
            return False
        answer = _describe(error, _id_of(delivery, request), hide_message)
        # it may come behind parts that a slow reader has not read, in a queue of the reader's own
        expiration = EXPIRATION if reply.declares else PART_EXPIRATION
        kind = answer["error"]["type"]
        message.channel.answer(answer, reply, expiration=expiration, error=kind)
    except Exception as failure:  # the message is dealt with all the same
        LOG.warning(
            "queue %r: the sender is not told of %s: %s",
            message.session.queue,
            type(error).__name__,
            failure,
        )
        return False
    return is_at_fault


def _accepts_errors(delivery: Delivery, request: dict[str, Any]) -> bool:
    """Whether the sender says that it reads error answers, or writes in another language."""
    # earlier releases, which do not read them, name a queue in the body alone
    named = request.get("routing_key")
    is_named = isinstance(named, str) and named
    return REPLY_QUEUE in (delivery.properties.headers or {}) or not is_named


def _describe(error: BaseException, message_id: Any, hide_message: bool) -> dict[str, Any]:
    refused = error if isinstance(error, RequestRefusedError) else None
    kind = type(error).__name__ if refused is None else refused.type
    told = "" if hide_message and refused is None else error
    return {
        "error": {
            "type": _bounded(kind, _LONGEST_TYPE),
            "message": _bounded(told, _LONGEST_MESSAGE),
            "details": None if refused is None else _plain(refused.details),
        },
        "message_id": message_id,
        "context": {"mq": {"message_id": message_id}},
        "is_final": True,
    }


def _id_of(delivery: Delivery, request: dict[str, Any]) -> Any:
    """Return the id of a request; the correlation id of one that has none."""
    properties = delivery.properties
    ids = (
        request.get("message_id"),
        context_message_id(request),
        properties.message_id or properties.correlation_id,
    )
    return next((each for each in ids if each is not None), None)


def _bounded(value: object, length: int) -> str:
    """Return the text of a value, cut and valid as Unicode; empty where it has none."""
    try:
        text = str(value)
    except Exception:
        return ""
    return text[:length].encode("utf-8", "replace").decode()


def _plain(details: object) -> Any:
    """Return details in types that every format has; long ones as the start of their JSON."""
    if details is None:
        return None
    try:
        text = json.dumps(details, default=str, ensure_ascii=False)
    except Exception:  # it contains itself, or has keys that are no texts
        return _bounded(details, _LONGEST_DETAILS)
    if len(text) > _LONGEST_DETAILS:
        return _bounded(text, _LONGEST_DETAILS)
    return json.loads(_bounded(text, _LONGEST_DETAILS))
