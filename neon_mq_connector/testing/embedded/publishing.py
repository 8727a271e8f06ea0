"""What a channel publishes: messages with their returns, confirms and traces."""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from pika.spec import Basic

from neon_mq_connector.testing.embedded.content import MAX_BODY, Content
from neon_mq_connector.testing.embedded.errors import AMQPError, describe
from neon_mq_connector.testing.embedded.exchange import TRACE_EXCHANGE
from neon_mq_connector.testing.embedded.frames import FrameWriter
from neon_mq_connector.testing.embedded.message import Message, is_decisive
from neon_mq_connector.testing.embedded.methods import decode_method
from neon_mq_connector.testing.embedded.properties import REPLY_TO, USER_ID, Properties
from neon_mq_connector.testing.embedded.queue import Queue
from neon_mq_connector.testing.embedded.tables import Field, encode_short_string
from neon_mq_connector.testing.embedded.users import User
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost

REPLY_TO_NAME = "amq.rabbitmq.reply-to"

_NO_ROUTE = struct.pack(">H", 312) + encode_short_string("NO_ROUTE")
_NO_PROPERTIES = Properties(b"\0\0")


class Routed(NamedTuple):
    """A message with the queues that are to get it."""

    message: Message
    queues: list[Queue]
    mandatory: bool
    number: int


class Publishing:
    """The publishing side of a channel.

    Args:
        writer: sends frames to the client.
        vhost: the virtual host.
        user: who publishes.

    Attributes:
        confirms: whether the channel confirms what it got.
        reply_address: where answers to this channel go, while a consumer waits for them.
    """

    def __init__(self, writer: FrameWriter, vhost: VirtualHost, user: User) -> None:
        self.confirms = False
        self.reply_address: str | None = None
        self._writer = writer
        self._vhost = vhost
        self._user = user
        self._published = 0
        #: the numbers of the messages whose confirms have to be sent, and whether they were taken
        self._unconfirmed: list[tuple[int, bool]] = []
        self._lost_some = False

    def route(self, content: Content) -> Routed:
        """Check a message and find the queues that it is for.

        Raises:
            AMQPError: it may not be published.
        """
        name, routing_key, origin, mandatory, immediate = _decode_publish(content.method)
        header, body = content.header, content.body
        if immediate:
            raise AMQPError(540, "immediate=true")
        if content.size > MAX_BODY:
            raise AMQPError(
                406, f"message size {content.size} is larger than configured max size {MAX_BODY}"
            )
        self._user.check("write", "exchange", name, self._vhost.name)
        exchange = self._vhost.exchange(name)
        if exchange.internal:
            what = describe("exchange", name, self._vhost.name)
            raise AMQPError(403, f"cannot publish to internal {what}")
        if is_decisive(header):
            properties = self._checked(Properties(header))
            message = Message.published(name, routing_key, properties, body)
        else:
            message = Message(name, routing_key, header, body, origin)
        if self.confirms:
            self._published += 1
        queues = self._vhost.route(exchange, message)
        return Routed(message, queues, mandatory, self._published)

    def publish(self, routed: Routed) -> bool:
        """Publish a message to its queues; return whether all took it."""
        message, queues, mandatory, number = routed
        if self._vhost.tracing:
            self._trace(message, queues)
        taken = self._vhost.publish(message, queues)
        if mandatory and not queues:
            arguments = _NO_ROUTE + message.origin
            self._writer.message(Basic.Return.INDEX, arguments, message.header, message.body)
        if self.confirms:
            if self._vhost.shared.faults.take("lost confirm"):
                self._lost_some = True
            else:
                self._unconfirmed.append((number, taken))
        return taken

    def send_confirms(self) -> None:
        """Send the confirms of what was published since the last call, in few frames."""
        for taken, group in groupby(self._unconfirmed, lambda each: each[1]):
            numbers = [number for number, _ in group]
            # one frame stands for all up to its number, those included whose confirms are lost
            if len(numbers) > 1 and not self._lost_some:
                self._writer.confirm(numbers[-1], multiple=True, nack=not taken)
            else:
                for number in numbers:
                    self._writer.confirm(number, multiple=False, nack=not taken)
        self._unconfirmed.clear()

    def _checked(self, properties: Properties) -> Properties:
        if properties.text(REPLY_TO) == REPLY_TO_NAME:
            if self.reply_address is None:
                raise AMQPError(406, "fast reply consumer does not exist")
            properties = properties.with_reply_to(self.reply_address)
        properties.time_to_live  # noqa: B018 - refuses one that is no number
        claimed = properties.text(USER_ID)
        if claimed not in (None, self._user.name) and "impersonator" not in self._user.tags:
            raise AMQPError(
                406,
                f"user_id property set to '{claimed}' but authenticated user was "
                f"'{self._user.name}'",
            )
        return properties

    def _trace(self, message: Message, queues: list[Queue]) -> None:
        """Publish a copy of a message to the exchange for traces, as RabbitMQ's firehose does.

        Of the default exchange RabbitMQ names the queues that the message was for, even missing
        ones.
        """
        names = [queue.name for queue in queues] if message.exchange else message.routing_keys
        headers = {
            "exchange_name": _text(message.exchange),
            "routed_queues": Field("array", [_text(name) for name in names]),
            "routing_keys": Field("array", [_text(key) for key in message.routing_keys]),
            "user": _text(self._user.name),
            "vhost": _text(self._vhost.name),
        }
        header = _NO_PROPERTIES.with_headers(headers).encode()
        trace = Message(TRACE_EXCHANGE, f"publish.{message.exchange}", header, message.body)
        exchange = self._vhost.exchange(TRACE_EXCHANGE)
        self._vhost.publish(trace, self._vhost.route(exchange, trace))


@lru_cache(maxsize=4096)
def _decode_publish(payload: bytes) -> tuple[str, str, bytes, bool, bool]:
    """Decode a Basic.Publish, once for many messages.

    Returns:
        Exchange, routing key, both as they are on the wire, whether it is mandatory, and whether
        immediate.
    """
    method = decode_method(payload)
    return method.exchange, method.routing_key, payload[6:-1], method.mandatory, method.immediate


def _text(value: str) -> Field:
    return Field("longstr", value)
