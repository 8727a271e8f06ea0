"""A service that is interrupted by signal handlers, the last of which stops it.

usage: python -m tests.faults.signal_worker JSON

The JSON names ``config``, ``config_file``, ``service``, ``vhost``, ``seconds`` and ``forks``. Each
thread does the same things over and over, while handlers run on the main one. What was done is
printed as JSON at the end.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from neon_mq_connector import MQConnector
from neon_mq_connector.errors import MQError
from neon_mq_connector.service.shared_clients import close_shared_clients
from neon_mq_connector.utils.client_utils import send_mq_request

ECHO, HELD, SENT = "signals_echo", "signals_held", "signals_sent"
REQUEST_TIMEOUT = 3.0
FORK_TIMEOUT = 8.0
_PERIOD = 0.003


class Worker:
    """The service, and what was done with it."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.connector = MQConnector(order["config"], order["service"])
        self.connector.vhost = self.vhost = order["vhost"]
        self.confirmed: list[str] = []
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.over = False
        self.last_order: Callable[[], object] | None = None
        self._held: deque[tuple[Any, int]] = deque()
        self._numbers = itertools.count()
        self.connector.register_consumer(
            "held", self.vhost, HELD, self._hold, lambda *_: None, auto_ack=False
        )

    def _hold(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._held.append((channel, method.delivery_tag))

    # -- what every thread does -------------------------------------------------------------------

    def deeds(self, where: str) -> list[tuple[str, Callable[[], object]]]:
        return [
            (f"{where} sends", self._send),
            (f"{where} feeds", self._feed),
            (f"{where} asks", self._ask),
            (f"{where} asks as anybody", self._ask_as_anybody),
            (f"{where} acknowledges", self._acknowledge),
        ]

    def do(self, name: str, deed: Callable[[], object]) -> None:
        try:
            deed()
        except (MQError, TimeoutError) as error:
            if not self.over:
                self.failed[f"{name}: {type(error).__name__}: {error}"] += 1
        else:
            self.done[name] += 1

    def _send(self) -> None:
        message_id = f"{os.getpid()}-{next(self._numbers)}"
        self.connector.send_message({"message_id": message_id}, queue=SENT, expiration=100_000)
        self.confirmed.append(message_id)

    def _feed(self) -> None:
        self.connector.send_message({"a": 1}, queue=HELD, expiration=100_000)

    def _ask(self) -> None:
        number = next(self._numbers)
        answer = self.connector.request({"n": number}, ECHO, timeout=REQUEST_TIMEOUT)
        assert answer["n"] == number

    def _ask_as_anybody(self, timeout: float = REQUEST_TIMEOUT) -> None:
        number = next(self._numbers)
        answer = send_mq_request(self.vhost, {"n": number}, ECHO, timeout=timeout)
        if not answer:
            raise TimeoutError("no answer")
        assert answer["n"] == number

    def _acknowledge(self) -> None:
        with contextlib.suppress(IndexError):
            channel, tag = self._held.popleft()
            channel.basic_ack(tag)

    # -- the handlers and threads --------------------------------------------------------------

    def handle(self, _number: int, _frame: object) -> None:
        order, self.last_order = self.last_order, None
        if order is not None:
            order()
        else:
            self.done["a handler runs"] += 1

    def work(self, where: str) -> None:
        deeds = self.deeds(where)
        choose = random.Random(threading.get_ident())
        while not self.over:
            self.do(*choose.choice(deeds))

    def stop(self) -> None:
        self.over = True
        self.do("a handler stops", self.connector.stop)

    def fork(self, count: int) -> list[int]:
        return [pid for _ in range(count) if (pid := self._fork())]

    def _fork(self) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            for _ in range(3):
                self._ask_as_anybody(FORK_TIMEOUT)
            close_shared_clients()
            code = 0
        finally:
            os._exit(code)

    def wait_for(self, children: list[int]) -> int:
        """Wait for children, and give the number of those that failed or hang."""
        deadline = time.monotonic() + 3 * FORK_TIMEOUT
        bad = 0
        for pid in children:
            while True:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended or time.monotonic() > deadline:
                    break
                self.do(*random.choice(self.deeds("main")))
            if not ended:
                os.kill(pid, signal.SIGABRT)  # shows where it hangs
                os.waitpid(pid, 0)
            bad += not ended or status != 0
        return bad


def main(order: dict[str, Any]) -> None:
    faulthandler.enable()
    faulthandler.dump_traceback_later(order["seconds"] + 120.0, exit=True)
    os.environ["NEON_MQ_CONFIG_PATH"] = order["config_file"]
    worker = Worker(order)
    worker.connector.run(run_sync=False, run_observer=False, mq_timeout=20)
    signal.signal(signal.SIGALRM, worker.handle)
    signal.signal(signal.SIGUSR1, worker.handle)
    signal.setitimer(signal.ITIMER_REAL, _PERIOD, _PERIOD)
    threads = [threading.Thread(target=worker.work, args=("a thread",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + order["seconds"]
    deeds = worker.deeds("main")
    count = 0
    while time.monotonic() < end:
        worker.do(*random.choice(deeds))
        count += 1
        if count % 20 == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
    bad_children = worker.wait_for(worker.fork(order["forks"]))
    worker.last_order = worker.stop
    while not worker.over:
        worker.do(*random.choice(deeds))
    for thread in threads:
        thread.join()
    signal.setitimer(signal.ITIMER_REAL, 0)
    report = {
        "confirmed": worker.confirmed,
        "done": worker.done,
        "failed": worker.failed,
        "bad_children": bad_children,
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
