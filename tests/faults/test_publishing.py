"""A send that returned has its message in the queue; one that raised says whether it may have."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.errors import PublishBatchError, PublishError, RequestLostError
from neon_mq_connector.testing.proxy import FaultProxy
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.faults.conftest import CUTS, HEARTBEAT, note_batch, run
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually
from tests.support.publishing import Senders, sends

QUEUE = "published"
COUNT = 2000


def test_eight_threads_publish_while_the_line_is_cut_three_times(
    service: MQConnector, ledger: Ledger, proxy: FaultProxy, peer: Peer
) -> None:
    peer.declare(QUEUE)
    with Senders(service, ledger, QUEUE) as senders:
        for cut in CUTS.values():
            senders.wait_for(100)
            cut(proxy)
        senders.wait_for(100)
    service.stop()
    assert all(isinstance(error, PublishError) for error in senders.errors), senders.errors[:3]
    peer.close_the_books(QUEUE)


def test_messages_swallowed_by_the_line_are_failed_or_confirmed_but_never_forgotten(
    make_service: Callable[..., MQConnector], ledger: Ledger, proxy: FaultProxy, peer: Peer
) -> None:
    peer.declare(QUEUE)
    service = make_service(heartbeat=HEARTBEAT)
    with Senders(service, ledger, QUEUE) as senders:
        senders.wait_for(100)
        proxy.blackhole()
        senders.wait_for(100)
    service.stop()
    assert all(isinstance(error, PublishError) for error in senders.errors), senders.errors[:3]
    peer.close_the_books(QUEUE)


def test_a_send_during_an_outage_raises_within_its_time_and_knows_that_nothing_was_sent(
    make_service: Callable[..., MQConnector], ledger: Ledger, proxy: FaultProxy, peer: Peer
) -> None:
    peer.declare(QUEUE)
    service: Any = make_service(publish_timeout=1)
    eventually(lambda: sends(service, "before", QUEUE))
    proxy.refuse()
    proxy.reset()

    def may_have_arrived() -> bool:
        with pytest.raises(PublishError, match=QUEUE) as caught:
            service.send_message({"message_id": "during"}, queue=QUEUE)
        assert isinstance(caught.value, ConnectionError | TimeoutError)
        return caught.value.may_have_arrived

    # a send right after the cut may still meet the connection as it ends
    eventually(lambda: not may_have_arrived(), what="it is known that nothing was sent")
    proxy.restore()
    eventually(lambda: sends(service, "after", QUEUE), what="sending works again")
    assert {"before", "after"} <= set(peer.ids_in(QUEUE))


# -- many at once --------------------------------------------------------------------------------


def messages(ledger: Ledger, proxy: FaultProxy, kind: str) -> Iterator[dict[str, Any]]:
    """Make messages, and cut the line in the middle, while some are on their way."""
    for number in range(COUNT):
        if number == COUNT // 2 - 500:
            proxy.delay(0.2)
        if number == COUNT // 2:
            CUTS[kind](proxy)
            proxy.delay(0.0)
        ledger.sending(f"{kind} {number}")
        yield {"message_id": f"{kind} {number}", "padding": "x" * 300}


def test_a_batch_on_a_line_that_is_cut_accounts_for_each_message(
    service: MQConnector, ledger: Ledger, proxy: FaultProxy, peer: Peer
) -> None:
    peer.declare(QUEUE)
    for kind in CUTS:
        failures: Mapping[int, Any] = {}
        in_doubt = False
        try:
            ids = service.publish_many(messages(ledger, proxy, kind), queue=QUEUE)
        except PublishBatchError as error:  # none, if all before the cut were confirmed by then
            failures, ids = error.failures, error.message_ids
            in_doubt = error.may_have_arrived
        assert in_doubt == any(each.may_have_arrived for each in failures.values())
        assert ids == [f"{kind} {number}" for number in range(len(ids))]
        note_batch(ledger, ids, failures)
        assert all(isinstance(each, ConnectionError) for each in failures.values())
        eventually(lambda: sends(service, "after", "other"), what="sending works again")
    peer.close_the_books(QUEUE)


def test_each_future_of_a_line_that_is_cut_tells_what_became_of_its_message(
    service: MQConnector, ledger: Ledger, proxy: FaultProxy, peer: Peer
) -> None:
    peer.declare(QUEUE)
    futures: dict[str, Any] = {}
    for kind in CUTS:
        for message in messages(ledger, proxy, kind):
            message_id = message["message_id"]
            try:
                futures[message_id] = service.submit_message(message, queue=QUEUE)
            except PublishError as not_sent:
                ledger.failed(message_id, may_have_arrived=not_sent.may_have_arrived)
    for message_id, future in futures.items():
        error = future.exception(150)
        if error is None:
            assert future.result() == message_id
            ledger.confirmed(message_id)
        else:
            assert isinstance(error, PublishError)
            ledger.failed(message_id, may_have_arrived=error.may_have_arrived)
    peer.close_the_books(QUEUE)


def test_questions_on_a_line_that_is_cut_are_lost_at_once_and_the_next_are_not(
    service: MQConnector, proxy: FaultProxy, peer: Peer
) -> None:
    peer.declare("nobody")

    questions = [service.submit_request({"n": n}, "nobody", timeout=300) for n in range(64)]
    outcomes: list[BaseException] = []
    gathering = threading.Thread(target=_note_failure, args=(outcomes, service.gather_answers))
    gathering.start()
    stream = service.stream_answer({"n": 1}, "nobody", timeout=300)
    reading = threading.Thread(target=_note_failure, args=(outcomes, lambda *_, **__: list(stream)))
    reading.start()
    eventually(lambda: peer.counts("nobody")[0] == 66, what="all are in the queue")
    proxy.reset()
    for question in questions:
        assert isinstance(question.exception(120), RequestLostError)
    for thread in (gathering, reading):
        thread.join(120)
        assert not thread.is_alive()
    assert [type(each) for each in outcomes] == [RequestLostError] * 2
    with pytest.raises(RequestLostError):  # it must not be taken for the end
        next(stream)

    service.register_consumer("echo", service.vhost, "echo", _echo(service))
    run(service)
    again = service.submit_request({"n": 1}, "echo", timeout=120)
    assert again.result(120)["n"] == 1
    assert [part["n"] for part in service.stream_answer({"n": 2}, "echo", timeout=120)] == [2]


def _echo(service: MQConnector) -> Any:
    def answer(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        service.send_message({**request, "is_final": True}, queue=request["routing_key"])

    return answer


def _note_failure(outcomes: list[BaseException], ask: Callable[..., object]) -> None:
    try:
        ask({"n": 1}, "nobody", timeout=300)
    except BaseException as error:
        outcomes.append(error)
