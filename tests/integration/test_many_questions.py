"""Many questions at once, one question to many, and answers in parts that wait for their reader."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient
from neon_mq_connector.errors import RequestTimeoutError, TopologyError, UnroutableError
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.integration.conftest import (
    Asked,
    MakeConnector,
    Queues,
    count_like_old_services,
    messages_in,
    run,
)
from tests.support.polling import eventually


@pytest.fixture
def host(make_connector: MakeConnector) -> MQConnector:
    return make_connector()


def client_of(host: MQConnector) -> RequestClient:
    return host._mq_core.hosts.client(host.vhost)


# -- futures -------------------------------------------------------------------------------------


def test_a_question_ends_when_its_time_is_up_and_the_late_answer_is_counted(
    asked: Asked, host: MQConnector
) -> None:
    run(asked)

    def is_late_answer_counted() -> bool:
        asked.may_answer.clear()
        began = time.monotonic()
        with pytest.raises(RequestTimeoutError, match="'square'"):
            host.submit_request({"n": 1}, "square", timeout=0.3).result(120)
        assert time.monotonic() - began > 0.3
        asked.may_answer.set()
        host.request({"n": 2}, "square")  # is answered after the first, if that was sent in time
        return client_of(host).late_replies > 0

    eventually(is_late_answer_counted)


def test_a_question_that_is_cancelled_ends_at_once_and_its_answer_is_counted(
    asked: Asked, host: MQConnector
) -> None:
    run(asked)
    asked.may_answer.clear()
    kept, dropped = (host.submit_request({"n": n}, "square", timeout=120) for n in (1, 2))
    assert dropped.cancel()
    assert dropped.cancel()
    assert wait([dropped], timeout=120).done == {dropped}
    before = client_of(host).late_replies
    asked.may_answer.set()
    assert next(as_completed([kept], timeout=120)).result()["square"] == 1
    eventually(lambda: client_of(host).late_replies == before + 1)


def test_a_question_that_no_queue_takes_fails_and_its_neighbours_do_not(
    asked: Asked, host: MQConnector
) -> None:
    run(asked)
    lost = host.submit_request({"n": 1}, "amq.nobody", timeout=120)  # nobody may declare it
    good = host.submit_request({"n": 2}, "square", timeout=120)
    with pytest.raises(TopologyError, match=r"amq\.nobody"):
        lost.result(120)
    with pytest.raises(TopologyError, match=r"amq\.nobody"):
        list(host.stream_answer({"ask": 1}, "amq.nobody", timeout=120))
    assert good.result(120)["square"] == 4


def test_a_callback_of_a_question_may_ask_again(asked: Asked, host: MQConnector) -> None:
    run(asked)
    later: Future[dict[str, Any]] = Future()

    def answered(first: Future[dict[str, Any]]) -> None:
        again = host.submit_request({"n": first.result()["square"]}, "square", timeout=120)
        again.add_done_callback(lambda second: later.set_result(second.result()))

    host.submit_request({"n": 3}, "square", timeout=120).add_done_callback(answered)
    assert later.result(120)["square"] == 81


def test_eight_threads_ask_in_every_way_at_once(asked: Asked, host: MQConnector) -> None:
    run(asked)

    def ask(thread: int) -> None:
        for n in range(thread * 100, thread * 100 + 20):
            question = host.submit_request({"n": n}, "square", timeout=120)
            assert host.request({"n": n + 1}, "square", timeout=120)["square"] == (n + 1) ** 2
            assert question.result(120)["square"] == n**2
        with host.stream_answer({"to": 20}, "count", timeout=120) as parts:
            assert [part["n"] for part in parts] == list(range(20))
        (answer,) = host.gather_answers({"n": thread}, "square", count=1, timeout=120)
        assert answer["square"] == thread**2

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(ask, thread) for thread in range(8)]:
            done.result(120)


# -- one question to several ---------------------------------------------------------------------


@pytest.fixture
def choir(make_connector: MakeConnector, channel: BlockingChannel) -> list[MQConnector]:
    """Three services that subscribe to one exchange and answer with a number of their own."""

    def subscribe(number: int) -> MQConnector:
        service = make_connector()

        def answer(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
            request = b64_to_dict(body)
            service.send_message(
                {"voice": number, "message_id": request["message_id"]},
                queue=request["routing_key"],
            )

        service.register_subscriber(f"s{number}", service.vhost, answer, exchange="choir")
        return run(service)

    return [subscribe(number) for number in range(3)]


def test_answers_are_gathered_until_all_are_there_or_the_time_is_up(
    choir: list[MQConnector], host: MQConnector
) -> None:
    answers = host.gather_answers({"sing": 1}, exchange="choir", count=3, timeout=600.0)
    assert sorted(answer["voice"] for answer in answers) == [0, 1, 2]
    for count in (None, 4):

        def are_all_there(count: int | None = count) -> bool:
            began = time.monotonic()
            answers = host.gather_answers({"sing": 1}, exchange="choir", count=count, timeout=0.3)
            assert time.monotonic() - began > 0.2
            return len(answers) == 3

        eventually(are_all_there)


def test_a_question_to_an_exchange_that_reaches_nobody_is_an_error_for_nobody_else(
    asked: Asked, host: MQConnector, channel: BlockingChannel
) -> None:
    channel.exchange_declare("deserted", "fanout")
    run(asked)
    asked.may_answer.clear()
    waiting = host.submit_request({"n": 2}, "square", timeout=120)
    for exchange in ("deserted", "missing"):
        with pytest.raises(UnroutableError, match=exchange):
            host.gather_answers({"sing": 1}, exchange=exchange, count=1, timeout=120)
    with pytest.raises(ValueError, match="empty"):
        host.gather_answers({"sing": 1}, count=1)
    asked.may_answer.set()
    assert waiting.result(120)["square"] == 4


# -- an answer in parts --------------------------------------------------------------------------


def test_parts_wait_at_the_broker_for_a_slow_reader(
    asked: Asked, host: MQConnector, channel: BlockingChannel
) -> None:
    run(asked)
    stream = host.stream_answer({"to": 1000}, "count", timeout=120, prefetch_count=16)
    read = [part["n"] for part in itertools.islice(stream, 10)]
    assert asked.parts_sent.wait(120)
    # nine are acknowledged, the tenth is in the reader's hands
    eventually(lambda: messages_in(channel, stream.reply_queue) == 1000 - 9 - 16)
    read += [part["n"] for part in stream]
    assert read == list(range(1000))


def test_a_stream_that_is_left_early_leaves_no_queue(
    asked: Asked, host: MQConnector, queues: Queues
) -> None:
    run(asked)
    with host.stream_answer({"to": 100}, "count", timeout=120) as parts:
        for part in parts:
            if part["n"] == 5:
                break
        name = parts.reply_queue
        assert name in queues()
    assert name not in queues()
    assert list(parts) == []
    parts.close()
    assert host.request({"n": 3}, "square", timeout=120)["square"] == 9


def test_each_part_has_the_time_that_was_given_and_then_it_is_said(
    make_connector: MakeConnector, host: MQConnector
) -> None:
    service = make_connector()

    def one_and_no_more(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        part = {"n": 0, "message_id": request["message_id"]}
        service.send_message(part, queue=request["routing_key"])

    service.register_consumer("c", service.vhost, "one", one_and_no_more)
    run(service)
    read: list[int] = []

    def ask() -> None:
        stream = host.stream_answer({"ask": 1}, "one", timeout=0.5)
        read.append(next(stream)["n"])
        with pytest.raises(RequestTimeoutError, match="'one'"):
            next(stream)
        next(stream)  # it must not be taken for the end

    def is_one_read() -> bool:
        with pytest.raises(RequestTimeoutError, match="'one'"):
            ask()
        return bool(read)

    eventually(is_one_read)
    assert read == [0]


def test_a_service_of_the_old_style_answers_in_parts_and_may_declare_the_queue_for_them(
    old_service: Callable[..., object], host: MQConnector
) -> None:
    old_service("count", count_like_old_services)
    question = {"to": 100, "declares": True}
    parts = [part["n"] for part in host.stream_answer(question, "count", timeout=120)]
    assert parts == list(range(100))
