"""A whole consumer between a model of its broker and callbacks that follow a script.

Every callback, settlement and delivery is written down, and what must never happen is checked
where it would happen.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any

import pytest

from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.consumers.callback_channel import CallbackChannel
from neon_mq_connector.consumers.consumer import Consumer
from neon_mq_connector.consumers.registration import AckMode, Registration, Retry
from neon_mq_connector.consumers.workers import ThreadRunner
from neon_mq_connector.errors import DecodeError, MQError
from neon_mq_connector.lifecycle import State
from neon_mq_connector.topology import Queue
from tests.unit.models.broker import (
    DEAD_QUEUE,
    Broker,
    ModelChannel,
    Publish,
    QueuedMessage,
    Receipt,
)
from tests.unit.models.simulation import Simulation, Task, install

#: What callbacks may do, one after another. A script that ends returns.
STEPS = (
    "ack",
    "ack up to here",
    "ack all",
    "ack nonsense",
    "nack",
    "drop",
    "reject",
    "recover",
    "publish",
    "wait",
    "lend",
    "ack from the consumer's thread",
    "raise",
    "exit",
    "cannot decode",
    "close",
)
Script = Sequence[str]

#: How long the clock moves at least until every ack that was given must have left, in seconds.
_ACKS_LEAVE_WITHIN = 0.05

BACKOFF = ExponentialBackoff(first=1.0, factor=2.0)


class CallbackError(Exception):
    """What scripts raise."""


def register(
    *, attempts: int = 3, parks: bool = True, counts_deliveries: bool = False, **options: Any
) -> Registration:
    """Make the registration of a consumer; options as for `Registration`."""
    arguments = {"x-queue-type": "quorum"} if counts_deliveries else {}
    retry = Retry(attempts=attempts, backoff=BACKOFF, park=parks)
    options = {"ack": AckMode.ON_SUCCESS, "prefetch_count": 3, "inbox_max_bytes": 1_000, **options}
    queue = Queue("q", durable=True, arguments=arguments)
    return Registration(queue, retry=retry, dead_queue=DEAD_QUEUE, **options)


@dataclass(eq=False)
class Handling:
    """What became of one delivery in this process."""

    receipt: Receipt
    starts: int = 0
    running: int = 0
    #: what was asked since the last start: ("ack" or "drop" or "back", publishes it waits for)
    asked: list[tuple[str, list[Publish]]] = field(default_factory=list)
    #: acks of many that were on their way when it was started: it may be one of the many
    perhaps_asked: list[list[Publish]] = field(default_factory=list)
    has_raised: bool = False
    not_before: float = 0.0

    @property
    def message(self) -> QueuedMessage:
        return self.receipt.message

    @property
    def may_be_acked(self) -> bool:
        acks = [publishes for kind, publishes in self.asked if kind == "ack"]
        return any(
            all(each.confirmed for each in publishes) for publishes in acks + self.perhaps_asked
        )

    @property
    def must_have_been_acked(self) -> bool:
        # one that failed may be claimed for another try, which an ack of many does not undo
        return (
            self.may_be_acked
            and not (self.running or self.has_raised or self.perhaps_asked)
            and all(each.confirmed for _kind, publishes in self.asked for each in publishes)
        )


class Bench:
    """A consumer, its broker, and the books of both."""

    def __init__(self, setup: Registration) -> None:
        self.setup = setup
        self.simulation = Simulation()
        self._patch = pytest.MonkeyPatch()
        self._log = logging.getLogger("neon_mq_connector")
        self._level = self._log.level
        self._log.setLevel(logging.CRITICAL + 1)
        install(self._patch, self.simulation)
        self.broker = Broker(self.simulation, counts_deliveries=bool(setup.queue.arguments))
        self.broker.may_ack = self._check_ack
        self.broker.may_drop = self._check_drop
        self.reports: list[BaseException] = []
        self.consumer = Consumer(
            setup,
            self.broker.as_connections(),
            partial(ThreadRunner, self._callback, concurrency=setup.concurrency, name="worker"),
            report=self.reports.append,
            started=Event(),
        )
        self.task = Task(self.simulation, "consumer", self.consumer.run)
        self.task.start()
        self.scripts: dict[int, Sequence[Script]] = {}
        self.starts: dict[int, int] = {}
        self.started_on: dict[int, ModelChannel] = {}
        self.failed_on_receipt: set[int] = set()
        self.handlings: dict[int, Handling] = {}
        self.lent: list[tuple[Handling, CallbackChannel]] = []
        self.acks_of_many: list[tuple[ModelChannel, int, list[Publish]]] = []
        self.released = 0
        self.waiting = 0
        self.running = 0
        self.ended = 0
        self.is_calm = False
        self.is_stopped = False
        self._parking_failures_before = 0

    def close(self) -> None:
        """End the threads and give the modules their clocks back."""
        try:
            self.simulation.end()
        finally:
            self._patch.undo()
            self._log.setLevel(self._level)

    # -- callbacks -----------------------------------------------------------------------------

    def _callback(self, channel: CallbackChannel, method: Any, _properties: Any, _b: Any) -> None:
        handling = self._handling(method)
        self._check_start(handling)
        message = handling.message
        scripts = self.scripts[message.number]
        script = scripts[min(self.starts[message.number], len(scripts)) - 1]
        if self.is_calm:
            script = ["ack"] if self.setup.ack is AckMode.MANUAL else []
        publishes: list[Publish] = []
        self.running += 1
        handling.running += 1
        try:
            for step in script:
                self._perform(step, handling, channel, publishes)
            if self.setup.ack is AckMode.ON_SUCCESS and not handling.asked:
                handling.asked.append(("ack", list(publishes)))
        except (CallbackError, SystemExit, DecodeError, MQError):
            self._raised(handling)
            raise
        finally:
            self.running -= 1
            handling.running -= 1
            self.ended += 1

    def _handling(self, method: Any) -> Handling:
        for receipt in reversed(self.broker.receipts):
            if (receipt.consumer_tag, receipt.tag) == (method.consumer_tag, method.delivery_tag):
                return self.handlings.setdefault(id(receipt), Handling(receipt))
        raise AssertionError("a message that was never delivered")

    def _find(self, channel: ModelChannel, tag: int) -> Handling | None:
        receipt = channel.receipts.get(tag)
        return None if receipt is None else self.handlings.get(id(receipt))

    def _raised(self, handling: Handling) -> None:
        handling.has_raised = True
        if self.setup.ack is AckMode.ON_RECEIPT:
            self.failed_on_receipt.add(handling.message.number)
        handling.not_before = self.simulation.now + BACKOFF.delay(handling.starts)

    def _perform(
        self,
        step: str,
        handling: Handling,
        channel: CallbackChannel,
        publishes: list[Publish],
    ) -> None:
        tag = handling.receipt.tag
        if step in ("nack", "reject", "recover") and self.starts[handling.message.number] > 3:
            return  # or it would go round for ever, as its callback wants it
        if step == "ack":
            self._ask(handling, "ack", publishes)
            channel.basic_ack(tag)
        elif step in ("ack up to here", "ack all"):
            upto = tag if step == "ack up to here" else 0
            on_its_way = (handling.receipt.channel, upto, list(publishes))
            self._ask_multiple(handling, "ack", upto, publishes)
            self.acks_of_many.append(on_its_way)
            channel.basic_ack(upto, multiple=True)
            self.acks_of_many.remove(on_its_way)
        elif step == "ack nonsense":
            channel.basic_ack(tag + 1_000)
        elif step in ("nack", "drop"):
            self._ask(handling, "back" if step == "nack" else "drop", [])
            channel.basic_nack(tag, requeue=step == "nack")
        elif step == "reject":
            self._ask(handling, "back", [])
            channel.basic_reject(tag, requeue=True)
        elif step == "recover":
            self._ask_multiple(handling, "back", 0, [])
            channel.basic_recover()
        elif step == "publish":
            before = len(self.broker.published)
            channel.basic_publish("", "answers", b"x")
            publishes.extend(self.broker.published[before:])
        elif step == "wait":
            self._wait()
        elif step == "lend":
            self.lent.append((handling, channel))
        elif step == "ack from the consumer's thread":

            def ack() -> None:
                handling.asked.append(("ack", list(publishes)))
                channel.basic_ack(tag)

            channel.connection.add_callback_threadsafe(ack)
        elif step == "close":
            self.note_stop()
            channel.close()
        else:
            raise {
                "raise": CallbackError("as the script says"),
                "exit": SystemExit(1),
                "cannot decode": DecodeError("as the script says"),
            }[step]

    def _wait(self) -> None:
        self.waiting += 1
        number = self.waiting
        self.simulation.wait(
            "a callback", lambda: self.is_calm or self.is_stopped or self.released >= number
        )

    def _ask(self, handling: Handling, kind: str, publishes: list[Publish]) -> None:
        if not handling.asked:  # whoever settles first decides
            handling.asked.append((kind, list(publishes)))
        if kind == "ack":
            publishes.clear()

    def _ask_multiple(self, own: Handling, kind: str, upto: int, publishes: list[Publish]) -> None:
        for each in self.handlings.values():
            receipt = each.receipt
            if receipt.channel is own.receipt.channel and (upto == 0 or receipt.tag <= upto):
                each.asked.append((kind, list(publishes)))
        if kind == "ack":
            publishes.clear()

    # -- what must never happen ----------------------------------------------------------------

    def _check_start(self, handling: Handling) -> None:
        message, channel = handling.message, handling.receipt.channel
        number = message.number
        self.starts[number] = self.starts.get(number, 0) + 1
        handling.starts += 1
        task = self.simulation.current
        assert task is not None
        # whoever was held up between looking and starting could not know better
        could_know = task.is_waiting
        if could_know:
            assert not self.is_stopped, "a callback started after the stop"
            assert channel.is_open, "started though its channel is gone"
        if self.setup.ack is AckMode.ON_RECEIPT:
            self._check_only_start(number, channel)
        else:
            assert not channel.is_open or handling.receipt.tag in channel.unacked, (
                "a message that is settled was started"
            )
        assert handling.running == 0, "one delivery is handled twice at a time"
        assert self.running < self.setup.concurrency, "too many callbacks at a time"
        assert handling.starts <= self.setup.retry.attempts, "tried too often"
        assert self.simulation.now >= handling.not_before, "tried again before its time"
        handling.asked.clear()
        handling.perhaps_asked = [
            publishes
            for on, upto, publishes in self.acks_of_many
            if on is channel and (upto == 0 or handling.receipt.tag <= upto)
        ]

    def _check_only_start(self, number: int, channel: ModelChannel) -> None:
        """Check that a message that may be started once is, as far as that can be known."""
        before = self.started_on.get(number)
        if before is not None:
            used = [each for each in self.broker.channels if each.receipts]
            assert used.index(channel) - used.index(before) > 1, "started twice"
        self.started_on[number] = channel

    def _check_ack(self, channel: ModelChannel, tags: list[int]) -> None:
        for each in tags:
            receipt = channel.receipts.get(each)
            assert receipt is not None, f"ack of {each}, which was never delivered there"
            message = receipt.message
            if self.setup.ack is AckMode.ON_RECEIPT:
                # the ack leaves just before the callback
                continue
            handling = self._find(channel, each)
            handled = handling is not None and handling.may_be_acked
            parked = message.parked and (handling is None or handling.has_raised)
            assert handled or parked, f"message {message.number} was acked for nothing"

    def _check_drop(self, channel: ModelChannel, tag: int) -> None:
        handling = self._find(channel, tag)
        if handling is not None and any(kind == "drop" for kind, _ in handling.asked):
            return
        if not self.setup.retry.park:
            assert handling is not None, "dropped without being tried"
            return
        assert self.setup.reject_when_unparkable, f"delivery {tag} was dropped for nothing"
        assert channel.receipts[tag].message in self.broker.publisher.failures

    # -- what the test does --------------------------------------------------------------------

    def note_stop(self) -> None:
        if not self.is_stopped:
            self.is_stopped = True
            self._parking_failures_before = len(self.broker.publisher.failures)

    def stop(self) -> None:
        self.note_stop()
        self.consumer.request_stop()

    def send(self, *scripts: Script, size: int = 0) -> QueuedMessage:
        message = self.broker.send(size)
        self.scripts[message.number] = scripts or ([],)
        return message

    def settle_lent(self, index: int, kind: str) -> None:
        """Settle a message on a thread that is nobody's, perhaps long after its callback."""
        handling, channel = self.lent[index]
        handling.asked.append((kind, []))
        tag = handling.receipt.tag
        if kind == "ack":
            channel.basic_ack(tag)
        else:
            channel.basic_nack(tag, requeue=kind == "back")

    def confirm(self, index: int = 0) -> None:
        publish = self.broker.publisher.pending.pop(index)
        publish.confirmed = True
        publish.answer.resolve(None)

    def fail_publish(self, error: MQError, index: int = 0) -> None:
        publish = self.broker.publisher.pending.pop(index)
        publish.failed = True
        for each in self.handlings.values():
            if any(publish in publishes for _kind, publishes in each.asked):
                each.has_raised = True
                each.not_before = self.simulation.now + BACKOFF.delay(each.starts)
        publish.answer.fail(error)

    def run_until_all_wait(self, *, deliver: bool = True) -> None:
        """Let everybody do what can be done without waiting."""
        for _ in range(1_000):
            self.simulation.run_all()
            if self.broker.carry_out():
                continue
            if deliver and self.broker.deliver(100):
                continue
            if not any(task.can_go for task in self.simulation.tasks):
                return
        raise AssertionError("they go round and round")

    def advance(self, seconds: float | None = None) -> None:
        """Move the clock: so far, or to where the first who waits has waited long enough."""
        if seconds is None:
            deadline = self.simulation.next_deadline()
            seconds = 0.0 if deadline is None else max(0.0, deadline - self.simulation.now)
        self.simulation.advance(seconds)
        if seconds >= _ACKS_LEAVE_WITHIN:
            self._expect_acks_to_have_left()

    def _expect_acks_to_have_left(self) -> None:
        """Check that none is held back, unless somebody was stopped just before giving it."""
        tasks = self.simulation.tasks
        if all(task.is_over or (task.is_waiting and not task.can_go) for task in tasks):
            for each in self.handlings.values():
                channel, tag = each.receipt.channel, each.receipt.tag
                if channel.is_open and each.must_have_been_acked:
                    assert tag in channel.told, f"the ack of delivery {tag} is held back for ever"

    # -- how it ends ---------------------------------------------------------------------------

    def expect_recovery(self) -> None:
        """Have all faults end, and expect everything to be handled."""
        self.is_calm = True
        broker = self.broker
        broker.is_up = True
        broker.control.refusal = None
        broker.publisher.parking = "works"
        broker.publisher.is_connected = True
        for _ in range(200):
            self.run_until_all_wait()
            while broker.publisher.pending:
                self.confirm()
                self.run_until_all_wait()
            self._settle_forgotten()
            self.run_until_all_wait()
            at_rest = self.consumer.started.is_set() and not self.consumer.failures.held
            if at_rest and not broker.ready and self._all_are_settled():
                self.advance(_ACKS_LEAVE_WITHIN)
                self.run_until_all_wait()
                break
            if self.task.is_over:
                break
            self.advance()
        if self.setup.restart_attempts >= 0 and self.task.is_over:
            assert self.consumer.lifecycle.state is State.FAILED
            return
        assert not self.task.is_over, self.consumer.lifecycle.snapshot
        assert self.consumer.lifecycle.state is State.CONSUMING, self.consumer.lifecycle.snapshot
        assert self.consumer.started.is_set()
        assert not broker.ready, "messages are ready and nobody takes them"
        assert not broker.unacked(), "messages were handled and never settled"
        assert self.consumer.failures.held == 0
        assert len(broker.open_channels()) == 1
        session = self.consumer.session
        assert session is not None
        assert session.settlement.wait_until_sent(0.0), "a claim was never followed by a verdict"
        assert session.settlement.open_count() == 0
        for message in broker.messages.values():
            assert message.is_gone, f"message {message.number} is nowhere"

    def _all_are_settled(self) -> bool:
        """Whether everything was settled as far as its owners are concerned."""
        session = self.consumer.session
        return (
            session is not None
            and session.settlement.open_count() == 0
            and session.settlement.wait_until_sent(0.0)
        )

    def _settle_forgotten(self) -> None:
        """Acknowledge what its callbacks have left open."""
        session = self.consumer.session
        if session is None or self.setup.ack is not AckMode.MANUAL:
            return
        unacked = self.broker.unacked()
        for each in self.handlings.values():
            tag = each.receipt.tag
            if each.receipt in unacked and not each.running and session.settlement.is_open(tag):
                each.asked.append(("ack", []))
                session.channel.basic_ack(tag)

    def expect_end(self) -> None:
        """Stop, and expect every message to be in one place, and nothing to be left."""
        self.stop()
        for _ in range(200):
            self.run_until_all_wait()
            if all(task.is_over for task in self.simulation.tasks):
                break
            self.advance()
        assert all(task.is_over for task in self.simulation.tasks), [
            (task.name, task.where) for task in self.simulation.tasks if not task.is_over
        ]
        while self.broker.publisher.pending:  # late answers harm nobody
            self.confirm()
        self.broker.carry_out()
        state = self.consumer.lifecycle.state
        assert state is State.STOPPED or (
            state is State.FAILED and self.setup.restart_attempts >= 0
        ), self.consumer.lifecycle.snapshot
        assert not self.consumer.started.is_set()
        assert not self.broker.open_channels(), "a channel was left open"
        self._expect_sums()

    def _expect_sums(self) -> None:
        broker, dispatcher = self.broker, self.consumer.dispatcher
        assert self.running == 0
        assert dispatcher.running() == []
        assert dispatcher.handled + dispatcher.failed == self.ended == sum(self.starts.values())
        for message in broker.messages.values():
            number = message.number
            places = [message.acked, message.dropped, broker.ready.count(message)]
            assert sum(places) == 1, f"message {number}: acked, dropped, ready: {places}"
            if message.acked:
                assert self.starts.get(number) or message.parked, f"{number} was acked unseen"
            if number in self.failed_on_receipt and self.setup.retry.park and message.acked:
                gave_up = self.setup.restart_attempts >= 0
                since = 0 if gave_up else self._parking_failures_before
                tried_in_vain = bool(broker.publisher.failures[since:])
                assert message.parked or tried_in_vain, f"{number} failed and is lost"
        unexpected = [
            each for each in self.reports if not isinstance(each, (MQError, CallbackError))
        ]
        assert all(isinstance(each, SystemExit) for each in unexpected), unexpected
