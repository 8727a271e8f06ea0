"""Callbacks and handlers of each kind answer each kind of client in the same way."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties
from pydantic import BaseModel

from neon_mq_connector import (
    AsyncMQConnector,
    Context,
    MQConnector,
    RequestRefusedError,
    Retry,
    consumer,
    create_mq_callback,
    subscriber,
)
from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.codec import decode_body, encode_body
from neon_mq_connector.errors import DecodeError, InvalidAnswerError, InvalidRequestError
from neon_mq_connector.testing import EmbeddedBroker
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.integration.embedded.conftest import receive
from tests.support.configurations import config_of
from tests.support.polling import eventually

KINDS = ("raw", "raw_async", "decorated", "decorated_async", "declared", "declared_async")
ONCE = Retry(attempts=1)
QUICK = Retry(attempts=3, backoff=ExponentialBackoff(first=0.01))


class Number(BaseModel):
    n: int


class Square(BaseModel):
    square: int


@dataclass
class Upto:
    n: int


class Nothing(BaseModel):
    """A model without members: the message is all there is to say."""


NINE = {"square": 9}


class Squares(MQConnector):
    """One answer in six ways."""

    def pre_run(self, **_: Any) -> None:
        for name in KINDS[:4]:
            self.register_consumer(name, self.vhost, name, getattr(self, name))

    def raw(self, channel: Any, _method: Any, properties: BasicProperties, body: bytes) -> None:
        request, wire_format = decode_body(body)
        mq = {"message_id": request["message_id"]} if "message_id" in request else {}
        channel.basic_publish(
            "",
            request.get("routing_key") or properties.reply_to,
            encode_body({"square": request["n"] ** 2, "context": {"mq": mq}}, wire_format),
            BasicProperties(
                correlation_id=properties.correlation_id, content_type=properties.content_type
            ),
        )

    async def raw_async(self, *delivery: Any) -> None:
        self.raw(*delivery)

    @create_mq_callback(request_model=Number)
    def decorated(self, body: Number) -> Square:
        return Square(square=body.n**2)

    @create_mq_callback()
    async def decorated_async(self, body: dict[str, Any]) -> dict[str, int]:
        return NINE

    @consumer("declared")
    def declared(self, number: Number) -> Square:
        return Square(square=number.n**2)

    @consumer("declared_async")
    async def declared_async(self, number: dict[str, Any]) -> Square | None:
        return Square(square=number["n"] ** 2)


@pytest.fixture
def start(embedded: EmbeddedBroker, endings: ExitStack) -> Callable[..., Any]:
    """Start a service."""

    def start_one(kind: type[MQConnector]) -> MQConnector:
        service = kind(config_of(embedded, "service"), "service")
        endings.callback(service.stop)
        service.run(run_sync=False, run_observer=False, mq_timeout=120)
        assert eventually(service.check_health)
        return service

    return start_one


@pytest.fixture
def client(embedded: EmbeddedBroker, endings: ExitStack) -> MQConnector:
    """A client of this release."""
    client = MQConnector(config_of(embedded, "client"), "client")
    endings.callback(client.stop)
    return client


@pytest.fixture
def channel(open_channel: Callable[[], BlockingChannel]) -> BlockingChannel:
    """A channel of pika."""
    return open_channel()


def ask_as_of_old(channel: BlockingChannel, queue: str, refuses: bool) -> dict[str, Any]:
    """Name the reply queue in the body, and nothing else."""
    channel.queue_declare("old_replies", durable=refuses)
    request = {"n": 3, "routing_key": "old_replies", "message_id": "m"}
    channel.basic_publish("", queue, dict_to_b64(request))
    answer = b64_to_dict(receive(channel, "old_replies")[1])
    assert answer["context"]["mq"]["message_id"] == "m"
    return answer


def ask_in_another_language(channel: BlockingChannel, queue: str, replies: str) -> dict[str, Any]:
    """Name the reply queue as AMQP does, and write JSON."""
    properties = BasicProperties(
        reply_to=replies, correlation_id="7", content_type="application/json; charset=utf-8"
    )
    channel.basic_publish("", queue, b'{"n": 3}', properties)
    answer_properties, body = receive(channel, replies)
    assert answer_properties.correlation_id == "7"
    assert str(answer_properties.content_type).startswith("application/json")
    answer: dict[str, Any] = json.loads(body)
    return answer


def ask_directly(channel: BlockingChannel, queue: str) -> dict[str, Any]:
    """Ask by RabbitMQ's direct reply-to."""
    got: list[tuple[BasicProperties, bytes]] = []
    name = "amq.rabbitmq.reply-to"
    tag = channel.basic_consume(
        name, lambda _c, _m, properties, body: got.append((properties, body)), auto_ack=True
    )
    properties = BasicProperties(reply_to=name, correlation_id="8", content_type="application/json")
    channel.basic_publish("", queue, b'{"n": 3}', properties)

    def came() -> bool:
        channel.connection.process_data_events(0.05)
        return bool(got)

    eventually(came, what=f"a direct answer of {queue}")
    channel.basic_cancel(tag)
    assert got[0][0].correlation_id == "8"
    answer: dict[str, Any] = json.loads(got[0][1])
    return answer


