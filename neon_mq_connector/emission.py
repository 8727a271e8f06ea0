"""Make a message from a dict, and send it where a service asks for: a queue or an exchange.

`send` does it on a connector's own connections; `emit` on a pika connection that the caller holds.
Both return when the broker has the message, and, where one queue is meant, when it is in a queue.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import pika
import pika.exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import forking
from neon_mq_connector.codec import WireFormat, content_type_of, encode_body
from neon_mq_connector.connections import Connections
from neon_mq_connector.control_connection import perform_on
from neon_mq_connector.envelope import (
    REPLY_QUEUE,
    TIME_ALLOWED,
    build_properties,
    is_reply_name,
    new_id,
)
from neon_mq_connector.errors import (
    PublishTimeoutError,
    TopologyError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import EncodedProperties, PropertiesTemplate
from neon_mq_connector.publisher import Message
from neon_mq_connector.topology import (
    NOT_FOUND,
    Bind,
    Binding,
    BrokerFacts,
    DeclareQueue,
    Exchange,
    Queue,
    QueueStatus,
    Refusal,
    Step,
    Steps,
    declare_exchange,
    declare_queue,
    drive_steps,
)

_LONGEST_NAME = 255


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


def check_data(data: Any) -> None:
    """Refuse what is no message.

    Args:
        data: what is to be sent.

    Raises:
        TypeError: it is not a mapping.
        ValueError: it is empty.
    """
    if type(data) is not dict and not isinstance(data, Mapping):
        raise TypeError(f"a message is a dict, not {type(data).__name__}")
    if not data:
        raise ValueError("the message is an empty dict: there is nothing to send")


def check_name(kind: str, name: str) -> None:
    """Refuse a name that AMQP has no room for.

    Args:
        kind: what it is the name of.
        name: the name.

    Raises:
        ValueError: it has more than 255 bytes.
    """
    size = len(name) if name.isascii() else len(name.encode("utf-8", "surrogatepass"))
    if size > _LONGEST_NAME:
        raise ValueError(
            f"the name of {kind} {name[:40]!r}... is too long: AMQP allows {_LONGEST_NAME} bytes"
        )


class Outgoing(NamedTuple):
    """A message that is ready to leave.

    Attributes:
        message_id: its id, in the body and in the properties.
        body: the bytes.
        properties: the AMQP properties.
    """

    message_id: str
    body: bytes
    properties: BasicProperties | EncodedProperties


def prepare(
    request_data: Mapping[str, Any],
    *,
    wire_format: WireFormat,
    expiration: float | str | None,
    app_id: str = "",
    **properties: Any,
) -> Outgoing:
    """Encode a dict, with a ``message_id`` if it has none. The caller's dict stays as it is.

    Args:
        request_data: what to send.
        wire_format: how to encode it.
        expiration: how long it may wait in a queue, in milliseconds; None for ever.
        app_id: the name of the sending service.
        properties: passed on to `build_properties`.

    Returns:
        The message. Its id is the dict's ``message_id`` (an empty one stays), or else that of
        ``context.mq``, or else a new one.

    Raises:
        TypeError: the data is not a mapping.
        ValueError: the data is empty.
        EncodeError: the data has no representation in that format.
    """
    data, message_id = _identified(request_data)
    return Outgoing(
        message_id,
        encode_body(data, wire_format),
        build_properties(
            message_id=message_id,
            content_type=content_type_of(wire_format),
            app_id=app_id,
            expiration=expiration,
            **properties,
        ),
    )


def prepare_encoded(
    request_data: Mapping[str, Any],
    *,
    wire_format: WireFormat,
    expiration: float | str | None,
    app_id: str = "",
    correlation_id: str | None = None,
    reply_to: str | None = None,
    reply_queue: str = "",
    time_allowed: int = 0,
) -> Outgoing:
    """Encode a dict as `prepare` does, its properties too: for a publisher of this library.

    Args:
        request_data: what to send.
        wire_format: how to encode it.
        expiration: how long it may wait in a queue, in milliseconds; None for ever.
        app_id: the name of the sending service.
        correlation_id: the id of the request that this answers; the message's own by default.
        reply_to: where an answer is to go.
        reply_queue: for a request: the queue that its body names for the answer.
        time_allowed: for a request: how long its sender waits, in milliseconds.

    Returns:
        The message; raises as `prepare`.
    """
    data, message_id = _identified(request_data)
    template = _template(
        wire_format,
        app_id,
        reply_to,
        None if expiration is None else int(float(expiration)),
        reply_queue,
        time_allowed,
    )
    number = message_id if correlation_id is None else correlation_id
    properties: BasicProperties | EncodedProperties
    try:
        properties = template.fill(message_id, number, int(time.time()))
    except ValueError:  # the ids do not fit, or only one of them: the body has them too
        properties = build_properties(
            message_id=message_id,
            content_type=content_type_of(wire_format),
            app_id=app_id,
            correlation_id=correlation_id,
            reply_to=reply_to,
            expiration=expiration,
            headers=_request_headers(reply_queue, time_allowed),
        )
    return Outgoing(message_id, encode_body(data, wire_format), properties)


@functools.lru_cache(maxsize=256)
def _template(
    wire_format: WireFormat,
    app_id: str,
    reply_to: str | None,
    expiration: int | None,
    reply_queue: str,
    time_allowed: int,
) -> PropertiesTemplate:
    return PropertiesTemplate(
        content_type=content_type_of(wire_format),
        app_id=app_id,
        reply_to=reply_to,
        expiration=None if expiration is None else str(expiration),
        headers=_request_headers(reply_queue, time_allowed),
    )


def _request_headers(reply_queue: str, time_allowed: int) -> dict[str, Any] | None:
    return {REPLY_QUEUE: reply_queue, TIME_ALLOWED: time_allowed} if reply_queue else None


def _identified(request_data: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Copy a message, with an id if it has none; also give the id."""
    check_data(request_data)
    data = dict(request_data)
    message_id = data.get("message_id")
    if message_id is None:
        message_id = data["message_id"] = context_message_id(data) or new_id()
    return data, str(message_id)


