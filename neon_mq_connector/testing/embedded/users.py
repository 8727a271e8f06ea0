"""The users of a broker and what each of them may do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from neon_mq_connector.testing.embedded.errors import AMQPError, describe

EVERYTHING = ".*"


@dataclass(frozen=True)
class Rights:
    """What a user may do in a virtual host; each is a regular expression of names."""

    configure: str = EVERYTHING
    write: str = EVERYTHING
    read: str = EVERYTHING


@dataclass
class User:
    """A user.

    Attributes:
        tags: such as `administrator`.
        rights: by the name of the virtual host; without an entry it may not be used.
    """

    name: str
    password: str
    tags: frozenset[str] = frozenset()
    rights: dict[str, Rights] = field(default_factory=dict)

    def check(self, right: str, kind: str, name: str, vhost: str) -> None:
        """Refuse what the user has no right to.

        Args:
            right: `configure`, `write` or `read`.
            kind: `queue` or `exchange`.
            name: the name of the queue or exchange.
            vhost: the virtual host that it is in.

        Raises:
            AMQPError: 403.
        """
        rights = self.rights.get(vhost)
        pattern = None if rights is None else getattr(rights, right)
        if pattern == EVERYTHING:
            return
        if kind == "exchange" and name == "":
            name = "amq.default"
        # RabbitMQ takes the empty expression for one that nothing matches
        if pattern is None or re.search(pattern or "^$", name) is None:
            what = describe(kind, name, vhost)
            raise AMQPError(403, f"{right} access to {what} refused for user '{self.name}'")
