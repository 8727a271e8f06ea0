"""The broker takes a queue, a consumer, a right or a connection away; the library puts it back."""

from __future__ import annotations

from typing import Any

import pika
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


@pytest.mark.every_broker
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


@pytest.mark.parametrize("way", ["management", "rabbitmqctl"])
@pytest.mark.own_broker
def test_connections_that_an_operator_closes_are_opened_again(
    way: str, consuming: MQConnector, broker: PrivateBroker, peer: Peer
) -> None:
    if way == "management":
        names = eventually(
            lambda: peer.connection_names("consuming"), what="the broker lists the connection"
        )
        for name in names:
            broker.management.close_connection(name)
    else:
        broker.rabbitmqctl("close_all_connections", "--vhost", peer.vhost, "for maintenance")
    peer.wait_until_handled(peer.send(QUEUE, 20, prefix="after"))
    _all_is_well(consuming, peer)


def test_a_queue_that_cannot_be_attached_does_not_disturb_its_siblings(
    consuming: MQConnector,
    engine: dict[str, Any],
    ledger: Ledger,
    peer: Peer,
    connection_params: pika.ConnectionParameters,
) -> None:
    told: list[BaseException] = []
    holder = pika.BlockingConnection(connection_params)
    try:
        holder.channel().queue_declare("held", exclusive=True)
        consuming.register_consumer(
            "held",
            consuming.vhost,
            "held",
            note(ledger),
            lambda _thread, error: told.append(error),
            ack="on_success",
            durable=True,
            **engine,
        )
        consuming.run_consumers(("held",))
        thread = consuming.consumers["held"]
        eventually(lambda: thread.consumer.recoveries >= 3, what="it was tried a few times")
        assert not consuming.check_health()
        assert "held" in thread.snapshot.reason
        assert len(told) == 1, told
        _sibling_was_not_disturbed(consuming, peer)
    finally:
        holder.close()
    eventually(lambda: thread.is_consuming, what="it consumes once it may")
    peer.wait_until_handled(peer.send("held", 5, prefix="held"))
    _sibling_was_not_disturbed(consuming, peer)
    _all_is_well(consuming, peer)


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


def test_a_queue_pre_declared_by_an_operator_is_used_as_it_is(
    service: MQConnector, engine: dict[str, Any], ledger: Ledger, peer: Peer
) -> None:
    peer.declare(QUEUE, arguments={"x-queue-type": "quorum", "x-delivery-limit": 5})
    service.register_consumer(QUEUE, service.vhost, QUEUE, note(ledger), ack="on_success", **engine)
    run(service)
    peer.wait_until_handled(peer.send(QUEUE, 10))
