"""What a stranger may send, and services that get it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pika.spec import BasicProperties

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
