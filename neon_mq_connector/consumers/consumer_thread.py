"""The base class of consumer threads: a `threading.Thread` around one `Consumer`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import pika
from pika.exchange_type import ExchangeType

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.callback_channel import CallbackChannel, CallbackConnection
from neon_mq_connector.consumers.consumer import Consumer
from neon_mq_connector.consumers.dispatcher import Dispatcher
from neon_mq_connector.consumers.registration import (
    AckMode,
    ErrorCallback,
    MessageCallback,
    Registration,
    dead_queue_name,
)
from neon_mq_connector.consumers.runner import CallbackRunner
from neon_mq_connector.consumers.workers import ThreadRunner
from neon_mq_connector.errors import (
    BrokerUnreachableError,
    ConnectionLostError,
    FrameError,
    MQError,
)
from neon_mq_connector.lifecycle import Snapshot, State
from neon_mq_connector.log_fields import log_fields
from neon_mq_connector.threads.guard import Guard, name_of
from neon_mq_connector.topology import SUBSCRIBER_EXPIRES, Exchange, Queue

LOG = logging.getLogger("neon_mq_connector.consumers")

_ENDED = frozenset({State.STOPPING, State.STOPPED, State.FAILED})
_CLOSE_TIMEOUT = 5.0


def default_error_handler(thread: Any, exception: BaseException) -> None:
    """Log an error of a consumer.

    Args:
        thread: the consumer's thread.
        exception: the error.
    """
    name = getattr(thread, "name", None) or str(thread)
    of_an_outage = isinstance(exception, (BrokerUnreachableError, ConnectionLostError))
    if of_an_outage and not isinstance(exception, FrameError):
        # an outage is logged where it is noticed, once and not by every consumer
        LOG.debug("consumer %s: %s", name, exception)
        return
    # errors of the broker or the network are one line; those of a callback need their traceback
    trace = None if isinstance(exception, MQError) else exception
    vhost = thread.consumer.vhost if isinstance(thread, BaseConsumerThread) else ""
    LOG.error(
        "consumer %s: %s: %s",
        name,
        type(exception).__name__,
        exception,
        exc_info=trace,
        extra=log_fields(getattr(thread, "queue", ""), vhost),
    )


class BaseConsumerThread(threading.Thread):
    """Consume one queue on a thread of its own; its callbacks run there, one after another.

    Made by `MQConnector.register_consumer`, it shares the connector's connections. Constructed
    directly it owns its connections, opened by `start` and closed by `join`. Any thread may call
    these.

    Args:
        connection_params: where to connect; several for a cluster.
        queue: the queue's name; empty for a queue that the broker names, which is this consumer's
            alone.
        callback_func: called with ``(channel, method, properties, body)`` for each message.
        error_func: called with this thread and an exception: once per outage, and for each callback
            that raised.
        auto_ack: acknowledge each message when its callback starts.
        queue_reset: delete the queue before the first attach.
        queue_exclusive: declare the queue exclusive to this consumer's connection.
        exchange: bind the queue to this exchange, with the queue's name as routing key.
        exchange_reset: delete the exchange before the first attach.
        exchange_type: the type of that exchange.
        args: passed on to `threading.Thread`.
        registration: a description of the consumer, in place of the arguments above but the
            connection and the callbacks.
        connections: connections to share.
        owns_connections: whether to close them when the consumer ends.
        kwargs: passed on to `threading.Thread`.
    """

    #: Whether its callback is a coroutine function.
    runs_coroutines = False

    def __init__(
        self,
        connection_params: pika.ConnectionParameters | Sequence[pika.ConnectionParameters],
        queue: str,
        callback_func: MessageCallback,
        error_func: ErrorCallback | None = default_error_handler,
        auto_ack: bool = True,
        queue_reset: bool = False,
        queue_exclusive: bool = False,
        exchange: str | None = None,
        exchange_reset: bool = False,
        exchange_type: str | ExchangeType = ExchangeType.direct,
        *args: Any,
        registration: Registration | None = None,
        connections: Connections | None = None,
        owns_connections: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.connection_params = connection_params
        self.callback_func = callback_func
        self.error_func = error_func or default_error_handler
        self.auto_ack = bool(auto_ack)
        self.exchange = exchange or ""
        self.exchange_type = known_type(exchange_type)
        self.exchange_reset = exchange_reset
        self.queue_reset = queue_reset
        self.queue_exclusive = queue_exclusive
        self._queue = queue
        self._connections = connections
        self._owns_connections = owns_connections or connections is None
        self._registration = registration
        self._consumer: Consumer | None = None
        self._consumer_started = threading.Event()
        # reentrant: a signal handler may stop what it interrupts
        self._construction = threading.RLock()

    # -- what services look at -----------------------------------------------------------------

    @property
    def queue(self) -> str:
        """The name of the queue: the broker's choice once it has made one."""
        return self._queue if self._consumer is None else self._consumer.queue

    @property
    def channel(self) -> CallbackChannel | None:
        """The channel, as pika users know it; None before the first attach."""
        session = None if self._consumer is None else self._consumer.session
        return None if session is None else session.channel

    @property
    def connection(self) -> CallbackConnection | None:
        """A stand-in for the connection; None before the first attach."""
        session = None if self._consumer is None else self._consumer.session
        return None if session is None else session.connection

    @property
    def is_consuming(self) -> bool:
        """Whether messages are being delivered here."""
        return self.snapshot.state is State.CONSUMING

    @property
    def is_consumer_alive(self) -> bool:
        """Whether it consumes, recovers, or was not started; False when failed or stopped."""
        return self.snapshot.state not in _ENDED

    @property
    def snapshot(self) -> Snapshot:
        """The state, its reason and since when."""
        return self.consumer.lifecycle.snapshot

    @property
    def consumer(self) -> Consumer:
        """The consumer that this thread runs."""
        with self._construction:
            if self._consumer is None:
                made = self._make_consumer()
                if self._consumer is None:
                    self._consumer = made
            return self._consumer

    @property
    def is_calling(self) -> bool:
        """Whether the caller is this thread or one of its callbacks, and must not wait for it."""
        return self is threading.current_thread() or self.consumer.dispatcher.runner.is_calling()

    @property
    def can_start(self) -> bool:
        """Whether it can be started: it was not yet, and its connections are not closed."""
        shared = self._connections
        return self.ident is None and self.is_consumer_alive and not (shared and shared.is_closed)

    # -- threading.Thread ----------------------------------------------------------------------

    def run(self) -> None:
        """Consume until stopped; called by `start`."""
        consumer = self.consumer
        try:
            consumer.run()
        finally:
            self._end()

    def _end(self) -> None:
        """Close the connections that are this consumer's own; called when it has stopped."""
        if self._owns_connections and self._connections is not None:
            self._connections.close(_CLOSE_TIMEOUT)

    def request_stop(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Stop without waiting: no callback starts any more.

        Args:
            timeout: how long the consumer may wait for the broker's answers then, in seconds.
        """
        self.consumer.request_stop(timeout)

    def join(self, timeout: float | None = None) -> None:
        """Stop consuming and wait until the consumer has ended; may be called again.

        Args:
            timeout: how long to wait at most, in seconds; None for until a running callback
                returns.
        """
        self.request_stop()
        # not `ident`: a thread has one a moment before it may be waited for
        if self.is_alive() and not self.is_calling:
            super().join(timeout)

    # -- making the consumer -------------------------------------------------------------------

    def _make_consumer(self, **hooks: Any) -> Consumer:
        if self._connections is None:
            params = self.connection_params
            several = params if isinstance(params, Sequence) else (params,)
            self._connections = Connections(several, owner=self.name)
        registration = self._registration or self._describe()
        return Consumer(
            registration,
            self._connections,
            partial(self._new_runner, registration, self._connections),
            report=self._report,
            started=self._consumer_started,
            callback_name=name_of(self.callback_func),
            **hooks,
        )

    def _new_runner(
        self, registration: Registration, connections: Connections, dispatcher: Dispatcher
    ) -> CallbackRunner:
        return ThreadRunner(
            self._call_back, dispatcher, concurrency=registration.concurrency, name=self.name
        )

    def _describe(self) -> Registration:
        queue = self._queue
        ours_alone = not queue and not self.queue_exclusive
        return Registration(
            queue=own_queue("") if ours_alone else Queue(queue, exclusive=self.queue_exclusive),
            exchange=Exchange(self.exchange, type_name(self.exchange_type))
            if self.exchange
            else None,
            queue_reset=self.queue_reset,
            exchange_reset=self.exchange_reset,
            ack=AckMode.ON_RECEIPT if self.auto_ack else AckMode.MANUAL,
            delete_on_stop=ours_alone,
            dead_queue=dead_queue_name(queue) if queue and not self.queue_exclusive else None,
        )

    def _call_back(self, channel: Any, method: Any, properties: Any, body: Any) -> Any:
        # looked up for each message: services replace it
        return self.callback_func(channel, method, properties, body)

    def _report(self, error: BaseException) -> None:
        with self._error_guard():
            self.error_func(self, error)

    def _error_guard(self) -> Guard:
        return Guard("consumer %s: its error handler", self.name)


def known_type(exchange_type: str | ExchangeType | None) -> ExchangeType | str:
    """Return pika's member for the type of an exchange (direct for None), or a plugin's name."""
    name = type_name(exchange_type)
    try:
        return ExchangeType(name)
    except ValueError:
        return name


def type_name(exchange_type: str | ExchangeType | None) -> str:
    """Return the name of the type of an exchange; direct for None."""
    return str(getattr(exchange_type, "value", exchange_type) or "direct")


def own_queue(name: str, expires: float = SUBSCRIBER_EXPIRES) -> Queue:
    """Describe a queue that is one consumer's alone: it survives an outage, but no crash.

    Args:
        name: its name; empty for one that the broker chooses.
        expires: after how long without a consumer the broker deletes it, in seconds (300).
    """
    return Queue(name, durable=True, arguments={"x-expires": int(expires * 1000)})
