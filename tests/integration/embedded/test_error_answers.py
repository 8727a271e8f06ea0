"""Failures reach who has asked: which ones, whom, and what becomes of the request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import (
    AsyncMQConnector,
    ExponentialBackoff,
    MQConnector,
    Retry,
    create_mq_callback,
)
from neon_mq_connector.codec import b64_to_dict, dict_to_b64
from neon_mq_connector.errors import (
    DecodeError,
    InvalidAnswerError,
    RemoteError,
    RequestRefusedError,
    RequestTimeoutError,
)
from neon_mq_connector.testing import EmbeddedBroker
from neon_mq_connector.testing.embedded import publishing
from neon_mq_connector.utils.client_utils import send_mq_request, send_mq_request_async
from tests.integration.embedded.conftest import receive
from tests.support.configurations import config_of
from tests.support.polling import eventually

Make = Callable[..., Any]
Taken = tuple[BasicProperties, Any]

QUEUE = "work_input"
TWICE = Retry(attempts=2, backoff=ExponentialBackoff(first=0.01))
CALLBACKS = ("raw", "raw_async", "decorated", "decorated_async")


class Refused(RequestRefusedError):
    """One that a service has made."""


def fail(request: dict[str, Any]) -> None:
    """Raise what a request asks for."""
    raise {
        "fault": LookupError("no such thing"),
        "refusal": Refused("not today", details={"items": [1, ("tea",)]}),
        "type": RequestRefusedError("no", type="NoSuchItem"),
        "no answer": InvalidAnswerError("a list"),
        "unreadable": DecodeError("of another message"),
        "long": RequestRefusedError("x" * 5_000, details=["y" * 50_000]),
        "odd": RequestRefusedError("odd", details={("\udcff", 1): object()}),
    }[request["fail"]]


class Failing(MQConnector):
    """A service that fails in all its ways."""

    def __init__(self, config: dict[str, Any], service_name: str) -> None:
        super().__init__(config, service_name)
        self.calls = 0

    def _fail(self, body: bytes) -> None:
        self.calls += 1
        fail(json.loads(body) if body[:1] == b"{" else b64_to_dict(body))

    def raw(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._fail(body)

    async def raw_async(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._fail(body)

    @create_mq_callback()
    def decorated(self, body: dict[str, Any]) -> None:
        self.calls += 1
        fail(body)

    @create_mq_callback()
    async def decorated_async(self, body: dict[str, Any]) -> None:
        self.calls += 1
        fail(body)

    @create_mq_callback()
    def large(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": "x" * 5_000}

    @create_mq_callback()
    async def large_async(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": "x" * 5_000}

    def acked(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        self._fail(body)

    def parts(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        for number in range(3):
            part = {"number": number, "message_id": request["message_id"]}
            channel.basic_publish("", request["routing_key"], dict_to_b64(part))
        raise LookupError("no more")

    async def parts_async(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.parts(channel, method, properties, body)


@pytest.fixture
def config(embedded: EmbeddedBroker) -> dict[str, Any]:
    return config_of(embedded, "failing", "mq_handler")


@pytest.fixture
def start(config: dict[str, Any], endings: ExitStack) -> Make:
    """Start a service with one consumer; keywords are settings, ``registered`` its options."""

    def start(callback: str = "", settings: Any = None, **registered: Any) -> Failing:
        service = Failing({**config, **(settings or {})}, "failing")
        endings.callback(service.stop)
        if callback:
            found = getattr(service, callback)
            service.register_consumer("it", "/", QUEUE, found, **registered)
            service.run(run_sync=False, run_observer=False)
        return service

    return start


def parked(channel: BlockingChannel, count: int) -> None:
    """Wait until so many messages are parked."""
    channel.queue_declare(QUEUE + ".dead", durable=True, arguments={"x-max-length": 10_000})

    def counted() -> bool:
        found = channel.queue_declare(QUEUE + ".dead", passive=True)
        return int(found.method.message_count) == count

    eventually(counted, what=f"{count} messages are parked")


def take(channel: BlockingChannel, queue: str) -> Taken:
    """Wait for a message in JSON."""
    properties, body = receive(channel, queue)
    return properties, json.loads(body)


# -- what asks ----------------------------------------------------------------------------------


async def _ask_as_coroutine(config: dict[str, Any], parts: bool, *args: Any, **options: Any) -> Any:
    connector = AsyncMQConnector(config, "failing")
    try:
        if not parts:
            return await connector.request(*args, **options)
        return [part async for part in connector.stream(*args, **options)]
    finally:
        await connector.stop()


def _as_coroutine(parts: bool) -> Callable[..., Any]:
    return lambda it, *args, **options: asyncio.run(
        _ask_as_coroutine(it.config, parts, *args, **options)
    )


#: Each is called with the connector, the request, the queue and options.
ASKING: dict[str, Callable[..., Any]] = {
    "request": MQConnector.request,
    "future": lambda *args, **options: MQConnector.submit_request(*args, **options).result(120),
    "stream": lambda *args, **options: list(MQConnector.stream_answer(*args, **options)),
    "gathering": lambda *args, **options: MQConnector.gather_answers(*args, count=1, **options),
    "coroutine": _as_coroutine(False),
    "stream of a coroutine": _as_coroutine(True),
}


# -- who is told what ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "callback, ack", list(zip(CALLBACKS, ["on_receipt", "on_success"] * 2, strict=True))
)
def test_a_failure_is_told_after_the_last_try_and_parked(
    start: Make, messages: BlockingChannel, callback: str, ack: str
) -> None:
    service = start(callback, ack=ack, retry=TWICE)
    with pytest.raises(RemoteError, match="no such thing") as caught:
        service.request({"fail": "fault", "message_id": "m"}, QUEUE, timeout=120)
    error = caught.value
    assert (error.type, error.message, error.details) == ("LookupError", "no such thing", None)
    assert (error.queue, error.message_id) == (QUEUE, "m")
    assert service.calls == (1 if ack == "on_receipt" else 2)
    parked(messages, 1)


@pytest.mark.parametrize(
    "callback, ack",
    list(zip(CALLBACKS, ["on_receipt", "on_success", "manual", "manual"], strict=True)),
)
def test_a_refused_request_is_told_and_done(
    start: Make, messages: BlockingChannel, callback: str, ack: str
) -> None:
    service = start(callback, ack=ack, retry=TWICE)
    with pytest.raises(RemoteError, match="not today") as caught:
        service.request({"fail": "refusal"}, QUEUE, timeout=120)
    assert caught.value.type == "Refused"
    assert caught.value.details == {"items": [1, ["tea"]]}
    with pytest.raises(RemoteError) as caught:
        service.request({"fail": "type"}, QUEUE, timeout=120, wire_format="json")
    assert caught.value.type == "NoSuchItem"
    assert service.calls == 2
    consumer = service.consumers["it"].consumer
    eventually(lambda: consumer.session.settlement.unsettled_count() == 0, what="they are acked")
    parked(messages, 0)


@pytest.mark.parametrize("how", ASKING)
def test_every_way_to_ask_raises_it(start: Make, how: str) -> None:
    with pytest.raises(RemoteError, match="LookupError: no such thing"):
        ASKING[how](start("decorated"), {"fail": "fault"}, QUEUE, timeout=120)


@pytest.mark.parametrize("kind", ["no answer", "unreadable"])
def test_what_would_fail_again_is_not_tried_again(
    start: Make, messages: BlockingChannel, kind: str
) -> None:
    service = start("decorated", ack="on_success", retry=TWICE)
    with pytest.raises(RemoteError):
        service.request({"fail": kind}, QUEUE, timeout=120)
    assert service.calls == 1
    parked(messages, 1)


@pytest.mark.parametrize("ack", ["on_receipt", "on_success"])
@pytest.mark.parametrize("callback", ["large", "large_async"])
def test_an_answer_that_the_broker_refuses_is_a_failure(
    start: Make,
    messages: BlockingChannel,
    monkeypatch: pytest.MonkeyPatch,
    callback: str,
    ack: str,
) -> None:
    monkeypatch.setattr(publishing, "MAX_BODY", 4_000)
    service = start(callback, ack=ack, retry=TWICE)
    with pytest.raises(RemoteError, match="PublishRefusedError"):
        service.request({"n": 1}, QUEUE, timeout=120)
    parked(messages, 1)


def test_a_failure_after_the_ack_is_told_too(start: Make, messages: BlockingChannel) -> None:
    service = start("acked", auto_ack=False)
    with pytest.raises(RemoteError, match="no such thing"):
        service.request({"fail": "fault"}, QUEUE, timeout=120)
    parked(messages, 0)


@pytest.mark.parametrize("callback", ["parts", "parts_async"])
def test_the_error_follows_the_parts(start: Make, callback: str) -> None:
    service = start(callback, ack="on_success", retry=Retry(attempts=1))
    read: list[int] = []
    with pytest.raises(RemoteError, match="no more"):
        read.extend(part["number"] for part in service.stream_answer({"n": 3}, QUEUE, timeout=120))
    with pytest.raises(RemoteError, match="no more"):
        service.request(
            {"n": 3}, QUEUE, timeout=120, on_part=lambda part: read.append(part["number"])
        )
    assert read == [0, 1, 2] * 2


def test_a_thread_cannot_await_what_takes_the_parts(start: Make) -> None:
    service = start("parts", ack="on_success", retry=Retry(attempts=1))

    async def take(_part: dict[str, Any]) -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="needs the connector for asyncio"):
        service.request({"n": 3}, QUEUE, timeout=120, on_part=take)


def test_the_error_waits_behind_the_parts_for_a_slow_reader(
    start: Make, embedded: EmbeddedBroker, messages: BlockingChannel
) -> None:
    service = start("parts", ack="on_success", retry=Retry(attempts=1))
    stream = service.stream_answer({"n": 3}, QUEUE, timeout=120, prefetch_count=1)

    def all_sent() -> bool:  # three parts and the error, of which the reader has one
        found = messages.queue_declare(stream.reply_queue, passive=True)
        return int(found.method.message_count) == 3

    eventually(all_sent, what="all is sent")
    embedded.advance(60.0)
    assert [next(stream)["number"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RemoteError, match="no more"):
        next(stream)


def test_an_answer_that_names_another_request_goes_to_that_one(
    start: Make, messages: BlockingChannel
) -> None:
    messages.queue_declare(QUEUE)
    ask = partial(start().submit_request, queue=QUEUE, timeout=120, wire_format="json")
    futures = [ask({"n": n}) for n in (1, 2)]
    (first, one), (second, two) = (take(messages, QUEUE) for _ in futures)
    for properties, request in ((first, two), (second, one)):
        its = BasicProperties(
            correlation_id=properties.correlation_id, content_type="application/json"
        )
        messages.basic_publish("", str(properties.reply_to), json.dumps(request).encode(), its)
    assert [future.result(60.0)["n"] for future in futures] == [1, 2]


def test_a_client_in_another_language_is_told_in_json(
    start: Make, messages: BlockingChannel
) -> None:
    start("decorated")
    queue = messages.queue_declare("", exclusive=True).method.queue
    properties = BasicProperties(reply_to=queue, correlation_id="7")
    own_field = b'{"fail": "fault", "routing_key": 5}'
    for body in (b'{"fail": "type"}', b'{"fail": "fault"}', b"[1]", own_field):
        messages.basic_publish("", QUEUE, body, properties)
    told = [take(messages, queue) for _ in range(4)]
    assert {each.correlation_id for each, _body in told} == {"7"}
    types = [each.headers["neon-error"] for each, _body in told]
    assert types == [body["error"]["type"] for _each, body in told]
    assert types == ["NoSuchItem", "LookupError", "DecodeError", "LookupError"]
    assert told[0][1] == {
        "error": {"type": "NoSuchItem", "message": "no", "details": None},
        "message_id": "7",
        "context": {"mq": {"message_id": "7"}},
        "is_final": True,
    }
    parked(messages, 2)


def test_a_message_that_comes_round_by_dead_lettering_is_answered_once(
    start: Make, messages: BlockingChannel
) -> None:
    service = start(
        "decorated",
        ack="on_success",
        retry=Retry(attempts=1, park=False),
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": QUEUE},
    )
    queue = messages.queue_declare("", exclusive=True).method.queue
    properties = BasicProperties(reply_to=queue, correlation_id="7")
    messages.basic_publish("", QUEUE, b'{"fail": "fault"}', properties)
    eventually(lambda: service.calls == 2, what="it has come round")
    service.stop()
    assert messages.queue_declare(queue, passive=True).method.message_count == 1


def test_an_old_client_sees_what_it_always_saw(start: Make, messages: BlockingChannel) -> None:
    start("decorated", ack="on_success", retry=Retry(attempts=1))
    messages.queue_declare("old")
    for kind in ("fault", "refusal"):
        request = {"fail": kind, "routing_key": "old", "message_id": "m"}
        messages.basic_publish("", QUEUE, dict_to_b64(request))
    messages.basic_publish("", QUEUE, b"no message")
    parked(messages, 3)
    assert messages.queue_declare("old", passive=True).method.message_count == 0


def test_what_an_exception_says_can_be_hidden_and_is_bounded(start: Make) -> None:
    service = start("decorated", settings={"hide_error_messages": True})
    with pytest.raises(RemoteError) as caught:
        service.request({"fail": "fault"}, QUEUE, timeout=120)
    assert (caught.value.type, caught.value.message) == ("LookupError", "")
    with pytest.raises(RemoteError) as caught:
        service.request({"fail": "long"}, QUEUE, timeout=120)
    assert caught.value.message == "x" * 2_000
    assert len(caught.value.details) == 10_000
    with pytest.raises(RemoteError) as caught:
        service.request({"fail": "odd"}, QUEUE, timeout=120, wire_format="json")
    assert "('\\udcff', 1): <object" in caught.value.details


def test_of_several_services_those_that_fail_are_left_out(start: Make) -> None:
    service = start()
    answers = {"good": lambda body: {"good": True}, "bad": lambda body: fail({"fail": "fault"})}
    for name in answers:
        callback = create_mq_callback(answers[name])
        service.register_subscriber(name, "/", callback, exchange="all")
    service.run(run_sync=False, run_observer=False)
    found = service.gather_answers({"a": 1}, exchange="all", count=2, timeout=120)
    assert [each["good"] for each in found] == [True]


def test_send_mq_request_gives_an_empty_dict_or_raises(
    start: Make,
    config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "mq.json"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(path))
    start("decorated")
    request = {"fail": "fault"}
    assert send_mq_request("/", dict(request), QUEUE) == {}
    assert "LookupError: no such thing" in caplog.text
    assert asyncio.run(send_mq_request_async("/", dict(request), QUEUE)) == {}
    with pytest.raises(RemoteError):
        send_mq_request("/", dict(request), QUEUE, raise_errors=True)
    with pytest.raises(RemoteError):
        asyncio.run(send_mq_request_async("/", dict(request), QUEUE, raise_errors=True))

    def is_told_why() -> bool:
        with pytest.raises(RequestTimeoutError) as caught:
            send_mq_request("/", dict(request), "nobody", timeout=0.1, raise_errors=True)
        return "no service consumes" in str(caught.value)

    eventually(is_told_why)


# -- why it is late -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["request", "future", "stream", "coroutine"])
def test_a_time_out_says_what_the_broker_tells(
    start: Make, messages: BlockingChannel, how: str
) -> None:
    ask = ASKING[how]
    service = start()
    messages.queue_declare(QUEUE)
    error = late(ask, service)
    assert "no service consumes the queue" in str(error)
    assert error.consumers == 0
    messages.queue_purge(QUEUE)
    messages.basic_qos(prefetch_count=1)
    messages.basic_consume(QUEUE, lambda *_: None)
    assert "nobody has answered" in str(late(ask, service))
    messages.basic_publish("", QUEUE, b"another")
    assert "messages wait in the queue, 1 consumers" in str(late(ask, service))


def late(ask: Callable[..., Any], service: MQConnector) -> RequestTimeoutError:
    """Return the error of a request that was sent in time, and not answered."""

    def asked() -> RequestTimeoutError | None:
        with pytest.raises(RequestTimeoutError) as caught:
            ask(service, {"a": 1}, QUEUE, timeout=0.1)
        return None if "not sent" in str(caught.value) else caught.value

    error = eventually(asked)
    assert error is not None
    return error


# -- services in other languages ----------------------------------------------------------------


def test_an_answer_needs_nothing_but_the_correlation_id_and_to_be_a_dict(
    start: Make, messages: BlockingChannel
) -> None:
    client: Failing = start()
    messages.queue_declare(QUEUE)

    def answer(body: bytes, content_type: str | None = None) -> Future[dict[str, Any]]:
        asked = client.submit_request({"a": 1}, QUEUE, timeout=120, wire_format="json")
        properties, _request = take(messages, QUEUE)
        own = BasicProperties(correlation_id=properties.correlation_id, content_type=content_type)
        messages.basic_publish("", str(properties.reply_to), body, own)
        return asked

    for body in (b'{"text": "hi"}', b' {"text": "hi", "message_id": null}'):
        assert answer(body).result(120)["text"] == "hi"
    with pytest.raises(DecodeError, match=f"to queue '{QUEUE}': .* not a list"):
        answer(b"[1, 2]", "application/json").result(120)
