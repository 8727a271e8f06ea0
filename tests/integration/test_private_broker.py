"""A private broker: what a test or a developer counts on."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pika
import psutil
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.testing import PrivateBroker, PrivateBrokerError, ports
from tests.support.polling import eventually

StartBroker = Callable[..., PrivateBroker]

pytestmark = [pytest.mark.needs_rabbitmq, pytest.mark.own_broker]

PERSISTENT = pika.BasicProperties(delivery_mode=2)


def put_message(broker: PrivateBroker, queue: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker.url("/"))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True)
        channel.basic_publish("", queue, b"kept", PERSISTENT)


def messages(broker: PrivateBroker, queue: str) -> int:
    with pika.BlockingConnection(pika.URLParameters(broker.url("/"))) as connection:
        count: int = connection.channel().queue_declare(queue, passive=True).method.message_count
        return count


def test_a_persistent_message_survives_a_kill_and_is_there_for_another_broker_on_the_same_folder(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = start_broker(directory=tmp_path / "node")
    password = broker.password
    put_message(broker, "kept")
    broker.kill()
    assert not broker.running
    broker.stop()
    assert broker.directory.exists()
    broker.close()
    second = start_broker(directory=tmp_path / "node")
    assert second.password == password
    assert messages(second, "kept") == 1


def test_a_node_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "from neon_mq_connector.testing import PrivateBroker\n"
        "broker = PrivateBroker()\n"
        "broker.start()\n"
        "print(broker.directory, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    directory = Path(done.stdout.strip())
    eventually(lambda: not processes_of(directory), what="the node has ended")
    eventually(lambda: not directory.exists(), what="its folder is gone")


def test_a_node_that_does_not_start_ends_in_an_error_that_has_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "sbin"
    programs.mkdir()
    for name in ("rabbitmq-server", "rabbitmqctl", "rabbitmq-env"):
        (programs / name).write_text("#!/bin/sh\necho 'error: no such setting'\nexit 1\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("RABBITMQ_HOME", str(tmp_path))
    broker = PrivateBroker()
    with pytest.raises(
        PrivateBrokerError, match=r"exit code 1 while starting(.|\n)*no such setting"
    ):
        broker.start()
    assert not broker.running
    broker.close()


def test_a_port_in_use_is_named(broker: PrivateBroker) -> None:
    with pytest.raises(PrivateBrokerError, match=f"port {broker.port} on 127.0.0.1 is in use"):
        PrivateBroker(port=broker.port).start()


def test_only_loopback_ports_are_opened(broker: PrivateBroker) -> None:
    addresses = {
        each.laddr.ip
        for each in psutil.Process(broker.pid).net_connections(kind="tcp")
        if each.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_rabbitmqctl_talks_to_this_node(broker: PrivateBroker, vhost: str) -> None:
    assert vhost in broker.rabbitmqctl("list_vhosts")
    with pytest.raises(PrivateBrokerError, match="no_such_command"):
        broker.rabbitmqctl("no_such_command")


def test_queues_and_consumers_are_listed(
    broker: PrivateBroker, vhost: str, channel: BlockingChannel
) -> None:
    channel.confirm_delivery()
    channel.queue_declare("work", durable=True)
    channel.basic_publish("", "work", b"1")
    (queue,) = broker.list_queues(vhost)
    assert (queue["name"], queue["messages"]) == ("work", 1)
    channel.basic_consume("work", lambda *_: None)
    (consumer,) = eventually(lambda: broker.list_consumers(vhost), what="the consumer is listed")
    assert consumer["queue"]["name"] == "work"
    (connection,) = eventually(lambda: broker.list_connections(vhost))
    broker.management.close_connection(connection["name"])
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
        channel.start_consuming()


def processes_of(directory: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(directory) in argument for argument in process.info["cmdline"] or ()):
            found.append(process.pid)
    return found


def listening_ports() -> set[int]:
    return {
        each.laddr[1]
        for each in psutil.net_connections(kind="tcp4")
        if each.status == psutil.CONN_LISTEN and each.laddr
    }


def test_a_port_that_is_taken_meanwhile_costs_a_second_try_and_closing_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choose = ports.free_ports
    broker = PrivateBroker()
    with socket.socket() as another:

        def choose_what_is_taken(count: int) -> list[int]:
            monkeypatch.setattr("neon_mq_connector.testing.broker.free_ports", choose)
            chosen = choose(count)
            another.bind(("127.0.0.1", chosen[-2]))  # where Erlang nodes would meet
            another.listen()
            return chosen

        monkeypatch.setattr("neon_mq_connector.testing.broker.free_ports", choose_what_is_taken)
        broker.start()
    directory, port = broker.directory, broker.port
    assert broker.list_queues("/") == []
    broker.close()
    broker.close()
    assert not directory.exists()
    eventually(lambda: not processes_of(directory), what="its processes have ended")
    assert port not in listening_ports()
