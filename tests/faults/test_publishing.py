"""A send that returned has its message in the queue; one that raised says whether it may have."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.errors import PublishError
from neon_mq_connector.testing.proxy import FaultProxy
from tests.faults.conftest import CUTS, Cut
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually

QUEUE = "published"
THREADS = 8


class Senders:
    """Threads that send one message after another until told to stop."""

    def __init__(self, service: Any, ledger: Ledger) -> None:
        self.errors: list[BaseException] = []
        self._service = service
        self._ledger = ledger
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(number,), name=f"sender-{number}")
            for number in range(THREADS)
        ]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads), "a send does not return"

    def _send(self, number: int) -> None:
        count = 0
        while not self._over.is_set():
            count += 1
            message_id = f"t{number}-{count}"
            self._ledger.sending(message_id)
            try:
                self._service.send_message(
                    {"message_id": message_id, "padding": "x" * 500},
                    queue=QUEUE,
                    expiration=None,
                )
            except Exception as error:
                self.errors.append(error)
                doubt = getattr(error, "may_have_arrived", None)
                if isinstance(doubt, bool):
                    self._ledger.failed(message_id, may_have_arrived=doubt)
            else:
                self._ledger.confirmed(message_id)


def _confirmed_since(ledger: Ledger, before: int, enough: int) -> None:
    eventually(
        lambda: len(ledger.confirmed_ids) >= before + enough,
        what=f"{enough} more messages are confirmed",
    )


@CUTS
def test_eight_threads_publish_while_the_line_is_cut_three_times(
    cut: Cut,
    service: MQConnector,
    ledger: Ledger,
    proxy: FaultProxy,
    peer: Peer,
) -> None:
    peer.declare(QUEUE)
    with Senders(service, ledger) as senders:
        for _ in range(3):
            _confirmed_since(ledger, len(ledger.confirmed_ids), 100)
            cut(proxy)
        _confirmed_since(ledger, len(ledger.confirmed_ids), 100)
    service.stop()
    assert all(isinstance(error, PublishError) for error in senders.errors), senders.errors[:3]
    account = peer.close_the_books(QUEUE)
    assert account.confirmed <= set(account.ready)


def test_messages_swallowed_by_the_line_are_failed_or_confirmed_but_never_forgotten(
    service: MQConnector, ledger: Ledger, proxy: FaultProxy, peer: Peer
) -> None:
    peer.declare(QUEUE)
    with Senders(service, ledger) as senders:
        _confirmed_since(ledger, 0, 100)
        proxy.blackhole()
        stalled = len(ledger.confirmed_ids)
        eventually(
            lambda: len(ledger.confirmed_ids) >= stalled + 100,
            what="sending goes on after a black hole",
        )
    service.stop()
    assert all(isinstance(error, PublishError) for error in senders.errors), senders.errors[:3]
    peer.close_the_books(QUEUE)


def test_a_send_during_an_outage_raises_within_its_time_and_knows_that_nothing_was_sent(
    make_service: Callable[..., MQConnector], ledger: Ledger, proxy: FaultProxy, peer: Peer
) -> None:
    peer.declare(QUEUE)
    service: Any = make_service(publish_timeout=1)
    service.send_message({"message_id": "before"}, queue=QUEUE, expiration=None)
    proxy.refuse()
    proxy.reset()
    with pytest.raises(PublishError, match=QUEUE) as caught:
        service.send_message({"message_id": "during"}, queue=QUEUE, expiration=None)
    assert isinstance(caught.value, ConnectionError | TimeoutError)
    # a send right after the cut may still meet the connection as it ends; the next ones cannot
    with pytest.raises(PublishError, match=QUEUE) as caught:
        service.send_message({"message_id": "during"}, queue=QUEUE, expiration=None)
    assert not caught.value.may_have_arrived
    proxy.restore()
    eventually(lambda: _sends(service, "after"), what="sending works again")
    assert {"before", "after"} <= set(peer.ids_in(QUEUE))


def _sends(service: Any, message_id: str) -> bool:
    try:
        service.send_message({"message_id": message_id}, queue=QUEUE, expiration=None)
    except PublishError:
        return False
    return True