@pytest.mark.parametrize("embedded", [False, True], ids=["permissive", "refusing"], indirect=True)
def test_each_client_is_answered_by_each_kind(
    embedded: EmbeddedBroker,
    start: Callable[..., Squares],
    client: MQConnector,
    channel: BlockingChannel,
) -> None:
    start(Squares).vhost = "/of-something-else"  # an answer goes where its request was
    own = channel.queue_declare("", exclusive=True).method.queue
    for kind in KINDS:
        answers = {
            "old": ask_as_of_old(channel, kind, embedded.refuse_transient),
            "new": client.request({"n": 3}, kind, timeout=120),
            "other": ask_in_another_language(channel, kind, own),
            "direct": ask_directly(channel, kind),
        }
        found = {name: answer["square"] for name, answer in answers.items()}
        assert found == dict.fromkeys(answers, 9), kind
    assert NINE == {"square": 9}, "what a callback returns stays as it was"
    kept = {row["name"] for row in embedded.list_queues("/")}
    assert not {name for name in kept if name.endswith(".dead")}


class Talking(MQConnector):
    """Answers in parts, by generators and by a context."""

    closed: list[str]

    def pre_run(self, **_: Any) -> None:
        self.closed = []

    @consumer("count")
    def count(self, upto: Upto) -> Iterator[Number]:
        try:
            for n in range(upto.n):
                yield Number(n=n)
        finally:
            self.closed.append("count")

    @consumer("count_async")
    async def count_async(self, upto: Upto) -> AsyncIterator[Number]:
        try:
            for n in range(upto.n):
                yield Number(n=n)
                await asyncio.sleep(0)
        finally:
            self.closed.append("count_async")

    @consumer("endless")
    def endless(self, upto: Upto) -> Iterator[Number]:
        try:
            for n in itertools.count():
                time.sleep(0.01)
                yield Number(n=n)
        finally:
            self.closed.append("endless")

    @consumer("endless_async")
    async def endless_async(self, upto: Upto) -> AsyncIterator[Number]:
        try:
            for n in itertools.count():
                await asyncio.sleep(0.01)
                yield Number(n=n)
        finally:
            self.closed.append("endless_async")

    @consumer("breaks_off", retry=QUICK)
    def breaks_off(self, upto: Upto) -> Iterator[Number]:
        self.closed.append("tried")
        for n in range(upto.n):
            yield Number(n=n)
        raise LookupError

    @consumer("count_itself")
    def count_itself(self, upto: Upto) -> Iterator[dict[str, Any]]:
        for n in range(upto.n):
            yield {"n": n, "is_final": n == upto.n - 1}

    @consumer("count_by_context")
    def count_by_context(self, upto: Upto, context: Context) -> Number:
        for n in range(upto.n - 1):
            context.reply(Number(n=n))
        return Number(n=upto.n - 1)

    @consumer("reply_alone")
    def reply_alone(self, upto: Upto, context: Context) -> Number | None:
        for n in range(upto.n):
            context.reply(Number(n=n))
        return None


