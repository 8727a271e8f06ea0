"""A client of ours is answered by an old service, whatever way the service answers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.interop.messages import DATA, message_id_of
from tests.interop.old_peers import OldPeer
from tests.support.polling import eventually

RequestOld = Callable[..., dict[str, Any]]
WAYS = {
    "returns": "returns",
    "raw": "raw",
    "raw_ack": "raw_ack",
    "context_only": "context_only",
    "sends": "sends",
    "emits": "emits",
    "blocking_returns": "returns",
    "blocking_raw_ack": "raw_ack",
}


@pytest.mark.parametrize("way", WAYS)
def test_an_old_service_answers_our_client(
    old_service: OldPeer, request_old: RequestOld, way: str
) -> None:
    data = {"data": DATA}

    reply = request_old(f"old_{way}", data, timeout=30)

    assert reply["by"] == WAYS[way]
    assert reply["echo"] == DATA
    assert message_id_of(reply)
    assert data["routing_key"]


@pytest.mark.parametrize("way", ["streams", "streams_ctx"])
def test_an_old_service_streams_its_answer_to_our_client(
    old_service: OldPeer, request_old: RequestOld, way: str
) -> None:
    parts: list[dict[str, Any]] = []

    last = request_old(f"old_{way}", {"parts": 4}, timeout=30, stream_callback=parts.append)

    assert [part["part"] for part in parts] == [0, 1, 2, 3]
    assert last == parts[-1]


def test_requests_wait_for_an_old_service_that_comes_late(
    old_service: OldPeer, request_old: RequestOld, queue: str
) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(request_old, queue, {"data": DATA}, timeout=30)
        old_service.ask("listen", name=queue, queue=queue, way="raw")

        assert answer.result()["echo"] == DATA


def test_a_connector_of_ours_sends_to_an_old_service_by_hand(
    old_service: OldPeer,
    our_connector: Any,
    channel: BlockingChannel,
    vhost: str,
    queue: str,
) -> None:
    channel.queue_declare(queue)

    our_connector.send_message(
        {"data": DATA, "message_id": "by hand", "routing_key": queue}, vhost=vhost, queue="old_raw"
    )

    from neon_mq_connector.utils.network_utils import b64_to_dict

    body = eventually(lambda: channel.basic_get(queue, auto_ack=True)[2])
    assert body is not None
    reply = b64_to_dict(body)
    assert reply["message_id"] == "by hand"
    assert reply["echo"] == DATA
