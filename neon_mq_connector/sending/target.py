"""Where a message is to go, and what has to be declared there."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from neon_mq_connector.envelope import is_reply_name
from neon_mq_connector.topology import (
    Bind,
    Binding,
    BrokerFacts,
    Exchange,
    Queue,
    Steps,
    check_name,
    declare_exchange,
    declare_queue,
)


@dataclass(frozen=True)
class Target:
    """Where a message is to go.

    Attributes:
        exchange: the exchange; empty for the default one.
        queue: the queue, whose name is the routing key.
        exchange_type: the type the exchange is declared with.
    """

    exchange: str = ""
    queue: str = ""
    exchange_type: str = "direct"

    def __post_init__(self) -> None:
        if not self.exchange and not self.queue:
            raise ValueError("a message needs a queue or an exchange to go to; both are empty")
        check_name("queue", self.queue)
        check_name("exchange", self.exchange)

    @functools.cached_property
    def one_queue_is_meant(self) -> bool:
        """Whether a message that no queue takes is an error."""
        if self.exchange:
            return bool(self.queue) and self.exchange_type != "fanout"
        # a live direct reply-to is delivered to and returned as well; where there is no such queue,
        # whoever asked is gone
        return not is_reply_name(self.queue)

    def exchange_steps(self) -> Steps:
        """Declare the exchange."""
        return declare_exchange(Exchange(self.exchange, self.exchange_type))

    def queue_steps(self, facts: BrokerFacts) -> Steps:
        """Declare the queue, and bind it where there is an exchange."""
        status = yield from declare_queue(Queue(self.queue), facts)
        if self.exchange:
            yield Bind(Binding(self.queue, self.exchange, self.queue))
        return status
