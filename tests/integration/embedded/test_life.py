"""An embedded broker starts, stops and comes back, and keeps what it should."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import (
    AMQPConnectionError,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from neon_mq_connector.testing import EmbeddedBroker, PrivateBroker, PrivateBrokerError
from tests.support.polling import eventually

_PERSISTENT = pika.BasicProperties(delivery_mode=2)


def _connect(broker: EmbeddedBroker, **options: str) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(broker.url(**options)))


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_is_durable_survives_and_nothing_else(
    embedded: EmbeddedBroker, messages: BlockingChannel, end: str
) -> None:
    messages.queue_declare("passing")
    messages.exchange_declare("lasting", "topic", durable=True)
    messages.queue_bind("work", "lasting", "a.*")
    messages.basic_publish("", "work", b"held", _PERSISTENT)
    assert messages.basic_get("work")[2] == b"held"  # and not acked
    messages.basic_publish("", "work", b"kept", _PERSISTENT)
    messages.basic_publish("", "work", b"lost")
    messages.queue_declare("work", passive=True, durable=True)

    getattr(embedded, end)()
    embedded.start()

    with _connect(embedded) as connection:
        channel = connection.channel()
        channel.basic_publish("lasting", "a.b", b"routed")
        (held, _, first), *others = [channel.basic_get("work", auto_ack=True) for _ in range(4)]
    assert held is not None
    assert (first, held.redelivered) == (b"held", True)
    assert [body for _, _, body in others] == [b"kept", b"routed", None]
    assert [queue["name"] for queue in embedded.list_queues("/")] == ["work"]


def test_a_broker_that_is_forgotten_ends() -> None:
    broker = EmbeddedBroker()
    broker.start()
    name = f"embedded-broker-{broker.port}"
    assert name in [thread.name for thread in threading.enumerate()]
    del broker
    gc.collect()
    eventually(lambda: name not in [thread.name for thread in threading.enumerate()])


def test_a_port_in_use_is_named(embedded: EmbeddedBroker) -> None:
    with pytest.raises(PrivateBrokerError, match=f"port {embedded.port} on .* is in use"):
        EmbeddedBroker(port=embedded.port).start()


@pytest.mark.parametrize("kind", [EmbeddedBroker, PrivateBroker])
def test_it_has_to_be_started_first(kind: type[EmbeddedBroker | PrivateBroker]) -> None:
    broker = kind()
    for ask in (lambda: broker.port, broker.url, lambda: broker.list_queues("/")):
        with pytest.raises(PrivateBrokerError, match="start"):
            ask()
    if isinstance(broker, PrivateBroker):
        for name in ("password", "pid", "management_url", "directory"):
            with pytest.raises(PrivateBrokerError, match=r"call start\(\) first"):
                getattr(broker, name)
    assert not broker.running
    broker.stop()
    broker.kill()
    broker.close()


def test_wrong_credentials_and_foreign_virtual_hosts_are_refused(embedded: EmbeddedBroker) -> None:
    embedded.create_vhost("/other")
    embedded.add_user("guest", "secret", vhosts=("/",))
    with pytest.raises(ProbableAuthenticationError, match="Login was refused"):
        _connect(embedded, username="guest", password="wrong")
    with pytest.raises(ProbableAccessDeniedError, match="access to vhost '/other' refused"):
        _connect(embedded, vhost="/other", username="guest", password="secret")
    with pytest.raises(ProbableAccessDeniedError, match="vhost /none not found"):
        _connect(embedded, vhost="/none")
    _connect(embedded, username="guest", password="secret").close()
    embedded.delete_user("guest")
    with pytest.raises(ProbableAuthenticationError):
        _connect(embedded, username="guest", password="secret")


def test_transient_queues_are_refused_where_that_is_asked_for() -> None:
    with EmbeddedBroker(refuse_transient=True) as broker, _connect(broker) as connection:
        connection.channel().queue_declare("work", durable=True)
        connection.channel().queue_declare("", exclusive=True)
        with pytest.raises(ConnectionClosedByBroker, match="transient_nonexcl") as caught:
            connection.channel().queue_declare("passing")
    assert caught.value.reply_code == 541


def test_it_lists_what_is_in_it(
    embedded: EmbeddedBroker, open_channel: Callable[..., BlockingChannel]
) -> None:
    channel = open_channel()
    channel.basic_qos(prefetch_count=3)
    channel.queue_declare("work", durable=True, arguments={"x-max-length": 9})
    channel.basic_consume("work", lambda *_: None, consumer_tag="me", auto_ack=False)
    channel.basic_publish("", "work", b"one")
    eventually(lambda: embedded.list_queues("/")[0]["messages_unacknowledged"] == 1)
    (queue,) = embedded.list_queues("/")
    assert (queue["name"], queue["durable"], queue["messages"]) == ("work", True, 1)
    assert queue["arguments"] == {"x-max-length": 9}
    (consumer,) = embedded.list_consumers("/")
    assert (consumer["consumer_tag"], consumer["prefetch_count"]) == ("me", 3)
    (connection,) = embedded.list_connections("/")
    assert (connection["user"], connection["channels"]) == (embedded.username, 1)
    assert "amq.topic" in [each["name"] for each in embedded.management.exchanges("/")]


def test_a_deleted_virtual_host_takes_its_connections_along(embedded: EmbeddedBroker) -> None:
    embedded.create_vhost("/short")
    connection = _connect(embedded, vhost="/short")
    embedded.delete_vhost("/short")
    with pytest.raises(AMQPConnectionError):
        connection.process_data_events(time_limit=120)
    eventually(lambda: embedded.list_connections() == [])