def test_a_generator_answers_in_parts(start: Callable[..., Talking], client: MQConnector) -> None:
    service = start(Talking)
    parts = [Number(n=n) for n in range(100)]
    assert list(client.stream(Upto(n=100), Talking.count, timeout=120)) == parts
    assert list(client.stream(Upto(n=100), Talking.count_async, timeout=120)) == parts
    assert list(client.stream(Upto(n=0), Talking.count, timeout=120)) == []
    with client.stream(Upto(n=5), service.count, timeout=120) as some:
        assert next(some) == Number(n=0)

    async def ask() -> list[Number]:
        async with AsyncMQConnector(client.config, "client") as asking:
            stream = asking.stream(Upto(n=100), Talking.count_async, timeout=120)
            return [part async for part in stream]

    assert asyncio.run(ask()) == parts
    eventually(lambda: len(service.closed) == 5, what="each generator is closed")


@pytest.mark.parametrize("parts, tries", [(0, 3), (1, 1)])
def test_an_answer_that_breaks_off_is_not_begun_again(
    start: Callable[..., Talking], channel: BlockingChannel, parts: int, tries: int
) -> None:
    service = start(Talking)
    channel.queue_declare("replies")
    request = {"n": parts, "routing_key": "replies"}
    channel.basic_publish("", "breaks_off", dict_to_b64(request))
    eventually(lambda: service.health().consumers["breaks_off"].parked == 1)
    assert service.closed == ["tried"] * tries


def test_a_generator_that_nobody_reads_is_closed(
    start: Callable[..., Talking], client: MQConnector, channel: BlockingChannel
) -> None:
    service = start(Talking)
    for handler in (Talking.endless, Talking.endless_async):
        with client.stream(Upto(n=0), handler, timeout=120) as parts:
            assert next(parts) == Number(n=0)
    for _part in client.stream(Upto(n=0), Talking.endless, timeout=120):
        break
    channel.queue_declare("neon.reply.of_a_dead_process", durable=True)
    request = {"n": 0, "routing_key": "neon.reply.of_a_dead_process"}
    channel.basic_publish("", "endless_async", dict_to_b64(request))
    eventually(lambda: sorted(service.closed) == ["endless"] * 2 + ["endless_async"] * 2)


@pytest.mark.parametrize(
    "queue", ["count", "count_async", "count_itself", "count_by_context", "reply_alone"]
)
def test_the_last_part_says_so(
    start: Callable[..., Talking], client: MQConnector, channel: BlockingChannel, queue: str
) -> None:
    start(Talking)
    numbers = [part["n"] for part in client.stream_answer({"n": 3}, queue) if "n" in part]
    assert numbers == [0, 1, 2]
    channel.queue_declare("replies")
    request = {"n": 2, "routing_key": "replies", "message_id": "m"}
    channel.basic_publish("", queue, dict_to_b64(request))
    finals: list[Any] = []
    while not (finals and finals[-1]):
        part = b64_to_dict(receive(channel, "replies")[1])
        finals.append(part.get("is_final") or part["context"]["mq"].get("is_final", False))
    ends_apart = queue in ("count", "count_async", "reply_alone")
    assert finals == [False] * (2 if ends_apart else 1) + [True]


