"""A dead letter: why a message failed, and the properties to send it again with.

Headers may come from any sender, so the type of each is checked.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from pika.spec import BasicProperties

from neon_mq_connector import envelope
from neon_mq_connector.codec import decode_body
from neon_mq_connector.errors import DecodeError
from neon_mq_connector.link import Delivery

#: Headers that a broker writes, or would act on again: with `CC` other queues would get it again.
_NOT_AGAIN = re.compile(
    r"(cc|bcc|neon-.*|x-(death|first-death-.*|last-death-.*|delivery-count|acquired-count|delay))",
    re.IGNORECASE,
)
_DELIVERY_COUNT = "x-delivery-count"


@dataclass(frozen=True)
class DeadLetter:
    """A message that failed, or that the broker has dead-lettered.

    Attributes:
        id: its message id; where it has none, ``sha256:`` and the start of its body's hash.
        queue: the queue it came from; None if that is not known.
        exchange: the exchange it was published to; empty for the default one.
        routing_key: its routing key.
        error: class and text of the exception, or why the broker has dead-lettered it.
        traceback: where the exception was raised; None for a message that the broker has
            dead-lettered.
        attempts: how often it was tried; None if that is not known.
        parked_at: when that was, in UTC.
        replayed: how often it was replayed before.
        headers: its sender's headers.
        raw: the bytes of its body.
        properties: its AMQP properties, as they are in the dead-letter queue.
    """

    id: str
    queue: str | None
    exchange: str
    routing_key: str
    error: str | None
    traceback: str | None
    attempts: int | None
    parked_at: datetime | None
    replayed: int
    headers: Mapping[str, Any] = field(repr=False)
    raw: bytes = field(repr=False)
    properties: BasicProperties = field(repr=False)

    @classmethod
    def of(cls, delivery: Delivery) -> DeadLetter:
        """Read a message of a dead-letter queue."""
        headers = {**(delivery.properties.headers or {})}
        headers.pop(_DELIVERY_COUNT, None)
        is_parked = isinstance(headers.get(envelope.PARKED_QUEUE), str)
        found = {"headers": headers, **(_parked if is_parked else _dead_lettered)(headers)}
        return cls(
            id=_id(delivery),
            replayed=_number(found["headers"].get(envelope.REPLAYED)) or 0,
            raw=bytes(delivery.body),
            properties=delivery.properties,
            **found,
        )

    @cached_property
    def body(self) -> Any:
        """The body: a dict, else a text; None if it is neither."""
        return _readable(self.raw, self.properties.content_type)

    def original_properties(self) -> BasicProperties:
        """Return the properties to send it again with.

        They are those it was first sent with, but for an expiration, with which it could be lost,
        and the user's name, which has to be that of its publisher. Headers that a broker acts on
        are left out, and those that could be kept as text only.
        """
        own = self.properties
        aside = _aside(own.headers or {})
        as_sent = _table(aside.get("headers"))
        headers = {
            name: value
            for name, value in self.headers.items()
            if not _NOT_AGAIN.fullmatch(name)
            and (name not in as_sent or name.lower().startswith("x-"))
        }
        copied = copied_properties(own)
        copied.headers = {**headers, envelope.REPLAYED: self.replayed + 1}
        priority = aside.get("priority", own.priority)
        copied.priority = priority if isinstance(priority, int) else None
        copied.reply_to = _text(aside.get("reply_to")) or own.reply_to
        return copied


def copied_properties(properties: BasicProperties) -> BasicProperties:
    """Return the properties with which a dead letter is put into its queue once more."""
    copied = copy.copy(properties)
    copied.headers = {k: v for k, v in (properties.headers or {}).items() if k != _DELIVERY_COUNT}
    copied.delivery_mode = envelope.PERSISTENT
    copied.expiration = copied.user_id = copied.cluster_id = None
    return copied


def _parked(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a consumer notes when it parks a message."""
    senders = {name: value for name, value in headers.items() if not name.startswith("neon-")}
    return {
        "queue": _text(headers[envelope.PARKED_QUEUE]),
        "exchange": _text(headers.get(envelope.PARKED_EXCHANGE)) or "",
        "routing_key": _text(headers.get(envelope.PARKED_ROUTING_KEY)) or "",
        "error": _text(headers.get(envelope.PARKED_ERROR)),
        "traceback": _text(headers.get(envelope.PARKED_TRACEBACK)),
        "attempts": _number(headers.get(envelope.PARKED_ATTEMPTS)),
        "parked_at": _moment(headers.get(envelope.PARKED_AT)),
        "headers": {**senders, **_table(_aside(headers).get("headers"))},
    }


def _dead_lettered(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Read what the broker notes: the last death stands first in its list."""
    listed = headers.get("x-death")
    deaths = [_table(each) for each in listed] if isinstance(listed, list) else []
    first, last = (deaths[-1], deaths[0]) if deaths else ({}, {})
    keys = first.get("routing-keys")
    reason = _text(headers.get("x-first-death-reason")) or _text(first.get("reason"))
    return {
        "queue": _text(headers.get("x-first-death-queue")) or _text(first.get("queue")),
        "exchange": _text(first.get("exchange")) or "",
        "routing_key": (_text(keys[0]) or "") if isinstance(keys, list) and keys else "",
        "error": f"dead-lettered by the broker: {reason}" if reason else None,
        "traceback": None,
        "attempts": sum(_number(each.get("count")) or 0 for each in deaths) or None,
        "parked_at": _moment(last.get("time")),
    }


def _id(delivery: Delivery) -> str:
    if delivery.properties.message_id:
        return str(delivery.properties.message_id)
    body = _readable(delivery.body, delivery.properties.content_type)
    told = body.get("message_id") if isinstance(body, dict) else None
    return _text(told) or f"sha256:{hashlib.sha256(delivery.body).hexdigest()[:16]}"


def _readable(raw: bytes, content_type: str | None) -> Any:
    try:
        return decode_body(bytes(raw), content_type)[0]
    except DecodeError:
        try:
            return bytes(raw).decode()
        except UnicodeDecodeError:
            return None


def _aside(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    return _table(headers.get(envelope.PARKED_ORIGINAL))


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _moment(value: Any) -> datetime | None:
    try:
        if isinstance(value, datetime):
            return value.replace(tzinfo=value.tzinfo or timezone.utc)
        return datetime.fromtimestamp(value, timezone.utc) if _number(value) is not None else None
    except (OverflowError, OSError, ValueError):
        return None
