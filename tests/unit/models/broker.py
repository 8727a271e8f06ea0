"""A broker of one queue that keeps count of every message and objects to what AMQP forbids.

What a consumer asks of its channel is carried out in order, when the test says so: until then it
is on its way, and lost with the connection. That is how acknowledgements get lost for real.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pika.spec import BasicProperties

from neon_mq_connector.connections import ConnectionPolicy, Connections
from neon_mq_connector.errors import (
    ChannelShutError,
    ConnectionLostError,
    MQError,
    PublishLostError,
    PublishRejectedError,
    PublishTimeoutError,
)
from neon_mq_connector.link import Answer, ChannelEvents, Waiter
from neon_mq_connector.publishing.message import Message as Publication
from neon_mq_connector.topology import BrokerFacts, QueueStatus
from tests.unit.fakes import as_raw, make_delivery
from tests.unit.models.simulation import SimulatedWaiter, Simulation

DEAD_QUEUE = "q.dead"


class BrokenRuleError(AssertionError):
    """Something was asked that a real broker answers by closing the channel."""


@dataclass(eq=False)
class QueuedMessage:
    """A message and what became of it."""

    number: int
    body: bytes
    times_back: int = 0
    #: how often its settlement took it from the queue: acknowledged, or dropped
    acked: int = 0
    dropped: int = 0
    #: how often it is in the dead-letter queue
    parked: int = 0

    @property
    def is_gone(self) -> bool:
        return bool(self.acked or self.dropped)


@dataclass(eq=False)
class Receipt:
    """A message as it was delivered on one channel."""

    message: QueuedMessage
    channel: ModelChannel
    tag: int
    #: by which it is known to whom it came; a broker gives no name twice
    consumer_tag: str


@dataclass(eq=False)
class Publish:
    """A message that a callback has published and that is not confirmed yet."""

    answer: Answer[None]
    confirmed: bool = False
    failed: bool = False


@dataclass(frozen=True)
class ModelLink:
    """What a channel's connection does beside the channel: call something soon, or later."""

    call_later: Callable[[float, Callable[[], None]], None]
    submit: Callable[[Callable[[], None]], None]

    def call_last(self, call: Callable[[Any], object], argument: Any) -> None:
        call(argument)

    def delay_reads(self, seconds: float) -> None:
        pass


