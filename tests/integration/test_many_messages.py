"""Many messages at once: what a batch or a future promised is in a queue, in order, or named."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector
from neon_mq_connector.errors import (
    PublishBatchError,
    PublishError,
    PublishRejectedError,
    UnroutableError,
)
from neon_mq_connector.publishing.publisher import Publisher
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.integration.conftest import MakeConnector, messages_in
from tests.support.accounting import take_all
from tests.support.polling import eventually

#: Sends messages and returns their ids when all are confirmed, or raises.
SendAll = Callable[..., list[str]]


def by_batch(connector: MQConnector, messages: Any, **where: Any) -> list[str]:
    return connector.publish_many(messages, **where)


def by_futures(connector: MQConnector, messages: Any, **where: Any) -> list[str]:
    futures = [connector.submit_message(each, **where) for each in messages]
    return [future.result(120) for future in futures]


def one_by_one(connector: MQConnector, messages: Any, **where: Any) -> list[str]:
    return [connector.send_message(each, **where) for each in messages]


EITHER_WAY = pytest.mark.parametrize("send_all", [by_batch, by_futures])


def numbered(count: int) -> Iterator[dict[str, Any]]:
    return ({"n": n} for n in range(count))


def found_in(channel: BlockingChannel, queue: str) -> list[dict[str, Any]]:
    return [b64_to_dict(body) for _properties, body in take_all(channel, queue)]


@EITHER_WAY
def test_all_are_in_their_queue_in_order_when_it_is_said(
    make_connector: MakeConnector, channel: BlockingChannel, send_all: SendAll
) -> None:
    channel.queue_declare("q", durable=True)
    ids = send_all(make_connector(), numbered(300), queue="q")
    found = found_in(channel, "q")
    assert [each["message_id"] for each in found] == ids
    assert [each["n"] for each in found] == list(range(300))


@pytest.mark.every_broker
def test_a_queue_that_is_missing_is_declared_and_a_batch_keeps_its_order(
    make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    make_connector().publish_many(numbered(200), queue="new")
    assert [each["n"] for each in found_in(channel, "new")] == list(range(200))
    ids = by_futures(make_connector(), numbered(50), queue="newer")
    assert sorted(each["message_id"] for each in found_in(channel, "newer")) == sorted(ids)


@pytest.mark.parametrize(
    "kind, queue, send_all",
    [
        ("fanout", "", by_batch),
        ("fanout", "q", by_futures),
        ("direct", "q", by_batch),
        ("direct", "q", one_by_one),
        ("topic", "", by_futures),
        ("topic", "q", one_by_one),
    ],
)
def test_an_exchange_is_declared_and_again_when_it_was_deleted(
    make_connector: MakeConnector,
    channel: BlockingChannel,
    send_all: SendAll,
    kind: str,
    queue: str,
) -> None:
    connector = make_connector()
    where = {"exchange": "x", "exchange_type": kind, "queue": queue}
    assert len(send_all(connector, numbered(20), **where)) == 20
    channel.exchange_delete("x")
    assert len(send_all(connector, numbered(20), **where)) == 20
    channel.exchange_declare("x", kind, passive=True)
    if queue:
        assert messages_in(channel, "q") == 40


def test_all_fail_when_no_queue_can_take_them(make_connector: MakeConnector) -> None:
    with pytest.raises(UnroutableError, match=r"'amq\.nobody'") as caught:
        by_futures(make_connector(), numbered(3), queue="amq.nobody")  # nobody may declare it
    assert not caught.value.may_have_arrived


def test_those_that_no_queue_takes_are_told_by_their_numbers(
    make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    queue = channel.queue_declare("", durable=True).method.queue  # nobody may declare it again

    def messages() -> Iterator[dict[str, Any]]:
        yield from numbered(50)
        # what is held back for want of company leaves all the same
        eventually(lambda: messages_in(channel, queue) == 50, what="50 have arrived")
        channel.queue_delete(queue)
        yield from numbered(30)

    with pytest.raises(PublishBatchError, match="30 of 80") as caught:
        make_connector().publish_many(messages(), queue=queue)
    error = caught.value
    assert list(error.failures) == list(range(50, 80))
    assert {type(each) for each in error.failures.values()} == {UnroutableError}
    assert len(error.message_ids) == 80
    assert not error.may_have_arrived


def test_those_that_a_full_queue_refuses_are_told_by_their_numbers(
    make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    limits = {"x-max-length": 10, "x-overflow": "reject-publish"}
    channel.queue_declare("full", durable=True, arguments=limits)
    with pytest.raises(PublishBatchError) as caught:  # which does not take until the time is up
        make_connector().publish_many(numbered(200), queue="full", timeout=3600)
    failures, ids = caught.value.failures, caught.value.message_ids
    assert {type(each) for each in failures.values()} == {PublishRejectedError}
    confirmed = {ids[number] for number in range(200) if number not in failures}
    assert {each["message_id"] for each in found_in(channel, "full")} == confirmed


@pytest.mark.parametrize("bad, error", [("text", TypeError), ({}, ValueError), (None, KeyError)])
def test_what_is_no_message_and_a_generator_that_raises_end_a_batch_after_those_before(
    make_connector: MakeConnector, channel: BlockingChannel, bad: Any, error: type[Exception]
) -> None:
    def messages() -> Iterator[Any]:
        yield from numbered(20)
        if bad is None:
            raise KeyError("rows are gone")
        yield bad
        yield {"n": "after"}

    with pytest.raises(error):
        make_connector().publish_many(messages(), queue="q")
    assert [each["n"] for each in found_in(channel, "q")] == list(range(20))
    assert make_connector().publish_many([], queue="q") == []


def test_a_callback_of_a_future_may_wait_for_the_broker(
    make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    channel.queue_declare("after", durable=True)
    connector = make_connector()
    threads: list[str] = []

    def confirmed(future: Future[str]) -> None:
        threads.append(threading.current_thread().name)
        connector.send_message({"after": future.result()}, queue="after")

    for _ in range(10):
        future = connector.submit_message({"n": 1}, queue="q")
        future.add_done_callback(confirmed)
    eventually(lambda: messages_in(channel, "after") == 10)
    assert not any(name.startswith("mq-publisher") for name in threads)


def test_a_future_that_is_cancelled_ends_at_once_and_its_message_is_sent(
    make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    channel.queue_declare("q", durable=True)
    connector = make_connector()
    futures = [connector.submit_message({"n": n}, queue="q") for n in range(100)]
    cancelled = [future for future in futures if future.cancel()]
    done, not_done = wait(futures, timeout=120)
    assert len(done) == 100
    assert not not_done
    assert all(future.cancelled() for future in cancelled)
    eventually(lambda: messages_in(channel, "q") == 100)


def test_eight_threads_send_in_every_way_at_once(
    make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    connector = make_connector()
    sent: list[str] = []

    def send(number: int) -> None:
        for turn in range(2):
            send_all = (by_batch, by_futures)[(number + turn) % 2]
            sent.extend(send_all(connector, numbered(50), queue="q"))
            sent.append(connector.send_message({"n": 1}, queue="q"))

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(send, number) for number in range(8)]:
            each.result(120)
    assert len(sent) == 8 * 2 * 51
    assert sorted(each["message_id"] for each in found_in(channel, "q")) == sorted(sent)


@EITHER_WAY
def test_without_a_broker_it_is_said_in_time_and_nothing_was_sent(
    make_connector: MakeConnector, send_all: SendAll
) -> None:
    connector = make_connector(port=1, publish_timeout=0.5)
    with pytest.raises(PublishError) as caught:
        send_all(connector, numbered(3), queue="q")
    assert not caught.value.may_have_arrived


class SoftTimeLimit(Exception):
    """What a signal handler raises in the middle of anything."""


def test_a_batch_that_is_interrupted_names_the_message_that_was(
    make_connector: MakeConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = make_connector()
    post, calls = Publisher.post, itertools.count(1)

    def interrupted(self: Publisher, *arguments: Any) -> None:
        if next(calls) == 8:
            raise SoftTimeLimit("time is up")
        post(self, *arguments)

    monkeypatch.setattr(Publisher, "post", interrupted)
    messages = [{"message_id": str(n)} for n in range(10)]
    with pytest.raises(PublishBatchError) as caught:
        connector.publish_many(messages, queue="interrupted", expiration=None)
    # it was not waited for: it is not known whether it has left
    assert list(caught.value.failures) == [7]
    assert "time is up" in str(caught.value.failures[7])
    assert caught.value.may_have_arrived
    assert isinstance(caught.value.__cause__, SoftTimeLimit)
    assert caught.value.message_ids == [str(n) for n in range(8)]
