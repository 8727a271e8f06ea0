"""The request client: each request gets its own answer, however it is sent."""

from __future__ import annotations

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
from neon_mq_connector.errors import (
    ConnectionLostError,
    RequestLostError,
    StoppedError,
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
