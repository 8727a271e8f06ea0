"""Ask and be answered: directly, through a queue, in parts, or not at all."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.errors import MQError, RequestTimeoutError
from neon_mq_connector.testing.running import RunningBroker
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.integration.conftest import DropConnections, MakeConnector, Queues, Seen, run
from tests.support.polling import eventually


@pytest.fixture
def echo(make_connector: MakeConnector) -> MQConnector:
    """A service that echoes."""
    service = make_connector()

    def answer(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        service.send_message(
            {"message_id": request["message_id"], "echo": request["text"]},
            queue=request["routing_key"],
        )

    service.register_consumer("echo", service.vhost, "echo", answer)
    return run(service)


def test_a_request_that_waited_longer_than_its_sender_is_not_handled(
    echo: MQConnector, make_connector: MakeConnector, client: RequestClient
) -> None:
    client.request(RequestSpec("echo", {"text": "connects"}, timeout=120))
    handled = Seen()
    release = threading.Event()

    def slow(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        handled(channel, method, properties, body)
        release.wait(120)

    service = make_connector()
    service.register_consumer("slow", service.vhost, "slow", slow, ack="on_success")
    run(service)
    client.send(RequestSpec("slow", {"first": 1}, timeout=120))
    handled.wait_for(1)
    late = [client.submit(RequestSpec("slow", {"ask": n}, timeout=0.5)) for n in range(2)]
    for each in late:
        assert isinstance(each.exception(120), RequestTimeoutError)
    over = time.monotonic() + 0.5  # by the service's clock they have to be late too
    eventually(lambda: time.monotonic() > over)
    release.set()
    client.send(RequestSpec("slow", {"last": 1}, timeout=120))
    handled.wait_for(2)
    assert b64_to_dict(handled.bodies[-1])["last"] == 1


def test_a_client_whose_reply_queue_was_deleted_makes_another(
    client: RequestClient, make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    service = make_connector()

    def answer_through_the_queue(channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        with contextlib.closing(service.create_mq_connection(service.vhost)) as connection:
            answer = {"n": request["n"], "message_id": request["message_id"]}
            service.emit_mq_message(connection, answer, queue=request["routing_key"])

    service.register_consumer("c", service.vhost, "q", answer_through_the_queue)
    run(service)
    names: list[str] = []
    asked = RequestSpec("q", {"n": 1}, timeout=120)
    assert client.request(asked, on_reply_queue=names.append)["n"] == 1
    channel.queue_delete(names[0])

    def ask() -> bool:
        try:
            return bool(client.request(RequestSpec("q", {"n": 2}, timeout=2.0))["n"] == 2)
        except MQError:
            return False  # it may go out before the broker has said that the queue is gone

    eventually(ask, what="answers come again")


@pytest.mark.embedded_broker
def test_a_user_who_may_declare_no_queue_is_answered_directly(
    echo: MQConnector,
    broker: RunningBroker,
    vhost: str,
    connection_params: pika.ConnectionParameters,
    queues: Queues,
    drop_connections: DropConnections,
) -> None:
    asker = f"asker-{vhost[1:]}"  # the broker may be shared with other tests
    broker.add_user(asker, "secret")
    broker.management.permit(asker, vhost, configure="^$")
    try:
        modest = copy.copy(connection_params)
        modest.credentials = pika.PlainCredentials(asker, "secret")
        client = RequestClient([modest], owner="tests")
        try:
            for number in range(3):
                answer = client.request(RequestSpec("echo", {"text": number}, timeout=120))
                assert answer["echo"] == number

                def is_lost() -> bool:  # the broker may name its former connection once more
                    drop_connections("tests requests")
                    return client.open_channel is None

                eventually(is_lost, what="the loss is known")
        finally:
            client.close()
        assert queues() == {"echo"}
    finally:
        broker.delete_user(asker)
