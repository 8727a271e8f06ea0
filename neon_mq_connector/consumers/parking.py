"""Park messages that cannot be handled, in a durable queue that an operator can see and replay.

A message is parked when the broker has confirmed it there, and only then settled. Properties and
headers that route, delay or expire a message would do so again, and others cannot be sent. So those
that nothing acts on stay as they are; the rest is kept as data, within bounds.
"""

from __future__ import annotations

import itertools
import logging
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from pika.data import encode_table
from pika.exceptions import ChannelClosedByBroker
from pika.spec import BasicProperties

from neon_mq_connector import envelope, tracing
from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.consumers.session import ReceivedMessage
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import (
    MQError,
    PublishLostError,
    PublishRejectedError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import Delivery, Waiter
from neon_mq_connector.log_fields import log_fields
from neon_mq_connector.publishing.message import Flush, Message
from neon_mq_connector.topology import Queue, declare_queue

LOG = logging.getLogger("neon_mq_connector.consumers")

#: The headers that tell of a failure: those of an earlier one are not kept.
_NOTES = frozenset(
    value
    for name, value in vars(envelope).items()
    if name.startswith("PARKED_") and value != envelope.PARKED_ORIGINAL
)
_SET_ASIDE = ("reply_to", "priority", "delivery_mode", "user_id", "cluster_id")
_MOST_HEADERS = 64
_DEEPEST = 4
_LONGEST_VALUE = 2_048
_LONGEST_TEXT = 512


class ParkingError(MQError):
    """A message that failed could not be parked; the message says why."""


class Form(NamedTuple):
    """How many bytes of a failed message's description are kept.

    Attributes:
        original: of the sender's headers, and of properties that are kept as data.
        error: of the text of the exception.
        traceback: of its traceback.
    """

    original: int
    error: int
    traceback: int


#: The forms, in the order in which they are tried. The last fits into a frame of 4,096 bytes, the
#: smallest `frame_max` that AMQP allows, however long names and ids are; the second mostly does.
FORMS = (Form(6_000, 1_000, 8_000), Form(1_200, 300, 500), Form(0, 300, 500))


class FailedMessage(NamedTuple):
    """A message that is to be parked, and its failure.

    Attributes:
        error: class and text of the exception.
        traceback: its traceback as text; the exception itself would keep its frames alive.
        at: when it failed, in seconds since 1970.
        message: what is acknowledged once it is parked; None when that was done on receipt.
    """

    delivery: Delivery
    attempts: int
    error: str
    traceback: str
    at: int
    message: ReceivedMessage | None = None

    @classmethod
    def of(
        cls,
        delivery: Delivery,
        error: BaseException,
        attempts: int,
        message: ReceivedMessage | None = None,
    ) -> FailedMessage:
        """Describe a failure."""
        text = cut(_describe(error), FORMS[0].error)
        trace = _end("".join(traceback.format_exception(error)), FORMS[0].traceback)
        return cls(delivery, attempts, text, trace, int(time.time()), message)

    @property
    def is_taken_back(self) -> bool:
        """Whether the broker delivers the message again, since its channel has ended."""
        return self.message is not None and not self.message.session.is_attached

    def __str__(self) -> str:
        """Name the message by its id, or else its delivery tag."""
        method, properties, _body = self.delivery
        return str(properties.message_id or method.delivery_tag)


def park(
    registration: Registration,
    connections: Connections,
    batch: Sequence[FailedMessage],
    deadline: float,
) -> Iterator[tuple[FailedMessage, ParkingError | None]]:
    """Publish messages to the dead-letter queue of their queue, and wait until they are there.

    All are sent before one is waited for. The queue is declared when a message is returned, so one
    that exists needs no permission to declare it.

    Args:
        registration: the queue that the messages come from, and its dead-letter queue.
        connections: how to reach the broker.
        batch: the messages.
        deadline: until when to wait, on the monotonic clock.

    Yields:
        Each message, and why it is not parked; then it must not be acknowledged.
    """
    timeout = time_left(deadline)
    queue, dead_queue = registration.queue.name, registration.dead_queue or ""
    arguments = {"x-max-length": registration.parked_max_length}
    spec, publisher = Queue(dead_queue, durable=True, arguments=arguments), connections.publisher
    for form in FORMS:
        sent = []
        for failed in batch:
            message = Message(
                "",
                dead_queue,
                failed.delivery.body,
                parked_properties(failed, queue, form),
                mandatory=True,
                declare=partial(declare_queue, spec),
            )
            confirm: Waiter[None] = Waiter()
            end_span = tracing.parking(dead_queue, failed.delivery.properties)
            try:
                publisher.post(message, confirm, deadline, Flush.NOW)
            except Exception as error:  # also of pika, for what cannot be put on the wire
                confirm.fail(error)
            sent.append((failed, message, confirm, end_span))
        batch = []
        for failed, message, confirm, end_span in sent:
            try:
                confirm.wait(time_left(deadline), message)
            except Exception as error:
                end_span(error)
                if form is not FORMS[-1] and _another_form_may_do(error):
                    batch.append(failed)
                    continue
                late = isinstance(error, WaitTimeoutError)
                why = publisher.unconfirmed_in_time(message, timeout) if late else error
                failure = ParkingError(
                    f"queue {queue!r}: a message that failed cannot be parked in {dead_queue!r}: "
                    f"{why}"
                )
                failure.__cause__ = why
                yield failed, failure
                continue
            end_span(None)
            message_id = failed.delivery.properties.message_id
            LOG.warning(
                "queue %r: message %s failed (tries: %d) and is parked in %r: %s",
                queue,
                failed,
                failed.attempts,
                dead_queue,
                failed.error,
                extra=log_fields(queue, connections.vhost, message_id),
            )
            yield failed, None


def _another_form_may_do(error: BaseException) -> bool:
    """Whether the message may be taken with fewer and smaller headers."""
    if isinstance(error, UnroutableError):
        return error.__cause__ is None  # the queue was deleted since; else its declare was refused
    if isinstance(error, PublishLostError):
        return isinstance(getattr(error.__cause__, "__cause__", None), ChannelClosedByBroker)
    return isinstance(error, PublishRejectedError) or not isinstance(error, MQError)


def parked_properties(failed: FailedMessage, queue: str, form: Form) -> BasicProperties:
    """Make the properties of a parked message: persistent, with nothing that a broker acts on."""
    method, original, _body = failed.delivery
    headers: dict[str, Any] = {
        envelope.PARKED_ERROR: cut(failed.error, form.error),
        envelope.PARKED_TRACEBACK: _end(failed.traceback, form.traceback),
        envelope.PARKED_AT: failed.at,
        envelope.PARKED_QUEUE: queue,
        envelope.PARKED_EXCHANGE: method.exchange,
        envelope.PARKED_ROUTING_KEY: method.routing_key,
        envelope.PARKED_ATTEMPTS: failed.attempts,
    }
    if original.expiration:
        headers[envelope.PARKED_EXPIRATION] = original.expiration
    if form.original:
        _add_original(headers, original, form.original)
    return BasicProperties(
        content_type=original.content_type,
        content_encoding=original.content_encoding,
        headers=headers,
        delivery_mode=envelope.PERSISTENT,
        correlation_id=original.correlation_id,
        message_id=original.message_id,
        timestamp=original.timestamp,
        type=original.type,
        app_id=original.app_id,
    )


def _add_original(headers: dict[str, Any], original: BasicProperties, room: int) -> None:
    """Add the sender's headers and properties, as far as there is room."""
    aside = {
        name: value
        for name in _SET_ASIDE
        if (value := getattr(original, name)) is not None
        and (name, value) != ("delivery_mode", envelope.PERSISTENT)
    }
    senders: Mapping[Any, Any] = original.headers or {}
    room -= _size(aside) or 0
    aside_headers: dict[str, Any] = {}
    changed, missing = [], max(0, len(senders) - _MOST_HEADERS)
    for key, value in itertools.islice(senders.items(), _MOST_HEADERS):
        if key in _NOTES:
            continue  # of a message that was parked before
        name = key if isinstance(key, str) else cut(_as_text(key), _LONGEST_TEXT // 2)
        size = _size({name: value}) if _is_shallow(value) else None
        if size is None or size > min(room, _LONGEST_VALUE):
            value = cut(_as_text(value), _LONGEST_TEXT)
            size = _size({name: value})
            if size is None or size > room:
                missing += 1
                continue
            changed.append(name)
        room -= size
        (aside_headers if _acts(name) or name in changed else headers)[name] = value
    if aside_headers:
        aside["headers"] = aside_headers
    if aside:
        headers[envelope.PARKED_ORIGINAL] = aside
    if changed or missing:
        told = f"{missing} of {len(senders)} headers are missing; kept as text: {changed}"
        headers[envelope.PARKED_CUT] = cut(told, _LONGEST_TEXT)


def _acts(name: str) -> bool:
    """Whether a broker, a plugin of it or this library acts on a header of that name."""
    folded = name.lower()
    return folded in ("cc", "bcc") or folded.startswith(("x-", "neon-"))


def _is_shallow(value: Any, levels: int = _DEEPEST) -> bool:
    """Whether lists and tables are nested no deeper than so many levels; a broker has a limit."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return True
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in value)


def _size(table: Mapping[str, Any]) -> int | None:
    """Return how many bytes the content of a table takes; None where it cannot be encoded."""
    try:
        return encode_table([], dict(table)) - 4
    except Exception:  # whatever pika meets: 2**63, a decimal of 40 digits, an unknown type
        return None


def cut(text: str, size: int) -> str:
    """Return the start of a text: so many bytes as UTF-8, of whole characters."""
    return _encoded(text)[:size].decode("utf-8", "ignore")


def _end(text: str, size: int) -> str:
    return _encoded(text)[-size:].decode("utf-8", "ignore")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # names of files may have lone surrogates


def _as_text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception:  # nested too deep
        return f"a {type(value).__name__}"


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # an exception whose text cannot be made must not lose the message
        return type(error).__name__
