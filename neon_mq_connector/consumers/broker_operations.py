"""The operations of a callback's channel that the broker answers, and may refuse.

They go to the control connection, where a refusal harms nobody else, and raise pika's exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial, partialmethod
from typing import Any, TypeAlias

import pika.exceptions as pika_errors
import pika.frame
from pika.spec import PRECONDITION_FAILED, Basic, BasicProperties, Queue

from neon_mq_connector.consumers.session import Session
from neon_mq_connector.control.control import Operation
from neon_mq_connector.envelope import LONGEST_EXPIRATION, is_direct_reply_name
from neon_mq_connector.errors import (
    PublishRejectedError,
    TopologyError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.topology import (
    BrokerFacts,
    Call,
    QueueStatus,
    Refusal,
    Step,
    check_name,
    declare_queue,
)
from neon_mq_connector.topology import Queue as QueueSpec

# older releases of pika have no generic class there
FrameCallback = Callable[["pika.frame.Method[Any]"], object]
#: Called with the result of an operation, if it is given.
ResultCallback: TypeAlias = Callable[[Any], object] | None


class BrokerOperations:
    """pika's operations that the broker answers, each written once for functions and coroutines.

    In a `CallbackChannel` they return pika's answer, in an `AwaitableChannel` its awaitable.
    """

    _session: Session
    direct_queue: str | None

    # -- for the classes that derive -----------------------------------------------------------

    def _submit(self, what: str, operation: Operation[Any], callback: ResultCallback = None) -> Any:
        """Perform an operation on the control connection, and call a callback with its result."""
        control = self._session.connections.control
        run = partial(control.run, what, operation, timeout=self._timeout)
        return self._run(what, run, callback)

    def _run(self, what: str, function: Callable[[], Any], callback: ResultCallback = None) -> Any:
        """Call a function that waits for the broker, and a callback with its result."""
        raise NotImplementedError

    def _answered(self, what: str, answer: Any, callback: FrameCallback | None) -> Any:
        """Return an answer for which the broker need not be asked."""
        raise NotImplementedError

    @property
    def _timeout(self) -> float:
        return self._session.connections.policy.operation_timeout

    # -- what the broker may refuse ------------------------------------------------------------

    def queue_declare(
        self,
        queue: str,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: dict[str, Any] | None = None,
        callback: FrameCallback | None = None,
    ) -> Any:
        """Declare a queue; one that exists with other properties is used as it is.

        The answer is pika's frame; its ``method`` has ``queue``, ``message_count`` and
        ``consumer_count``.

        Raises:
            pika.exceptions.ChannelClosedByBroker: the broker refused.
            ValueError: the name cannot be used.
        """
        if self._answers_directly(queue):
            return self._answered("queue_declare", _declared(queue, 0, 0), callback)
        spec = QueueSpec(queue, durable, exclusive, auto_delete, arguments or {})
        exclusive_queues = self._session.connections.control.exclusive

        def declare(facts: BrokerFacts) -> Generator[Step, Any, Any]:
            if passive or exclusive:
                status: QueueStatus = yield spec.declare(passive=passive)
            else:
                status = yield from declare_queue(spec, facts)
            if exclusive:
                exclusive_queues.add(status.name)
            return _declared(status.name, status.messages, status.consumers)

        return self._submit(f"queue_declare({queue!r})", declare, callback)

    def queue_delete(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        """Delete a queue, as pika does."""
        if self._answers_directly(queue):
            frame = pika.frame.Method(1, Queue.DeleteOk(0))
            return self._answered("queue_delete", frame, kwargs.get("callback"))
        return self._control("queue_delete", queue, *args, **kwargs)

    def _control(
        self, method: str, *args: Any, callback: ResultCallback = None, **kwargs: Any
    ) -> Any:
        for each in (*args, *kwargs.values()):
            if isinstance(each, str):
                check_name("a queue or exchange", each)

        def call(_facts: BrokerFacts) -> Generator[Call, Any, Any]:
            return (yield Call(method, args, kwargs))

        return self._submit(f"{method}{args!r}", call, callback)

    #: These do what pika's methods of the same names do, with the same arguments.
    queue_bind = partialmethod(_control, "queue_bind")
    queue_unbind = partialmethod(_control, "queue_unbind")
    queue_purge = partialmethod(_control, "queue_purge")
    exchange_declare = partialmethod(_control, "exchange_declare")
    exchange_delete = partialmethod(_control, "exchange_delete")
    exchange_bind = partialmethod(_control, "exchange_bind")
    exchange_unbind = partialmethod(_control, "exchange_unbind")

    def _answers_directly(self, queue: str) -> bool:
        return is_direct_reply_name(queue) or queue == self.direct_queue

    # -- consuming -----------------------------------------------------------------------------

    def basic_qos(
        self,
        prefetch_size: int = 0,
        prefetch_count: int = 0,
        global_qos: bool = False,
        callback: FrameCallback | None = None,
    ) -> Any:
        """Change how many messages the broker sends ahead to this consumer.

        A count for the whole channel (``global_qos``) comes to the same: it has one consumer, and
        newer brokers refuse it. A prefetch in bytes is refused by every RabbitMQ and ignored.
        """
        session = self._session

        def change() -> Any:
            if session.is_open:
                session.subscription.set_prefetch(prefetch_count)
            return pika.frame.Method(1, Basic.QosOk())

        return self._run(f"basic_qos(prefetch_count={prefetch_count})", change, callback)

    def basic_get(
        self, queue: str, auto_ack: Any = False, callback: Callable[..., object] | None = None
    ) -> Any:
        """Take one message from a queue.

        The answer is ``(method, properties, body)``; three times None when the queue is empty.

        Args:
            queue: its name.
            auto_ack: whether it is acknowledged. pika's `Channel`, unlike its `BlockingChannel`,
                has the callback in this place; it may be given here too.
            callback: called with ``(channel, method, properties, body)`` if there is a message.

        Raises:
            pika.exceptions.ChannelClosedByBroker: the queue does not exist.
        """
        if callable(auto_ack):
            auto_ack, callback = bool(callback), auto_ack

        def got(answer: tuple[Any, Any, Any]) -> None:
            if callback is not None and answer[0] is not None:
                callback(self, *answer)

        check_name("queue", queue)
        return self._run(f"basic_get({queue!r})", partial(self._get, queue, auto_ack), got)

    def _get(self, queue: str, auto_ack: Any) -> tuple[Any, Any, Any]:
        control = self._session.connections.control
        if queue not in control.exclusive:
            return self._session.get(queue, auto_ack)
        if not auto_ack:
            raise NotImplementedError(
                f"queue {queue!r} is exclusive to the connection that declared it, where nothing "
                "can be settled later; use basic_get(..., auto_ack=True)"
            )
        return control.get(queue, timeout=self._timeout)


def _declared(queue: str, messages: int, consumers: int) -> pika.frame.Method[Any]:
    return pika.frame.Method(
        1, Queue.DeclareOk(queue=queue, message_count=messages, consumer_count=consumers)
    )


def as_pika_raises(error: BaseException) -> BaseException:
    """Return the exception that pika would raise; the error itself where pika has none for it."""
    if isinstance(error, WaitTimeoutError):
        raised: BaseException = pika_errors.AMQPConnectionError(str(error))
    elif isinstance(error, UnroutableError):
        raised = pika_errors.UnroutableError([])
    elif isinstance(error, PublishRejectedError):
        raised = pika_errors.NackError([])
    else:
        refusal = error.__cause__ if isinstance(error, TopologyError) else error
        if isinstance(refusal, Refusal) and refusal.__cause__ is not None:
            return refusal.__cause__
        return error
    raised.__cause__ = error
    return raised


def check_properties(properties: BasicProperties) -> None:
    """Check properties for which a broker would close the channel, on which others publish too.

    Raises:
        pika.exceptions.ChannelClosedByBroker: as a channel of the callback's own would raise.
    """
    expiration, headers = properties.expiration, properties.headers
    if isinstance(expiration, str) and not (
        expiration.isascii() and expiration.isdigit() and int(expiration) <= LONGEST_EXPIRATION
    ):
        raise pika_errors.ChannelClosedByBroker(
            PRECONDITION_FAILED,
            f"PRECONDITION_FAILED - invalid expiration '{expiration}': a number of milliseconds, "
            f"from 0 to {LONGEST_EXPIRATION}, as text",
        )
    for name in ("CC", "BCC") if headers else ():
        keys = headers.get(name)
        if keys is not None and not (
            isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        ):
            raise pika_errors.ChannelClosedByBroker(
                PRECONDITION_FAILED,
                f"PRECONDITION_FAILED - invalid header {name}: a list of routing keys is expected",
            )
