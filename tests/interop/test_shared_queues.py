"""An old worker and one of ours consume from one queue, whichever of them came first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.interop.old_peers import OldPeer
from tests.interop.our_service import Received
from tests.support.polling import eventually


def consumers_of(channel: BlockingChannel, queue: str) -> int:
    """Ask the broker how many consumers a queue has."""
    return int(channel.queue_declare(queue, passive=True).method.consumer_count)


def numbers(bodies: list[dict[str, Any]]) -> set[int]:
    """Return the numbers of the messages."""
    return {body["number"] for body in bodies}


@pytest.fixture
def both_serve(
    old_service: OldPeer, serve: Callable[..., Any], queue: str, channel: BlockingChannel
) -> Callable[[str], Any]:
    """Let both consume from the test's queue, in a certain order; returns our service."""

    def start_both(first: str) -> Any:
        if first == "old":
            old_service.ask("listen", name=queue, queue=queue, way="counts")
        service = serve("counts", auto_ack=False)
        if first == "ours":
            old_service.ask("listen", name=queue, queue=queue, way="counts")
        # an old consumer says that it consumes even when the broker has refused its queue
        eventually(lambda: consumers_of(channel, queue) == 2, what="both consume")
        return service

    return start_both


@pytest.mark.parametrize("first", ["old", "ours"])
def test_an_old_worker_and_ours_share_the_messages_of_a_queue(
    both_serve: Callable[[str], Any],
    old_service: OldPeer,
    received: Received,
    channel: BlockingChannel,
    queue: str,
    first: str,
) -> None:
    service = both_serve(first)

    for number in range(60):
        service.send_message({"number": number, "queue": queue}, queue=queue, expiration=20000)

    def got_by_old() -> list[dict[str, Any]]:
        bodies = [each["body"] for each in old_service.got(by="counts")]
        return [body for body in bodies if body.get("queue") == queue]

    eventually(
        lambda: len(received.by("counts")) + len(got_by_old()) >= 60, what="all are consumed"
    )
    ours, theirs = numbers(received.by("counts")), numbers(got_by_old())
    assert ours | theirs == set(range(60))
    assert not ours & theirs
    assert len(ours) >= 15
    assert len(theirs) >= 15
