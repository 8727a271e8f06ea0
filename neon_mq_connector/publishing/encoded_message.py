"""Encode a dict as a message: its id, its bytes and its properties."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from neon_mq_connector import tracing
from neon_mq_connector.codec import WireFormat, content_type_of, encode_body
from neon_mq_connector.envelope import ERROR, REPLY_QUEUE, milliseconds, new_id
from neon_mq_connector.link import EncodedProperties, PropertiesTemplate


def check_data(data: Any) -> None:
    """Raise an error for what is no message.

    Raises:
        TypeError: it is not a mapping.
        ValueError: it is empty.
    """
    if type(data) is not dict and not isinstance(data, Mapping):
        raise TypeError(f"a message is a dict, not {type(data).__name__}")
    if not data:
        raise ValueError("the message is an empty dict: there is nothing to send")


class EncodedMessage(NamedTuple):
    """A dict as it is sent.

    Attributes:
        message_id: its id, in the body and in the properties.
        body: the bytes.
        properties: the AMQP properties.
    """

    message_id: str
    body: bytes
    properties: EncodedProperties


def encode_message(
    request_data: Mapping[str, Any],
    *,
    wire_format: WireFormat,
    expiration: float | str | None,
    app_id: str = "",
    correlation_id: str | None = None,
    reply_to: str | None = None,
    reply_queue: str = "",
    error: str = "",
) -> EncodedMessage:
    """Encode a dict, with a ``message_id`` if it has none. The caller's dict stays as it is.

    Args:
        request_data: what to send.
        wire_format: how to encode it.
        expiration: how long it may wait in a queue, in milliseconds; None for ever.
        app_id: the name of the sending service.
        correlation_id: the id of the request that this answers; the message's own by default.
        reply_to: where an answer is to go.
        reply_queue: for a request: the queue that its body names for the answer.
        error: for an error answer: the name of the exception.

    Returns:
        The message. Its id is the dict's ``message_id`` (an empty one stays), or else that of
        ``context.mq``, or else a new one.

    Raises:
        TypeError: the data is not a mapping.
        ValueError: the data is empty, or a broker takes no such expiration.
        EncodeError: the data has no representation in that format.
    """
    data, message_id = _identified(request_data)
    carried = None if tracing.tracer is None else tracing.tracer.carry(message_id)
    new_template = _template if carried is None else _new_template
    template = new_template(
        wire_format,
        app_id,
        reply_to,
        None if expiration is None else milliseconds(expiration),
        reply_queue,
        error,
        carried,
    )
    answered = message_id if correlation_id is None else correlation_id
    properties = template.fill(message_id, answered, int(time.time()))
    return EncodedMessage(message_id, encode_body(data, wire_format), properties)


def _new_template(
    wire_format: WireFormat,
    app_id: str,
    reply_to: str | None,
    expiration: int | None,
    reply_queue: str,
    error: str,
    carried: Mapping[str, str] | None,
) -> PropertiesTemplate:
    headers: dict[str, Any] = {}
    if reply_queue:
        headers[REPLY_QUEUE] = reply_queue
    if error:
        headers[ERROR] = error
    headers.update(carried or {})
    return PropertiesTemplate(
        content_type=content_type_of(wire_format),
        app_id=app_id,
        reply_to=reply_to,
        expiration=None if expiration is None else str(expiration),
        headers=headers or None,
    )


_template = functools.lru_cache(maxsize=256)(_new_template)


def _identified(request_data: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return a copy of a message, with an id if it has none, and the id."""
    check_data(request_data)
    data = dict(request_data)
    message_id = data.get("message_id")
    if message_id is None:
        message_id = data["message_id"] = context_message_id(data) or new_id()
    return data, str(message_id)


def context_message_id(data: Mapping[str, Any]) -> str | None:
    """Read ``context.mq.message_id`` from a message, if it is there."""
    context = data.get("context")
    if context is None:
        return None
    mq = context.get("mq") if isinstance(context, (dict, Mapping)) else None
    value = mq.get("message_id") if isinstance(mq, (dict, Mapping)) else None
    return None if value is None else str(value)
