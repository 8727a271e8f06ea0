"""What a service tells in its log, from its start over an outage to its stop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import (
    AsyncMQConnector,
    MessageFields,
    MQConnector,
    Retry,
    create_mq_callback,
)
from neon_mq_connector.errors import (
    AuthenticationError,
    BrokerUnreachableError,
    MQError,
    VhostAccessError,
)
from neon_mq_connector.testing import EmbeddedBroker
from tests.support.configurations import config_of
from tests.support.nodes import free_port
from tests.support.polling import eventually

MakeService = Callable[..., "Service"]


class Service(MQConnector):
    """It answers in some queues, fails in another, and tells often that it is there."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config, "service")
        self.sync_period = self.observe_period = 0.1
        self.tried = 0

    @create_mq_callback()
    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return body

    @create_mq_callback()
    def fail(self, body: dict[str, Any]) -> None:
        logging.getLogger("of_the_user").critical("about to fail")
        raise ValueError("no")

    def sync(self, *args: Any, **kwargs: Any) -> None:
        self.tried += 1
        super().sync(*args, **kwargs)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="neon_mq_connector")
    return caplog


@pytest.fixture
def make(embedded: EmbeddedBroker, endings: ExitStack) -> MakeService:
    def make(**config: Any) -> Service:
        service = Service({**config_of(embedded, "default"), **config})
        endings.callback(service.stop)
        return service

    return make


