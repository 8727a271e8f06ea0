"""A request: its specification, the message that is sent, and the reading of its answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from neon_mq_connector.codec import WireFormat, decode_body
from neon_mq_connector.envelope import DIRECT_REPLY_TO, ENVELOPE, ERROR, LONGEST_EXPIRATION
from neon_mq_connector.errors import (
    DecodeError,
    FrameError,
    MQConnectionError,
    RemoteError,
    RequestLostError,
    RequestTimeoutError,
)
from neon_mq_connector.link import RawDelivery, content_type, decode_delivery
from neon_mq_connector.publishing.encoded_message import (
    EncodedMessage,
    check_data,
    context_message_id,
    encode_message,
)
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.topology import check_name

#: What a request is told: an answer, or why there will be none.
ReplyEvent = RawDelivery | BaseException


class RequestSpec:
    """A request to a service, and until when its answer is waited for.

    Its time begins to run when it is made.

    Args:
        queue: the queue that the service consumes; the routing key where there is an exchange.
        data: the request; it is not changed.
        exchange: the exchange; empty for the default one.
        timeout: how long the answer may take, in seconds. The request expires after it.
        wire_format: how to encode the request; the answer is understood in either.
        read: converts an answer, or each part of one, to what a handler declares; None for a dict.

    Attributes:
        deadline: until when the answer is waited for, on the monotonic clock, in seconds.

    Raises:
        TypeError, ValueError: the data is no dict, or is empty; a name is too long, or there is
            neither queue nor exchange; the timeout is no number of seconds above 0.
    """

    __slots__ = ("data", "deadline", "exchange", "queue", "read", "timeout", "wire_format")

    def __init__(
        self,
        queue: str,
        data: Mapping[str, Any],
        *,
        exchange: str = "",
        timeout: float = 30.0,
        wire_format: WireFormat = WireFormat.LEGACY,
        read: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        if not queue and not exchange:
            raise ValueError("a request needs a queue or an exchange to go to; both are empty")
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout={timeout!r} is not a number of seconds above 0")
        check_data(data)
        check_name("queue", queue)
        if exchange:
            check_name("exchange", exchange)
        self.queue = queue
        self.data = data
        self.exchange = exchange
        self.timeout = timeout
        self.wire_format = wire_format
        self.read = read
        self.deadline = time.monotonic() + timeout

    def restart(self) -> None:
        """Begin to count the time anew."""
        self.deadline = time.monotonic() + self.timeout

    def encode(self, app_id: str) -> EncodedMessage:
        """Return it as a message that asks for no answer."""
        return encode_message(
            self.data, wire_format=self.wire_format, expiration=None, app_id=app_id
        )

    @property
    def place(self) -> str:
        """The destination, for messages."""
        return f"exchange {self.exchange!r}" if self.exchange else f"queue {self.queue!r}"

    def convert(self, answer: dict[str, Any]) -> Any:
        """Return what a handler declares of an answer, or of a part; else the dict itself."""
        return answer if self.read is None else self.read(answer)

    def not_sent(self, error: BaseException) -> RequestTimeoutError:
        """Return the error for a request that was not sent in time."""
        late = RequestTimeoutError(f"a request to {self.place}: not sent: {error}")
        late.__cause__ = error
        return late


class Request:
    """A request on one channel; made by `ReplyChannel.request`.

    Args:
        spec: what is asked.
        correlation_id: what direct answers carry.
        reply_queue: the queue for answers that are not direct.
        receive: called with each `ReplyEvent`, by any thread, which it must not hold up.
        app_id: the name of the asking service.
        direct: whether it may be answered directly.

    Attributes:
        message: the encoded message.
        declared: whether its queue was declared because it was returned; a request to an exchange
            is not sent again.
    """

    __slots__ = ("correlation_id", "declared", "message", "receive", "spec")

    def __init__(
        self,
        spec: RequestSpec,
        correlation_id: str,
        reply_queue: str,
        receive: Callable[[ReplyEvent], object],
        app_id: str,
        *,
        direct: bool = True,
    ) -> None:
        self.spec = spec
        self.correlation_id = correlation_id
        self.receive = receive
        self.declared = bool(spec.exchange)
        self.message = encode_message(
            {**spec.data, "routing_key": reply_queue},
            wire_format=spec.wire_format,
            expiration=min(max(1.0, spec.timeout * 1000), LONGEST_EXPIRATION),
            app_id=app_id,
            correlation_id=correlation_id,
            reply_to=DIRECT_REPLY_TO if direct else None,
            reply_queue=reply_queue,
        )

    @property
    def as_published(self) -> Message:
        """The request as a publisher would send it."""
        encoded, spec = self.message, self.spec
        return Message(spec.exchange, spec.queue, encoded.body, encoded.properties, mandatory=True)

    def __str__(self) -> str:
        """Name the request by its id and where it goes."""
        return f"request {self.message.message_id} to {self.spec.place}"

    def read(self, raw: RawDelivery) -> dict[str, Any] | None:
        """Decode an answer; return None if it names another request.

        Raises:
            DecodeError: it cannot be read.
            RemoteError: it is an error answer.
        """
        try:
            answer = read_answer(raw)
        except (DecodeError, FrameError) as failure:
            raise DecodeError(f"{self}: the answer cannot be read: {failure}") from failure
        if answer_id(answer) not in (None, self.message.message_id):
            return None
        error = answer.get("error")
        if not isinstance(error, Mapping):
            return answer  # an answer that has an `error` of its own is none without the header
        _method, properties, _body = decode_delivery(raw)
        if ERROR not in (properties.headers or {}):
            return answer
        raise RemoteError(
            str(error.get("type") or properties.headers[ERROR]),
            str(error.get("message") or ""),
            details=error.get("details"),
            queue=self.spec.queue or self.spec.exchange,
            message_id=self.message.message_id,
        )

    def lost(self, error: BaseException) -> BaseException:
        """Return the error for a channel that ended; a client that was closed says so itself."""
        if not isinstance(error, MQConnectionError):
            return error
        lost = RequestLostError(f"{self}: {error}")
        lost.__cause__ = error
        return lost


def read_answer(raw: RawDelivery) -> dict[str, Any]:
    """Decode an answer; raises `DecodeError` or `FrameError`."""
    _method, header, body = raw
    answer, _format = decode_body(body, content_type(header))
    return answer


def answer_id(answer: Mapping[str, Any]) -> str | None:
    """Return the id of the request: ``context.mq.message_id``, or else ``message_id``."""
    own = context_message_id(answer)
    if own is None:
        value = answer.get("message_id")
        own = None if value is None else str(value)
    return own


def is_final(answer: Mapping[str, Any]) -> bool:
    """Whether a part is the last: ``is_final`` or ``_is_final``, there or in ``context.mq``."""
    context = answer.get("context")
    mq = context.get("mq") if isinstance(context, Mapping) else None
    places = (answer, mq) if isinstance(mq, Mapping) else (answer,)
    return any(bool(place.get(key)) for place in places for key in ("is_final", "_is_final"))


def is_end(part: Mapping[str, Any]) -> bool:
    """Whether a part only says that those before it were all."""
    return part.keys() <= ENVELOPE and is_final(part)
