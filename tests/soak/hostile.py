"""What a stranger may send, and services that get it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pika.spec import BasicProperties

from neon_mq_connector.envelope import DIRECT_REPLY_TO
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.soak.actors import Actor, FailedOnPurposeError, Sender


class HostileHeaders(Actor):
    """Gets headers that must not decide anything; half of the messages cannot be handled."""

    def send(self, sender: Sender, number: int) -> None:
        """Send with one of the bad headers."""
        headers = self._headers[number // 2 % len(self._headers)]
        sender.publish(self.name, BasicProperties(headers=headers, delivery_mode=2), n=number)

    @property
    def _headers(self) -> tuple[dict[str, Any], ...]:
        death = {"queue": self.name, "reason": "rejected", "exchange": "", "routing-keys": []}
        return (
            {"CC": [self.name]},
            {"BCC": [self.name], "x-delay": 1, "reply_to": self.name},
            {"x-death": [{**death, "count": -1_000_000}]},
            {"x-death": [{**death, "count": 2**62}] * 100},
            {"x-delivery-count": -5},
            {"double": float(2**63)},
            {"much": "x" * 122_000},
            {f"{n}": "x" * 100 for n in range(1_100)},
        )

    def work(self, message: Mapping[str, Any], tries: int, channel: Any) -> None:
        """Fail, every other time."""
        if message["n"] % 2:
            raise FailedOnPurposeError("hopeless")


class Relay(Actor):
    """Passes messages on to a second queue of its own, by which they are counted.

    Their sender says that this queue is where it waits for its answer.
    """

    engines = ("threaded", "select")  # its callback waits for a send

    @property
    def _second(self) -> str:
        return f"{self.name}.second"

    def send(self, sender: Sender, number: int) -> None:
        """Send with headers that would divert what the service sends."""
        properties = BasicProperties(
            headers={"neon-reply-queue": self._second},
            reply_to=DIRECT_REPLY_TO,
            correlation_id="1",
            delivery_mode=2,
        )
        sender.publish(self.name, properties, n=number, routing_key=self._second)

    def register(self, engine: str) -> None:
        """Register both consumers."""
        self._register(self.name, engine)
        self._register(self._second, engine, self._receive)

    def work(self, message: Mapping[str, Any], tries: int, channel: Any) -> None:
        """Pass it on, in one of two ways."""
        onward = {"n": message["n"]}
        if message["n"] % 2:
            self.service.send_message(onward, queue=self._second, expiration=None)
        else:
            properties = BasicProperties(delivery_mode=2)
            channel.basic_publish("", self._second, dict_to_b64(onward), properties)

    def done(self, number: int) -> None:
        """Leave it to the second queue."""

    def _receive(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        with self.moving():
            self.books.handled(b64_to_dict(body)["n"])
