"""A broker short of memory stops reading from connections that publish, acks on them included."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from pika.spec import BasicProperties

from neon_mq_connector import MQConnector
from neon_mq_connector.errors import PublishBatchError, PublishTimeoutError
from tests.faults.conftest import note, note_batch, run, send
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually, never


@pytest.mark.one_engine
@pytest.mark.own_broker
def test_an_alarm_holds_up_what_publishes_and_nothing_else(
    make_service: Callable[..., MQConnector],
    engine: dict[str, Any],
    ledger: Ledger,
    peer: Peer,
    alarm: Callable[[], AbstractContextManager[None]],
) -> None:
    service: Any = make_service()
    for queue in ("quiet", "answering", "answers", "sent"):
        peer.declare(queue)

    def answer(channel: Any, method: Any, properties: Any, body: Any) -> None:
        channel.basic_publish(
            "", "answers", body, BasicProperties(message_id=f"re-{properties.message_id}")
        )
        ledger.handled(properties.message_id)

    for queue, callback in (("quiet", note(ledger)), ("answering", answer)):
        service.register_consumer(
            queue, service.vhost, queue, callback, ack="on_success", durable=True, **engine
        )
    quiet = peer.send("quiet", 50, prefix="quiet")
    answering = peer.send("answering", 20, prefix="ask")
    send(service, ledger, "before", "sent")

    with alarm():
        run(service)
        # consuming and acknowledging go on where nothing is published
        peer.wait_until_handled(quiet)
        peer.wait_until_settled("quiet")

        # replies wait, and so do the acks that belong to them
        peer.wait_until_handled(answering)
        eventually(lambda: peer.counts("answering") == (0, 20), what="all are unacked")
        never(lambda: peer.counts("answering") != (0, 20), what="a request is acked too early")
        assert peer.counts("answers") == (0, 0)

    # all is well
    eventually(lambda: peer.counts("answers")[0] >= 20, what="the answers arrive")
    peer.wait_until_settled("answering")
    send(service, ledger, "after", "sent")
    eventually(service.check_health)
    service.stop()
    assert sorted(peer.ids_in("answers")) == sorted(f"re-{each}" for each in answering)
    account = peer.close_the_books("quiet", "answering", "sent")
    assert account.repeated == 0


@pytest.mark.embedded_broker
def test_a_batch_stops_at_its_bound_during_an_alarm_and_accounts_for_each_message(
    make_service: Callable[..., MQConnector],
    ledger: Ledger,
    peer: Peer,
    alarm: Callable[[], AbstractContextManager[None]],
) -> None:
    service: Any = make_service(publish_timeout=2.5)
    peer.declare("sent")
    asked_for = 0

    def messages(stack: contextlib.ExitStack) -> Iterator[dict[str, Any]]:
        nonlocal asked_for
        for asked_for in range(100):
            if asked_for == 5:
                stack.enter_context(alarm())
            ledger.sending(f"m{asked_for}")
            yield {"message_id": f"m{asked_for}", "padding": "x" * 2**20}

    with contextlib.ExitStack() as stack:
        with pytest.raises(PublishBatchError, match=r"blocked.*memory") as caught:
            service.publish_many(messages(stack), queue="sent")
        failures, ids = caught.value.failures, caught.value.message_ids
        # the last could not be sent: there was no room; those after it were not asked for
        assert ids[-1] == f"m{asked_for}"
        assert len(ids) < 60
        assert {type(each) for each in failures.values()} == {PublishTimeoutError}
        doubts = [each.may_have_arrived for each in failures.values()]
        assert doubts == [True] * (len(doubts) - 1) + [False]
        note_batch(ledger, ids, failures)
    service.stop()
    peer.close_the_books("sent")
