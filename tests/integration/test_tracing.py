"""Spans: one trace from a request to its answer, over services, threads and coroutines."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

import pika
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import AsyncMQConnector, MQConnector, create_mq_callback, tracing
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.errors import UnroutableError
from neon_mq_connector.utils.network_utils import dict_to_b64
from tests.integration.conftest import MakeConnector, run
from tests.support.loops import LoopRunner, arun
from tests.support.polling import eventually

__all__ = ["arun"]

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"

Spans = Callable[..., dict[str, ReadableSpan]]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Have spans made; what is returned waits for those of some names and returns all by name."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(tracing, "tracer", None)
    monkeypatch.setattr(tracing, "_is_off", False)

    def by_name(*wanted: str) -> dict[str, ReadableSpan]:
        def ended() -> dict[str, ReadableSpan]:
            return {span.name: span for span in exporter.get_finished_spans()}

        eventually(lambda: {*wanted, "?"} if set(wanted) <= set(ended()) else None)
        return ended()

    return by_name


def parent_of(span: ReadableSpan) -> str:
    assert span.parent is not None
    return format(span.parent.span_id, "016x")


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format(span.context.span_id, "016x")


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def serve(
    connector: MQConnector, queue: str, handle: Callable[[dict[str, Any]], Any], **how: Any
) -> None:
    @create_mq_callback()
    def callback(body: dict[str, Any]) -> Any:
        return handle(body)

    connector.register_consumer(queue, connector.vhost, queue, callback, **how)


def test_a_request_its_callback_and_what_that_asks_and_sends_are_one_trace(
    make_connector: MakeConnector, engine: dict[str, Any], spans: Spans
) -> None:
    service = make_connector()

    def outer(body: dict[str, Any]) -> dict[str, Any]:
        service.send_message({"n": 1}, queue="told")
        return {"sum": service.request({"n": body["n"]}, "inner", timeout=120)["n"] + 1}

    serve(service, "outer", outer, ack="on_success", **engine)
    serve(service, "inner", lambda body: {"n": body["n"]}, ack="on_success", **engine)
    run(service)
    assert service.request({"n": 1}, "outer", timeout=120)["sum"] == 2

    names = ("request outer", "process outer", "request inner", "process inner", "ack outer")
    made = spans(*names, "publish told")
    assert len({span.context.trace_id for span in made.values() if span.context}) == 1
    for child, parent in [
        ("process outer", "request outer"),
        ("publish told", "process outer"),
        ("request inner", "process outer"),
        ("process inner", "request inner"),
        ("ack outer", "process outer"),
    ]:
        assert parent_of(made[child]) == id_of(made[parent]), child
    asked, handled = attributes(made["request outer"]), attributes(made["process outer"])
    assert made["request outer"].kind is trace.SpanKind.CLIENT
    assert made["process outer"].kind is trace.SpanKind.CONSUMER
    assert made["publish told"].kind is trace.SpanKind.PRODUCER
    assert asked["messaging.message.id"] == handled["messaging.message.id"]
    assert handled["messaging.system"] == "rabbitmq"
    assert handled["messaging.operation.type"] == "process"
    assert handled["messaging.destination.name"] == "outer"
    assert handled["messaging.rabbitmq.destination.routing_key"] == "outer"


def test_a_trace_of_another_program_goes_on_and_what_is_no_trace_harms_nothing(
    make_connector: MakeConnector, channel: BlockingChannel, spans: Spans
) -> None:
    service, seen = make_connector(), threading.Semaphore(0)
    serve(service, "plain", lambda _body: seen.release(), durable=True)
    run(service)
    for headers in (
        {"traceparent": 5, "tracestate": b"\xff"},
        {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=value"},
    ):
        properties = pika.BasicProperties(headers=headers)
        channel.basic_publish("", "plain", dict_to_b64({"a": 1}), properties)
        assert seen.acquire(timeout=120)

    def with_a_parent() -> ReadableSpan | None:
        span = spans("process plain")["process plain"]
        return span if span.parent else None

    span = eventually(with_a_parent)
    assert span is not None
    assert span.context is not None
    assert format(span.context.trace_id, "032x") == TRACE
    assert parent_of(span) == PARENT
    assert span.context.trace_state.get("vendor") == "value"


def test_what_fails_is_marked_and_parked_in_its_trace(
    make_connector: MakeConnector, engine: dict[str, Any], spans: Spans
) -> None:
    service = make_connector(retry_attempts=2, retry_delay=0.01)

    def fail(_body: dict[str, Any]) -> None:
        raise KeyError("no such thing")

    serve(service, "failing", fail, ack="on_success", **engine)
    run(service)
    service.submit_message({"a": 1}, queue="failing", expiration=None).result(120)
    made = spans("publish failing", "process failing", "park failing.dead")
    handled = made["process failing"]
    assert len({span.context.trace_id for span in made.values() if span.context}) == 1
    assert attributes(handled)["error.type"] == "KeyError"
    assert handled.status.status_code is trace.StatusCode.ERROR
    assert [event.name for event in handled.events] == ["exception"]


def test_a_message_that_no_queue_takes_is_an_error(client: RequestClient, spans: Spans) -> None:
    tracing.begin()
    with pytest.raises(UnroutableError):
        client.gather(RequestSpec("", {"a": 1}, exchange="missing", timeout=10))
    ((name, span),) = spans().items()
    assert name == "request missing"
    assert attributes(span)["error.type"] == "UnroutableError"


def test_coroutines_ask_in_the_trace_that_they_are_in(
    mq_config: dict[str, Any], vhost: str, arun: LoopRunner, spans: Spans
) -> None:
    connector = AsyncMQConnector(mq_config, "test_service")
    connector.vhost = vhost

    async def answer(body: dict[str, Any]) -> dict[str, Any]:
        await connector.send_message({"n": 1}, queue="told")
        return {"n": body["n"]}

    connector.register_consumer("c", vhost, "asked", create_mq_callback()(answer))

    async def ask() -> None:
        asking = (connector.request({"n": n}, "asked", timeout=120) for n in range(3))
        with trace.get_tracer("test").start_as_current_span("ours"):
            await asyncio.gather(*asking)

    async def main() -> None:
        async with connector:
            await ask()

    arun(main())
    made = spans("ours", "request asked", "process asked", "publish told")
    assert len({span.context.trace_id for span in made.values() if span.context}) == 1
    assert parent_of(made["request asked"]) == id_of(made["ours"])


def test_a_setting_turns_it_off(make_connector: MakeConnector, spans: Spans) -> None:
    make_connector(tracing=False).send_message({"a": 1}, queue="quiet")
    assert spans() == {}
    assert tracing.tracer is None


def test_without_a_provider_there_is_nothing(
    make_connector: MakeConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "tracer", None)
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    make_connector().send_message({"a": 1}, queue="quiet")
    assert tracing.tracer is None
    assert "opentelemetry.trace" not in sys.modules
