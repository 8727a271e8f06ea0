"""What is registered: a queue, its bindings, and how its messages are handled."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.threads.guard import Guard
from neon_mq_connector.topology import Exchange, Queue, check_name

#: What the settings allow for a delay, in seconds.
_LONGEST_DELAY = 1e6
#: A callback as pika users write it: ``(channel, method, properties, body)``.
MessageCallback = Callable[[Any, Any, Any, Any], Any]
#: A coroutine function that takes an aio-pika message.
MessageCoroutine = Callable[[Any], Coroutine[Any, Any, Any]]
#: Called with the consumer's thread and the exception.
ErrorCallback = Callable[[Any, Any], Any]


_LONGEST_NAME = 255
_HASH_LENGTH = 16


def bounded_name(name: str, suffix: str) -> str:
    """Append a suffix to a name, within the 255 bytes that AMQP allows.

    Args:
        name: of a queue, a service or an exchange.
        suffix: what to append; of a name that is too long it stays whole.

    Returns:
        Both together. Where that is too long, the end of the name is replaced by the start of its
        SHA-256: so different names stay different.
    """
    encoded = str(name).encode("utf-8", "surrogatepass")
    room = _LONGEST_NAME - len(suffix.encode())
    if len(encoded) <= room:
        return f"{name}{suffix}"
    start = encoded[: room - _HASH_LENGTH - 1].decode("utf-8", "ignore")
    return f"{start}-{hashlib.sha256(encoded).hexdigest()[:_HASH_LENGTH]}{suffix}"


#: What the name of a queue for parked messages ends with.
_DEAD = ".dead"


def dead_queue_name(name: str) -> str:
    """Name the queue where failed messages of a queue are parked: ``<queue>.dead`` if it fits.

    Args:
        name: of the queue; of subscribers, ``<service>.<exchange>``.
    """
    return bounded_name(name, _DEAD)


class AckMode(enum.Enum):
    """When a message is acknowledged.

    ON_RECEIPT when its callback starts (at most once), ON_SUCCESS when its callback has returned
    (at least once), MANUAL when the callback says so.
    """

    ON_RECEIPT = "on_receipt"
    ON_SUCCESS = "on_success"
    MANUAL = "manual"


@dataclass(frozen=True)
class Retry:
    """What becomes of a message whose callback raises.

    Attributes:
        attempts: how often it is tried in all (3).
        backoff: the delays between attempts (1 s, doubling).
        park: publish it to the dead-letter queue of its queue when the attempts are used up (True);
            otherwise it is rejected, and the broker drops or dead-letters it. A message that
            dead-lettering brings back is held before it is rejected again, from 1 s to a minute.
    """

    attempts: int = 3
    backoff: ExponentialBackoff = field(default_factory=ExponentialBackoff)
    park: bool = True

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise ValueError(f"Retry(attempts={self.attempts!r}): at least one attempt is needed")
        if not callable(getattr(self.backoff, "delay", None)):
            raise TypeError(
                f"Retry(backoff={self.backoff!r}): an ExponentialBackoff is needed, such as "
                "ExponentialBackoff(first=1.0)"
            )

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after a failed attempt; the default's where `backoff` fails.

        Args:
            attempt: how many attempts have failed, from 1.
        """
        with Guard("the delay of a Retry's backoff"):
            delay = float(self.backoff.delay(attempt))
            if 0.0 <= delay <= _LONGEST_DELAY:
                return delay
            raise ValueError(
                f"{self.backoff!r}.delay({attempt}) returned {delay!r}; a number of seconds from 0 "
                f"to {_LONGEST_DELAY:,.0f} is needed"
            )
        return ExponentialBackoff().delay(attempt)


@dataclass(frozen=True)
class Registration:
    """One consumer, as it is to be.

    Attributes:
        queue: the queue to consume from.
        exchange: what the queue is bound to; None for the default exchange.
        routing_keys: a binding each; empty means the queue's own name.
        queue_reset: delete the queue before the first attach, never on a reconnect.
        exchange_reset: the same for the exchange.
        ack: when messages are acknowledged.
        prefetch_count: how many messages the broker sends ahead (50).
        inbox_max_bytes: how many bytes of messages may wait for their callback (32 MiB).
        concurrency: how many callbacks may run side by side (1).
        retry: what becomes of a message whose callback raises.
        consumer_arguments: arguments of the consume, such as ``x-priority``.
        delete_on_stop: the queue is ours alone and goes when the consumer stops.
        dead_queue: where failed messages are parked; None for nowhere.
        parked_max_length: how many messages that queue holds before the oldest is dropped (10,000).
        restart_attempts: how many attempts to attach again may fail while the broker answers; -1
            for any number.
        reject_when_unparkable: have the broker drop or dead-letter what cannot be parked; otherwise
            it is kept, and the consumer is reported as failed.
        hide_error_messages: tell the sender of a request that has failed the type of an exception
            only, unless it is a `RequestRefusedError` (False).
    """

    queue: Queue
    exchange: Exchange | None = None
    routing_keys: tuple[str, ...] = ()
    queue_reset: bool = False
    exchange_reset: bool = False
    ack: AckMode = AckMode.ON_RECEIPT
    prefetch_count: int = 50
    inbox_max_bytes: int = 32 * 2**20
    concurrency: int = 1
    retry: Retry = field(default_factory=Retry)
    consumer_arguments: Mapping[str, Any] = field(default_factory=dict)
    delete_on_stop: bool = False
    dead_queue: str | None = None
    parked_max_length: int = 10_000
    restart_attempts: int = -1
    reject_when_unparkable: bool = False
    hide_error_messages: bool = False

    @property
    def label(self) -> str:
        """The name of the queue in metrics; a name that is generated for each start has another."""
        if not self.delete_on_stop:
            return self.queue.name
        if self.dead_queue is not None:
            return self.dead_queue.removesuffix(_DEAD)
        return "" if self.exchange is None else self.exchange.name

    def __post_init__(self) -> None:
        for routing_key in self.routing_keys:
            check_name("routing key", routing_key)
        if not isinstance(self.retry, Retry):
            raise TypeError(f"queue {self.queue.name!r}: retry={self.retry!r} is no Retry")
        for name in ("prefetch_count", "concurrency"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= 65_535:
                raise ValueError(
                    f"queue {self.queue.name!r}: {name}={value!r} is not a number from 1 to 65535"
                )
