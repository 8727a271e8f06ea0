"""The broker itself stops, is killed, and comes back."""

from __future__ import annotations

import pytest

from neon_mq_connector.errors import PublishError
from neon_mq_connector.testing import PrivateBroker
from tests.faults.conftest import Start, note
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.nodes import crash
from tests.support.polling import eventually
from tests.support.publishing import Senders

pytestmark = pytest.mark.own_broker

QUEUE = "restarts"


def test_a_broker_that_goes_and_comes_back_costs_no_message(
    start: Start, ledger: Ledger, broker: PrivateBroker, peer: Peer
) -> None:
    service = start(QUEUE, note(ledger))
    with Senders(service, ledger, QUEUE) as senders:
        eventually(lambda: len(ledger.handled_ids) > 50, what="messages flow")
        crash(broker)
        eventually(lambda: not service.check_health(), what="health tells of the outage")
        broker.start()
        # the outage lasts about as long as the node takes to start
        eventually(service.check_health, what="the service consumes again")
        handled = len(ledger.handled_ids)
        eventually(lambda: len(ledger.handled_ids) > handled + 50, what="messages flow again")
    assert all(isinstance(error, PublishError) for error in senders.errors), senders.errors[:3]
    peer.wait_until_settled(QUEUE)
    service.stop()
    account = peer.close_the_books(QUEUE)
    assert account.confirmed <= set(account.handled)
