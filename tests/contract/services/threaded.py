"""Services that are a connector and a thread at once, initialised in either order."""

from __future__ import annotations

import threading
from queue import Queue
from typing import Any

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64


class ConnectorFirst(MQConnector, threading.Thread):
    """Collect from the broker in one thread, work in its own."""

    def __init__(self, config: dict[str, Any], vhost: str) -> None:
        MQConnector.__init__(self, config, "threaded_service")
        threading.Thread.__init__(self, daemon=True)
        self._prepare(vhost)

    def _prepare(self, vhost: str) -> None:
        self.name = "threaded-service"
        self.vhost = vhost
        self.jobs: Queue[dict[str, Any] | None] = Queue()
        self.register_consumer("jobs", self.vhost, "jobs", self.on_job, self.default_error_handler)

    def on_job(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self.jobs.put(b64_to_dict(body))

    def run(self, *args: Any, **kwargs: Any) -> None:
        MQConnector.run(self, run_sync=False)
        connection = self.create_mq_connection(self.vhost)
        channel = connection.channel()
        while (job := self.jobs.get()) is not None:
            result = {"sum": sum(job["numbers"]), "worker": threading.current_thread().name}
            channel.basic_publish("", job["routing_key"], dict_to_b64(result))
        connection.close()

    def stop(self) -> None:
        MQConnector.stop(self)
        self.jobs.put(None)
        if self.ident is not None:
            self.join(30.0)


class ThreadFirst(ConnectorFirst):
    """The same, its halves initialised the other way round."""

    def __init__(self, config: dict[str, Any], vhost: str) -> None:
        threading.Thread.__init__(self, daemon=True)
        MQConnector.__init__(self, config, "threaded_service")
        self._prepare(vhost)