def context_message_id(data: Mapping[str, Any]) -> str | None:
    """Read ``context.mq.message_id`` from a message, if it is there."""
    context = data.get("context")
    if context is None:
        return None
    mq = context.get("mq") if isinstance(context, Mapping) else None
    value = mq.get("message_id") if isinstance(mq, Mapping) else None
    return None if value is None else str(value)


def send(connections: Connections, target: Target, outgoing: Outgoing, *, timeout: float) -> None:
    """Send on a connector's own connections.

    Args:
        connections: of the virtual host.
        target: where the message goes; what is missing there is declared.
        outgoing: the message.
        timeout: how long to wait for the broker, in seconds.

    Raises:
        PublishError: the broker did not confirm the message.
        TopologyError: the broker refused a declare.
    """
    publisher = connections.publisher
    one_queue_is_meant = target.one_queue_is_meant
    message = Message(
        target.exchange,
        target.queue,
        outgoing.body,
        outgoing.properties,
        mandatory=one_queue_is_meant,
        declare_missing=not target.exchange and one_queue_is_meant,
    )
    if not target.exchange:
        publisher.publish(message, timeout=timeout)
        return
    for attempt in (1, 2):
        try:
            if not publisher.knows(target.exchange):
                connections.control.perform(
                    f"declaring exchange {target.exchange!r}",
                    lambda _facts: target.exchange_steps(),
                    timeout=timeout,
                )
                publisher.exchange_exists(target.exchange)
            _send_to_exchange(connections, target, message, timeout)
        except WaitTimeoutError as error:  # of a declare
            raise PublishTimeoutError(
                f"{message}: not sent: {error}", may_have_arrived=False
            ) from error
        except (UnroutableError, TopologyError):
            if attempt == 2:
                raise
            # the exchange may have been deleted since it was declared here
            publisher.forget_exchange(target.exchange)
        else:
            return


def _send_to_exchange(
    connections: Connections, target: Target, message: Message, timeout: float
) -> None:
    def declare() -> None:
        connections.control.perform(
            f"declaring queue {target.queue!r}", target.queue_steps, timeout=timeout
        )

    if target.queue and not target.one_queue_is_meant:
        declare()
    try:
        connections.publisher.publish(message, timeout=timeout)
    except UnroutableError:
        if not target.queue:
            raise
        declare()
        connections.publisher.publish(message, timeout=timeout)


# -- on a connection of the caller's -----------------------------------------------------------

#: The threads of the pika connections that this library made for somebody.
_owners: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_owners_lock = threading.RLock()


def _after_fork() -> None:
    """Replace the lock: whoever held it when the process forked is not here."""
    global _owners_lock
    _owners_lock = threading.RLock()


forking.call_in_child(_after_fork)


def remember_owner(connection: pika.BlockingConnection) -> None:
    """Note that a connection was made for the thread that calls this."""
    with _owners_lock:
        _owners[connection] = threading.get_ident()


