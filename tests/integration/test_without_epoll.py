"""A process without `select.epoll`, as under gevent or on macOS, consumes, publishes and asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import select
del select.epoll  # before anything else is imported

import json, sys
from neon_mq_connector import MQConnector

order = json.loads(sys.argv[1])
vhost = order["vhost"]

class Service(MQConnector):
    def answer(self, channel, method, properties, body):
        self.send_message({"message_id": properties.message_id, "text": "here"}, vhost, queue="out")

    async def answer_async(self, channel, method, properties, body):
        self.answer(channel, method, properties, body)

    def take(self, channel, method, properties, body):
        taken.set()

import threading
taken = threading.Event()
service = Service(order["config"], "test_service")
callback = service.answer_async if order["coroutines"] else service.answer
service.register_consumer("in", vhost, "in", callback, **order["engine"])
service.register_consumer("out", vhost, "out", service.take)
service.run(run_sync=False)
service.send_message({"message_id": "1"}, vhost, queue="in")
assert taken.wait(120)
assert service.check_health(), service.health()
service.stop()
print("ends")
"""


@pytest.mark.parametrize(
    "order",
    [
        {"engine": {"async_consumer": False}, "coroutines": False},
        {"engine": {"async_consumer": True}, "coroutines": False},
        {"engine": {}, "coroutines": True},
    ],
    ids=["threaded", "select", "aio"],
)
def test_it_works_without_epoll(order: dict[str, Any], vhost: str, mq_config: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps({**order, "vhost": vhost, "config": mq_config})],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
