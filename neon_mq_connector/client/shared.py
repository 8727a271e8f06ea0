"""What all requests of one client share."""

from __future__ import annotations

import itertools
import logging

from neon_mq_connector.client.named_queues import NamedQueues
from neon_mq_connector.connections import Connections
from neon_mq_connector.threads.errands import Errands
from neon_mq_connector.threads.futures import FutureThread
from neon_mq_connector.threads.inside import Inside

LOG = logging.getLogger("neon_mq_connector.client")


class Shared:
    """What all requests of one client share; any thread may use it.

    Args:
        connections: how to reach the broker.
        owner: the name of the asking service.

    Attributes:
        inside: where a thread is while it sends: a signal handler that interrupts it there cannot
            wait for what it holds.
        errands: what answers that no thread waits for have to have done at the broker.
        futures: the thread for answers that no thread waits for; the I/O thread decodes nothing.
        named_queues: the reply queues that requests have named.
        late_replies: how many answers were dropped because nobody waited for them.
    """

    def __init__(self, connections: Connections, owner: str) -> None:
        self.connections = connections
        self.owner = owner
        self.inside = Inside()
        self.errands = Errands(f"mq-requests-errands:{connections.vhost}")
        self.futures = FutureThread(f"mq-replies:{connections.vhost}")
        self.named_queues = NamedQueues(connections)
        self.late_replies = 0
        self._numbers = itertools.count(1)

    def next_number(self) -> str:
        """Give the correlation id of the next request."""
        return str(next(self._numbers))

    def drop(self, owner: str | None) -> None:
        """Count an answer that nobody waits for.

        Args:
            owner: the id of the request that it is for, as it says.
        """
        self.late_replies += 1
        LOG.debug("an answer for request %s, which nobody waits for, is dropped", owner)
