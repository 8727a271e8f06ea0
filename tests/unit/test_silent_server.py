"""A server that accepts a connection and says nothing: each call ends in its own time-out."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pika
import pytest

from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.errors import RequestTimeoutError


@pytest.fixture
def server() -> Iterator[pika.ConnectionParameters]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield pika.ConnectionParameters("127.0.0.1", listener.getsockname()[1])


@pytest.fixture
def client(server: pika.ConnectionParameters) -> Iterator[RequestClient]:
    made = RequestClient([server])
    yield made
    made.close(timeout=0.05)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.request(RequestSpec("q", {"ask": 1}, timeout=0.1)),
        lambda client: client.gather(RequestSpec("q", {"ask": 1}, timeout=0.1, exchange="e")),
        lambda client: client.submit(RequestSpec("q", {"ask": 1}, timeout=0.1)),
        lambda client: client.gather(RequestSpec("q", {"ask": 1}, timeout=0.1)),
        lambda client: client.stream(RequestSpec("q", {"ask": 1}, timeout=0.1)),
    ],
    ids=["request", "request to an exchange", "submit", "gather", "stream"],
)
def test_a_request_that_could_not_be_sent_in_time_says_so(
    client: RequestClient, call: object
) -> None:
    with pytest.raises(RequestTimeoutError, match=r"request to (queue 'q'|exchange 'e'): not sent"):
        call(client)  # type: ignore[operator]
