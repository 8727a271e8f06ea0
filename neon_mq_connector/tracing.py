"""Spans of messages and requests, by OpenTelemetry's conventions for messaging.

OpenTelemetry is only used where the program has imported it and set a tracer provider. Otherwise
`tracer` is None, and a span costs no more than a look at it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

from neon_mq_connector.envelope import is_reply_name
from neon_mq_connector.version import __version__

FutureT = TypeVar("FutureT", bound="Future[Any]")

_NOTHING: AbstractContextManager[None] = nullcontext()
#: The name of a destination that no two messages have in common.
_TEMPORARY = "(temporary)"
#: The span of the one message that is being sent, which gets its id.
_sending: ContextVar[Any] = ContextVar("neon_mq_connector.sending", default=None)
_is_off = False


class Tracer:
    """Make spans by the tracer provider of the process; any thread may do so."""

    def __init__(self) -> None:
        from opentelemetry import propagate, trace
        from opentelemetry.context import Context

        self._trace: Any = trace
        self._propagate: Any = propagate
        self._no_context: Any = Context()
        self._tracer: Any = trace.get_tracer("neon_mq_connector", __version__)

    def carry(self, message_id: str) -> dict[str, str]:
        """Return the headers by which a message carries the trace that it belongs to."""
        span = _sending.get()
        if span is not None:
            span.set_attribute("messaging.message.id", message_id)
        headers: dict[str, str] = {}
        self._propagate.inject(headers)
        return headers

    def submitting(
        self, name: str, exchange: str, routing_key: str, submit: Callable[[], FutureT]
    ) -> FutureT:
        """Call a function that returns a future, in a span that ends with the future."""

        def ended(future: Future[Any]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                self._note(span, error)
            span.end()

        with self.sending(name, exchange, routing_key, ends=False) as span:
            try:
                future = submit()
            except BaseException:
                span.end()
                raise
        future.add_done_callback(ended)
        return future

    @contextmanager
    def sending(
        self, name: str, exchange: str, routing_key: str, *, single: bool = True, ends: bool = True
    ) -> Iterator[Any]:
        """Run a block in the span of what it sends.

        Args:
            name: ``"publish"`` or ``"request"``.
            exchange: where it goes.
            routing_key: the routing key, or the name of the queue.
            single: whether it is one message, whose id the span gets.
            ends: whether the span ends with the block.
        """
        kind = "PRODUCER" if name == "publish" else "CLIENT"
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
        """Run a callback in a span, in the trace of its message."""
        queue = message.session.queue
        method, properties, body = message.delivery
        key = method.routing_key
        parts = (method.exchange, key if key != queue else "", queue)
        attributes = _operation("process", "process", ":".join(filter(None, parts)), key)
        attributes["messaging.rabbitmq.message.delivery_tag"] = method.delivery_tag
        attributes["messaging.message.body.size"] = len(body)
        if properties.message_id:
            attributes["messaging.message.id"] = properties.message_id
        name = f"process {method.exchange or queue}"
        with self._span(name, "CONSUMER", attributes, self._context_of(properties)) as span:
            message.trace = self._trace.set_span_in_context(span, self._no_context)
            yield

    def parking(self, queue: str, properties: Any) -> Callable[[BaseException | None], None]:
        """Begin the span of a message that is parked, which may be long after its callback."""
        attributes = _operation("park", "send", queue, queue)
        if properties.message_id:
            attributes["messaging.message.id"] = properties.message_id
        within = self._trace.get_current_span().get_span_context().is_valid
        context = None if within else self._context_of(properties)
        kind = self._trace.SpanKind.PRODUCER
        span = self._tracer.start_span(f"park {queue}", context, kind, attributes)

        def end(error: BaseException | None) -> None:
            if error is not None:
                self._note(span, error)
            span.end()

        return end

    def settled(self, queue: str, outcome: str, message: Any) -> None:
        """Make a span of the outcome of a message, which may come after its callback."""
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
        """Return the trace that a message carries in its headers that are texts."""
        headers = properties.headers or {}
        texts = {name: value for name, value in headers.items() if isinstance(value, str)}
        return self._propagate.extract(texts, self._no_context)


#: Makes the spans; None where there are none.
tracer: Tracer | None = None


def begin(*, wanted: bool = True) -> None:
    """Make spans from now on, if they are wanted and the program has set a tracer provider."""
    global tracer, _is_off
    _is_off = _is_off or not wanted
    trace: Any = sys.modules.get("opentelemetry.trace")
    if _is_off or trace is None:
        tracer = None
    elif not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        tracer = tracer or Tracer()


def publishing(
    exchange: str, routing_key: str, *, single: bool = True
) -> AbstractContextManager[None]:
    """Return the span of a block that sends a message, or with ``single=False`` many."""
    if tracer is None:
        return _NOTHING
    return tracer.sending("publish", exchange, routing_key, single=single)


def requesting(exchange: str, queue: str) -> AbstractContextManager[None]:
    """Return the span of a block that sends a request and waits for its answer."""
    return _NOTHING if tracer is None else tracer.sending("request", exchange, queue)


def submitting(
    name: str, exchange: str, routing_key: str, submit: Callable[[], FutureT]
) -> FutureT:
    """Call a function that sends a message or a request, in a span until its future is done."""
    return submit() if tracer is None else tracer.submitting(name, exchange, routing_key, submit)


def processing(message: Any) -> AbstractContextManager[None]:
    """Return the span of the callback of a `ReceivedMessage`."""
    return _NOTHING if tracer is None else tracer.processing(message)


def parking(queue: str, properties: Any) -> Callable[[BaseException | None], None]:
    """Begin the span of a message that is parked; return what ends it, perhaps with an error."""
    return _end_nothing if tracer is None else tracer.parking(queue, properties)


def _end_nothing(_error: BaseException | None) -> None:
    pass


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
