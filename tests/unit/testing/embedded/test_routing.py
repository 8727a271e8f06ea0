"""Which bindings match, and where a message gets to."""

from __future__ import annotations

import pytest

from neon_mq_connector.testing.embedded.exchange import Binding, Exchange
from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.properties import Properties
from neon_mq_connector.testing.embedded.tables import Field, Table
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost
from tests.unit.testing.embedded.models import NO_PROPERTIES, declare, new_vhost


def _matches(type: str, key: str, arguments: Table, message: Message) -> bool:
    exchange = Exchange("x", type)
    exchange.bindings[Binding("x", "queue", "q", key, arguments)] = None
    return bool(exchange.matching(message))


@pytest.mark.parametrize(
    "pattern, key, expected",
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*", "", True),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("#.c.#", "a.b", False),
        ("*.#.*", "a.b", True),
        ("*.#.*", "a", False),
    ],
)
def test_topics(pattern: str, key: str, expected: bool) -> None:
    assert _matches("topic", pattern, {}, Message("x", key, NO_PROPERTIES, b"")) is expected


def test_a_topic_of_many_hashes_takes_no_time() -> None:
    key = ".".join("a" * 120)
    message = Message("x", key, NO_PROPERTIES, b"")
    assert not _matches("topic", ".".join(["#", "a"] * 40) + ".b", {}, message)


@pytest.mark.parametrize(
    "match, wanted, expected",
    [
        ("all", {"a": 1, "b": 2}, True),
        ("all", {"a": 1, "b": 3}, False),
        ("any", {"a": 9, "b": 2}, True),
        ("any", {}, False),
        ("all", {}, True),
        ("all", {"x-c": 9}, True),
        ("all-with-x", {"x-c": 9}, False),
        ("any-with-x", {"x-c": 3}, True),
        ("all", {"a": None}, True),
        ("all", {"missing": None}, False),
        ("all", {"a": True}, False),
    ],
)
def test_headers(match: str, wanted: dict[str, object], expected: bool) -> None:
    kinds = {int: "signedint", bool: "bool", type(None): "void"}

    def table(values: dict[str, object]) -> Table:
        return {name: Field(kinds[type(value)], value) for name, value in values.items()}

    headers = Properties(NO_PROPERTIES).with_headers(table({"a": 1, "b": 2, "x-c": 3})).encode()
    arguments = {"x-match": Field("longstr", match), **table(wanted)}
    assert _matches("headers", "", arguments, Message("x", "", headers, b"")) is expected


def _exchange(vhost: VirtualHost, name: str, type: str = "direct", **options: str) -> None:
    arguments = {key.replace("_", "-"): Field("longstr", to) for key, to in options.items()}
    vhost.declare_exchange(Exchange(name, type, durable=False, arguments=arguments))


def test_what_no_binding_takes_goes_to_the_alternate_exchange() -> None:
    vhost = new_vhost()
    _exchange(vhost, "spare", "fanout")
    _exchange(vhost, "x", alternate_exchange="spare")
    for name, source, key in (("good", "x", "good"), ("rest", "spare", "")):
        declare(vhost, name)
        vhost.bind(Binding(source, "queue", name, key, {}), None)

    def route(key: str) -> list[str]:
        message = Message("x", key, NO_PROPERTIES, b"")
        return [queue.name for queue in vhost.route(vhost.exchange("x"), message)]

    assert (route("good"), route("bad")) == (["good"], ["rest"])
    vhost.delete_queue("good", None)
    assert route("good") == ["rest"]


def test_an_exchange_goes_with_its_last_binding_if_it_is_to() -> None:
    vhost = new_vhost()
    vhost.declare_exchange(Exchange("x", "direct", auto_delete=True))
    declare(vhost, "q")
    vhost.bind(Binding("x", "queue", "q", "k", {}), None)
    vhost.delete_queue("q", None)
    assert "x" not in vhost.exchanges
