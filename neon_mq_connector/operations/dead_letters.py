"""Look at dead letters, send them once more, or discard them.

Messages are got one by one on a channel of their own. What is not acknowledged when the channel
ends, however that ends, is back in its place in the queue.

Arguments that the functions have in common:

* ``parameters``: how to reach the broker, one entry per server.
* ``queue``: a dead-letter queue, or the queue that it belongs to.
* ``id``: only messages with this `DeadLetter.id`; all by default.
* ``count``: how many at most; those that are there when it begins by default.
* ``stopped``: asked before each message whether to end.
* ``timeout``: how long the broker may take for an answer, in seconds.

They raise `QueueNotFoundError` where there is no such queue, and `MQConnectionError` where there is
no connection, or it was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pika
from pika.exceptions import AMQPError

from neon_mq_connector.errors import (
    MQConnectionError,
    MQError,
    PublishLostError,
    PublishTimeoutError,
    UnroutableError,
)
from neon_mq_connector.link import Delivery
from neon_mq_connector.operations.dead_letter import DeadLetter
from neon_mq_connector.operations.dead_letter_reader import DeadLetterReader, find_dead_queue
from neon_mq_connector.operations.queues import DEAD_SUFFIX, QueueReader, QueueState
from neon_mq_connector.publishing.message import Message

_TIMEOUT = 15.0
_PUBLISH_TIMEOUT = 30.0


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
            status = find_dead_queue(reader.control, name, timeout=timeout)
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
    with DeadLetterReader(parameters, queue, timeout) as reader:
        for delivery, letter in _letters(reader, id, count):
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
    reader = DeadLetterReader(parameters, queue, timeout)
    try:
        with reader:
            if to == reader.queue:
                raise ValueError(f"queue {to!r} is where the dead letters are: name another one")
            for delivery, letter in _letters(reader, id, count, stopped):
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
    with DeadLetterReader(parameters, queue, timeout) as reader:
        for delivery, _ in _letters(reader, id, None, stopped):
            reader.take(delivery)
            discarded += 1
        reader.give_back()
    return discarded


def _letters(
    reader: DeadLetterReader,
    id: str | None,
    count: int | None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Delivery, DeadLetter]]:
    """Get the dead letters with an id, or all, so many at most; leave others where they are."""
    got = 0
    for delivery in reader.deliveries():
        letter = DeadLetter.of(delivery)
        if id in (None, letter.id):
            yield delivery, letter
            got += 1
        else:
            reader.leave(delivery)
        if got == count or stopped():
            return


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
