"""Virtual hosts for tests, each with a user of its own, handed on from test to test."""

from __future__ import annotations

import secrets
import time
from collections import deque
from dataclasses import dataclass, field

from neon_mq_connector.testing.running import RunningBroker

#: Seconds for which one rests, so that the broker has forgotten its connections and consumers: what
#: it lists of them may be a second old.
_REST = 5.0


@dataclass(frozen=True)
class User:
    """A broker's user."""

    name: str
    password: str


@dataclass(frozen=True)
class TestVhost:
    """A virtual host, and a user who may do everything in it and in no other."""

    __test__ = False

    name: str = field(default_factory=lambda: f"/v{secrets.token_hex(4)}")
    user: User = field(
        default_factory=lambda: User(f"u{secrets.token_hex(4)}", secrets.token_urlsafe(8))
    )


class VhostPool:
    """Hand out empty virtual hosts of one broker: to empty one costs less than to make one."""

    def __init__(self, broker: RunningBroker) -> None:
        self._broker = broker
        self._rested: deque[tuple[float, TestVhost]] = deque()

    def take(self) -> TestVhost:
        """Return an empty virtual host that no other test uses."""
        if self._rested and time.monotonic() - self._rested[0][0] > _REST:
            return self._rested.popleft()[1]
        vhost = TestVhost()
        self._broker.create_vhost(vhost.name)
        self._broker.add_user(vhost.user.name, vhost.user.password, vhosts=[vhost.name])
        return vhost

    def give_back(self, vhost: TestVhost) -> None:
        """Empty a virtual host and restore its user's rights, for another test."""
        management = self._broker.management
        for queue in management.queues(vhost.name):
            management.call("DELETE", "queues", vhost.name, queue["name"])
        for exchange in management.exchanges(vhost.name):
            if exchange["name"] and not exchange["name"].startswith("amq."):
                management.call("DELETE", "exchanges", vhost.name, exchange["name"])
        management.permit(vhost.user.name, vhost.name)
        self._rested.append((time.monotonic(), vhost))

    def remove(self, vhost: TestVhost) -> None:
        """Delete a virtual host that is not as it was, and its user."""
        self._broker.delete_vhost(vhost.name)
        self._broker.delete_user(vhost.user.name)