def lines(told: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [message for message in told.messages if words in message]


def test_each_queue_and_each_outage_is_told_once(
    embedded: EmbeddedBroker, make: MakeService, told: pytest.LogCaptureFixture
) -> None:
    service = make()
    for queue in ("a", "b", "c"):
        service.register_consumer(queue, "/", queue, service.answer)
    service.register_subscriber("news", "/", service.answer, exchange="news")
    service.run()
    assert service.request({"n": 1}, "a")["n"] == 1
    eventually(lambda: service.tried, what="its presence is published")
    assert len(lines(told, "waiting for the broker at")) == 1

    embedded.stop()
    before = service.tried
    eventually(lambda: service.tried >= before + 3, what="timers have noticed")
    eventually(lambda: not service.check_health(), what="consumers have noticed")
    embedded.start()
    eventually(service.check_health, what="the service is back")
    eventually(lambda: lines(told, "is back after"), what="the log says so")
    service.stop()

    warnings = [each for each in told.records if each.levelno >= logging.WARNING]
    assert [each.getMessage().partition(":")[0] for each in warnings] == [
        "outage of the broker at 127.0.0.1"
    ]
    assert len(lines(told, "is back after")) == 1
    assert not [each for each in told.records if each.exc_info]
    for queue in ("a", "b", "c"):
        assert len(lines(told, f"consuming {queue!r} on '/'")) == 2
    (stopped,) = [each for each in told.records if "'a' on '/': stopped" in each.getMessage()]
    assert stopped.getMessage().endswith("stopped, 1 handled")
    assert vars(stopped)["mq_queue"] == "a"
    assert vars(stopped)["mq_vhost"] == "/"


def test_a_refusal_during_an_outage_is_told_once_by_each_consumer(
    embedded: EmbeddedBroker, make: MakeService, told: pytest.LogCaptureFixture
) -> None:
    embedded.add_user("limited", "secret", vhosts=["/"])
    service = make(users={"default": {"user": "limited", "password": "secret"}})
    service.register_consumer("a", "/", "a", service.answer)
    service.run(run_sync=False)
    embedded.management.permit("limited", "/", read="^$")
    embedded.close_connections()
    eventually(lambda: service.health().consumers["a"].recoveries > 5, what="it is tried again")
    embedded.management.permit("limited", "/")
    eventually(service.check_health, what="it consumes again")
    (refused,) = lines(told, "read access to queue 'a'")
    assert refused.startswith("consumer a: ")
    assert not lines(told, "exists with other properties")


def test_a_service_tells_for_what_it_waits_until_the_broker_is_there(
    told: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    users = {"default": {"user": "ada", "password": "secret"}}
    service = Service({"server": "127.0.0.1", "port": port, "users": users})
    service.register_consumer("a", "/", "a", service.answer)
    starting = threading.Thread(target=service.run, kwargs={"mq_timeout": 120})
    starting.start()
    try:
        words = f"waiting for the broker at 127.0.0.1:{port}"
        eventually(lambda: lines(told, words), what="the log says what is waited for")
        eventually(lambda: lines(told, f"still {words}"), what="it says so again")
        with EmbeddedBroker(port=port, username="ada", password="secret"):
            eventually(lambda: lines(told, "consuming 'a' on '/'"), what="it consumes")
            starting.join(120)
            service.stop()
    finally:
        service.stop()
        starting.join(120)


def test_records_of_a_message_carry_its_id(
    make: MakeService, told: pytest.LogCaptureFixture
) -> None:
    told.handler.addFilter(MessageFields())
    service = make()
    service.register_consumer("bad", "/", "bad", service.fail, retry=Retry(attempts=1))
    service.run_consumers()
    service.send_message({"message_id": "m-1"}, queue="bad")
    eventually(lambda: lines(told, "is parked in 'bad.dead'"), what="it is parked")

    def about() -> list[dict[str, Any]]:
        records = [vars(each) for each in list(told.records)]
        return [each for each in records if each.get("mq_message_id") == "m-1"]

    levels = {"CRITICAL", "ERROR", "WARNING"}
    eventually(lambda: {each["levelname"] for each in about()} == levels)
    for each in about():
        assert (each["mq_queue"], each["mq_vhost"]) == ("bad", "/")


def test_what_expires_is_told_once_for_a_queue_and_how_soon_is_a_setting(
    make: MakeService,
    told: pytest.LogCaptureFixture,
    open_channel: Callable[..., BlockingChannel],
) -> None:
    channel = open_channel()

    def expirations(service: Service) -> list[str | None]:
        service.send_message({"n": 1}, queue="work")
        service.publish_many([{"n": 1}], queue="work")
        service.submit_message({"n": 1}, queue="work").result(120)
        service.send_message({"n": 1}, queue="work", expiration=70_000)
        found = []
        for _ in range(4):
            _method, properties, _body = channel.basic_get("work", auto_ack=True)
            found.append(None if properties is None else properties.expiration)
        return found

    assert expirations(make(message_expiration=None)) == [None, None, None, "70000"]
    assert not lines(told, "expire after")
    (declared,) = lines(told, "nothing consumes it yet")
    assert "'work'" in declared
    assert expirations(make(message_expiration=60_000)) == ["60000"] * 3 + ["70000"]
    (line,) = lines(told, "expire after 60,000 ms")
    assert "'work'" in line


WRONG = {"users": {"default": {"user": "neon", "password": "wrong"}}}


@pytest.mark.parametrize(
    "config, vhost, kind",
    [(WRONG, "/", AuthenticationError), ({}, "/missing", VhostAccessError)],
)
def test_run_forever_raises_what_the_broker_refuses(
    make: MakeService, config: dict[str, Any], vhost: str, kind: type[MQError]
) -> None:
    service = make(**config)
    # perhaps another virtual host than the service's own, which exists
    service.register_consumer("a", vhost, "a", service.answer)
    with pytest.raises(kind):
        service.run_forever(run_sync=False)
    assert not service.started

    async def handle(_message: Any) -> None:
        """Take it."""

    async def run() -> None:
        waiting = AsyncMQConnector(service.config, "service")
        waiting.register_consumer("a", vhost, "a", handle)
        await waiting.run_forever(run_sync=False)

    with pytest.raises(kind):
        asyncio.run(run())


def test_run_forever_raises_when_no_broker_answers_in_the_time_given(make: MakeService) -> None:
    with pytest.raises(BrokerUnreachableError):
        make(port=free_port()).run_forever(mq_timeout=0.1)


def test_a_service_without_consumers_is_refused_its_own_virtual_host(make: MakeService) -> None:
    service = make()
    service.vhost = "/missing"
    with pytest.raises(VhostAccessError):
        service.run_forever(run_sync=False)
