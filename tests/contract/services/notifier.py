"""A service that answers through `self.send_message`, from worker threads of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.utils.network_utils import b64_to_dict


class Notifier(MQConnector):
    """Take a job, answer at once that it was taken, answer again from a worker when it is done."""

    def __init__(self, config: dict[str, Any], vhost: str) -> None:
        super().__init__(config, "notifier")
        self.vhost = vhost
        self.pool = ThreadPoolExecutor(4)
        self.register_consumer("jobs", self.vhost, "notifier_jobs", self.on_job, auto_ack=True)

    def on_job(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        self.answer(request, {"state": "taken", "is_final": False})
        self.pool.submit(self.work, request)

    def work(self, request: dict[str, Any]) -> None:
        self.answer(request, {"state": "done", "result": request["n"] ** 2, "is_final": True})

    def answer(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        self.send_message(
            request_data={
                **answer,
                "context": {"mq": {"message_id": request["message_id"]}},
            },
            vhost=self.vhost,
            queue=request["routing_key"],
        )

    def stop(self) -> None:
        self.pool.shutdown()
        super().stop()
