"""The AMQP properties and headers of the messages this library sends, and what they mean.

Peers that know nothing of them ignore them.
"""

from __future__ import annotations

import random

from pika.spec import BasicProperties

from neon_mq_connector.threads import forking

#: Fields of a body that belong to the exchange of messages; a model that does not declare them does
#: not get them.
ENVELOPE = frozenset(("message_id", "routing_key", "context"))

#: The queue named in the body's ``routing_key``; a publish to it may go to ``reply_to`` instead.
#: Each request of this library has it: so its sender understands an error answer, and its
#: expiration is how long the sender waits. One header, since each costs the broker 10 us.
REPLY_QUEUE = "neon-reply-queue"
#: In an error answer: the name of the exception.
ERROR = "neon-error"

#: What a parked message tells of its failure.
PARKED_ERROR = "neon-error"
PARKED_TRACEBACK = "neon-traceback"
PARKED_AT = "neon-parked-at"
PARKED_QUEUE = "neon-queue"
PARKED_EXCHANGE = "neon-exchange"
PARKED_ROUTING_KEY = "neon-routing-key"
PARKED_EXPIRATION = "neon-expiration"
PARKED_ATTEMPTS = "neon-attempts"
#: The properties and headers of a parked message that are not to act again, as a table.
PARKED_ORIGINAL = "neon-original"
#: What of the sender's headers is missing there, or is not as it was.
PARKED_CUT = "neon-cut"
#: How often a message was sent once more after it was parked.
REPLAYED = "neon-replayed"

#: The name a requester consumes from to be answered without a queue (RabbitMQ's "Direct Reply-to").
DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"
#: The names of this library's own reply queues begin so; a policy may let those of killed processes
#: expire.
REPLY_QUEUE_PREFIX = "neon.reply."
PERSISTENT = 2
#: The longest that a broker lets a message wait, in milliseconds: 49 days.
LONGEST_EXPIRATION = 2**32 - 1

_random = random.Random()  # of our own: `random.seed` of an application must not repeat ids
forking.call_in_child(_random.seed)


def new_id() -> str:
    """Return an identifier that no other message, queue or service has."""
    # as random as `uuid4`, which asks the system each time; after a fork a child begins anew
    return f"{_random.getrandbits(128):032x}"


def is_direct_reply_name(queue: str) -> bool:
    """Whether a name stands for a requester's direct reply-to and not for a queue."""
    return queue.startswith(DIRECT_REPLY_TO)


def is_reply_name(queue: str) -> bool:
    """Whether a name is that of the reply queue of a requester, which alone declares it.

    The requester is gone when there is no such queue: one that was declared for an answer would be
    neither read nor deleted.
    """
    return queue.startswith((REPLY_QUEUE_PREFIX, DIRECT_REPLY_TO))


def milliseconds(expiration: float | str) -> int:
    """Return an expiration as brokers take it; one that they refuse would close the channel.

    Raises:
        ValueError: it is no number of milliseconds, or below 0, or above 2**32 - 1.
    """
    try:
        count = int(float(expiration))
    except (TypeError, ValueError, OverflowError):
        count = -1
    if not 0 <= count <= LONGEST_EXPIRATION:
        raise ValueError(
            f"expiration={expiration!r} is not a number of milliseconds from 0 to "
            f"{LONGEST_EXPIRATION}; None is for ever"
        )
    return count


def time_allowed(properties: BasicProperties) -> float | None:
    """Return how long the sender of a request waits, in seconds; None if that is not known."""
    expiration = properties.expiration
    if expiration and expiration.isdecimal() and REPLY_QUEUE in (properties.headers or {}):
        return int(expiration) / 1000
    return None