class ModelChannel:
    """One channel: what the roles above ask for is noted, and carried out by `Broker.carry_out`."""

    def __init__(self, broker: Broker, events: ChannelEvents) -> None:
        self.events = events
        self.link = ModelLink(broker.simulation.call_later, self._submit)
        self.error: MQError | None = None
        #: the prefetch of each consumer, by its tag
        self.consumers: dict[str, int] = {}
        self.receipts: dict[int, Receipt] = {}
        self.unacked: dict[int, Receipt] = {}
        self._broker = broker
        #: which deliveries were settled, as far as it was told, or will be when it reads that
        self.told: set[int] = set()
        self._closers: list[SimulatedWaiter] = []
        self._next_tag = 1
        self.is_cancelled = False
        self._is_closing = False

    @property
    def is_open(self) -> bool:
        return self.error is None and not self._is_closing

    # -- what the library calls ----------------------------------------------------------------

    def ack(self, tag: int, multiple: bool = False) -> None:
        covered = [t for t in self.unacked if t == tag or (multiple and (tag == 0 or t <= tag))]
        # what was refused before is settled by the time that the broker reads this
        self._broker.may_ack(self, [t for t in covered if t not in self.told] or [tag])
        self._send(f"ack {tag}", lambda: self._settle(tag, multiple, "acked"))
        self.told.update(covered)

    def reject(self, tag: int, *, requeue: bool) -> None:
        if not requeue:
            self._broker.may_drop(self, tag)
        self._send(
            f"refuse {tag}", lambda: self._settle(tag, False, "back" if requeue else "dropped")
        )
        self.told.add(tag)

    nack = reject

    def read_until(self, done: Any, deadline: float, *, wakeable: bool = False) -> None:
        """Do nothing: another thread reads."""

    def wake_reader(self) -> None:
        """Do nothing: no thread reads."""

    def _submit(self, work: Callable[[], None]) -> None:
        self._broker.outbox.append((self, work))

    def _send(self, what: str, operation: Callable[[], None]) -> None:
        self._broker.simulation.between(what)
        if self.error is not None:
            raise self.error
        self._broker.outbox.append((self, operation))

    def _ask(self, what: str, answer: Callable[[], Any], waiter: Waiter[Any] | None) -> Any:
        simulation = self._broker.simulation
        simulated = waiter if isinstance(waiter, SimulatedWaiter) else SimulatedWaiter(simulation)
        self._broker.ask(self, simulated, answer)
        return simulated.wait(self._broker.patience, what)

    def perform(self, _step: Any, **_: Any) -> QueueStatus:
        return self._broker.control.perform_step("declare")

    def consume(
        self,
        queue: str,
        *,
        prefetch_count: int,
        arguments: Mapping[str, Any],
        started: Callable[[str], object],
        timeout: float,
        waiter: Waiter[Any] | None = None,
    ) -> str:
        def answer() -> str:
            if self.consumers:
                raise BrokenRuleError("there is a consumer already: the prefetch holds for each")
            return self._start_consumer(prefetch_count, started)

        return str(self._ask("consume", answer, waiter))

    def add_consumer(
        self,
        queue: str,
        prefetch_count: int,
        *,
        arguments: Mapping[str, Any],
        started: Callable[[str], object],
    ) -> None:
        def consumed() -> None:
            if len(self.consumers) > 1:
                raise BrokenRuleError("two changes of the prefetch at a time")
            self._start_consumer(prefetch_count, started)

        self._send("consume", consumed)

    def cancel(self, consumer_tag: str, ended: Callable[[object], None]) -> None:
        def cancelled() -> None:
            self.consumers.pop(consumer_tag, None)
            if not self.consumers and not self.is_cancelled:
                raise BrokenRuleError("the queue is left without its consumer")
            ended(None)

        self._submit(cancelled)

    def cancel_all(self, _ended: object) -> None:
        self.is_cancelled = True
        self._submit(self.consumers.clear)

    def _start_consumer(self, prefetch: int, started: Callable[[str], object]) -> str:
        tag = f"consumer {next(self._broker.numbers)}"
        if not self.is_cancelled:
            self.consumers[tag] = prefetch
        started(tag)
        return tag

    def close_soon(self) -> None:
        if self.error is None:
            self._is_closing = True
            self._broker.outbox.append((self, self._closed))

    def close(self, *, timeout: float) -> None:
        waiter = SimulatedWaiter(self._broker.simulation)
        if self.error is not None:
            return
        self._closers.append(waiter)
        self._broker.outbox.append((self, self._closed))
        waiter.wait(timeout, "close")

    # -- what the broker does ------------------------------------------------------------------

    def _closed(self) -> None:
        self.shut(ChannelShutError("the channel was closed"))

    def _settle(self, tag: int, multiple: bool, fate: str) -> None:
        tags = [t for t in self.unacked if t == tag or (multiple and (tag == 0 or t <= tag))]
        if not tags:
            known = "settled twice" if tag in self.receipts else "never delivered on this channel"
            raise BrokenRuleError(f"delivery {tag}: {known} (406 PRECONDITION_FAILED)")
        for each in sorted(tags):
            message = self.unacked.pop(each).message
            if fate == "acked":
                message.acked += 1
            elif fate == "dropped":
                message.dropped += 1
            else:
                self._broker.put_back(message)

    def room(self) -> list[str]:
        """List the consumers that may have messages, each as often as it may have one."""
        if self.error is not None:
            return []
        holders = [receipt.consumer_tag for receipt in self.unacked.values()]
        return [
            tag
            for tag, prefetch in self.consumers.items()
            for _ in range(prefetch - holders.count(tag))
        ]

    def deliver(self, messages: list[QueuedMessage], consumer_tags: list[str]) -> None:
        batch = []
        for message, consumer_tag in zip(messages, consumer_tags, strict=True):
            tag, self._next_tag = self._next_tag, self._next_tag + 1
            receipt = Receipt(message, self, tag, consumer_tag)
            self.receipts[tag] = self.unacked[tag] = receipt
            self._broker.receipts.append(receipt)
            properties = BasicProperties(message_id="the same for all")
            if self._broker.counts_deliveries and message.times_back:
                properties.headers = {"x-delivery-count": message.times_back}
            delivery = make_delivery(
                tag,
                message.body,
                properties,
                redelivered=message.times_back > 0,
                consumer_tag=consumer_tag,
            )
            batch.append(as_raw(delivery))
        self.events.deliveries(batch)

    def shut(self, error: MQError) -> None:
        """Close it, on whatever side; the broker takes back what was not settled."""
        if self.error is not None:
            return
        self.error = error
        self.consumers.clear()
        for receipt in self.unacked.values():
            self._broker.put_back(receipt.message)
        self.unacked.clear()
        self._broker.outbox = [each for each in self._broker.outbox if each[0] is not self]
        self._broker.fail_waiters(self, error)
        for waiter in self._closers:
            waiter.resolve(None)
        self.events.shut(error)


