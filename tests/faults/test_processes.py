"""Processes are terminated, killed and forked; scripts end without saying good-bye."""

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
from tests.faults.signal_worker import ECHO, SENT
from tests.support.accounting import Ledger
from tests.support.engines import ENGINES
from tests.support.polling import eventually

DEFAULT_PREFETCH = 50
QUEUE = "processes"
ROOT = Path(__file__).parents[2]


class Process:
    """A worker that runs, and what it has written down."""

    def __init__(self, order: dict[str, Any], journal: Path) -> None:
        arguments = ["-m", "tests.faults.worker", json.dumps({**order, "journal": str(journal)})]
        self._journal = journal
        self.popen = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self.popen.stdout is not None
        assert self.popen.stdout.readline() == "ready\n"

    def handled(self) -> list[str]:
        return self._journal.read_text().split() if self._journal.exists() else []

    def end(self, number: int) -> int:
        """Send a signal, and return the exit code."""
        eventually(lambda: len(self.handled()) > 20, what="it works")
        with self.popen:
            self.popen.send_signal(number)
            return self.popen.wait(120)


@pytest.fixture
def order(config: dict[str, Any], vhost: str) -> dict[str, Any]:
    """What a worker is told."""
    return {"config": config, "service": SERVICE, "vhost": vhost, "queue": QUEUE}


def test_a_worker_that_is_killed_or_terminated_leaves_its_messages_to_others(
    order: dict[str, Any], tmp_path: Path, ledger: Ledger, peer: Peer
) -> None:
    peer.declare(QUEUE)
    order |= {"callback_seconds": 0.02, "registration": {"concurrency": 2}}
    workers = [Process(order, tmp_path / name) for name in ("killed", "terminated")]
    try:
        peer.send(QUEUE, 1_000)
        assert workers[0].end(signal.SIGKILL) == -signal.SIGKILL
        assert workers[1].end(signal.SIGTERM) == 0
    finally:
        for worker in workers:
            worker.popen.kill()
    for message_id in [each for worker in workers for each in worker.handled()]:
        ledger.handled(message_id)
    account = peer.close_the_books(QUEUE)
    assert set(account.handled) | set(account.ready) == account.sent
    # what was handled within the 10 ms for which an ack may be held, all of it unacked till then
    assert account.repeated + len(set(account.handled) & set(account.ready)) < DEFAULT_PREFETCH


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
            try:
                service.send_message({"message_id": message_id}, queue=QUEUE)
                if number == 2:
                    service.stop()  # which is not its parent's end
                os._exit(0)
            finally:
                os._exit(1)
        assert _exit_code(child) == 0
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


def _exit_code(child: int) -> int:
    """Wait for a child, for a while, and return how it ended."""
    ended: list[int] = []

    def has_ended() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        ended.append(os.waitstatus_to_exitcode(status))
        return pid == child

    try:
        eventually(has_ended, what="the child ends")
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return ended[-1]


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
@pytest.mark.parametrize("seconds, forks", [(2.5, 0), (1.0, 10)], ids=["alone", "and forks"])
def test_a_handler_stops_what_it_has_interrupted(
    make_mq_config: MakeConfig, vhost: str, peer: Peer, tmp_path: Path, seconds: float, forks: int
) -> None:
    config = make_mq_config(SERVICE, publish_timeout=120, stop_timeout=3.0)
    file = tmp_path / "mq_config.json"
    file.write_text(json.dumps({"MQ": config}))
    order = {
        "config": config,
        "config_file": str(file),
        "service": SERVICE,
        "vhost": vhost,
        "seconds": seconds,
        "forks": forks,
    }
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
    assert report["codes"] == [0] * forks, done.stderr[-6000:]
    assert {"acks", "deeds", "handlers"} <= set(report["done"])
    assert report["confirmed"]
    missing = set(report["confirmed"]) - set(peer.ids_in(SENT))
    assert not missing
