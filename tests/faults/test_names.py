"""A name that RabbitMQ would change stops nothing: it is refused where it enters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.topology import Queue, declare_queue
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.faults.conftest import Start
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually

pytestmark = pytest.mark.one_engine

QUEUE = "named"
BAD = ("abc\n", "a\rb", "\r\nabc")


def as_old_services_answer(channel: Any, name: str) -> None:
    channel.queue_declare(queue=name)
    channel.basic_publish("", name, b"the answer")


ANSWERS: dict[str, Callable[[MQConnector, Any, str], Any]] = {
    "declare": lambda _, channel, name: as_old_services_answer(channel, name),
    "passive": lambda _, channel, name: channel.queue_declare(name, passive=True),
    "publish": lambda _, channel, name: channel.basic_publish("", name, b"the answer"),
    "delete": lambda _, channel, name: channel.queue_delete(name),
    "bind": lambda _, channel, name: channel.queue_bind(name, "amq.direct"),
    "get": lambda _, channel, name: channel.basic_get(name),
    "exchange": lambda _, channel, name: channel.exchange_declare(exchange=name),
    "send": lambda service, _, name: service.send_message({"a": 1}, queue=name),
    "send to an exchange": lambda service, _, name: service.send_message({"a": 1}, exchange=name),
    "ask": lambda service, _, name: service.request({"a": 1}, name),
}


def test_the_answer_to_a_bad_routing_key_fails_for_that_request_alone(
    start: Start, service: MQConnector, ledger: Ledger, peer: Peer
) -> None:
    peer.declare("abc")
    errors: list[BaseException] = []
    asked = [(name, way) for name in BAD for way in ANSWERS]

    def callback(channel: Any, method: Any, properties: Any, body: Any) -> None:
        request = b64_to_dict(body)
        if "routing_key" in request:
            ANSWERS[request["way"]](service, channel, request["routing_key"])
        as_old_services_answer(channel, "answers")
        ledger.handled(properties.message_id)

    def on_error(_thread: Any, error: BaseException) -> None:
        errors.append(error)

    start(QUEUE, callback, on_error, ack="on_receipt", durable=False)
    for name, way in asked:
        service.send_message({"routing_key": name, "way": way}, queue=QUEUE)
    service.send_message({"message_id": "good"}, queue=QUEUE)
    eventually(lambda: ledger.handled_ids == {"good"}, what="the request behind them is handled")
    eventually(lambda: len(errors) == len(asked), what="each of them has failed")
    for (name, way), error in zip(asked, errors, strict=True):
        assert isinstance(error, ValueError), way
        assert repr(name) in str(error), way
    eventually(lambda: peer.counts(f"{QUEUE}.dead")[0] == len(asked), what="they are parked")
    # nothing stands still: a declare is answered
    connections = service._mq_core.hosts.connections(service.vhost)
    connections.control.perform(
        "declaring", lambda facts: declare_queue(Queue("later"), facts), timeout=120
    )
    assert peer.counts("abc") == (0, 0)
    assert service.check_health()


@pytest.mark.parametrize("name", [*BAD, "é" * 128])
def test_a_bad_name_is_refused_when_it_is_registered_or_used(
    name: str, service: MQConnector
) -> None:
    vhost = service.vhost

    def nothing(*_: Any) -> None:
        pass

    for use in (
        lambda: service.register_consumer("it", vhost, name, nothing),
        lambda: service.register_consumer("it", vhost, "q", nothing, exchange=name),
        lambda: service.register_consumer("it", vhost, "q", nothing, routing_keys=(name,)),
        lambda: service.register_consumer("it", name, "q", nothing),
        lambda: service.register_subscriber("it", vhost, nothing, exchange=name),
        lambda: service.send_message({"a": 1}, queue=name),
        lambda: service.send_message({"a": 1}, exchange=name),
        lambda: service.submit_message({"a": 1}, queue=name),
        lambda: service.publish_many([{"a": 1}], queue=name),
        lambda: service.send_message({"a": 1}, vhost=name, queue="q"),
        lambda: service.request({"a": 1}, name),
        lambda: service.gather_answers({"a": 1}, exchange=name),
        lambda: service.stream_answer({"a": 1}, name),
    ):
        with pytest.raises(ValueError, match="the name of "):
            use()
    if name in BAD:  # one that is only too long is shortened for the subscriber's own queue
        with pytest.raises(ValueError, match="the name of "):
            service.register_subscriber(name, vhost, nothing)
