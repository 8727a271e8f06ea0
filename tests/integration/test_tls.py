"""Everything over TLS, end to end, against a broker whose certificate was made for the test."""

from __future__ import annotations

import contextlib
import secrets
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.errors import AuthenticationError, MQError
from neon_mq_connector.operations.diagnosis import diagnose
from neon_mq_connector.operations.findings import Finding
from neon_mq_connector.testing import PrivateBroker
from neon_mq_connector.testing.proxy import FaultProxy
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.faults.test_processes import killed_beside_its_child
from tests.support import leaks
from tests.support.accounting import Ledger
from tests.support.certificates import OPENSSL, Certificates
from tests.support.configurations import PATIENT
from tests.support.nodes import free_port
from tests.support.polling import eventually
from tests.support.publishing import Senders

SERVICE = "test_service"
#: Of the texts that are asked for, by the number of the turn; all others are short.
SIZES = {0: 200_000, 10: 200_000, 20: 2**20}

pytestmark = [
    pytest.mark.needs_rabbitmq,
    pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificates"),
]


class TlsBroker:
    """A node that listens for TLS as well, and what a client has to know of it."""

    def __init__(self, folder: Path) -> None:
        self.certificates = Certificates(folder)
        self.port = free_port()
        self.node = PrivateBroker(config=self.certificates.broker_config(self.port, demand=False))
        self.node.start()


@pytest.fixture(scope="module")
def tls_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBroker]:
    broker = TlsBroker(tmp_path_factory.mktemp("tls"))
    yield broker
    broker.node.close()


@pytest.fixture
def tls_vhost(tls_broker: TlsBroker) -> Iterator[str]:
    name = f"/v{secrets.token_hex(4)}"
    tls_broker.node.create_vhost(name)
    yield name
    tls_broker.node.delete_vhost(name)


@pytest.fixture
def proxy(tls_broker: TlsBroker, tls_vhost: str) -> Iterator[FaultProxy]:
    with FaultProxy(tls_broker.port) as proxy:
        yield proxy
        leaks.close_shared_clients()


Connect = Callable[..., MQConnector]


def connect_config(tls_broker: TlsBroker, port: int, **tls: Any) -> dict[str, Any]:
    """Make the configuration of a connector, with further settings for TLS."""
    node = tls_broker.node
    return {
        "server": "127.0.0.1",
        "port": port,
        "users": {SERVICE: {"user": node.username, "password": node.password}},
        **PATIENT,
        "tls": {**tls_broker.certificates.server_only, **tls},
    }


@pytest.fixture
def connect(tls_broker: TlsBroker, tls_vhost: str, proxy: FaultProxy) -> Iterator[Connect]:
    """Make connectors behind the proxy, with further settings for TLS; stopped at the end."""
    with contextlib.ExitStack() as stack:

        def make(port: int = proxy.port, **tls: Any) -> MQConnector:
            connector = MQConnector(connect_config(tls_broker, port, **tls), SERVICE)
            connector.vhost = tls_vhost
            stack.callback(connector.stop)
            return connector

        yield make


def start_echo(connector: MQConnector, **registration: Any) -> None:
    """Have a consumer answer each request with what it says."""

    def echo(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        connector.send_message(
            {"text": request["text"], "message_id": request["message_id"]},
            queue=request["routing_key"],
        )

    connector.register_consumer("echo", connector.vhost, "echo", echo, **registration)
    connector.run(run_sync=False, run_observer=False, mq_timeout=120)
    eventually(lambda: connector.consumers["echo"].is_consuming)


def test_the_doctor_looks_at_the_certificate(tls_broker: TlsBroker, connect: Connect) -> None:
    def tls_of(connector: MQConnector) -> Finding:
        return next(each for each in diagnose(connector) if each.check == "tls")

    expiring = tls_of(connect())
    assert (expiring.level.value, expiring.remedy) == ("warning", "renew it before then")
    assert "Hostname mismatch" in tls_of(connect(server_hostname="elsewhere")).message
    untrusted = tls_of(connect(ca_file=str(tls_broker.certificates.stranger)))
    assert (untrusted.level.value, "is refused" in untrusted.message) == ("error", True)
    unverified = tls_of(connect(verify=False))
    assert "is not verified" in unverified.message
    plain = tls_of(connect(port=tls_broker.node.port))
    assert "no encrypted connection" in plain.message


def test_many_threads_ask_and_send_at_once(connect: Connect) -> None:
    service = connect()
    start_echo(service, concurrency=4)

    def work(number: int) -> None:
        for turn in range(25):
            text = f"{number}-{turn}" + "x" * SIZES.get(turn, 0)
            assert service.request({"text": text}, "echo", timeout=120)["text"] == text
            service.send_message({"text": text}, queue="sent", expiration=60_000)

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(work, number) for number in range(8)]:
            each.result(120)


