"""The broker takes a queue, a consumer, a right or a connection away; the library puts it back."""

from __future__ import annotations

from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.testing import PrivateBroker
from tests.faults.conftest import note, run
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually
from tests.support.vhosts import User

pytestmark = pytest.mark.one_engine

QUEUE = "taken"
SIBLING = "sibling"


@pytest.fixture
def consuming(
    service: MQConnector, engine: dict[str, Any], ledger: Ledger, peer: Peer
) -> MQConnector:
    """A service with two queues."""
    for queue in (QUEUE, SIBLING):
        service.register_consumer(
            queue, service.vhost, queue, note(ledger), ack="on_success", durable=True, **engine
        )
    run(service)
    for queue in (QUEUE, SIBLING):
        peer.wait_until_handled(peer.send(queue, 2, prefix=f"before-{queue}-"))
        peer.wait_until_settled(queue)
    return service


def _sibling_was_not_disturbed(service: MQConnector, peer: Peer) -> None:
    assert service.consumers[SIBLING].consumer.recoveries == 0
    peer.wait_until_handled(peer.send(SIBLING, 5, prefix="sibling-"))


def _all_is_well(service: MQConnector, peer: Peer) -> None:
    for queue in (QUEUE, SIBLING):
        peer.wait_until_handled(peer.send(queue, 5, prefix=f"last-{queue}-"))
        peer.wait_until_settled(queue)
    eventually(service.check_health)
    service.stop()
    account = peer.close_the_books(QUEUE, SIBLING)
    assert set(account.handled) == account.sent


def test_a_queue_that_is_deleted_under_its_consumer_is_made_again(
    consuming: MQConnector, peer: Peer
) -> None:
    with peer.channel() as channel:
        channel.queue_delete(QUEUE)
    eventually(lambda: peer.consumers(QUEUE) == 1, what="the queue has its consumer again")
    _sibling_was_not_disturbed(consuming, peer)
    _all_is_well(consuming, peer)


@pytest.mark.every_broker
def test_a_subscriber_whose_queue_is_deleted_gets_what_is_published_afterwards(
    service: MQConnector, engine: dict[str, Any], ledger: Ledger, peer: Peer
) -> None:
    service.register_subscriber("sub", service.vhost, note(ledger), exchange="news", **engine)
    run(service)
    queue = service.consumers["sub"].queue
    with peer.channel() as channel:
        channel.queue_delete(queue)

    def published() -> bool:
        sending: Any = service
        message_id = service.create_unique_id()
        ledger.sending(message_id)
        sending.send_message(
            {"message_id": message_id}, exchange="news", exchange_type="fanout", expiration=None
        )
        return bool(ledger.handled_ids)

    eventually(published, interval=0.1, what="a publication arrives")


def test_a_right_that_is_taken_away_fails_one_queue_until_it_is_given_back(
    consuming: MQConnector, broker: PrivateBroker, mq_user: User, peer: Peer
) -> None:
    broker.management.permit(mq_user.name, peer.vhost, read="^(?!taken$).*")
    names = eventually(lambda: peer.connection_names("consuming"), what="the connection is listed")
    for name in names:
        broker.management.close_connection(name)
    thread = consuming.consumers[QUEUE]
    eventually(lambda: "refused" in thread.snapshot.reason, what="the reason is in the snapshot")
    eventually(lambda: consuming.consumers[SIBLING].is_consuming, what="the sibling consumes")
    peer.wait_until_handled(peer.send(SIBLING, 5, prefix="allowed"))
    assert not consuming.check_health()
    broker.management.permit(mq_user.name, peer.vhost)
    eventually(lambda: thread.is_consuming, what="it consumes once it may")
    _all_is_well(consuming, peer)


def test_a_virtual_host_that_is_deleted_and_made_again_is_served_again(
    consuming: MQConnector, broker: PrivateBroker, mq_user: User, peer: Peer
) -> None:
    broker.delete_vhost(peer.vhost)
    eventually(lambda: not consuming.check_health(), what="health tells of the loss")
    broker.create_vhost(peer.vhost, users=(mq_user.name,))
    eventually(lambda: peer.consumers(QUEUE) == 1, what="it consumes again")
    peer.wait_until_handled(peer.send(QUEUE, 5, prefix="after"))