def emit(connection: Any, target: Target, outgoing: Outgoing) -> None:
    """Send on a connection that the caller holds.

    A pika connection belongs to one thread, and does not tell to which. So only a connection that
    was made by this library for the calling thread is used itself; with any other its parameters
    are used, for a connection of the moment.

    Args:
        connection: a pika `BlockingConnection` or `SelectConnection`, or the ``connection`` of a
            consumer thread or of a callback's channel.
        target: where the message goes; what is missing there is declared.
        outgoing: the message.

    Raises:
        pika.exceptions.ConnectionWrongStateError: the connection is closed.
        UnroutableError: there is no queue for it.
        TopologyError: the broker refused a declare.
    """
    if not connection.is_open:
        raise pika_errors.ConnectionWrongStateError(
            f"a message for {target.queue or target.exchange!r} needs an open connection; "
            "this one is closed"
        )
    if isinstance(connection, (pika.BlockingConnection, pika.SelectConnection)):
        with _owners_lock:
            own = _owners.get(connection) == threading.get_ident()
        if own:
            _emit_blocking(connection, target, outgoing)
            return
        with _moment(_parameters_of(connection)) as other:
            _emit_blocking(other, target, outgoing)
    else:
        channel = connection.channel()
        channel.confirm_delivery()
        _emit_on(
            target,
            outgoing,
            open_channel=lambda: contextlib.nullcontext(channel),
            declare=lambda: _declare_on_stand_in(channel, target),
        )


def _emit_blocking(connection: pika.BlockingConnection, target: Target, outgoing: Outgoing) -> None:
    @contextlib.contextmanager
    def open_channel() -> Iterator[BlockingChannel]:
        channel = connection.channel()
        try:
            channel.confirm_delivery()
            yield channel
        finally:
            if channel.is_open:
                channel.close()

    _emit_on(
        target,
        outgoing,
        open_channel=open_channel,
        declare=lambda: _drive(connection, target.queue_steps(BrokerFacts())),
        declare_exchange=lambda: _drive(connection, target.exchange_steps()),
    )


def _emit_on(
    target: Target,
    outgoing: Outgoing,
    *,
    open_channel: Callable[[], Any],
    declare: Callable[[], object],
    declare_exchange: Callable[[], object] = lambda: None,
) -> None:
    if target.exchange:
        declare_exchange()
        if target.queue:
            declare()
    for first in (True, False):
        try:
            with open_channel() as channel:
                channel.basic_publish(
                    target.exchange,
                    target.queue,
                    outgoing.body,
                    outgoing.properties,
                    mandatory=target.one_queue_is_meant,
                )
        except pika_errors.UnroutableError as error:
            if first and target.queue:
                declare()
                continue
            raise UnroutableError(
                f"no queue takes a message for {target.queue or target.exchange!r}",
                may_have_arrived=False,
            ) from error
        return


def _declare_on_stand_in(channel: Any, target: Target) -> None:
    if target.exchange:
        channel.exchange_declare(target.exchange, exchange_type=target.exchange_type)
    if target.queue:
        channel.queue_declare(target.queue)
        if target.exchange:
            channel.queue_bind(target.queue, target.exchange, routing_key=target.queue)


def _drive(
    connection: pika.BlockingConnection, steps: Generator[Step, Any, QueueStatus]
) -> QueueStatus:
    """Perform steps on the caller's connection, but for what may cost the caller its connection."""

    def perform(step: Step) -> QueueStatus | None:
        if not isinstance(step, DeclareQueue) or step.passive or not step.queue.transient:
            return _on_new_channel(connection, step)
        try:
            return _on_new_channel(connection, DeclareQueue(step.queue, passive=True))
        except Refusal as refusal:
            if refusal.code != NOT_FOUND:
                raise
        # a broker that refuses transient queues closes the connection that asked for one
        with _moment(_parameters_of(connection)) as own:
            return _on_new_channel(own, step)

    try:
        return drive_steps(steps, perform)
    except Refusal as refusal:
        raise TopologyError(f"the broker refused: {refusal}") from refusal


@contextlib.contextmanager
def _moment(parameters: pika.connection.Parameters) -> Iterator[pika.BlockingConnection]:
    """Open a connection for a moment; the broker may close it before we do."""
    connection = pika.BlockingConnection(parameters)
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


def _on_new_channel(connection: pika.BlockingConnection, step: Step) -> QueueStatus | None:
    channel = connection.channel()
    status = perform_on(channel, step)
    channel.close()
    return status


def _parameters_of(
    connection: pika.BlockingConnection | pika.SelectConnection,
) -> pika.connection.Parameters:
    if isinstance(connection, pika.SelectConnection):
        return connection.params
    # a blocking connection keeps them where only its implementation is
    return connection._impl.params
