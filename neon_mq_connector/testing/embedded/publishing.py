"""What a channel publishes: messages, returns and confirms."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from neon_mq_connector.testing.embedded.content import MAX_BODY, Content
from neon_mq_connector.testing.embedded.errors import NO_ROUTE, AMQPError
from neon_mq_connector.testing.embedded.exchange import Exchange
from neon_mq_connector.testing.embedded.frames import confirm_frame, content_frames, return_frames
from neon_mq_connector.testing.embedded.message import Message, is_decisive
from neon_mq_connector.testing.embedded.properties import REPLY_TO, USER_ID, Properties
from neon_mq_connector.testing.embedded.queue import Queue
from neon_mq_connector.testing.embedded.tracing import trace_published
from neon_mq_connector.testing.embedded.users import User
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost

REPLY_TO_NAME = "amq.rabbitmq.reply-to"

_MANDATORY, _IMMEDIATE = 1, 2
_MOST_TARGETS = 4096


class Target(NamedTuple):
    """Where Basic.Publish sends a message, decoded once for many messages."""

    exchange: str
    routing_key: str
    origin: bytes
    bits: int


class Routed(NamedTuple):
    """A message with the queues that are to get it."""

    message: Message
    queues: list[Queue]
    mandatory: bool
    number: int


class Publishing:
    """The publishing side of a channel.

    Args:
        channel: the number of the channel.
        vhost: the virtual host.
        user: who publishes.
        send: takes bytes for the client.
        frame_max: the largest frame that was negotiated.

    Attributes:
        confirms: whether the channel confirms what it got.
        reply_address: where answers to this channel go, while a consumer waits for them.
    """

    def __init__(
        self,
        channel: int,
        vhost: VirtualHost,
        user: User,
        send: Callable[[bytes], None],
        frame_max: int,
    ) -> None:
        self.confirms = False
        self.reply_address: str | None = None
        self._channel = channel
        self._vhost = vhost
        self._user = user
        self._send = send
        self._frame_max = frame_max
        self._targets: dict[bytes, Target] = {}
        self._published = 0
        self._confirmed: list[int] = []
        self._refused: list[int] = []
        self._lost_some = False

    @property
    def has_confirms(self) -> bool:
        """Whether there are confirms to be sent."""
        return bool(self._confirmed or self._refused)

    def route(self, content: Content) -> Routed:
        """Check a message and find the queues that it is for.

        Raises:
            AMQPError: it may not be published.
        """
        arguments, header, body = content.arguments, content.header, content.body
        assert header is not None
        target = self._targets.get(arguments) or self._new_target(arguments)
        if target.bits & _IMMEDIATE:
            raise AMQPError(540, "immediate=true")
        if content.size > MAX_BODY:
            raise AMQPError(
                406, f"message size {content.size} is larger than configured max size {MAX_BODY}"
            )
        name, routing_key = target.exchange, target.routing_key
        self._user.check("write", "exchange", name, self._vhost.name)
        exchange = self._vhost.exchange(name)
        if exchange.internal:
            what = exchange.describe(self._vhost.name)
            raise AMQPError(403, f"cannot publish to internal {what}")
        if is_decisive(header):
            properties = self._checked(Properties(header))
            message = Message.published(name, routing_key, properties, body)
        else:
            message = Message(name, routing_key, header, body, target.origin)
        if self.confirms:
            self._published += 1
        return self._routed(exchange, message, target)

    def publish(self, routed: Routed) -> bool:
        """Give a message to its queues; tell whether all took it."""
        message, queues, mandatory, number = routed
        if self._vhost.tracing:
            trace_published(self._vhost, self._user, message, queues)
        taken = self._vhost.publish(message, queues)
        if mandatory and not queues:
            content = content_frames(self._channel, message.header, message.body, self._frame_max)
            self._send(return_frames(self._channel, *NO_ROUTE, message.origin, content))
        if self.confirms:
            if self._vhost.faults.take_lost_confirm():
                self._lost_some = True
            else:
                (self._confirmed if taken else self._refused).append(number)
        return taken

    def send_confirms(self) -> None:
        """Send the confirms of what was published since the last call, in few frames."""
        for nack, numbers in ((False, self._confirmed), (True, self._refused)):
            # one frame stands for all up to it, so none may be left out or be of the other kind
            others = self._refused if not nack else self._confirmed
            if not numbers:
                continue
            first_other = min(others, default=numbers[-1] + 1)
            together = [] if self._lost_some else [each for each in numbers if each < first_other]
            if len(together) > 1:
                self._send(confirm_frame(self._channel, together[-1], multiple=True, nack=nack))
                numbers = numbers[len(together) :]
            for number in numbers:
                self._send(confirm_frame(self._channel, number, multiple=False, nack=nack))
        self._confirmed.clear()
        self._refused.clear()

    def _routed(self, exchange: Exchange, message: Message, target: Target) -> Routed:
        queues = self._vhost.router.route(exchange, message)
        return Routed(message, queues, bool(target.bits & _MANDATORY), self._published)

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

    def _new_target(self, arguments: bytes) -> Target:
        try:
            middle = 3 + arguments[2]
            end = middle + 1 + arguments[middle]
            if end + 1 != len(arguments):
                raise IndexError("the arguments do not end with the frame")
        except IndexError as error:
            listed = ",".join(map(str, arguments))
            raise AMQPError(501, f"cannot decode <<{listed}>>") from error
        target = Target(
            arguments[3:middle].decode(errors="surrogateescape"),
            arguments[middle + 1 : end].decode(errors="surrogateescape"),
            arguments[2:end],
            arguments[end],
        )
        if len(self._targets) >= _MOST_TARGETS:
            self._targets.clear()
        self._targets[arguments] = target
        return target