def test_a_line_that_is_cut_loses_nothing_and_is_mended(
    connect: Connect, proxy: FaultProxy
) -> None:
    service = connect()
    ledger = Ledger()
    service.register_consumer(
        "it",
        service.vhost,
        "cut",
        lambda _channel, _method, properties, _body: ledger.handled(properties.message_id),
        ack="on_success",
        durable=True,
    )
    service.run(run_sync=False, run_observer=False, mq_timeout=120)
    with Senders(service, ledger, "cut") as senders:
        for _ in range(3):
            senders.wait_for(100)
            proxy.reset()
        senders.wait_for(100)
    wanted = ledger.confirmed_ids
    eventually(lambda: wanted <= ledger.handled_ids, what="every message is handled")


def test_what_a_killed_parent_held_goes_back_while_its_forked_child_lives(
    connect: Connect, tls_broker: TlsBroker, tls_vhost: str
) -> None:
    config = connect_config(tls_broker, tls_broker.port)
    order = {
        "config": config,
        "service": SERVICE,
        "vhost": tls_vhost,
        "queue": "held",
        "held": 1,
        "coroutines": False,
        "registration": {},
    }
    connector = connect()
    connector.send_message({"message_id": "1"}, queue="held", expiration=None)

    def ready() -> int:
        rows = tls_broker.node.list_queues(tls_vhost)
        return sum(row["messages_ready"] for row in rows if row["name"] == "held")

    with killed_beside_its_child(order):
        eventually(lambda: ready() == 1, what="its message is back")


@pytest.mark.parametrize(
    "tls, words",
    [
        pytest.param({"server_hostname": "elsewhere"}, "Hostname mismatch", id="another name"),
        pytest.param({"ca_file": "other"}, "certificate verify failed", id="another authority"),
    ],
)
def test_a_certificate_that_is_not_trusted_is_one_clear_error(
    tls: dict[str, str], words: str, connect: Connect, tls_broker: TlsBroker
) -> None:
    if "ca_file" in tls:
        tls = {"ca_file": str(tls_broker.certificates.stranger)}
    service = connect(**tls)
    with pytest.raises(MQError, match=words) as caught:
        service.send_message({"a": 1}, queue="q")
    assert "\n" not in str(caught.value)
    with pytest.raises(MQError, match=words):
        service.request({"a": 1}, "q", timeout=120)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_client_certificate_that_the_broker_does_not_trust_is_one_clear_error(
    version: str, connect: Connect, tls_broker: TlsBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # with 1.3 the refusal comes when the client takes the handshake for done
    make = ssl.create_default_context

    def make_older(**options: Any) -> ssl.SSLContext:
        context = make(**options)
        context.maximum_version = ssl.TLSVersion[version]
        return context

    monkeypatch.setattr(ssl, "create_default_context", make_older)
    service = connect(**tls_broker.certificates.strange_client)
    with pytest.raises(AuthenticationError, match=r"tls\.cert_file"):
        service.send_message({"a": 1}, queue="q")
    with pytest.raises(AuthenticationError, match=r"does not trust the client's certificate"):
        service.request({"a": 1}, "q", timeout=120)


def test_plain_text_to_a_port_for_tls_and_the_other_way_round_are_said_to_be_no_amqp(
    connect: Connect, tls_broker: TlsBroker
) -> None:
    plain = connect(enabled=False)
    with pytest.raises(MQError, match=r"does not speak AMQP|no broker answers"):
        plain.send_message({"a": 1}, queue="q")
    encrypted = connect(port=tls_broker.node.port)
    with pytest.raises(MQError, match=r"does not speak AMQP|no broker answers"):
        encrypted.send_message({"a": 1}, queue="q")
