"""Try what a service needs to do, on a queue and an exchange that are deleted afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

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
    Returned,
    Waiter,
    decode_delivery,
)
from neon_mq_connector.link.translate import broker_refusal
from neon_mq_connector.operations.findings import Finding, error, ok, skipped, warning
from neon_mq_connector.topology import TRANSIENT_REFUSED, Exchange, Queue, Refusal, Step

_POLL_INTERVAL = 0.05
_LOOK = "look at the broker's log"


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
            reason = self._blocked_reason()
        except (MQError, Refusal) as failure:
            self.obstacle = "no message can be published"
            refusal = _refusal(failure)
            if refusal is None:
                yield error("alarms", f"a message is not taken: {failure}", _LOOK)
            else:
                yield error("publish", refusal.text, self._rights)
                yield skipped("alarms", "a publish was refused")
        else:
            self.obstacle = reason
            if not reason:
                yield ok("alarms", "none; the broker takes messages")
                return
            yield error(
                "alarms",
                f"the broker takes no messages: {reason}",
                "free memory or disk space on its node, or raise its limit",
            )

    def permissions(self, obstacle: str) -> Iterator[Finding]:
        """Try what needs permissions, and the way of a request and its answer.

        Args:
            obstacle: why no message can be published; empty where one can.
        """
        configured = self._try("configure", self._configure, "queues and exchanges may be made")
        yield configured
        if configured.remedy:
            obstacle = obstacle or "there is no queue to try it on"
        if obstacle:
            yield from (skipped(check, obstacle) for check in ("write", "read", "reply"))
            return
        yield self._try("write", self._write, "queues may be bound and messages published")
        self._try("tidy up", partial(self._perform, Exchange(self._name).delete()), "")
        read = self._try("read", self._read, "messages may be taken from queues")
        yield read
        if read.remedy:
            yield skipped("reply", "the queue cannot be read")
        else:
            answer = "a request and its answer took {:.1f} ms"
            yield self._try("reply", self._measure_reply, answer)

    def transient_queues(self) -> Finding:
        """Find out whether the broker permits queues that are neither durable nor exclusive.

        It closes the connection where it does not.
        """
        name = f"{self._name}.transient"
        try:
            self._perform(Queue(name, arguments={"x-expires": 60_000}).declare())
            self._perform(Queue(name).delete())
        except Refusal as refusal:
            if refusal.code in TRANSIENT_REFUSED:
                return warning(
                    "transient queues",
                    "refused; releases before 0.11 cannot answer or ask here",
                    "upgrade those, or permit them: "
                    "deprecated_features.permit.transient_nonexcl_queues = true",
                )
            return skipped("transient queues", refusal.text)
        except MQError as failure:
            return skipped("transient queues", str(failure))
        return ok("transient queues", "permitted")

    def _try(self, check: str, operation: Callable[[], object], done: str) -> Finding:
        try:
            result = operation()
        except (MQError, Refusal) as failure:
            refusal = _refusal(failure)
            if refusal is None:
                return error(check, str(failure), _LOOK)
            return error(check, refusal.text, self._rights)
        return ok(check, done.format(result))

    def _configure(self) -> None:
        self._perform(Queue(self._name, exclusive=True).declare())
        self._perform(Exchange(self._name).declare())
        self._perform(Exchange(self._name).delete())

    def _write(self) -> None:
        channel = self._open()
        channel.perform(Exchange(self._name).declare(), timeout=self._timeout)
        channel.perform(Queue(self._name).bind(self._name, "a"), timeout=self._timeout)
        channel.send(channel.encode(self._name, "a", b"{}", BasicProperties()))
        # its answer shows that the publish was not refused
        channel.perform(Queue(self._name).declare(passive=True), timeout=self._timeout)

    def _read(self) -> None:
        self._open().get(self._name, True, timeout=self._timeout)

    def _blocked_reason(self) -> str:
        """Publish to no queue; return why the broker blocks the connection, or an empty string.

        It is blocked some time after the first message, and a second one is not read.
        """
        returned: list[Returned] = []
        channel = self._open(ChannelEvents(returned=returned.append))
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


def _refusal(failure: Exception) -> Refusal | None:
    return failure if isinstance(failure, Refusal) else broker_refusal(failure)
