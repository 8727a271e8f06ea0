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
from tests.faults.conftest import SERVICE, Start, note
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.engines import ENGINES
from tests.support.polling import eventually

DEFAULT_PREFETCH = 50
QUEUE = "processes"
ROOT = Path(__file__).parents[2]


class Process:
    """A worker that runs, and what it has written down."""

    def __init__(self, arguments: list[str], journal: Path) -> None:
        self.journal = journal
        self._popen = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )

    def wait_until_ready(self) -> None:
        assert self._popen.stdout is not None
        assert self._popen.stdout.readline() == "ready\n"

    def handled(self) -> list[str]:
        return self.journal.read_text().split() if self.journal.exists() else []

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for the end and return the exit code."""
        return self._popen.wait(timeout)

    def end(self) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait(30)
        assert self._popen.stdout is not None
        self._popen.stdout.close()


@pytest.fixture
def start_worker(
    config: dict[str, Any], vhost: str, tmp_path: Path
) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(callback_seconds: float, **registration: Any) -> Process:
        journal = tmp_path / f"worker-{len(started)}"
        order = {
            "config": config,
            "service": SERVICE,
            "vhost": vhost,
            "queue": QUEUE,
            "callback_seconds": callback_seconds,
            "journal": str(journal),
            "registration": registration,
        }
        process = Process(["-m", "tests.faults.worker", json.dumps(order)], journal)
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()


def _write_down(ledger: Ledger, *processes: Process) -> None:
    for process in processes:
        for message_id in process.handled():
            ledger.handled(message_id)


def test_a_service_under_load_that_is_terminated_ends_well_and_loses_nothing(
    start_worker: Callable[..., Process],
    engine: dict[str, Any],
    ledger: Ledger,
    peer: Peer,
) -> None:
    peer.declare(QUEUE)
    peer.send(QUEUE, 500)
    worker = start_worker(0.05, concurrency=4, **engine)
    worker.wait_until_ready()
    eventually(lambda: len(worker.handled()) > 10, what="it works")
    worker.signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    _write_down(ledger, worker)
    account = peer.close_the_books(QUEUE)
    assert account.repeated == 0
    assert len(account.handled) + len(account.ready) == 500, "handled, and given back as well"


def test_a_worker_that_is_killed_leaves_its_messages_to_the_others(
    start_worker: Callable[..., Process], engine: dict[str, Any], ledger: Ledger, peer: Peer
) -> None:
    peer.declare(QUEUE)
    workers = [start_worker(0.01, **engine) for _ in range(2)]
    for worker in workers:
        worker.wait_until_ready()
    peer.send(QUEUE, 300)
    victim = workers[0]
    eventually(lambda: len(victim.handled()) > 10, what="the victim works")
    victim.signal(signal.SIGKILL)
    assert victim.wait(30.0) == -signal.SIGKILL
    peer.wait_until_settled(QUEUE, timeout=30)
    workers[1].signal(signal.SIGTERM)
    assert workers[1].wait(30.0) == 0
    _write_down(ledger, *workers)
    account = peer.close_the_books(QUEUE)
    assert set(account.handled) == account.sent
    # what was handled within the 10 ms for which an ack may be held, all of it unacked till then
    assert account.repeated < DEFAULT_PREFETCH


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_sends_on_its_own_and_its_parent_is_not_disturbed(
    start: Start, service: MQConnector, ledger: Ledger, peer: Peer
) -> None:
    sending: Any = service
    start(QUEUE, note(ledger))
    ledger.sending("parent-before")
    sending.send_message({"message_id": "parent-before"}, queue=QUEUE, expiration=None)
    ledger.confirmed("parent-before")

    for number in range(3):
        message_id = f"child{number}"
        ledger.sending(message_id)
        child = os.fork()
        if child == 0:
            try:
                sending.send_message({"message_id": message_id}, queue=QUEUE, expiration=None)
                if number == 2:
                    service.stop()  # which is not its parent's end
                os._exit(0)
            finally:
                os._exit(1)
        assert _exit_code(child) == 0
        ledger.confirmed(message_id)

    ledger.sending("parent-after")
    sending.send_message({"message_id": "parent-after"}, queue=QUEUE, expiration=None)
    ledger.confirmed("parent-after")
    peer.wait_until_handled(sorted(ledger.confirmed_ids))
    peer.wait_until_handled(peer.send(QUEUE, 20))
    peer.wait_until_settled(QUEUE)
    assert service.check_health()
    assert service.consumers["it"].consumer.recoveries == 0
    service.stop()
    account = peer.close_the_books(QUEUE)
    assert account.repeated == 0


@pytest.mark.parametrize("kind", ["threaded", "aio"])
def test_what_a_killed_parent_held_goes_back_while_its_forked_child_lives(
    config: dict[str, Any], vhost: str, peer: Peer, kind: str
) -> None:
    peer.declare(QUEUE)
    peer.send(QUEUE, 3)
    order = {
        "config": {**config, "heartbeat": 60},
        "service": SERVICE,
        "vhost": vhost,
        "queue": QUEUE,
        "held": 3,
        "coroutines": kind == "aio",
        "registration": ENGINES[kind],
    }
    with killed_beside_its_child(order) as child:
        eventually(lambda: peer.counts(QUEUE) == (3, 0), timeout=30, what="its messages are back")
        eventually(lambda: not peer.connection_names(), timeout=30, what="its connections are gone")
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
            parent.wait(30)
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
