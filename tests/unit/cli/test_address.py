from __future__ import annotations

import pytest

from neon_mq_connector.cli.address import parse_address
from tests.unit.cli.conftest import Run

SECRET = "s3cr3t-word"


def test_all_parts_of_a_url_are_read() -> None:
    address = parse_address("amqp://me%40home:p%2Fw%3A@mq.example:5673/%2Fneon")
    assert (address.host, address.port) == ("mq.example", 5673)
    assert (address.username, address.password) == ("me@home", "p/w:")
    assert address.vhost == "/neon"
    assert not address.encrypted


@pytest.mark.parametrize(
    "path, vhost",
    [("", "/"), ("/", "/"), ("/%2F", "/"), ("/neon", "neon"), ("//neon", "/neon")],
)
def test_the_path_is_the_virtual_host(path: str, vhost: str) -> None:
    assert parse_address(f"amqp://u:p@host{path}").vhost == vhost


def test_amqps_means_tls_and_an_address_may_be_ipv6() -> None:
    address = parse_address("amqps://u:p@[::1]:5671/")
    assert address.encrypted
    assert (address.host, address.port) == ("::1", 5671)


def test_the_password_is_not_in_the_repr() -> None:
    assert SECRET not in repr(parse_address(f"amqp://u:{SECRET}@host/"))


@pytest.mark.parametrize(
    "url, words",
    [
        (f"http://u:{SECRET}@host/", "does not begin with amqp://"),
        (f"u:{SECRET}@host", "does not begin with amqp://"),
        (f"amqp://u:{SECRET}@/", "has no host"),
        (f"amqp://u:{SECRET}@host:99999/", "port is not a number"),
        (f"amqp://u:{SECRET}@host:port/", "port is not a number"),
        (f"amqp://u:{SECRET}@host/v?heartbeat=3", "options after ? are not understood"),
        ("amqp://host/", "no user and password"),
        (f"amqp://{SECRET}@host/", "no user and password"),
        (f"amqp://u:{SECRET}@[::1/", "it is no URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_not_repeated(run: Run, url: str, words: str) -> None:
    done = run("send", "queue", '{"a": 1}', "--url", url)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "amqp://user:password@host:port/vhost" in done.stderr
    assert SECRET not in done.stderr + done.stdout
