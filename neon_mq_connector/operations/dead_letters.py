"""Look at dead letters, send them once more, or discard them.

Messages are got one by one on a channel of their own. What is not acknowledged when the channel
ends, however that ends, is back in its place in the queue.

Arguments that the functions have in common:

* ``parameters``: how to reach the broker, one entry per server.
* ``queue``: a dead-letter queue, or the queue that it belongs to.
* ``id``: only messages with this `DeadLetter.id`; all by default.
* ``count``: how many at most; those that are there when it begins by default.
* ``stopped``: asked after each message whether to end.
* ``timeout``: how long the broker may take for an answer, in seconds.

They raise `QueueNotFoundError` where there is no such queue, and `MQConnectionError` where there is
no connection, or it was lost.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pika
from pika.exceptions import AMQPError

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.attempts import DEFAULT_DELIVERY_LIMIT, delivery_count
from neon_mq_connector.consumers.registration import dead_queue_name
from neon_mq_connector.control.control import Control
from neon_mq_connector.errors import (
    MQConnectionError,
    MQError,
    PublishLostError,
    PublishTimeoutError,
    UnroutableError,
)
from neon_mq_connector.link import ChannelEvents, Delivery, LinkChannel
from neon_mq_connector.operations.dead_letter import DeadLetter, copied_properties
from neon_mq_connector.operations.queues import (
    DEAD_SUFFIX,
    QueueNotFoundError,
    QueueReader,
    QueueState,
    find_queue,
)
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.topology import QueueStatus

LOG = logging.getLogger("neon_mq_connector.operations")

_TIMEOUT = 15.0
_CLOSE_TIMEOUT = 3.0
_PUBLISH_TIMEOUT = 30.0
#: A quorum queue drops a message that came back too often. From half of its usual limit on, one
#: goes to the end of the queue as a new message instead of coming back.
_RENEW_FROM = DEFAULT_DELIVERY_LIMIT // 2


class ReplayInterruptedError(MQError):
    """A replay ended early: the connection was lost, or the broker did not confirm.

    Attributes:
        replayed: how many messages are where they were sent.
        doubtful: the id of a message that may be in both queues; None if there is none.
    """

    def __init__(self, message: str, *, replayed: int, doubtful: str | None) -> None:
        super().__init__(message)
        self.replayed = replayed
        self.doubtful = doubtful


@dataclass(frozen=True)
class Left:
    """A dead letter that was not replayed; it is where it was.

    Attributes:
        id: the message.
        reason: why.
    """

    id: str
    reason: str


@dataclass(frozen=True)
class Replayed:
    """What a replay has done.

    Attributes:
        queue: the dead-letter queue.
        replayed: how many messages were sent once more.
        left: those that could not be.
    """

    queue: str
    replayed: int
    left: tuple[Left, ...] = ()


def dead_queues(
    parameters: Sequence[pika.ConnectionParameters],
    names: Iterable[str] = (),
    *,
    management: str | None = None,
    timeout: float = _TIMEOUT,
) -> list[QueueState]:
    """Return the dead-letter queues, those with most messages first.

    Args:
        names: of dead-letter queues, or of the queues that they belong to; without names those
            that end with ``.dead`` are listed by the management interface.
        management: the URL of that interface; by default the usual port of the broker's host.

    Raises:
        ManagementError: none is named, and the interface refuses or does not answer.
    """
    with QueueReader(parameters, management=management, timeout=timeout) as reader:
        named = []
        for name in names:
            status = _find_dead_queue(reader.control, name, timeout=timeout)
            named.append(name if status is None else status.name)
        states = reader.states(named)
    dead_states = [each for each in states if named or each.queue.endswith(DEAD_SUFFIX)]
    return sorted(dead_states, key=lambda each: (-each.ready, each.queue))


def show(
    parameters: Sequence[pika.ConnectionParameters],
    queue: str,
    *,
    id: str | None = None,
    count: int | None = None,
    timeout: float = _TIMEOUT,
) -> Generator[DeadLetter, None, None]:
    """Iterate over the dead letters of a queue, which stay in it in their order.

    They are back when the iterator ends or is closed; others do not see them until then.
    """
    with _Reader(parameters, queue, timeout) as reader:
        for delivery, letter in reader.letters(id, count):
            yield letter
            reader.leave(delivery)


def replay(
    parameters: Sequence[pika.ConnectionParameters],
    queue: str,
    *,
    id: str | None = None,
    count: int | None = None,
    to: str | None = None,
    publish: bool = False,
    on_letter: Callable[[DeadLetter], object] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    timeout: float = _TIMEOUT,
    publish_timeout: float = _PUBLISH_TIMEOUT,
) -> Replayed:
    """Send dead letters once more; each is taken out when the broker has confirmed it elsewhere.

    Only those that are there when it begins are sent, so that one that fails again is sent once.
    If the process is killed, the message for which `on_letter` was called last may be in both
    queues; every other one is in one. A broker that is killed may have forgotten what was taken out
    of a classic queue: then those that were sent before are in both, too.

    Args:
        to: send them to this queue; by default each to the queue that it came from.
        publish: send each to the exchange that it was published to, so that every queue which is
            bound there gets it.
        on_letter: called with each before it is sent.
        publish_timeout: how long the broker may take to confirm a message, in seconds.

    Returns:
        How many were sent, and which could not be.

    Raises:
        ReplayInterruptedError: it ended early; the error says how far it came.
    """
    replayed, left = 0, []
    doubtful: str | None = None
    reader = _Reader(parameters, queue, timeout)
    try:
        with reader:
            if to == reader.queue:
                raise ValueError(f"queue {to!r} is where the dead letters are: name another one")
            for delivery, letter in reader.letters(id, count, stopped):
                doubtful = None  # the broker has read the last ack before it answered
                on_letter(letter)
                try:
                    message = _message(letter, reader.queue, to, publish)
                    doubtful = letter.id
                    reader.connections.publisher.publish(message, timeout=publish_timeout)
                except (MQConnectionError, PublishLostError, PublishTimeoutError) as error:
                    if not getattr(error, "may_have_arrived", False):
                        doubtful = None
                    raise
                except Exception as error:  # also what pika cannot encode
                    doubtful = None
                    left.append(Left(letter.id, _why(error, letter)))
                    reader.leave(delivery)
                else:
                    replayed += 1
                    reader.take(delivery)
            reader.give_back()
    except (MQError, AMQPError) as error:
        if not reader.has_begun:
            raise
        told = f"; message {doubtful} may be in both queues" if doubtful else ""
        if isinstance(error, (MQConnectionError, PublishLostError)):
            told += "; if the broker was killed, those before it may be, too"
        raise ReplayInterruptedError(
            f"the replay of {reader.queue!r} was interrupted after {replayed} messages{told}: "
            f"{error}",
            replayed=replayed,
            doubtful=doubtful,
        ) from error
    return Replayed(reader.queue, replayed, tuple(left))


def discard(
    parameters: Sequence[pika.ConnectionParameters],
    queue: str,
    *,
    id: str | None = None,
    stopped: Callable[[], bool] = lambda: False,
    timeout: float = _TIMEOUT,
) -> int:
    """Delete dead letters for good, and return how many; those that are parked meanwhile stay."""
    discarded = 0
    with _Reader(parameters, queue, timeout) as reader:
        for delivery, _ in reader.letters(id, None, stopped):
            reader.take(delivery)
            discarded += 1
        reader.give_back()
    return discarded


def _find_dead_queue(control: Control, name: str, *, timeout: float) -> QueueStatus | None:
    """Look up the dead-letter queue of a queue, or else the queue of that very name."""
    if not name.endswith(DEAD_SUFFIX):
        status = find_queue(control, dead_queue_name(name), timeout=timeout)
        if status is not None:
            return status
    return find_queue(control, name, timeout=timeout)


class _Reader:
    """Get the dead letters of one queue; what is not taken is given back. Used by one thread.

    Attributes:
        queue: the dead-letter queue.
        connections: how the broker is reached.
        has_begun: whether a message was got.
    """

    def __init__(
        self, parameters: Sequence[pika.ConnectionParameters], queue: str, timeout: float
    ) -> None:
        self.queue = queue
        self.connections = Connections(parameters, owner="neon-mq")
        self.has_begun = False
        self._timeout = timeout
        self._channel: LinkChannel | None = None

    def __enter__(self) -> _Reader:
        try:
            status = _find_dead_queue(self.connections.control, self.queue, timeout=self._timeout)
            if status is None:
                dead = dead_queue_name(self.queue)
                also = "" if self.queue.endswith(DEAD_SUFFIX) else f", and no {dead!r}"
                raise QueueNotFoundError(
                    f"there is no queue {self.queue!r}{also} in virtual host "
                    f"{self.connections.vhost!r}; name another queue or virtual host"
                )
        except BaseException:
            self.connections.close(_CLOSE_TIMEOUT)
            raise
        self.queue = status.name
        return self

    def __exit__(self, *raised: object) -> None:
        if not isinstance(raised[1], MQError):  # else there may be no connection
            with contextlib.suppress(MQError):  # the close of the channel does it, too
                self.give_back()
        self.connections.close(_CLOSE_TIMEOUT)

    def letters(
        self, id: str | None, count: int | None, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[Delivery, DeadLetter]]:
        """Get the dead letters that were there when the first was got; leave those of other ids."""
        left: int | None = None
        found = 0
        while left != 0:
            method, *rest = self._channel_now().get(self.queue, False, timeout=self._timeout)
            if method is None:
                return
            self.has_begun = True
            delivery = Delivery(method, *rest)
            letter = DeadLetter.of(delivery)
            if letter.queue is None and not self.queue.endswith(DEAD_SUFFIX):
                return  # the queue is in use for something else
            # a passive declare may tell late how many are in a quorum queue
            left = method.message_count if left is None else left - 1
            if id in (None, letter.id):
                found += 1
                yield delivery, letter
            else:
                self.leave(delivery)
            if found == count or stopped():
                return

    def take(self, delivery: Delivery) -> None:
        """Take a message out of the queue."""
        self._channel_now().ack(delivery.method.delivery_tag)

    def leave(self, delivery: Delivery) -> None:
        """Leave a message in the queue; it is given back at the end."""
        if delivery_count(delivery) < _RENEW_FROM:
            return
        LOG.info("queue %r: a message was looked at often and is put to its end", self.queue)
        message = Message(
            "", self.queue, delivery.body, copied_properties(delivery.properties), mandatory=True
        )
        self.connections.publisher.publish(message, timeout=self._timeout)
        self.take(delivery)

    def give_back(self) -> None:
        """Give back what was not taken; the broker has everything when this returns."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.nack(0, multiple=True, requeue=True)
            channel.close(timeout=self._timeout)

    def _channel_now(self) -> LinkChannel:
        """Return the only channel, even if it is shut: another would get all messages once more."""
        if self._channel is None:
            self._channel = self.connections.consuming.open_channel(
                ChannelEvents(), timeout=self._timeout
            )
        return self._channel


def _message(letter: DeadLetter, dead_queue: str, to: str | None, publish: bool) -> Message:
    """Make the message that is sent.

    Raises:
        UnroutableError: it does not tell where it came from.
    """
    exchange, key = "", to or letter.queue or ""
    if publish:
        exchange, key = letter.exchange, letter.routing_key
    if key == dead_queue and not exchange:
        raise UnroutableError("it came from this very queue", may_have_arrived=False)
    if not key and not exchange:
        raise UnroutableError("it does not tell where it came from", may_have_arrived=False)
    return Message(exchange, key, letter.raw, letter.original_properties(), mandatory=True)


def _why(error: Exception, letter: DeadLetter) -> str:
    if isinstance(error, UnroutableError) and letter.exchange:
        return (
            f"{error}; a subscriber's queue goes with the subscriber: send it to that of one that "
            "runs, or publish it to its exchange again"
        )
    return str(error) or type(error).__name__
