"""A service that holds messages and forks: to be killed while its child lives on.

usage: python -m tests.faults.forking_worker JSON

The JSON names ``config``, ``service``, ``vhost``, ``queue``, ``held`` (how many messages it waits
for), ``coroutines`` and ``registration``. The child's process id is printed when the parent has
all of them and has seen, after the fork, that its connections still work.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from neon_mq_connector import MQConnector


class Holder(MQConnector):
    """Acknowledge nothing."""

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__(order["config"], order["service"])
        self.vhost = order["vhost"]
        self._left = order["held"]
        self.holds_all = threading.Event()
        self.heard = threading.Event()
        callback = self.hold_as_coroutine if order["coroutines"] else self.hold
        self.register_consumer(
            "it",
            self.vhost,
            order["queue"],
            callback,
            auto_ack=False,
            durable=True,
            **order["registration"],
        )
        self.register_consumer("echo", self.vhost, "echo", lambda *_: self.heard.set())

    def hold(self, *_: Any) -> None:
        self._left -= 1
        if not self._left:
            self.holds_all.set()

    async def hold_as_coroutine(
        self, channel: Any, method: Any, properties: Any, body: Any
    ) -> None:
        self.hold()

    def speak(self) -> None:
        """Send a message to itself and wait for it."""
        self.heard.clear()
        sending: Any = self
        sending.send_message({"message_id": "1"}, queue="echo")
        assert self.heard.wait(120)


if __name__ == "__main__":
    holder = Holder(json.loads(sys.argv[1]))
    holder.run(run_sync=False, run_observer=False)
    assert holder.holds_all.wait(120)
    holder.speak()
    child = os.fork()
    if child == 0:
        sys.stdin.read()
        os._exit(0)
    holder.speak()
    assert holder.check_health()
    assert all(each.consumer.recoveries == 0 for each in holder.consumers.values())
    print(child, flush=True)
    threading.Event().wait()