class Strict(MQConnector):
    """Fails in each way that is the handler's or the request's fault."""

    def pre_run(self, **_: Any) -> None:
        self.errors: list[BaseException] = []
        for name in ("a_list", "a_text_after_an_answer", "a_text_after_a_publish", "nothing"):
            self.register_consumer(name, self.vhost, name, getattr(self, name))

    def default_error_handler(self, _thread: Any, error: Any) -> None:  # type: ignore[override]
        self.errors.append(error)

    @create_mq_callback()
    def a_list(self, body: dict[str, Any]) -> list[int]:
        return [body["n"]]

    @create_mq_callback()
    def a_text_after_an_answer(self, body: dict[str, Any]) -> str:
        return self.send_message({"n": 1, "context": {}, **body}, queue=body["routing_key"])

    @create_mq_callback(include_callback_props=("channel", "body"))
    def a_text_after_a_publish(self, channel: Any, body: dict[str, Any]) -> str:
        channel.basic_publish("", body["routing_key"], dict_to_b64({**body, "context": {}}))
        return "more"

    @create_mq_callback()
    def nothing(self, body: dict[str, Any]) -> None: ...

    @consumer("of_another_type", retry=ONCE)
    def of_another_type(self, number: Number) -> Square:
        return number  # type: ignore[return-value]

    @consumer("forgotten", retry=ONCE)
    def forgotten(self, number: Number) -> Square:
        return None  # type: ignore[return-value]

    @consumer("checked", retry=ONCE)
    def checked(self, number: Number) -> Square:
        return Square(square=number.n**2)

    @consumer("empty")
    def empty(self, nothing: Nothing) -> Nothing:
        return nothing

    @consumer("refused", retry=ONCE)
    async def refused(self, number: Number) -> Square:
        raise RequestRefusedError("not today")


@pytest.mark.parametrize(
    "queue, request_data, kind, said",
    [
        ("a_list", {"n": 1}, InvalidAnswerError, "the value is a list"),
        ("of_another_type", {"n": 1}, InvalidAnswerError, "Square is declared"),
        ("forgotten", {"n": 1}, InvalidAnswerError, "Square is declared, and the value is None"),
        ("checked", {"n": "one"}, InvalidRequestError, "does not fit Number: n: "),
        ("refused", {"n": 1}, RequestRefusedError, "not today"),
    ],
)
def test_what_is_wrong_is_raised_out_of_the_callback(
    start: Callable[..., Strict],
    client: MQConnector,
    channel: BlockingChannel,
    queue: str,
    request_data: dict[str, Any],
    kind: type[Exception],
    said: str,
) -> None:
    service = start(Strict)
    channel.queue_declare("replies")
    client.send_message({**request_data, "routing_key": "replies"}, queue=queue)
    eventually(lambda: service.errors, what="the error is told")
    error = service.errors[0]
    assert type(error) is kind
    assert said in str(error)
    if isinstance(error, InvalidRequestError):
        assert [fault["field"] for fault in error.details] == ["n"]


def test_a_callback_that_has_answered_may_return_anything(
    start: Callable[..., Strict], client: MQConnector
) -> None:
    service = start(Strict)
    for queue in ("a_text_after_an_answer", "a_text_after_a_publish"):
        assert client.request({"k": 1}, queue, timeout=120)["k"] == 1
        old_style = {"k": 1, "routing_key": "replies"}
        client.send_message(old_style, queue=queue, expiration=None)
        eventually(lambda queue=queue: service.health().consumers[queue].handled == 2)  # type: ignore[misc]
    client.send_message({"n": 1}, queue="a_list", expiration=None)  # nobody asks for an answer
    client.send_message({"n": 1}, queue="nothing", expiration=None)
    eventually(lambda: service.health().consumers["nothing"].handled == 1)
    eventually(lambda: service.health().consumers["a_list"].handled == 1)
    assert not service.errors


