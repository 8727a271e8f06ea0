"""A model of a broker's queues and exchanges, for the steps that topology generators take."""

from __future__ import annotations

from dataclasses import dataclass, field

from neon_mq_connector.topology import (
    ACCESS_REFUSED,
    INTERNAL_ERROR,
    NOT_FOUND,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    Binding,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Exchange,
    Queue,
    QueueStatus,
    Refusal,
    Step,
)


@dataclass
class BrokerModel:
    """Answer steps as RabbitMQ does.

    Attributes:
        refuses_transient: whether transient non-exclusive queues are refused.
        refusal_code: with what (541, or 540).
        may_configure: whether this user may declare anything.
        asked: every step, in order.
    """

    refuses_transient: bool = False
    refusal_code: int = INTERNAL_ERROR
    may_configure: bool = True
    queues: dict[str, Queue] = field(default_factory=dict)
    exchanges: dict[str, Exchange] = field(default_factory=dict)
    bindings: set[tuple[str, str, str]] = field(default_factory=set)
    asked: list[Step] = field(default_factory=list)

    def perform(self, step: Step) -> QueueStatus | None:
        self.asked.append(step)
        if isinstance(step, DeclareQueue):
            return self._declare_queue(step.queue, step.passive)
        if isinstance(step, DeclareExchange):
            self._declare_exchange(step.exchange, step.passive)
        elif isinstance(step, DeleteQueue):
            self.queues.pop(step.name, None)
            self.bindings = {b for b in self.bindings if b[0] != step.name}
        elif isinstance(step, DeleteExchange):
            self.exchanges.pop(step.name, None)
            self.bindings = {b for b in self.bindings if b[1] != step.name}
        else:
            self._bind(step.binding)
        return None

    def _declare_queue(self, queue: Queue, passive: bool) -> QueueStatus:
        existing = self.queues.get(queue.name)
        if passive:
            if existing is None:
                raise Refusal(NOT_FOUND, f"no queue {queue.name!r}")
            return QueueStatus(queue.name)
        if not self.may_configure:
            raise Refusal(ACCESS_REFUSED, f"access to queue {queue.name!r} refused")
        if existing is not None:
            if existing.exclusive != queue.exclusive:
                raise Refusal(RESOURCE_LOCKED, f"cannot obtain exclusive access to {queue.name!r}")
            if existing != queue:
                raise Refusal(PRECONDITION_FAILED, f"inequivalent arg for {queue.name!r}")
            return QueueStatus(queue.name)
        if queue.transient and self.refuses_transient:
            raise Refusal(self.refusal_code, "transient_nonexcl_queues is deprecated")
        name = queue.name or f"amq.gen-{len(self.queues)}"
        self.queues[name] = queue
        return QueueStatus(name)

    def _declare_exchange(self, exchange: Exchange, passive: bool) -> None:
        existing = self.exchanges.get(exchange.name)
        if passive:
            if existing is None:
                raise Refusal(NOT_FOUND, f"no exchange {exchange.name!r}")
            return
        if not self.may_configure:
            raise Refusal(ACCESS_REFUSED, f"access to exchange {exchange.name!r} refused")
        if existing is not None and existing != exchange:
            raise Refusal(PRECONDITION_FAILED, f"inequivalent arg for {exchange.name!r}")
        self.exchanges[exchange.name] = exchange

    def _bind(self, binding: Binding) -> None:
        if binding.queue not in self.queues or binding.exchange not in self.exchanges:
            raise Refusal(NOT_FOUND, f"cannot bind {binding.queue!r} to {binding.exchange!r}")
        self.bindings.add((binding.queue, binding.exchange, binding.routing_key))
