"""An old client is answered by a service of ours, whatever way the service answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.old_peers import DATA, OldPeer, message_id_of
from tests.interop.our_service import Received
from tests.support.polling import eventually

Serve = Callable[..., Any]
AUTO_ACK = {"raw_ack": False, "counts": False}
WAYS = ("returns", "validates", "raw", "raw_ack", "sends", "emits")


def answer_to(old_client: OldPeer, **request: Any) -> Any:
    """Ask until there is an answer: it expires after a second, and an old client may be late."""
    return eventually(lambda: old_client.ask("request", timeout=30, **request), what="an answer")


@pytest.mark.parametrize("our_config", [{}, {"wire_format": "json"}], indirect=True, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_an_old_client_gets_the_answer_it_asked_for_as_it_can_read_it(
    old_client: OldPeer, serve: Serve, queue: str, way: str
) -> None:
    serve(way, auto_ack=AUTO_ACK.get(way, True))

    reply = answer_to(old_client, target=queue, data={"data": DATA})

    assert reply["by"] == way
    assert reply["echo"] == DATA
    assert message_id_of(reply)


def test_an_old_client_keeps_the_message_id_that_its_caller_chose(
    old_client: OldPeer, serve: Serve, queue: str, received: Received
) -> None:
    serve("returns")

    data = {"data": {}, "message_id": "chosen"}
    reply = answer_to(old_client, target=queue, data=data)

    assert message_id_of(reply) == "chosen"
    assert received.by("returns")[0]["message_id"] == "chosen"


def test_an_old_client_is_answered_on_the_queue_that_its_caller_chose(
    old_client: OldPeer, serve: Serve, queue: str, received: Received
) -> None:
    serve("raw")
    answers = f"{queue}_answers"

    for _ in range(2):
        reply = answer_to(old_client, target=queue, data={"data": 1}, response_queue=answers)
        assert reply["echo"] == 1

    assert {request["routing_key"] for request in received.by("raw")} == {answers}


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


def test_an_old_client_gets_the_first_part_of_a_streamed_answer(
    old_client: OldPeer, serve: Serve, queue: str
) -> None:
    serve("streams")

    for _ in range(2):
        eventually(
            lambda: answer_to(old_client, target=queue, data={"parts": 3})["part"] == 0,
            what="the first part comes first",
        )


def test_a_queue_that_an_old_client_made_can_be_served(
    old_client: OldPeer, serve: Serve, queue: str
) -> None:
    # the published package declares the queue that it sends to
    old_client.ask("request", target=queue, data={"data": "too early"}, expect_response=False)

    serve("returns")

    reply = answer_to(old_client, target=queue, data={"data": DATA})
    assert reply["echo"] == DATA
