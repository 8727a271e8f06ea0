"""A service that answers each request with its own text.

It needs a broker, and to know where that is. In one terminal:

    neon-mq broker --write-config mq.json

In a second one this service, in a third one a client:

    NEON_MQ_CONFIG_PATH=mq.json python examples/echo_service.py
    NEON_MQ_CONFIG_PATH=mq.json python examples/ask.py hello
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from neon_mq_connector import MQConnector, consumer


class Text(BaseModel):
    """What a request and its answer have."""

    text: str


class EchoService(MQConnector):
    """Consume the queue `echo_input` and answer every request."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config, "echo_service")

    @consumer("echo_input")
    def echo(self, request: Text) -> Text:
        """Answer one request: what is returned is sent to its sender."""
        return Text(text=request.text)

    def post_run(self, **kwargs: Any) -> None:
        """Say that it consumes."""
        print("answering at queue echo_input; Ctrl-C ends it", flush=True)


if __name__ == "__main__":
    EchoService().run_forever(mq_timeout=10)
