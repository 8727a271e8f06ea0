"""Processes are killed, forked, and interrupted by signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.faults.conftest import SERVICE, Start, note, run, send
from tests.faults.peer import Peer
from tests.faults.signal_worker import ECHO, FORKS, SENT
from tests.support.accounting import Ledger
from tests.support.engines import ENGINES
from tests.support.polling import eventually

QUEUE = "processes"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def order(config: dict[str, Any], vhost: str) -> dict[str, Any]:
    """What a worker is told."""
    return {"config": config, "service": SERVICE, "vhost": vhost, "queue": QUEUE}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_sends_on_its_own_and_its_parent_is_not_disturbed(
    start: Start, service: MQConnector, ledger: Ledger, peer: Peer
) -> None:
    start(QUEUE, note(ledger))
    send(service, ledger, "parent-before", QUEUE)
    for number in range(3):
        message_id = f"child{number}"
        ledger.sending(message_id)
        child = os.fork()
        if child == 0:
            signal.alarm(120)  # should it hang
            try:
                service.send_message({"message_id": message_id}, queue=QUEUE)
                if number == 2:
                    service.stop()  # which is not its parent's end
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0) == (child, 0)
        ledger.confirmed(message_id)

    send(service, ledger, "parent-after", QUEUE)
    peer.wait_until_handled(sorted(ledger.confirmed_ids))
    peer.wait_until_handled(peer.send(QUEUE, 20))
    peer.wait_until_settled(QUEUE)
    eventually(service.check_health)
    assert service.consumers["it"].consumer.recoveries == 0
    service.stop()
    account = peer.close_the_books(QUEUE)
    assert account.repeated == 0


@pytest.mark.parametrize("kind", ["threaded", "aio"])
def test_what_a_killed_parent_held_goes_back_while_its_forked_child_lives(
    order: dict[str, Any], peer: Peer, kind: str
) -> None:
    peer.declare(QUEUE)
    peer.send(QUEUE, 3)
    order |= {"held": 3, "coroutines": kind == "aio", "registration": ENGINES[kind]}
    with killed_beside_its_child(order) as child:
        eventually(lambda: peer.counts(QUEUE) == (3, 0), what="its messages are back")
        eventually(lambda: not peer.connection_names(), what="its connections are gone")
        os.kill(child, 0)  # it is there
    peer.take_all(QUEUE)
    peer.take_all("echo")


@contextlib.contextmanager
def killed_beside_its_child(order: dict[str, Any]) -> Iterator[int]:
    """Run a service that forks, kill it, and end the child afterwards."""
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.forking_worker", json.dumps(order)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin, parent.stdout:  # closing its input ends the child
        try:
            child = int(parent.stdout.readline())
        finally:
            parent.kill()
            parent.wait(120)
        yield child


# -- signals ---------------------------------------------------------------------------------------


MakeConfig = Callable[..., dict[str, Any]]


@pytest.fixture
def echo(make_mq_config: MakeConfig, vhost: str) -> Iterator[None]:
    """The service that is asked, in another process than the handlers."""
    connector = MQConnector(make_mq_config(SERVICE), SERVICE)
    connector.vhost = vhost

    def answer(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        connector.send_message(
            {"n": request["n"], "message_id": request["message_id"]}, queue=request["routing_key"]
        )

    connector.register_consumer("echo", vhost, ECHO, answer, concurrency=4)
    run(connector)
    yield
    connector.stop()


@pytest.mark.usefixtures("echo")
def test_a_handler_stops_what_it_has_interrupted(
    make_mq_config: MakeConfig, vhost: str, peer: Peer, tmp_path: Path
) -> None:
    config = make_mq_config(SERVICE, publish_timeout=120, stop_timeout=3.0)
    file = tmp_path / "mq_config.json"
    file.write_text(json.dumps({"MQ": config}))
    order = {"config": config, "config_file": str(file), "service": SERVICE, "vhost": vhost}
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.signal_worker", json.dumps(order)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["failed"] == []
    assert report["codes"] == [0] * FORKS, done.stderr[-6000:]
    assert {"acks", "deeds", "handlers"} <= set(report["done"])
    assert report["confirmed"]
    missing = set(report["confirmed"]) - set(peer.ids_in(SENT))
    assert not missing
