"""Try what a service needs to do, on a queue and an exchange that are deleted afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pika.exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector.consumers.registration import bounded_name
from neon_mq_connector.control.control import Control
from neon_mq_connector.envelope import DIRECT_REPLY_TO, new_id
from neon_mq_connector.errors import MQError
from neon_mq_connector.operations.findings import Finding, error, ok, skipped, warning
from neon_mq_connector.topology import INTERNAL_ERROR, NOT_IMPLEMENTED

_PUMP_INTERVAL = 0.05


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
            reason = self._call("publishing", self._blocked_reason)
        except pika_errors.ChannelClosedByBroker as refusal:
            self.obstacle = "no message can be published"
            yield error("publish", refusal.reply_text, self._rights)
            yield skipped("alarms", "a publish was refused")
        except (pika_errors.AMQPError, MQError) as failure:
            self.obstacle = "no message can be published"
            yield error("alarms", f"a message is not taken: {failure}", "look at the broker's log")
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
        self._try("tidy up", lambda channel: channel.exchange_delete(self._name), "")
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
        try:
            self._call("declaring a transient queue", self._declare_transient)
        except pika_errors.AMQPError as refusal:
            if getattr(refusal, "reply_code", 0) in (INTERNAL_ERROR, NOT_IMPLEMENTED):
                return warning(
                    "transient queues",
                    "refused; releases before 0.11 cannot answer or ask here",
                    "upgrade those, or permit them: "
                    "deprecated_features.permit.transient_nonexcl_queues = true",
                )
            return skipped("transient queues", getattr(refusal, "reply_text", str(refusal)))
        except MQError as failure:
            return skipped("transient queues", str(failure))
        return ok("transient queues", "permitted")

    def _declare_transient(self, channel: BlockingChannel) -> None:
        name = f"{self._name}.transient"
        channel.queue_declare(name, arguments={"x-expires": 60_000})
        channel.queue_delete(name)

    def _call(self, what: str, operation: Callable[[BlockingChannel], Any]) -> Any:
        return self._control.call(what, operation, timeout=self._timeout)

    def _try(self, check: str, operation: Callable[[BlockingChannel], Any], done: str) -> Finding:
        try:
            result = self._call(f"trying to {check}", operation)
        except pika_errors.ChannelClosedByBroker as refusal:
            return error(check, refusal.reply_text, self._rights)
        except (pika_errors.AMQPError, MQError) as failure:
            return error(check, str(failure) or repr(failure), "look at the broker's log")
        return ok(check, done.format(result))

    def _configure(self, channel: BlockingChannel) -> None:
        channel.queue_declare(self._name, exclusive=True)
        channel.exchange_declare(self._name)
        channel.exchange_delete(self._name)

    def _write(self, channel: BlockingChannel) -> None:
        channel.exchange_declare(self._name)
        channel.queue_bind(self._name, self._name, routing_key="a")
        channel.basic_publish(self._name, "a", b"{}")
        channel.queue_purge(self._name)  # its answer shows that the publish was not refused

    def _read(self, channel: BlockingChannel) -> None:
        channel.basic_get(self._name, auto_ack=True)

    def _blocked_reason(self, channel: BlockingChannel) -> str:
        """Publish to no queue; return why the broker blocks the connection, or an empty string.

        It is blocked some time after the first message, and a second one is not read.
        """
        reasons: list[str] = []
        returned: list[object] = []
        channel.connection.add_on_connection_blocked_callback(
            lambda _, method: reasons.append(method.method.reason or "it has an alarm")
        )
        channel.add_on_return_callback(lambda *each: returned.append(each))
        for _ in range(2):
            returned.clear()
            channel.basic_publish("", f"{self._name}.nobody", b"{}", mandatory=True)
            self._pump(channel, lambda: reasons or returned)
        return reasons[0] if reasons else ""

    def _measure_reply(self, channel: BlockingChannel) -> float:
        """Send a request to ourselves and answer it; return how long that took, in ms."""
        answers: list[bytes] = []

        def answer(_: Any, _method: Any, properties: BasicProperties, body: bytes) -> None:
            channel.basic_publish("", str(properties.reply_to), body)

        channel.basic_consume(
            DIRECT_REPLY_TO, lambda *each: answers.append(each[-1]), auto_ack=True
        )
        channel.basic_consume(self._name, answer, auto_ack=True)
        began = time.perf_counter()
        channel.basic_publish("", self._name, b"{}", BasicProperties(reply_to=DIRECT_REPLY_TO))
        self._pump(channel, lambda: answers)
        return (time.perf_counter() - began) * 1000

    def _pump(self, channel: BlockingChannel, is_over: Callable[[], Any]) -> None:
        """Process events until something has come; the deadline of the job ends the wait."""
        while not is_over():
            channel.connection.process_data_events(_PUMP_INTERVAL)
            if not channel.is_open:
                raise channel._closing_reason or pika_errors.ChannelWrongStateError()
