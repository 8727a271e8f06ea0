"""A send that returned has its message in the queue; one that raised says whether it may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.errors import PublishError
from neon_mq_connector.testing.proxy import FaultProxy
from tests.faults.conftest import CUTS, HEARTBEAT, Cut
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually
from tests.support.publishing import Senders, sends

QUEUE = "published"


@CUTS
def test_eight_threads_publish_while_the_line_is_cut_three_times(
    cut: Cut, service: MQConnector, ledger: Ledger, proxy: FaultProxy, peer: Peer
) -> None:
    peer.declare(QUEUE)
    with Senders(service, ledger, QUEUE) as senders:
        for _ in range(3):
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
