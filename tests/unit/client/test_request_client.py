"""The request client: each request gets its own answer, however it is sent."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pika
import pytest
from pika.spec import BasicProperties

from neon_mq_connector.client import RequestClient, answer_id, is_final
from neon_mq_connector.client import request_client as client_module
from neon_mq_connector.codec import WireFormat, content_type_of, decode_body, encode_body
from neon_mq_connector.envelope import DIRECT_REPLY_TO, REPLY_QUEUE, TIME_ALLOWED
from neon_mq_connector.errors import (
    BrokerUnreachableError,
    ConnectionLostError,
    DecodeError,
    RequestLostError,
    RequestTimeoutError,
    StoppedError,
    TopologyError,
    UnroutableError,
)
from neon_mq_connector.topology import QueueStatus
from tests.support.polling import eventually
from tests.unit.fakes import FakeChannel, FakeConnections, Published, make_delivery


class Bench:
    """A request client, and the broker and services that answer it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connections = FakeConnections()
        self.connections.control.status = QueueStatus("neon.reply.mine")
        monkeypatch.setattr(client_module, "Connections", lambda *_, **__: self.connections)
        self.client = RequestClient([pika.ConnectionParameters()], owner="asker")
        self._pool = ThreadPoolExecutor(64)

    @property
    def channel(self) -> FakeChannel:
        return self.connections.requests.channel

    def ask(self, data: dict[str, Any] | None = None, **options: Any) -> Future[dict[str, Any]]:
        options.setdefault("timeout", 5.0)
        return self._pool.submit(self.client.request, "service", data or {"ask": 1}, **options)

    def sent(self, count: int) -> list[Published]:
        """Wait until so many requests are out."""
        eventually(
            lambda: self.connections.requests.channels and len(self.channel.published) >= count
        )
        return list(self.channel.published)

    def answer(
        self, request: Published, data: dict[str, Any], correlation_id: str | None = "its own"
    ) -> None:
        if correlation_id == "its own":
            correlation_id = request.properties.correlation_id
        self.deliver(encode_body(data, WireFormat.LEGACY), correlation_id)

    def deliver(self, body: bytes, correlation_id: str | None) -> None:
        properties = BasicProperties(
            correlation_id=correlation_id, content_type=content_type_of(WireFormat.LEGACY)
        )
        self.channel.delivers(make_delivery(1, body, properties))

    def close(self) -> None:
        self.client.close()
        for channel in self.connections.requests.channels:
            if channel.error is None:
                channel.shut(StoppedError("closed"))
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture
def it(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(monkeypatch)
    yield bench
    bench.close()


def content(published: Published) -> dict[str, Any]:
    return decode_body(published.body, published.properties.content_type)[0]


def id_of(published: Published) -> str:
    return str(content(published)["message_id"])


def test_a_request_names_both_ways_to_answer_it(it: Bench) -> None:
    data = {"ask": 1}
    future = it.ask(data)
    (request,) = it.sent(1)
    assert content(request)["routing_key"] == "neon.reply.mine"
    assert request.mandatory
    assert request.properties.reply_to == DIRECT_REPLY_TO
    assert request.properties.expiration == "5000"
    assert request.properties.headers == {REPLY_QUEUE: "neon.reply.mine", TIME_ALLOWED: 5000}
    assert data == {"ask": 1}
    it.answer(request, {"message_id": id_of(request), "ok": True})
    assert future.result(30.0)["ok"]
    assert it.channel.consuming == [DIRECT_REPLY_TO, "neon.reply.mine"]


def test_many_requests_in_flight_are_answered_in_any_order(it: Bench) -> None:
    futures = [it.ask({"number": n}) for n in range(40)]
    requests = it.sent(40)
    random.shuffle(requests)
    for request in requests:
        it.answer(request, {"message_id": id_of(request), "number": content(request)["number"]})
    assert [future.result(30.0)["number"] for future in futures] == list(range(40))


def test_an_answer_by_its_message_id_alone_is_found(it: Bench) -> None:
    futures = [it.ask({"number": n}) for n in range(5)]
    requests = {content(each)["number"]: each for each in it.sent(5)}
    for number in (3, 1, 4, 0, 2):
        request = requests[number]
        it.answer(request, {"message_id": id_of(request), "number": number}, None)
    assert [future.result(30.0)["number"] for future in futures] == list(range(5))


def test_the_id_in_the_context_counts_more_than_the_answers_own(it: Bench) -> None:
    future = it.ask()
    (request,) = it.sent(1)
    it.answer(
        request,
        {"message_id": "its own", "context": {"mq": {"message_id": id_of(request)}}, "ok": 1},
        None,
    )
    assert future.result(30.0)["ok"] == 1


def test_an_answer_to_another_request_is_handed_over_to_it(it: Bench) -> None:
    first, second = it.ask({"number": 1}), it.ask({"number": 2})
    requests = {content(each)["number"]: each for each in it.sent(2)}
    # a service that answers with the correlation id of the request that it happens to handle
    it.answer(
        requests[1],
        {"message_id": id_of(requests[2]), "for": 2},
        requests[1].properties.correlation_id,
    )
    it.answer(requests[1], {"message_id": id_of(requests[1]), "for": 1})
    assert first.result(30.0)["for"] == 1
    assert second.result(30.0)["for"] == 2


def test_a_late_or_foreign_answer_is_counted_and_dropped(it: Bench) -> None:
    with pytest.raises(RequestTimeoutError, match=r"'service': no answer within 0\.05 s"):
        it.client.request("service", {"ask": 1}, timeout=0.05)
    (request,) = it.sent(1)
    it.answer(request, {"message_id": id_of(request)})
    it.answer(request, {"message_id": "of somebody else"}, None)
    eventually(lambda: it.client.late_replies == 2)
    future = it.ask()
    request = it.sent(2)[1]
    it.answer(request, {"message_id": id_of(request), "ok": 1})
    assert future.result(30.0)["ok"] == 1


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{", b"[1, 2]", b"\x80\x04N."])
def test_an_answer_that_cannot_be_read_and_is_for_nobody_harms_nobody(
    it: Bench, body: bytes
) -> None:
    future = it.ask()
    (request,) = it.sent(1)
    it.deliver(body, None)
    it.deliver(body, "nobody")
    it.answer(request, {"message_id": id_of(request), "ok": 1}, None)
    assert future.result(30.0)["ok"] == 1


def test_an_answer_that_cannot_be_read_is_said_to_who_waits_for_it(it: Bench) -> None:
    future = it.ask()
    (request,) = it.sent(1)
    it.deliver(b"\xff\xfe", request.properties.correlation_id)
    with pytest.raises(DecodeError):
        future.result(30.0)


def test_parts_are_handed_on_until_the_last(it: Bench) -> None:
    parts: list[dict[str, Any]] = []
    future = it.ask(on_part=parts.append)
    (request,) = it.sent(1)
    for number in range(3):
        it.answer(request, {"message_id": id_of(request), "part": number, "is_final": number == 2})
    assert future.result(30.0)["part"] == 2
    assert [part["part"] for part in parts] == [0, 1, 2]


def test_a_loss_fails_all_who_wait_at_once(it: Bench) -> None:
    futures = [it.ask() for _ in range(5)]
    it.sent(5)
    it.channel.shut(ConnectionLostError("lost"))
    for future in futures:
        with pytest.raises(RequestLostError, match="lost"):
            future.result(30.0)


def test_after_a_loss_the_next_request_opens_another_channel(it: Bench) -> None:
    it.ask()
    it.sent(1)
    it.channel.shut(ConnectionLostError("lost"))
    future = it.ask()
    eventually(lambda: len(it.connections.requests.channels) == 2)
    (request,) = it.sent(1)
    it.answer(request, {"message_id": id_of(request), "ok": 1})
    assert future.result(30.0)["ok"] == 1


def test_without_a_broker_the_error_says_so(it: Bench) -> None:
    it.connections.requests.refusals = [BrokerUnreachableError("nobody there")]
    with pytest.raises(BrokerUnreachableError):
        it.client.request("service", {"ask": 1}, timeout=1.0)


def test_the_queue_of_a_service_that_was_never_there_is_declared_once(it: Bench) -> None:
    future = it.ask()
    it.sent(1)
    it.channel.returns(1)
    request = it.sent(2)[1]
    assert "declaring queue 'service'" in it.connections.control.performed
    it.answer(request, {"message_id": id_of(request), "ok": 1})
    assert future.result(30.0)["ok"] == 1


def test_a_request_that_comes_back_twice_is_unroutable(it: Bench) -> None:
    future = it.ask()
    for count in (1, 2):
        it.sent(count)
        it.channel.returns(count)
    with pytest.raises(UnroutableError, match="no queue takes it"):
        future.result(30.0)


def test_a_future_fails_when_the_queue_of_its_request_cannot_be_declared(it: Bench) -> None:
    future = it.client.submit("service", {"ask": 1}, timeout=30.0)
    it.connections.control.refusal = TopologyError("403 ACCESS_REFUSED")
    it.channel.returns(1)
    with pytest.raises(TopologyError, match="403"):
        future.result(30.0)
    it.connections.control.refusal = None


def test_the_request_of_a_stream_is_sent_again_when_it_is_returned(it: Bench) -> None:
    stream = it.client.stream("service", {"ask": 1}, timeout=5.0)
    requests, parts = it.connections.requests.channels
    requests.returns(1)
    for request in requests.published:
        assert content(request)["routing_key"] == stream.reply_queue
        assert request.properties.reply_to is None
        assert request.properties.headers == {TIME_ALLOWED: 5000}
    body = encode_body({"message_id": id_of(requests.published[1]), "is_final": 1}, WireFormat.JSON)
    properties = BasicProperties(content_type=content_type_of(WireFormat.JSON))
    parts.delivers(make_delivery(1, body, properties))
    assert [part["is_final"] for part in stream] == [1]


def test_on_a_broker_that_refuses_reply_queues_the_direct_name_is_learned(it: Bench) -> None:
    it.connections.control.status = QueueStatus("")
    future = it.ask()
    request = it.sent(2)[1]
    assert content(request)["routing_key"] == "amq.rabbitmq.reply-to.learned"
    assert it.channel.consuming == [DIRECT_REPLY_TO]
    it.answer(request, {"message_id": id_of(request), "ok": 1})
    assert future.result(30.0)["ok"] == 1


def test_a_reply_queue_of_the_callers_is_made_used_and_deleted(it: Bench) -> None:
    it.connections.control.status = QueueStatus("theirs")
    names: list[str] = []
    future = it.ask(reply_queue="theirs", on_reply_queue=names.append)
    (request,) = it.sent(1)
    assert content(request)["routing_key"] == "theirs"
    it.answer(request, {"message_id": id_of(request), "ok": 1})
    future.result(30.0)
    assert names == ["theirs"]
    assert it.channel.cancelled == ["tag of theirs"]
    assert it.connections.control.performed[-1] == "deleting queue 'theirs'"


def test_a_reply_queue_of_the_callers_is_deleted_when_no_answer_comes(it: Bench) -> None:
    it.connections.control.status = QueueStatus("theirs")
    with pytest.raises(RequestTimeoutError):
        it.client.request("service", {"ask": 1}, timeout=0.05, reply_queue="theirs")
    assert it.connections.control.performed[-1] == "deleting queue 'theirs'"


def test_a_reply_queue_that_two_requests_share_stays_until_both_are_done(it: Bench) -> None:
    it.connections.control.status = QueueStatus("theirs")
    first, second = it.ask({"n": 1}, reply_queue="theirs"), it.ask({"n": 2}, reply_queue="theirs")
    requests = {content(each)["n"]: each for each in it.sent(2)}
    it.answer(requests[1], {"message_id": id_of(requests[1])})
    first.result(30.0)
    deleted = "deleting queue 'theirs'" in it.connections.control.performed
    it.answer(requests[2], {"message_id": id_of(requests[2])})
    second.result(30.0)
    assert not deleted


def test_a_client_that_may_not_declare_its_reply_queue_leaves_no_channels_open(it: Bench) -> None:
    it.connections.control.refusal = TopologyError("403 ACCESS_REFUSED")
    for _ in range(3):
        with pytest.raises(TopologyError):
            it.client.request("service", {"ask": 1}, timeout=1.0)
    assert [channel for channel in it.connections.requests.channels if channel.is_open] == []


@pytest.mark.parametrize(
    "data, error", [("text", TypeError), ([("a", 1)], TypeError), ({}, ValueError)]
)
def test_what_is_no_message_is_refused_before_anything_is_sent(
    it: Bench, data: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        it.client.request("service", data, timeout=1.0)
    assert not it.connections.requests.channels


def test_closing_ends_all_waits_and_a_second_time_does_no_harm(it: Bench) -> None:
    future = it.ask()
    it.sent(1)
    it.client.close()
    it.channel.shut(StoppedError("closed"))
    with pytest.raises(StoppedError):
        future.result(30.0)
    it.client.close()
    with pytest.raises(StoppedError):
        it.client.request("service", {"ask": 1}, timeout=1.0)


def test_closing_deletes_the_reply_queue(it: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    it.connections.control.status = QueueStatus(it.client._reply_queue)
    it.ask()
    it.sent(1)
    it.client.close()
    last = it.connections.control.performed[-1]
    assert last == f"deleting reply queue {it.client._reply_queue!r}"
    assert it.connections.closed


def test_nothing_is_kept_of_requests_that_are_over(it: Bench) -> None:
    for _ in range(3):
        with pytest.raises(RequestTimeoutError):
            it.client.request("service", {"ask": 1}, timeout=0.02)
    generation = it.client._generation
    assert generation is not None
    assert not generation._by_correlation
    assert not generation._by_message


@pytest.mark.parametrize("_round", range(5))
def test_losses_at_any_moment_leave_no_request_waiting(_round: int, it: Bench) -> None:
    futures = [it.ask(timeout=10.0) for _ in range(32)]
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.002):
            if it.connections.requests.channels:
                it.channel.shut(ConnectionLostError("lost"))

    cutting = threading.Thread(target=cut, daemon=True)
    cutting.start()
    for future in futures:
        with pytest.raises(RequestLostError):
            future.result(30.0)
    stop.set()
    cutting.join(30.0)


@pytest.mark.parametrize(
    "answer, expected",
    [
        ({"message_id": "a"}, "a"),
        ({"message_id": "a", "context": {"mq": {"message_id": "b"}}}, "b"),
        ({"message_id": "a", "context": {"mq": {"message_id": None}}}, "a"),
        ({"message_id": "a", "context": {"mq": "nonsense"}}, "a"),
        ({"message_id": "a", "context": None}, "a"),
        ({"message_id": 5}, "5"),
        ({"message_id": None}, None),
        ({}, None),
    ],
)
def test_an_answer_says_which_request_it_is_for(
    answer: dict[str, Any], expected: str | None
) -> None:
    assert answer_id(answer) == expected


@pytest.mark.parametrize(
    "part, final",
    [
        ({"is_final": True}, True),
        ({"_is_final": True}, True),
        ({"is_final": False, "_is_final": True}, True),
        ({"context": {"mq": {"is_final": True}}}, True),
        ({"context": {"mq": {"_is_final": 1}}}, True),
        ({"context": {"is_final": True}}, False),
        ({"context": [], "is_final": False}, False),
        ({}, False),
    ],
)
def test_a_part_says_whether_it_is_the_last(part: dict[str, Any], final: bool) -> None:
    assert is_final(part) is final
