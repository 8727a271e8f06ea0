"""What a callback's channel asks of the broker, and what the broker may refuse.

It goes to the control connection, where a refusal harms nobody else, and is raised as pika's
exceptions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import pika.frame
from pika.spec import Basic, Queue

from neon_mq_connector.consumers.reply_route import ReplyRoute
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.control.connection import ControlConnection
from neon_mq_connector.envelope import is_direct_reply_name
from neon_mq_connector.topology import Queue as QueueSpec
from neon_mq_connector.topology import check_name, declare_queue

#: What an operation returns: the broker's answer, or something that it may be awaited by.
AnswerT = TypeVar("AnswerT")

# older releases of pika have no generic class there
FrameCallback = Callable[["pika.frame.Method[Any]"], object]


class BrokerOperations(Generic[AnswerT]):
    """pika's operations that the broker answers, each written once for functions and coroutines.

    What they return is waited for (`CallbackChannel`) or may be awaited (`AwaitableChannel`).
    """

    __slots__ = ("_session", "route")

    _session: Session
    route: ReplyRoute | None

    # -- for the classes that derive -----------------------------------------------------------

    def _submit(
        self,
        what: str,
        job: Callable[[ControlConnection], Any],
        callback: Callable[[Any], object] | None = None,
    ) -> AnswerT:
        """Have a job done on the control connection, and a callback called with its result."""
        raise NotImplementedError

    def _run(
        self,
        what: str,
        function: Callable[[], Any],
        callback: Callable[[Any], object] | None = None,
    ) -> AnswerT:
        """Call a function that waits for the broker; the rest is as for `_submit`."""
        raise NotImplementedError

    def _answered(self, what: str, answer: Any, callback: FrameCallback | None) -> AnswerT:
        """Give an answer for which the broker need not be asked."""
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
    ) -> AnswerT:
        """Declare a queue; one that exists with other properties is used as it is.

        The answer is pika's frame; its ``method`` has ``queue``, ``message_count`` and
        ``consumer_count``.

        Raises:
            pika.exceptions.ChannelClosedByBroker: the broker refused.
            ValueError: the name cannot be used.
        """
        if self._answers_directly(queue):
            return self._answered("queue_declare", _declared(queue, 0, 0), callback)
        what = f"queue_declare({queue!r})"
        spec = QueueSpec(queue, durable, exclusive, auto_delete, arguments or {})
        if not passive and not exclusive:

            def declare(connection: ControlConnection) -> Any:
                status = connection.drive(declare_queue(spec, connection.facts))
                return _declared(status.name, status.messages, status.consumers)

            return self._submit(what, declare, callback)
        connections = self._session.connections

        def declare_as_asked(connection: ControlConnection) -> Any:
            frame = connection.channel().queue_declare(
                queue,
                passive=passive,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=arguments,
            )
            if exclusive:
                connections.note_exclusive(frame.method.queue)
            return frame

        return self._submit(what, declare_as_asked, callback)

    def queue_delete(self, queue: str, *args: Any, **kwargs: Any) -> AnswerT:
        """Delete a queue, as pika does."""
        if self._answers_directly(queue):
            frame = pika.frame.Method(1, Queue.DeleteOk(0))
            return self._answered("queue_delete", frame, kwargs.get("callback"))
        return self._control("queue_delete", queue, *args, **kwargs)

    def queue_bind(self, *args: Any, **kwargs: Any) -> AnswerT:
        """Bind a queue to an exchange, as pika does."""
        return self._control("queue_bind", *args, **kwargs)

    def queue_unbind(self, *args: Any, **kwargs: Any) -> AnswerT:
        """Unbind a queue from an exchange, as pika does."""
        return self._control("queue_unbind", *args, **kwargs)

    def queue_purge(self, *args: Any, **kwargs: Any) -> AnswerT:
        """Remove the ready messages of a queue, as pika does."""
        return self._control("queue_purge", *args, **kwargs)

    def exchange_declare(self, *args: Any, **kwargs: Any) -> AnswerT:
        """Declare an exchange, as pika does."""
        return self._control("exchange_declare", *args, **kwargs)

    def exchange_delete(self, *args: Any, **kwargs: Any) -> AnswerT:
        """Delete an exchange, as pika does."""
        return self._control("exchange_delete", *args, **kwargs)

    def exchange_bind(self, *args: Any, **kwargs: Any) -> AnswerT:
        """Bind an exchange to another, as pika does."""
        return self._control("exchange_bind", *args, **kwargs)

    def exchange_unbind(self, *args: Any, **kwargs: Any) -> AnswerT:
        """Unbind an exchange from another, as pika does."""
        return self._control("exchange_unbind", *args, **kwargs)

    def _control(
        self,
        method: str,
        *args: Any,
        callback: Callable[[Any], object] | None = None,
        **kwargs: Any,
    ) -> AnswerT:
        for each in (*args, *kwargs.values()):
            if isinstance(each, str):
                check_name("a queue or exchange", each)
        return self._submit(
            f"{method}{args!r}",
            lambda connection: getattr(connection.channel(), method)(*args, **kwargs),
            callback,
        )

    def _answers_directly(self, queue: str) -> bool:
        return is_direct_reply_name(queue) or (self.route is not None and queue == self.route.queue)

    # -- consuming -----------------------------------------------------------------------------

    def basic_qos(
        self,
        prefetch_size: int = 0,
        prefetch_count: int = 0,
        global_qos: bool = False,
        callback: FrameCallback | None = None,
    ) -> AnswerT:
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
    ) -> AnswerT:
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
        what, session = f"basic_get({queue!r})", self._session
        if not session.connections.has_exclusive(queue):
            return self._run(what, partial(session.get, queue, auto_ack), got)
        if not auto_ack:
            raise NotImplementedError(
                f"queue {queue!r} is exclusive to the connection that declared it, where nothing "
                "can be settled later; use basic_get(..., auto_ack=True)"
            )
        return self._submit(
            what, lambda connection: connection.channel().basic_get(queue, auto_ack=True), got
        )


def _declared(queue: str, messages: int, consumers: int) -> pika.frame.Method[Any]:
    return pika.frame.Method(
        1, Queue.DeclareOk(queue=queue, message_count=messages, consumer_count=consumers)
    )
