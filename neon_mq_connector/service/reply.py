"""What a message sent from inside a callback answers, if anything."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from neon_mq_connector.codec import WireFormat, decode_body
from neon_mq_connector.consumers.current import CurrentDelivery, current_delivery
from neon_mq_connector.errors import DecodeError
from neon_mq_connector.sending.target import Target


@dataclass(frozen=True)
class Reply:
    """How the answer to the request being handled is to be sent.

    Attributes:
        wire_format: the format in which the request came.
        correlation_id: what the answer must carry; None for its own message id.
        direct_name: where it goes instead of the queue; empty for the queue.
    """

    wire_format: WireFormat
    correlation_id: str | None
    direct_name: str


@dataclass(frozen=True)
class _Request:
    """What is kept of a request that was read once, for all the answers to it.

    Attributes:
        method: of its delivery, by which it is known again; weak, so that it is not kept.
        queue: what its body names for the answer.
        wire_format: the format in which it came.
    """

    method: weakref.ref[Any]
    queue: Any
    wire_format: WireFormat


_request: ContextVar[_Request | None] = ContextVar("request", default=None)


def note_request(body: object, request: Mapping[str, Any], wire_format: WireFormat) -> None:
    """Note what the body of the message being handled says, so that it need not be read again.

    Args:
        body: what was read; a body that is not that of the running callback is not noted.
        request: what it says.
        wire_format: the format it is in.
    """
    current = current_delivery.get()
    if current is not None and current.delivery.body is body:
        _note(current, request.get("routing_key"), wire_format)


def _note(current: CurrentDelivery, queue: Any, wire_format: WireFormat) -> _Request:
    request = _Request(weakref.ref(current.delivery.method), queue, wire_format)
    _request.set(request)
    return request


def _request_of(current: CurrentDelivery) -> _Request:
    known = _request.get()
    if known is not None and known.method() is current.delivery.method:
        return known
    _method, properties, body = current.delivery
    try:
        data, wire_format = decode_body(body, properties.content_type)
    except DecodeError:
        return _note(current, None, WireFormat.LEGACY)
    return _note(current, data.get("routing_key"), wire_format)


def answer_in_kind(target: Target) -> Reply | None:
    """Find out whether a message to a target answers the request that the running callback handles.

    Args:
        target: where a message is about to be sent.

    Returns:
        How to send it, or None when it is no answer.
    """
    current = current_delivery.get()
    if current is None or target.exchange or not target.queue:
        return None
    request = _request_of(current)
    if request.queue != target.queue:
        return None
    route = current.route
    if route is not None and route.queue == target.queue:
        return Reply(request.wire_format, route.correlation_id, route.reply_to)
    return Reply(request.wire_format, current.delivery.properties.correlation_id, "")
