"""A worker for slow jobs: validated requests, answers by returning a dict."""

from __future__ import annotations

import threading
from typing import Any

from pydantic import BaseModel, Field

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.utils.rabbit_utils import create_mq_callback


class Prompt(BaseModel):
    query: str
    history: list[tuple[str, str]] = Field(default_factory=list)


class Answer(BaseModel):
    response: str


class LLMWorker(MQConnector):
    """Answer prompts, one at a time, each after a while."""

    def __init__(self, config: dict[str, Any], vhost: str, seconds: float) -> None:
        super().__init__(config, "llm_worker")
        self.vhost = vhost
        self.seconds = seconds
        self.interrupted = threading.Event()
        self.register_consumer(
            name="llm",
            vhost=self.vhost,
            queue="llm_input",
            callback=self.handle_request,
            on_error=self.default_error_handler,
        )

    @create_mq_callback(include_callback_props=("body",), request_model=Prompt)
    def handle_request(self, body: Prompt) -> dict[str, Any]:
        self.interrupted.wait(self.seconds)
        return Answer(response=self.think(body.query, body.history)).model_dump()

    @staticmethod
    def think(query: str, history: list[tuple[str, str]]) -> str:
        return f"{query} (after {len(history)})"
