"""Try what a service needs to do, on a queue and an exchange that are deleted afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pika
from pika.spec import BasicProperties

from neon_mq_connector.consumers.registration import bounded_name
from neon_mq_connector.control.control import Control
from neon_mq_connector.deadline import time_left
from neon_mq_connector.envelope import DIRECT_REPLY_TO, new_id
from neon_mq_connector.errors import MQError, WaitTimeoutError
from neon_mq_connector.link import (
    ChannelEvents,
    LinkChannel,
    RawDelivery,
    Waiter,
    decode_delivery,
)
from neon_mq_connector.link.translate import broker_refusal
from neon_mq_connector.operations.findings import Finding, error, ok, skipped, warning
from neon_mq_connector.topology import TRANSIENT_REFUSED, Exchange, Queue, Refusal, Step

_POLL_INTERVAL = 0.05


class Trial:
    """Try what a service does on one connection.

    Args:
        control: the connection; the queue is exclusive to it.
        prefix: how the names of queue and exchange begin, such as the name of the service.
        parameters: those of the connection.
        timeout: for each step, in seconds.

    Attributes:
        obstacle: why no message can be published; found by `alarms`.
    """

    def __init__(
        self, control: Control, prefix: str, parameters: pika.ConnectionParameters, timeout: float
    ) -> None:
        self._control = control
        self._timeout = timeout
        self.obstacle = ""
        self._name = bounded_name(prefix, f".doctor.{new_id()[:12]}")
        user = getattr(parameters.credentials, "username", "USER")
        self._rights = (
            f"rabbitmqctl set_permissions -p '{parameters.virtual_host}' '{user}' CONFIGURE WRITE "
            "READ, with patterns that match these names"
        )

    def alarms(self) -> Iterator[Finding]:
        """Check whether the broker takes messages; if not, it reads no more from here."""
        try:
            self.obstacle = self._blocked_reason()
        except (MQError, Refusal) as failure:
            self.obstacle = "no message can be published"
            yield self._failed("publish", failure)
            yield skipped("alarms", self.obstacle)
            return
        if self.obstacle:
            yield error(
                "alarms",
                f"the broker takes no messages: {self.obstacle}",
                "free memory or disk space on its node, or raise its limit",
            )
        else:
            yield ok("alarms", "none; the broker takes messages")

    def permissions(self, obstacle: str) -> Iterator[Finding]:
        """Try what needs permissions, and a request, unless there is an obstacle to publishing."""
        for check, operation, done, without in (
            ("configure", self._configure, "queues and exchanges may be made", "there is no queue"),
            ("write", self._write, "queues may be bound and messages published", ""),
            ("read", self._read, "messages may be taken from queues", "the queue cannot be read"),
            ("reply", self._measure_reply, "a request and its answer took {:.1f} ms", ""),
        ):
            if obstacle and check != "configure":
                yield skipped(check, obstacle)
                continue
            try:
                yield ok(check, done.format(operation()))
            except (MQError, Refusal) as failure:
                yield self._failed(check, failure)
                obstacle = obstacle or without

    def transient_queues(self) -> Finding:
        """Find out whether the broker permits queues that are neither durable nor exclusive.

        It closes the connection where it does not.
        """
        name = f"{self._name}.transient"
        try:
            self._perform(Queue(name, arguments={"x-expires": 60_000}).declare())
            self._perform(Queue(name).delete())
        except (MQError, Refusal) as failure:
            if getattr(failure, "code", None) not in TRANSIENT_REFUSED:
                return skipped("transient queues", str(failure))
            return warning(
                "transient queues",
                "refused; releases before 0.11 cannot answer or ask here",
                "upgrade those, or permit them: "
                "deprecated_features.permit.transient_nonexcl_queues = true",
            )
        return ok("transient queues", "permitted")

    def _failed(self, check: str, failure: MQError | Refusal) -> Finding:
        refusal = failure if isinstance(failure, Refusal) else broker_refusal(failure)
        if refusal is None:
            return error(check, str(failure), "look at the broker's log")
        return error(check, refusal.text, self._rights)

    def _configure(self) -> None:
        self._perform(Queue(self._name, exclusive=True).declare())
        self._perform(Exchange(self._name).declare())
        self._perform(Exchange(self._name).delete())

    def _write(self) -> None:
        channel, exchange, queue = self._open(), Exchange(self._name), Queue(self._name)
        try:
            channel.perform(exchange.declare(), timeout=self._timeout)
            channel.perform(queue.bind(self._name, "a"), timeout=self._timeout)
            channel.send(channel.encode(self._name, "a", b"{}", BasicProperties()))
            # its answer shows that the publish was not refused
            channel.perform(queue.declare(passive=True), timeout=self._timeout)
        finally:
            with suppress(MQError, Refusal):
                self._perform(exchange.delete())

    def _read(self) -> None:
        self._open().get(self._name, True, timeout=self._timeout)

    def _blocked_reason(self) -> str:
        """Publish to no queue; return why the broker blocks the connection, or an empty string.

        It is blocked some time after the first message, and a second one is not read.
        """
        returned: list[object] = []
        channel = self._open(ChannelEvents(returned=lambda *each: returned.append(each)))
        place, deadline = f"{self._name}.nobody", time.monotonic() + self._timeout
        for count in (1, 2):
            channel.send(channel.encode("", place, b"{}", BasicProperties(), mandatory=True))
            while len(returned) < count:
                if channel.link.blocked_reason:
                    return channel.link.blocked_reason
                if channel.error is not None:
                    raise channel.error
                if not time_left(deadline):
                    raise WaitTimeoutError(f"no answer within {self._timeout:g} s")
                time.sleep(_POLL_INTERVAL)
        return channel.link.blocked_reason or ""

    def _measure_reply(self) -> float:
        """Send a request to ourselves and answer it; return how long that took, in ms."""
        answered: Waiter[float] = Waiter()

        def deliveries(batch: Sequence[RawDelivery]) -> None:
            for _method, properties, body in map(decode_delivery, batch):
                if properties.reply_to:
                    channel.send(channel.encode("", properties.reply_to, body, BasicProperties()))
                else:
                    answered.resolve(time.perf_counter())

        channel = self._open(ChannelEvents(deliveries=deliveries))
        for queue in (DIRECT_REPLY_TO, self._name):
            channel.consume(queue, auto_ack=True, timeout=self._timeout)
        began = time.perf_counter()
        request = BasicProperties(reply_to=DIRECT_REPLY_TO)
        channel.send(channel.encode("", self._name, b"{}", request))
        return (answered.wait(self._timeout, "the answer to a request") - began) * 1000

    def _perform(self, step: Step) -> None:
        self._control.perform_step(step, timeout=self._timeout)

    def _open(self, events: ChannelEvents | None = None) -> LinkChannel:
        return self._control.link.open_channel(events or ChannelEvents(), timeout=self._timeout)
