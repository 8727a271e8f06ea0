"""A service whose main thread is interrupted by exceptions while it sends, over and over.

usage: python -m tests.faults.interrupt_worker JSON

The JSON names ``config``, ``service``, ``vhost``, ``queue`` and ``interrupts``. At the end the
service sends once more, in peace; what it has counted is printed as JSON.
"""

from __future__ import annotations

import faulthandler
import json
import random
import signal
import sys
import threading
from typing import Any

from neon_mq_connector import MQConnector
from tests.support.polling import eventually


class SoftTimeLimit(BaseException):
    """What ends a task that takes too long."""


def interrupt(_number: int, _frame: object) -> None:
    raise SoftTimeLimit


def main(order: dict[str, Any]) -> None:
    faulthandler.dump_traceback_later(200, exit=True)
    service = MQConnector(order["config"], order["service"])
    service.vhost = order["vhost"]
    queue = order["queue"]
    others_failed: list[str] = []
    over = threading.Event()

    def send_as_another() -> None:
        while not over.is_set():
            try:
                service.send_message({"a": 1}, queue=queue, expiration=None)
            except Exception as error:
                others_failed.append(str(error))

    service.send_message({"a": 1}, queue=queue, expiration=None)
    publisher = service._mq_core.hosts.connections(service.vhost).publisher
    another = threading.Thread(target=send_as_another)
    another.start()
    signal.signal(signal.SIGALRM, interrupt)
    choose = random.Random(1)
    interrupts = 0
    while interrupts < order["interrupts"]:
        try:
            # again after a second: the callback of a weak reference swallows what it raises
            signal.setitimer(signal.ITIMER_REAL, choose.uniform(0.0001, 0.004), 1.0)
            while True:
                if choose.random() < 0.5:
                    service.send_message({"a": 1}, queue=queue, expiration=None)
                else:
                    service.submit_message({"a": 1}, queue=queue, expiration=None)
        except SoftTimeLimit:
            interrupts += 1
        except Exception:  # what an interrupt has cost the connection
            signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    over.set()
    another.join(60)
    eventually(lambda: publisher.unconfirmed == 0, timeout=30, what="all is counted off")
    last = service.send_message({"a": 1}, queue=queue, expiration=None)
    report = {
        "last": last,
        "bytes": publisher._limit._bytes,
        "late": [error for error in others_failed if "in time" in error or "within" in error],
    }
    service.stop()
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