def test_an_answer_that_does_not_fit_names_its_queue_and_field(
    start: Callable[..., Strict], client: MQConnector
) -> None:
    class Claimed(MQConnector):
        @consumer("checked")
        def checked(self, number: Number) -> Number:
            return number

    start(Strict)
    with pytest.raises(DecodeError, match=r"an answer of queue 'checked': .* Number: n: "):
        client.request(Number(n=1), Claimed.checked, timeout=120)
    with pytest.raises(DecodeError, match="queue 'checked'"):
        client.submit_request(Number(n=1), Claimed.checked, timeout=120).result(120)
    assert client.submit_request(Number(n=4), Strict.checked).result(120) == Square(square=16)
    assert client.request(Nothing(), Strict.empty, timeout=120) == Nothing()
    cancelled = client.submit_request(Number(n=4), Strict.checked)
    assert cancelled.cancel() or cancelled.done()


LOG: list[str] = []


@contextmanager
def outer(context: Context) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        LOG.append(f"outer saw {type(error).__name__} of {context.queue}")
        raise
    else:
        LOG.append(f"outer {context.queue}")


@contextmanager
def inner(context: Context) -> Iterator[None]:
    if context.headers.get("refuse"):
        raise RequestRefusedError("refused by inner")
    try:
        yield
    finally:
        LOG.append(f"inner {context.queue}")


@asynccontextmanager
async def inner_async(context: Context) -> AsyncIterator[None]:
    await asyncio.sleep(0)
    with inner(context):
        yield


class Watched(MQConnector):
    """Has middleware, and looks at its contexts."""

    middleware = (outer, inner)

    def pre_run(self, **_: Any) -> None:
        self.seen: list[Context] = []

    @consumer("fail_twice", retry=QUICK)
    def fail_twice(self, number: Number, context: Context) -> Square:
        self.seen.append(context)
        context.logger.info("tried")
        if context.attempt < 3:
            raise LookupError
        return Square(square=context.attempt)

    @subscriber("news")
    def on_news(self, number: Number) -> None:
        pass


def test_asynchronous_middleware_is_not_put_around_a_function(start: Callable[..., Any]) -> None:
    class Mixed(Watched):
        middleware = (outer, inner_async)  # type: ignore[assignment]

    with pytest.raises(TypeError, match=r"Watched.fail_twice: middleware inner_async is async"):
        start(Mixed)


class WatchedAsync(Watched):
    middleware = (outer, inner_async)  # type: ignore[assignment]
    on_news = None  # type: ignore[assignment]

    @consumer("fail_twice", retry=QUICK)
    async def fail_twice(self, number: Number, context: Context) -> Square:  # type: ignore[override]
        return Watched.fail_twice.function(self, number, context)


@pytest.mark.parametrize("kind", [Watched, WatchedAsync])
def test_middleware_is_around_each_try(
    start: Callable[..., Watched],
    client: MQConnector,
    kind: type[Watched],
    caplog: pytest.LogCaptureFixture,
) -> None:
    LOG.clear()
    caplog.set_level("INFO", __name__)
    service = start(kind)
    request = {"n": 1, "message_id": "m"}
    assert client.request(request, "fail_twice", timeout=120)["square"] == 3
    failed = ["inner fail_twice", "outer saw LookupError of fail_twice"]
    eventually(lambda: len(LOG) == 6, what="the middleware is left, which is after the answer")
    assert [*failed, *failed, "inner fail_twice", "outer fail_twice"] == LOG
    first, last = service.seen[0], service.seen[-1]
    assert (first.message_id, first.queue, first.attempt, last.attempt) == ("m", "fail_twice", 1, 3)
    assert first.service is service
    left, first_left = last.time_left(), first.time_left()
    assert left is not None
    assert first_left is not None
    assert 0 < left <= 120.0
    assert first.deadline == last.deadline  # a retry does not begin anew
    assert "m: tried" in caplog.messages


def test_middleware_sees_what_a_subscriber_gets(
    start: Callable[..., Watched], client: MQConnector
) -> None:
    LOG.clear()
    start(Watched)
    client.send_message({"n": 1}, exchange="news", exchange_type="fanout")
    eventually(lambda: len(LOG) == 2)
    assert all(line.split()[1].startswith("service.news") for line in LOG)
