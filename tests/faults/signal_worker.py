"""A service that a signal handler stops while its threads send, ask and acknowledge.

usage: python -m tests.faults.signal_worker JSON

The JSON names ``config``, ``config_file``, ``service`` and ``vhost``. What was done is printed as
JSON at the end.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from typing import Any

from neon_mq_connector import MQConnector
from neon_mq_connector.errors import MQError
from neon_mq_connector.service.shared_clients import close_shared_clients
from neon_mq_connector.utils.client_utils import send_mq_request

ECHO, HELD, SENT = "signals_echo", "signals_held", "signals_sent"
FORKS = 10
#: How long it works after them, in seconds.
_SECONDS = 2.0
_TIMEOUT = 120.0
_PERIOD = 0.003


class Worker(MQConnector):
    """Do the same things over and over on several threads, while handlers run on the main one."""

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__(order["config"], order["service"])
        self.vhost = order["vhost"]
        self.confirmed: list[str] = []
        self.failed: list[str] = []
        self.done: Counter[str] = Counter()
        self.over = self.may_stop = False
        self._numbers = itertools.count()
        self.register_consumer("held", self.vhost, HELD, self._hold, auto_ack=False)

    def _hold(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.done["acks"] += 1
        channel.basic_ack(method.delivery_tag)

    def work(self) -> None:
        while not self.over:
            number = next(self._numbers)
            try:
                self._act(number)
            except (MQError, TimeoutError) as error:
                if not self.over:
                    self.failed.append(f"{number % 4}: {error!r}")

    def _act(self, number: int) -> None:
        message_id = f"{os.getpid()}-{number}"
        if number % 4 == 0:
            self.send_message({"message_id": message_id}, queue=SENT, expiration=100_000)
            self.confirmed.append(message_id)
        elif number % 4 == 1:
            self.send_message({"a": 1}, queue=HELD, expiration=100_000)
        elif number % 4 == 2:
            assert self.request({"n": number}, ECHO, timeout=_TIMEOUT)["n"] == number
        else:
            self.ask_as_anybody()
        self.done["deeds"] += 1

    def ask_as_anybody(self) -> None:
        if send_mq_request(self.vhost, {"n": 1}, ECHO, timeout=_TIMEOUT).get("n") != 1:
            raise TimeoutError("no answer")

    def handle(self, _number: int, _frame: object) -> None:
        self.done["handlers"] += 1
        if self.may_stop and not self.over:
            self.over = True
            self.stop()

    def fork(self) -> int:
        """Ask in a child, and return its process id."""
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            for _ in range(3):
                self.ask_as_anybody()
            close_shared_clients()
            code = 0
        finally:
            os._exit(code)


def main(order: dict[str, Any]) -> None:
    faulthandler.dump_traceback_later(240.0, exit=True)
    os.environ["NEON_MQ_CONFIG_PATH"] = order["config_file"]
    worker = Worker(order)
    worker.run(run_sync=False, run_observer=False, mq_timeout=120)
    signal.signal(signal.SIGALRM, worker.handle)
    signal.setitimer(signal.ITIMER_REAL, _PERIOD, _PERIOD)
    threads = [threading.Thread(target=worker.work) for _ in range(3)]
    for thread in threads:
        thread.start()
    children = [worker.fork() for _ in range(FORKS)]
    codes = [os.waitpid(child, 0)[1] for child in children]

    def let_it_stop() -> None:
        time.sleep(_SECONDS)
        worker.may_stop = True

    threading.Thread(target=let_it_stop).start()
    worker.work()
    for thread in threads:
        thread.join()
    signal.setitimer(signal.ITIMER_REAL, 0)
    shown = ("confirmed", "failed", "done")
    print(json.dumps({"codes": codes, **{name: getattr(worker, name) for name in shown}}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
