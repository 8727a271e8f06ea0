"""A service in a process of its own, to be terminated, killed, and counted.

usage: python -m tests.faults.worker JSON

The JSON names ``config``, ``service``, ``vhost``, ``queue``, ``callback_seconds`` and ``journal``,
a file to which the id of each message that was handled is appended. ``ready`` is printed when it
consumes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from neon_mq_connector import MQConnector


class Worker(MQConnector):
    """Handle messages slowly and write each down."""

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__(order["config"], order["service"])
        self.vhost = order["vhost"]
        self._seconds = float(order["callback_seconds"])
        self._journal = os.open(order["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.register_consumer(
            "it",
            self.vhost,
            order["queue"],
            self.handle,
            ack="on_success",
            durable=True,
            **order.get("registration", {}),
        )

    def handle(self, channel: Any, method: Any, properties: Any, body: Any) -> None:
        time.sleep(self._seconds)  # the work
        os.write(self._journal, f"{properties.message_id}\n".encode())

    def post_run(self, **kwargs: Any) -> None:
        print("ready", flush=True)


if __name__ == "__main__":
    Worker(json.loads(sys.argv[1])).run_forever(run_sync=False, run_observer=False)
