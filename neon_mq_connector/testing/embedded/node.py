"""The broker behind the connections: virtual hosts, users, alarms, and what survives a restart."""

from __future__ import annotations

from collections.abc import Callable

from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.host import NodeState
from neon_mq_connector.testing.embedded.users import Rights, User
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost

#: How much all messages may take before publishers are not read from any more, in bytes.
MEMORY_LIMIT = 512 * 1024 * 1024
#: How long a client may hold a message, in milliseconds, as RabbitMQ has it by default.
CONSUMER_TIMEOUT = 30 * 60 * 1000
_CHECK_TIMEOUTS_EVERY = 60_000


class Node:
    """All that a broker has, without any connection. Owned by the broker's thread.

    Args:
        refuse_transient: whether queues that are neither durable nor exclusive are refused.
    """

    def __init__(self, *, refuse_transient: bool = False) -> None:
        self._shared = NodeState(refuse_transient=refuse_transient)
        self.clock = self._shared.clock
        self.faults = self._shared.faults
        self.history = self._shared.history
        self.users: dict[str, User] = {}
        self.vhosts: dict[str, VirtualHost] = {}

    # --- access

    def log_in(self, name: str, password: str) -> User | None:
        """Return the user with that name if the password is right."""
        user = self.users.get(name)
        return user if user is not None and user.password == password else None

    def enter(self, user: User, vhost: str) -> VirtualHost:
        """Return a virtual host that a user may use.

        Raises:
            AMQPError: 530, it does not exist, or the user may not.
        """
        found = self.vhosts.get(vhost)
        if found is None:
            raise AMQPError(530, f"vhost {vhost} not found")
        if vhost not in user.rights:
            raise AMQPError(530, f"access to vhost '{vhost}' refused for user '{user.name}'")
        return found

    def add_vhost(self, name: str) -> None:
        """Make a virtual host; one that exists is left as it is."""
        if name not in self.vhosts:
            self.vhosts[name] = VirtualHost(name, self._shared)

    def remove_vhost(self, name: str) -> None:
        """Remove a virtual host with all in it and all rights to it."""
        vhost = self.vhosts.pop(name, None)
        if vhost is not None:
            vhost.close()
        for user in self.users.values():
            user.rights.pop(name, None)

    def add_user(self, name: str, password: str, tags: str = "") -> None:
        """Make a user, or give one that exists another password and tags."""
        rights = self.users[name].rights if name in self.users else {}
        labels = frozenset(filter(None, (tag.strip() for tag in tags.split(","))))
        self.users[name] = User(name, password, labels, rights)

    def permit(self, user: str, vhost: str, rights: Rights) -> None:
        """Give a user rights in a virtual host."""
        self.users[user].rights[vhost] = rights

    # --- alarms

    @property
    def is_low(self) -> bool:
        """Whether an alarm is on: a test has asked for it, or too much is stored."""
        return bool(self.faults.alarms) or self._shared.stored > MEMORY_LIMIT

    @property
    def alarms(self) -> list[str]:
        """What the broker is low on."""
        stored_too_much = {"memory"} if self._shared.stored > MEMORY_LIMIT else set()
        return sorted(self.faults.alarms | stored_too_much)

    # --- the node's life

    def start(self, check_timeouts: Callable[[], None]) -> None:
        """Start, after a restart with what survived.

        Args:
            check_timeouts: is called every minute of the clock, to find messages held too long.
        """
        self.clock.clear()
        for vhost in self.vhosts.values():
            vhost.recover()

        def check() -> None:
            self.clock.after(_CHECK_TIMEOUTS_EVERY, check)
            check_timeouts()

        self.clock.after(_CHECK_TIMEOUTS_EVERY, check)
