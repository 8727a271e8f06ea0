"""The connections to one virtual host, each opened when it is first needed and shared.

* *consuming*, over pika's `SelectConnection`, thread ``mq-io:<vhost>``: deliveries and settlements.
  It never publishes, so that an alarm of the broker cannot hold up acknowledgements.
* *answering*, the same, thread ``mq-io-answers:<vhost>``, for queues whose callbacks answer many
  requests: their answers leave on it too.
* *control*, the same, thread ``mq-control:<vhost>``: what the broker may refuse.
* *publishing*, over `SelectConnection`, thread ``mq-publisher:<vhost>``: confirmed messages.
* *requests*, over `SelectConnection`, thread ``mq-requests:<vhost>``: requests and their direct
  answers, which must be published and consumed on one channel.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pika
import pika.exceptions as pika_errors

from neon_mq_connector.backoff import OutageBackoff
from neon_mq_connector.control.control import Control
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQError, StoppedError
from neon_mq_connector.link import ChannelEvents, Link, LinkChannel, Waiter
from neon_mq_connector.publishing.publisher import Publisher
from neon_mq_connector.threads import forking
from neon_mq_connector.threads.futures import FutureThread
from neon_mq_connector.version import __version__

#: The least time to wait for the end of all threads, in seconds.
_LEAST_CLOSE_TIME = 0.1
#: What the threads of connections are called, by their purpose.
_THREADS = {
    "consuming": "io",
    "answering": "io-answers",
    "publishing": "publisher",
    "requests": "requests",
}


@dataclass(frozen=True)
class ConnectionPolicy:
    """How long things may take, in seconds.

    Attributes:
        operation_timeout: for the broker to answer a declare, a bind, a subscription (15).
        backoff: the delays between attempts to connect.
    """

    operation_timeout: float = 15.0
    backoff: OutageBackoff = field(default_factory=OutageBackoff)


class Connections:
    """The connections of one set of parameters; every method may be called from any thread.

    `_lock` owns what was opened. It is reentrant, since a signal handler may interrupt its holder
    to stop the service. After `fork` the child drops what it inherited and opens its own.

    Args:
        parameters: one entry per server of the cluster, alike but for host and port.
        owner: the name of the service, shown on the broker's management page.
        policy: how long things may take.
    """

    def __init__(
        self,
        parameters: Sequence[pika.ConnectionParameters],
        *,
        owner: str = "",
        policy: ConnectionPolicy | None = None,
    ) -> None:
        self.policy = policy or ConnectionPolicy()
        self.parameters = tuple(parameters)
        self.vhost = self.parameters[0].virtual_host
        self.owner = owner
        self._lock = threading.RLock()
        self._closed = False
        self._links: dict[str, Link] = {}  # by purpose
        self._control: Control | None = None
        self._publishers: dict[str, Publisher] = {}  # by the purpose of their links
        self._futures: FutureThread | None = None
        forking.register(self)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called; nothing can be opened any more."""
        return self._closed

    @property
    def control(self) -> Control:
        """The control connection."""
        with self._lock:
            self._check()
            if self._control is None:
                self._control = Control(f"mq-control:{self.vhost}", self._named("control"))
            return self._control

    @property
    def consuming(self) -> Link:
        """The connection that consumes."""
        return self._link("consuming")

    @property
    def may_answer(self) -> bool:
        """Whether no alarm is known, under which the broker would not read answers."""
        return all(link.blocked_reason is None for link in self.links())

    def is_ready_for_answers(self) -> bool:
        """Whether the answering connection is open; if not, open it without waiting.

        Raises:
            StoppedError: the connections were closed.
        """
        return self._link("answering").open_soon()

    def open_consuming_channel(
        self,
        events: ChannelEvents,
        *,
        timeout: float,
        new_waiter: Callable[[], Waiter[Any]],
        answering: bool = False,
    ) -> LinkChannel:
        """Open a channel to consume or answer on, on one more connection when others are full.

        Args:
            events: where the channel reports what happens on it.
            timeout: how long to wait at most, in seconds, for each connection.
            new_waiter: makes the waiter of each attempt, which another thread may end.
            answering: whether answers are to leave on it too.

        Raises:
            MQConnectionError, StoppedError, WaitTimeoutError: as `Link.open_channel`.
        """
        purpose, number = "answering" if answering else "consuming", 1
        while True:
            link = self._link(purpose, number)
            try:
                return link.open_channel(events, timeout=timeout, waiter=new_waiter())
            except MQError as error:
                if not isinstance(error.__cause__, pika_errors.NoFreeChannels):
                    raise
                number += 1

    @property
    def requests(self) -> Link:
        """The connection of a request client."""
        return self._link("requests")

    @property
    def publisher(self) -> Publisher:
        """The connection that publishes, and its confirms."""
        return self._publisher("publishing")

    @property
    def answer_publisher(self) -> Publisher:
        """The same on the answering connection, or on one more when consumers have filled it."""
        return self._publisher("answering")

    @property
    def futures(self) -> FutureThread:
        """The thread that ends futures of messages in time, and runs their callbacks."""
        with self._lock:
            self._check()
            if self._futures is None:
                self._futures = FutureThread(f"mq-futures:{self.vhost}")
            return self._futures

    def links(self) -> list[Link]:
        """List the links that exist, for health."""
        return list(self._links.values())

    def publish_outcomes(self) -> dict[str, int]:
        """Return how many messages were confirmed, and how many failed in which way."""
        total: Counter[str] = Counter()
        for publisher in list(self._publishers.values()):
            total.update(publisher.outcomes)
        return dict(total)

    def close(self, timeout: float) -> bool:
        """Close all of it within a timeout in seconds; what was published is confirmed first.

        Returns:
            Whether every thread has ended.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closed = True
            control, links = self._control, self.links()
        for publisher in list(self._publishers.values()):
            publisher.flush(time_left(deadline))
        deadline = max(deadline, time.monotonic() + _LEAST_CLOSE_TIME)
        ended = [link.close(time_left(deadline)) for link in links]
        if control is not None:
            ended.append(control.close(time_left(deadline)))
        if self._futures is not None:
            ended.append(self._futures.stop(time_left(deadline)))
        return all(ended)

    def _link(self, purpose: str, number: int = 1) -> Link:
        suffix = f"-{number}" if number > 1 else ""
        name = purpose + suffix
        with self._lock:
            self._check()
            if name not in self._links:
                thread = f"mq-{_THREADS[purpose]}{suffix}:{self.vhost}"
                self._links[name] = Link(thread, self._named(name), backoff=self.policy.backoff)
            return self._links[name]

    def _publisher(self, purpose: str) -> Publisher:
        publisher = self._publishers.get(purpose)
        if publisher is None or self._closed:
            with self._lock:
                link = self._link(purpose)
                if purpose not in self._publishers:
                    beside_consumers = partial(
                        self.open_consuming_channel, new_waiter=Waiter, answering=True
                    )
                    open_channel = beside_consumers if purpose == "answering" else link.open_channel
                    self._publishers[purpose] = Publisher(link, self.control, open_channel)
                publisher = self._publishers[purpose]
        return publisher

    def _named(self, purpose: str) -> list[pika.ConnectionParameters]:
        return [name_connection(p, self.owner, purpose) for p in self.parameters]

    def _check(self) -> None:
        if self._closed:
            raise StoppedError(f"the connections to virtual host {self.vhost!r} are closed")

    def after_fork_in_child(self) -> None:
        """Drop what the parent opened; what is needed here is opened anew."""
        forking.keep(self._control, self._publishers, self._futures, *self.links())
        self._lock = threading.RLock()
        self._control = self._futures = None
        self._links, self._publishers = {}, {}


def name_connection(
    parameters: pika.ConnectionParameters, owner: str, purpose: str
) -> pika.ConnectionParameters:
    """Copy parameters and name the connection after its owner and purpose, unless it has a name."""
    named = copy.copy(parameters)
    properties = {
        "connection_name": f"{owner or 'neon-mq-connector'} {purpose}",
        "product_version": f"neon-mq-connector {__version__}",
    }
    named.client_properties = {**properties, **(parameters.client_properties or {})}
    return named
