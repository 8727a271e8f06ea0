"""The broker itself stops, is killed, and comes back."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.errors import PublishError
from neon_mq_connector.testing import PrivateBroker
from tests.faults.conftest import Start, note
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.nodes import crash
from tests.support.polling import eventually

pytestmark = pytest.mark.own_broker

QUEUE = "restarts"


def test_a_broker_that_goes_and_comes_back_costs_no_message(
    start: Start, service: MQConnector, ledger: Ledger, broker: PrivateBroker, peer: Peer
) -> None:
    over = threading.Event()
    errors: list[BaseException] = []

    def send() -> None:
        sending: Any = service
        count = 0
        while not over.is_set():
            count += 1
            message_id = f"sent{count}"
            ledger.sending(message_id)
            try:
                sending.send_message({"message_id": message_id}, queue=QUEUE, expiration=None)
            except PublishError as error:
                errors.append(error)
                ledger.failed(message_id, may_have_arrived=error.may_have_arrived)
                over.wait(0.05)
            else:
                ledger.confirmed(message_id)
                over.wait(0.002)

    start(QUEUE, note(ledger))
    sender = threading.Thread(target=send, name="sender")
    sender.start()
    try:
        eventually(lambda: len(ledger.handled_ids) > 50, what="messages flow")
        crash(broker)
        eventually(lambda: not service.check_health(), what="health tells of the outage")
        broker.start()
        # the outage lasts about as long as the node takes to start
        eventually(service.check_health, what="the service consumes again")
        handled = len(ledger.handled_ids)
        eventually(lambda: len(ledger.handled_ids) > handled + 50, what="messages flow again")
    finally:
        over.set()
        sender.join(40)
    assert not sender.is_alive()
    peer.wait_until_settled(QUEUE)
    service.stop()
    account = peer.close_the_books(QUEUE)
    assert account.confirmed <= set(account.handled)