class ModelControl:
    """A control connection that declares whatever it is asked to, or nothing."""

    def __init__(self, simulation: Simulation) -> None:
        self.facts = BrokerFacts()
        self.refusal: MQError | None = None
        self._simulation = simulation

    def perform(self, what: str, _steps: Any, **_: Any) -> QueueStatus:
        return self.perform_step(what)

    def perform_step(self, step: object, **_: Any) -> QueueStatus:
        self._simulation.between(str(step))
        if self.refusal is not None:
            raise self.refusal
        return QueueStatus("q")


class ModelPublisher:
    """A publisher whose confirms come when the test says so; parking is answered as it is set."""

    def __init__(self, broker: Broker) -> None:
        self.is_connected = True
        self.parking = "works"
        #: what could not be parked, as far as the consumer was told
        self.failures: list[QueuedMessage] = []
        self.pending: list[Publish] = []
        self._broker = broker

    def _park(self, message: Publication, answer: Answer[None]) -> None:
        self._broker.simulation.between("parking")
        parked = self._broker.messages[int(message.body.split()[0])]
        if self.parking != "works":
            self.failures.append(parked)
        if self.parking == "fails":
            answer.fail(PublishRejectedError("the queue is full", may_have_arrived=False))
            return
        if self.parking == "is cut off":
            raise PublishLostError("no connection", may_have_arrived=False)
        parked.parked += 1
        if self.parking == "arrives unconfirmed":
            answer.fail(PublishTimeoutError("no confirm", may_have_arrived=True))
        else:
            answer.resolve(None)

    def post(
        self, message: Publication, answer: Answer[None], deadline: float, flush: object = None
    ) -> None:
        if message.routing_key == DEAD_QUEUE:
            self._park(message, answer)
            return
        self._broker.simulation.between("publish")
        if not self.is_connected:
            raise PublishLostError("no connection", may_have_arrived=False)
        publish = Publish(answer)
        self._broker.published.append(publish)
        self.pending.append(publish)


@dataclass
class ModelConnections:
    """The connections to one virtual host."""

    broker: Broker
    control: ModelControl
    publisher: ModelPublisher
    vhost: str = "/v"
    policy: ConnectionPolicy = field(default_factory=ConnectionPolicy)

    def open_consuming_channel(
        self,
        events: ChannelEvents,
        *,
        timeout: float,
        new_waiter: Callable[[], Waiter[Any]],
        answering: bool = False,
    ) -> ModelChannel:
        channel, waiter = ModelChannel(self.broker, events), new_waiter()

        def opened() -> None:
            if waiter.resolve(channel):
                self.broker.channels.append(channel)

        self.broker.openings.append(opened)
        opened_channel: ModelChannel = waiter.wait(timeout, "open a channel")
        return opened_channel


