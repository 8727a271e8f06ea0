from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_mq_connector.config import Endpoint
from neon_mq_connector.config.addresses import (
    ServerAddress,
    parse_address,
    parse_host,
    parse_port,
)
from tests.unit.codec.oracle import literals

PORTS = st.integers(1, 65535)
HOSTS = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,60}[a-zA-Z0-9])?", fullmatch=True)


@given(HOSTS, PORTS)
def test_a_server_is_read_alike_from_each_form(host: str, port: int) -> None:
    both = ServerAddress(host, port)
    assert parse_address(str(Endpoint(host, port))) == both
    assert parse_address(f" {host}:{port}\n") == both
    assert parse_address({"server": host, "port": port}) == both
    assert parse_address({"server": host, "port": str(port), "weight": 3}) == both
    assert parse_address(host) == ServerAddress(host)
    assert parse_address({"server": host}) == ServerAddress(host)
    assert parse_address({"server": host, "port": None}) == ServerAddress(host)


@given(st.ip_addresses(v=6), PORTS)
def test_an_ipv6_address_is_read_alike_from_each_form(
    address: ipaddress.IPv6Address, port: int
) -> None:
    host = str(address)
    assert parse_address(str(Endpoint(host, port))) == ServerAddress(host, port)
    assert parse_address({"server": f"[{host}]", "port": port}) == ServerAddress(host, port)
    assert parse_address(f"[{host}]") == parse_address(host) == ServerAddress(host)


@pytest.mark.parametrize(
    "value, words",
    [
        ("", "empty"),
        (":5672", "empty"),
        ("mq:", "port"),
        ("mq:0", "port"),
        ("mq:5672:5673", "IPv6"),
        ("[::1", "IPv6"),
        ("[mq]", "IPv6"),
        ("amqp://me:secret@mq:5672/", "URL"),
        ("me@mq", "URL"),
        ("mq1,mq2", "several"),
        ("mq one", "host name"),
        ("x" * 254, "host name"),
        (5672, "not a server"),
        ({}, '"server"'),
        ({"server": 5}, "not a server"),
        ({"server": ""}, "empty"),
        ({"server": "mq", "port": True}, "port"),
    ],
)
def test_what_is_no_server_is_refused_with_a_reason(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_address(value)
    assert "secret" not in str(caught.value)


@given(literals | st.dictionaries(st.sampled_from(["server", "port"]), literals))
def test_anything_is_a_server_or_a_valueerror(value: Any) -> None:
    try:
        address = parse_address(value)
    except ValueError:
        return
    assert address.host == address.host.strip() != ""
    assert address.port is None or 1 <= address.port <= 65535


@pytest.mark.parametrize("text", ["٣", "5_672", "+5672", "0x10", "5672.0", "", "99999", "000001"])
def test_a_port_is_plain_digits(text: str) -> None:
    with pytest.raises(ValueError, match="1-65535"):
        parse_port(text)


def test_a_host_with_a_port_is_sent_to_the_right_key() -> None:
    with pytest.raises(ValueError, match="key port"):
        parse_host("mq:5672")
