"""A client of ours is answered by an old service, whatever way the service answers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.interop.old_peers import DATA, OldPeer, message_id_of

RequestOld = Callable[..., dict[str, Any]]
WAYS = ("returns", "raw", "raw_ack", "context_only", "sends", "emits")


@pytest.mark.parametrize("way", WAYS)
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