class Broker:
    """One queue, its dead-letter queue, and one connection to it.

    Args:
        simulation: the clock and the threads.
        counts_deliveries: whether messages come with a delivery count, as from a quorum queue.
    """

    def __init__(self, simulation: Simulation, *, counts_deliveries: bool = False) -> None:
        self.simulation = simulation
        self.counts_deliveries = counts_deliveries
        self.messages: dict[int, QueuedMessage] = {}
        self.ready: list[QueuedMessage] = []
        self.receipts: list[Receipt] = []
        self.channels: list[ModelChannel] = []
        self.openings: list[Callable[[], None]] = []
        self.outbox: list[tuple[ModelChannel, Callable[[], None]]] = []
        self.asking: list[tuple[ModelChannel, SimulatedWaiter]] = []
        self.published: list[Publish] = []
        self.is_up = True
        #: how long answers are waited for, in seconds; None for as long as it takes
        self.patience: float | None = 15.0
        self.control = ModelControl(simulation)
        self.publisher = ModelPublisher(self)
        self.connections = ModelConnections(self, self.control, self.publisher)
        #: what the test allows; it raises when an ack or a drop is not due
        self.may_ack: Callable[[ModelChannel, list[int]], None] = lambda *_: None
        self.may_drop: Callable[[ModelChannel, int], None] = lambda *_: None
        self.numbers = itertools.count(1)

    def as_connections(self) -> Connections:
        """Let the type checker take the model for the real thing."""
        return cast(Connections, self.connections)

    # -- messages ------------------------------------------------------------------------------

    def send(self, size: int = 0) -> QueuedMessage:
        number = len(self.messages) + 1
        message = QueuedMessage(number, b"%d %s" % (number, b"x" * size))
        self.messages[number] = message
        self.ready.append(message)
        return message

    def put_back(self, message: QueuedMessage) -> None:
        """Queue a message again, in its place."""
        message.times_back += 1
        self.ready.append(message)
        self.ready.sort(key=lambda each: each.number)

    def deliver(self, at_most: int) -> int:
        """Send what the prefetch allows, and return how many messages that were."""
        sent = 0
        for channel in self.channels:
            tags = channel.room()[: min(at_most, len(self.ready))]
            if tags:
                batch, self.ready = self.ready[: len(tags)], self.ready[len(tags) :]
                channel.deliver(batch, tags)
                sent += len(tags)
        return sent

    def unacked(self) -> list[Receipt]:
        return [r for channel in self.channels for r in channel.unacked.values()]

    def open_channels(self) -> list[ModelChannel]:
        return [channel for channel in self.channels if channel.error is None]

    # -- the connection ------------------------------------------------------------------------

    def ask(
        self, channel: ModelChannel, waiter: SimulatedWaiter, answer: Callable[[], Any]
    ) -> None:
        if channel.error is not None:
            waiter.fail(channel.error)
            return

        def respond() -> None:
            self.asking.remove((channel, waiter))
            waiter.resolve(answer())

        self.asking.append((channel, waiter))
        self.outbox.append((channel, respond))

    def fail_waiters(self, channel: ModelChannel, error: MQError) -> None:
        mine = [each for each in self.asking if each[0] is channel]
        self.asking = [each for each in self.asking if each[0] is not channel]
        for _channel, waiter in mine:
            waiter.fail(error)

    def carry_out(self, at_most: int = 1_000_000) -> int:
        """Do what was asked, in order, and return how many things that were."""
        if not self.is_up:
            return 0
        done = 0
        openings, self.openings = self.openings, []
        for opened in openings:
            opened()
            done += 1
        while self.outbox and done < at_most:
            channel, operation = self.outbox.pop(0)
            if channel.error is None:
                operation()
            done += 1
        return done

    def lose(self, *, comes_back: bool) -> None:
        """Lose the connection, and all that was on its way."""
        self.is_up = comes_back
        self.outbox.clear()
        for channel in self.open_channels():
            channel.shut(ConnectionLostError("the connection was lost"))

    def cancel_consumer(self) -> None:
        """End the consumer, as when its queue is deleted."""
        for channel in self.open_channels():
            tags = list(channel.consumers)
            channel.consumers.clear()
            channel.is_cancelled = True
            for tag in tags:
                channel.events.cancelled(tag)
