"""Threads that send to all actors in turn, and note how each send ends."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pika
import pika.exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import MQConnector
from neon_mq_connector.errors import PublishError
from neon_mq_connector.utils.network_utils import dict_to_b64
from tests.soak.actors import Actor
from tests.soak.books import CONFIRMED, REFUSED, UNSURE


class Producer(threading.Thread):
    """Send at a steady pace until told to stop.

    Its thread owns the channel of plain pika.

    Args:
        number: which producer this is.
        connector: what it sends with.
        parameters: of its connection of plain pika, which no fault of the line reaches.
        actors: to whom.
        rate: messages a second.

    Attributes:
        unexpected: errors of sends that are none of `send_message`, by text.
    """

    def __init__(
        self,
        number: int,
        connector: MQConnector,
        parameters: pika.connection.Parameters,
        actors: Sequence[Actor],
        rate: float,
    ) -> None:
        super().__init__(name=f"producer-{number}")
        self.unexpected: Counter[str] = Counter()
        self._connector = connector
        self._parameters = parameters
        self._channel: BlockingChannel | None = None
        self._actors = actors
        self._pause = 1 / rate
        self._over = threading.Event()

    def stop(self) -> None:
        """End after the present send."""
        self._over.set()

    def run(self) -> None:
        """Send; called by `start`."""
        due = time.monotonic()
        count = 0
        while not self._over.is_set():
            self._send_one(self._actors[count % len(self._actors)])
            count += 1
            due = max(due + self._pause, time.monotonic() - 1.0)
            self._over.wait(max(0.0, due - time.monotonic()))
        self._close()

    def _send_one(self, actor: Actor) -> None:
        number = actor.books.begin()
        if number is None:
            self._over.set()
            return
        try:
            actor.send(self, number)
        except PublishError as error:
            state = UNSURE if error.may_have_arrived else REFUSED
        except pika_errors.UnroutableError:
            state = REFUSED
        except pika_errors.AMQPError:
            self._close()
            state = UNSURE
        except Exception as error:
            self.unexpected[f"{type(error).__name__}: {error}"[:200]] += 1
            state = UNSURE
        else:
            state = CONFIRMED
        actor.books.ended(number, state)

    def send(self, message: Mapping[str, Any], **where: Any) -> None:
        """Send a message that does not expire."""
        self._connector.send_message(message, expiration=None, **where)

    def publish(self, queue: str, properties: BasicProperties, **message: Any) -> None:
        """Publish to a queue with plain pika, and wait until it is confirmed."""
        if self._channel is None:
            self._channel = pika.BlockingConnection(self._parameters).channel()
            self._channel.confirm_delivery()
        self._channel.basic_publish("", queue, dict_to_b64(message), properties, mandatory=True)

    def _close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None and channel.connection.is_open:
            with contextlib.suppress(pika_errors.AMQPError):
                channel.connection.close()
