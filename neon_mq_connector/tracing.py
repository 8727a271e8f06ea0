"""Spans for what is sent, asked, handled, settled and parked, by OpenTelemetry's conventions.

OpenTelemetry is never imported here: where the program has set a tracer provider, it is there
already. `tracer` is None otherwise, and then nothing costs more than a look at it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from neon_mq_connector.envelope import is_reply_name
from neon_mq_connector.version import __version__

FutureT = TypeVar("FutureT", bound="Future[Any]")

_NOTHING: AbstractContextManager[None] = nullcontext()
_NAME = "neon_mq_connector"
#: The name of a destination that no two messages have in common.
_TEMPORARY = "(temporary)"
#: The span of the message that is being sent, which gets its id; None where there is none or many.
_sending: ContextVar[Any] = ContextVar("neon_mq_connector.sending", default=None)
_is_off = False


class Sent(NamedTuple):
    """What a span of a sender tells.

    Attributes:
        name: what is done.
        kind: of the span.
        exchange: where it goes.
        routing_key: the routing key, or the name of the queue.
        single: whether it is one message, whose id the span has.
    """

    name: str
    kind: str
    exchange: str
    routing_key: str
    single: bool = True


class Tracer:
    """Make spans by the tracer provider of the process; any thread may do so.

    Args:
        trace: the module ``opentelemetry.trace``.
        propagate: the module ``opentelemetry.propagate``.
        no_context: a context of OpenTelemetry with nothing in it.
    """

    def __init__(self, trace: Any, propagate: Any, no_context: Any) -> None:
        self._trace = trace
        self._propagate = propagate
        self._no_context = no_context
        self._tracer = trace.get_tracer(_NAME, __version__)

    def carry(self, message_id: str) -> dict[str, str]:
        """Return the headers by which a message carries the trace that it belongs to."""
        span = _sending.get()
        if span is not None:
            span.set_attribute("messaging.message.id", message_id)
        headers: dict[str, str] = {}
        self._propagate.inject(headers)
        return headers

    @contextmanager
    def sending(self, sent: Sent) -> Iterator[None]:
        """Have a span while a message is sent, or a request waits for its answer."""
        with self._sent_span(sent):
            yield

    def submitting(self, sent: Sent, submit: Callable[[], FutureT]) -> FutureT:
        """Call what returns a future, and have a span until that is done."""

        def ended(future: Future[Any]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                self._note(span, error)
            span.end()

        with self._sent_span(sent, ends=False) as span:
            try:
                future = submit()
            except BaseException:
                span.end()
                raise
        future.add_done_callback(ended)
        return future

    @contextmanager
    def _sent_span(self, sent: Sent, *, ends: bool = True) -> Iterator[Any]:
        name, kind, exchange, routing_key, single = sent
        shown = place = ":".join(filter(None, (exchange, routing_key))) or "amq.default"
        attributes = _operation(name, "send", place, routing_key)
        if not exchange and is_reply_name(routing_key):
            shown = _TEMPORARY
            attributes["messaging.destination.temporary"] = True
        with self._span(f"{name} {shown}", kind, attributes, ends=ends) as span:
            token = _sending.set(span if single else None)
            try:
                yield span
            finally:
                _sending.reset(token)

    @contextmanager
    def processing(self, message: Any) -> Iterator[None]:
        """Have a span while a callback runs, in the trace of its message."""
        queue = message.session.queue
        method, properties, body = message.delivery
        attributes = _operation("process", "process", *_source(queue, method))
        attributes["messaging.rabbitmq.message.delivery_tag"] = method.delivery_tag
        attributes["messaging.message.body.size"] = len(body)
        if properties.message_id:
            attributes["messaging.message.id"] = properties.message_id
        name = f"process {method.exchange or queue}"
        with self._span(name, "CONSUMER", attributes, self._context_of(properties)) as span:
            message.trace = self._trace.set_span_in_context(span, self._no_context)
            yield

    @contextmanager
    def parking(self, queue: str, properties: Any) -> Iterator[None]:
        """Have a span while a message is parked, which may be long after its callback."""
        attributes = _operation("park", "send", queue, queue)
        if properties.message_id:
            attributes["messaging.message.id"] = properties.message_id
        within = self._trace.get_current_span().get_span_context().is_valid
        context = None if within else self._context_of(properties)
        with self._span(f"park {queue}", "PRODUCER", attributes, context):
            yield

    def settled(self, queue: str, outcome: str, message: Any) -> None:
        """Make a span of the outcome of a message, perhaps after its callback, for a confirm."""
        attributes = _operation(outcome, "settle", queue, "")
        attributes["messaging.rabbitmq.message.delivery_tag"] = message.tag
        with self._span(f"{outcome} {queue}", "CLIENT", attributes, message.trace):
            pass

    def failed(self, error: BaseException) -> None:
        """Note in the span of a callback that it has raised."""
        span = self._trace.get_current_span()
        span.record_exception(error)
        self._note(span, error)

    @contextmanager
    def _span(
        self,
        name: str,
        kind: str,
        attributes: Mapping[str, Any],
        context: Any = None,
        *,
        ends: bool = True,
    ) -> Iterator[Any]:
        with self._tracer.start_as_current_span(
            name,
            context,
            self._trace.SpanKind[kind],
            attributes,
            set_status_on_exception=False,
            end_on_exit=ends,
        ) as span:
            try:
                yield span
            except BaseException as error:
                self._note(span, error)
                raise

    def _note(self, span: Any, error: BaseException) -> None:
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(self._trace.StatusCode.ERROR, str(error))

    def _context_of(self, properties: Any) -> Any:
        """Return the trace that a message carries; what is no text is no trace."""
        headers = properties.headers or {}
        texts = {name: value for name, value in headers.items() if isinstance(value, str)}
        return self._propagate.extract(texts, self._no_context)


#: What makes spans; None where there are none to be made.
tracer: Tracer | None = None


def begin(*, wanted: bool = True) -> None:
    """Make spans from now on, if the program has set a tracer provider.

    Args:
        wanted: False to make none in this process any more.
    """
    global tracer, _is_off
    _is_off = _is_off or not wanted
    if _is_off:
        tracer = None
    elif tracer is None and "opentelemetry.trace" in sys.modules:
        from opentelemetry import propagate, trace
        from opentelemetry.context import Context

        if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            tracer = Tracer(trace, propagate, Context())


def publishing(
    exchange: str, routing_key: str, *, single: bool = True
) -> AbstractContextManager[None]:
    """Have a span while a message is sent, or with ``single=False`` many are."""
    if tracer is None:
        return _NOTHING
    return tracer.sending(Sent("publish", "PRODUCER", exchange, routing_key, single))


def requesting(exchange: str, queue: str) -> AbstractContextManager[None]:
    """Have a span from a request to its answer."""
    if tracer is None:
        return _NOTHING
    return tracer.sending(Sent("request", "CLIENT", exchange, queue))


def submitting(
    name: str, exchange: str, routing_key: str, submit: Callable[[], FutureT]
) -> FutureT:
    """Call what sends a message, or a request, and have a span until its future is done."""
    if tracer is None:
        return submit()
    kind = "PRODUCER" if name == "publish" else "CLIENT"
    return tracer.submitting(Sent(name, kind, exchange, routing_key), submit)


def processing(message: Any) -> AbstractContextManager[None]:
    """Have a span while the callback of a `ReceivedMessage` runs."""
    return _NOTHING if tracer is None else tracer.processing(message)


def parking(queue: str, properties: Any) -> AbstractContextManager[None]:
    """Have a span while a message is parked."""
    return _NOTHING if tracer is None else tracer.parking(queue, properties)


def _operation(name: str, kind: str, place: str, routing_key: str) -> dict[str, Any]:
    """Return the attributes that all spans have."""
    attributes = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": place,
    }
    if routing_key:
        attributes["messaging.rabbitmq.destination.routing_key"] = routing_key
    return attributes


def _source(queue: str, method: Any) -> tuple[str, str]:
    """Return the name of where a message came from, and its routing key."""
    key = method.routing_key
    parts = (method.exchange, key if key != queue else "", queue)
    return ":".join(filter(None, parts)), key
