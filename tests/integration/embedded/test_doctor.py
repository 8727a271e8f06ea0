"""`neon-mq doctor` and `diagnose`: what they find, what they say, and that they leave nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector, consumer
from neon_mq_connector.operations.diagnosis import diagnose
from neon_mq_connector.operations.findings import Finding
from neon_mq_connector.testing import EmbeddedBroker
from tests.support.configurations import config_of
from tests.support.nodes import free_port
from tests.unit.cli.conftest import invoke

Names = set[str]


def names_in(broker: EmbeddedBroker) -> Names:
    management = broker.management
    exchanges = {each["name"] for each in management.exchanges("/")}
    return {each["name"] for each in management.queues("/")} | exchanges


def doctor(*arguments: str) -> tuple[int, dict[str, dict[str, str]], str]:
    done = invoke("doctor", "--json", "--timeout", "60", *arguments)
    assert "Traceback" not in done.stderr
    return done.exit_code, {each["check"]: each for each in json.loads(done.stdout)}, done.stdout


def test_a_healthy_broker_has_no_errors_and_keeps_nothing(embedded: EmbeddedBroker) -> None:
    before = names_in(embedded)
    code, found, _ = doctor("--url", embedded.url())
    assert code == 0
    assert {name for name, each in found.items() if each["level"] != "ok"} == {"management"}
    assert "ms" in found["reply"]["message"]
    assert "heartbeat" in found["negotiated"]["message"]
    assert names_in(embedded) == before


def wrong_password(broker: EmbeddedBroker) -> str:
    return broker.url(username=broker.username, password="sesame")


def no_vhost(broker: EmbeddedBroker) -> str:
    return broker.url("/nowhere")


def nothing_there(_: EmbeddedBroker) -> str:
    return f"amqp://neon:sesame@127.0.0.1:{free_port()}/"


def unknown_name(_: EmbeddedBroker) -> str:
    return "amqp://neon:sesame@nowhere.invalid/"


def alarm(broker: EmbeddedBroker) -> str:
    broker.block()
    return broker.url()


def no_right_to(right: str) -> Callable[[EmbeddedBroker], str]:
    def limit(broker: EmbeddedBroker) -> str:
        broker.add_user("limited", "secret")
        rights: dict[str, Any] = {right: "^$"}
        broker.management.permit("limited", "/", **rights)
        return broker.url(username="limited", password="secret")

    return limit


@pytest.mark.parametrize(
    "make, check, skipped",
    [
        pytest.param(wrong_password, "password", "permissions and queues", id="password"),
        pytest.param(no_vhost, "virtual host", "permissions and queues", id="virtual host"),
        pytest.param(nothing_there, "port", "password", id="port"),
        pytest.param(unknown_name, "name", "password", id="name"),
        pytest.param(alarm, "alarms", "reply", id="alarm"),
        pytest.param(no_right_to("configure"), "configure", "read", id="configure"),
        pytest.param(no_right_to("write"), "publish", "reply", id="write"),
        pytest.param(no_right_to("read"), "read", "reply", id="read"),
    ],
)
def test_what_is_wrong_is_an_error_with_its_remedy(
    embedded: EmbeddedBroker, make: Callable[[EmbeddedBroker], str], check: str, skipped: str
) -> None:
    url = make(embedded)
    before = names_in(embedded)
    code, found, output = doctor("--url", url)
    assert code == 1
    assert found[check]["level"] == "error"
    assert found[check]["remedy"]
    assert found[skipped]["message"].startswith("not checked: ")
    assert not {"sesame", "secret"} & set(output.replace("'", " ").split())
    assert names_in(embedded) == before


def test_the_text_fits_into_80_columns_and_has_no_colours_in_a_pipe(
    embedded: EmbeddedBroker,
) -> None:
    done = invoke("doctor", "--url", embedded.url("/nowhere"), env={"COLUMNS": "80"})
    assert done.exit_code == 1
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    assert "-> rabbitmqctl add_vhost" in done.stdout


class Shop(MQConnector):
    """Consumes what differs from what exists."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        super().__init__(config_of(broker, "shop"), "shop")
        self.vhost = "/"
        self.register_consumer("price", "/", "shop_price", lambda *_: None)
        self.register_consumer("missing", "/", "shop_missing", lambda *_: None)
        self.register_subscriber("news", "/", lambda *_: None, exchange="shop_news")

    @consumer("{service_name}_orders", durable=True)
    def orders(self, data: dict[str, Any]) -> None: ...


def levels(findings: list[Finding], check: str) -> list[tuple[str, str]]:
    return [(each.level.value, each.message) for each in findings if each.check == check]


def test_the_queues_of_a_service_are_compared_with_what_exists(
    embedded: EmbeddedBroker, open_channel: Callable[..., BlockingChannel]
) -> None:
    channel = open_channel()
    channel.queue_declare("shop_price", durable=True, arguments={"x-max-length": 3})
    channel.queue_declare("shop_orders", durable=True)
    channel.basic_consume("shop_orders", lambda *_: None)
    channel.basic_publish("", "shop_orders", b"{}")
    channel.queue_declare("shop_orders.dead", durable=True)
    channel.basic_publish("", "shop_orders.dead", b"{}")
    channel.basic_qos(prefetch_count=1)  # once it is answered the broker has the message
    before = names_in(embedded)
    found = diagnose(Shop(embedded), management=embedded.management)
    (clock,) = levels(found, "clock")
    assert clock[0] == "ok"
    nobody, durable, limit = levels(found, "queue 'shop_price'")
    assert "consumers: 0" in nobody[1]
    assert "durable: received 'false' but current is 'true'" in durable[1]
    assert "x-max-length 3" in limit[1]
    consumed, unsettled, parked = levels(found, "queue 'shop_orders'")
    assert consumed == ("ok", "consumers: 1, waiting messages: 0")
    assert unsettled == ("warning", "messages that callbacks have and none has settled lately: 1")
    assert parked[0] == "warning"
    assert "'shop_orders.dead': 1" in parked[1]
    ((level, message),) = levels(found, "queue 'shop_missing'")
    assert (level, message) == ("warning", "it does not exist in '/'")
    assert names_in(embedded) == before
