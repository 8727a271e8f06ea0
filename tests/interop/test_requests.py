"""Old clients are answered by services of ours, and ours by old ones, whatever way they answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.interop.old_peers import DATA, OldPeer, message_id_of
from tests.interop.our_service import Received
from tests.support.polling import eventually

Serve = Callable[..., Any]
RequestOld = Callable[..., dict[str, Any]]
AUTO_ACK = {"raw_ack": False, "counts": False}
OUR_WAYS = ("returns", "validates", "raw", "raw_ack", "sends", "emits")


def answer_to(old_client: OldPeer, **request: Any) -> Any:
    """Ask until there is an answer: it expires after a second, and an old client may be late."""
    return eventually(lambda: old_client.ask("request", timeout=30, **request), what="an answer")


@pytest.mark.parametrize("our_config", [{}, {"wire_format": "json"}], indirect=True, ids=str)
@pytest.mark.parametrize("way", OUR_WAYS)
def test_an_old_client_gets_the_answer_it_asked_for_as_it_can_read_it(
    old_client: OldPeer, serve: Serve, queue: str, way: str
) -> None:
    serve(way, auto_ack=AUTO_ACK.get(way, True))

    reply = answer_to(old_client, target=queue, data={"data": DATA})

    assert reply["by"] == way
    assert reply["echo"] == DATA
    assert message_id_of(reply)


def test_an_old_client_is_answered_on_the_queue_and_by_the_id_that_its_caller_chose(
    old_client: OldPeer, serve: Serve, queue: str, received: Received
) -> None:
    serve("raw")
    answers = f"{queue}_answers"

    for _ in range(2):
        data = {"data": 1, "message_id": "chosen"}
        reply = answer_to(old_client, target=queue, data=data, response_queue=answers)
        assert (reply["echo"], message_id_of(reply)) == (1, "chosen")

    for request in received.by("raw"):
        assert (request["routing_key"], request["message_id"]) == (answers, "chosen")


def test_an_old_client_that_wants_no_answer_is_heard(
    old_client: OldPeer, serve: Serve, queue: str, received: Received
) -> None:
    serve("counts", auto_ack=False)

    reply = old_client.ask("request", target=queue, data={"data": DATA}, expect_response=False)

    assert reply == {}
    [request] = received.wait("counts")
    assert request["data"] == DATA
    assert request["message_id"]
    assert "routing_key" not in request


def test_a_queue_that_an_old_client_made_can_be_served(
    old_client: OldPeer, serve: Serve, queue: str
) -> None:
    # the published package declares the queue that it sends to
    old_client.ask("request", target=queue, data={"data": "too early"}, expect_response=False)

    serve("returns")

    reply = answer_to(old_client, target=queue, data={"data": DATA})
    assert reply["echo"] == DATA


# -- a client of ours ---------------------------------------------------------------------------

OLD_WAYS = ("returns", "raw", "raw_ack", "context_only", "sends", "emits")


@pytest.mark.parametrize("way", OLD_WAYS)
def test_an_old_service_answers_our_client(
    old_service: OldPeer, request_old: RequestOld, way: str
) -> None:
    data = {"data": DATA}

    reply = request_old(f"old_{way}", data, timeout=120)

    assert reply["by"] == way
    assert reply["echo"] == DATA
    assert message_id_of(reply)
    assert data["routing_key"]


@pytest.mark.parametrize("way", ["streams", "streams_ctx"])
def test_an_old_service_streams_its_answer_to_our_client(
    old_service: OldPeer, request_old: RequestOld, way: str
) -> None:
    parts: list[dict[str, Any]] = []

    last = request_old(f"old_{way}", {"parts": 4}, timeout=120, stream_callback=parts.append)

    assert [part["part"] for part in parts] == [0, 1, 2, 3]
    assert last == parts[-1]


def test_requests_wait_for_an_old_service_that_comes_late(
    old_service: OldPeer, request_old: RequestOld, queue: str
) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(request_old, queue, {"data": DATA}, timeout=120)
        old_service.ask("listen", name=queue, queue=queue, way="raw")

        assert answer.result()["echo"] == DATA
