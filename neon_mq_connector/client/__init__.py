"""The request client: requests from any thread, each with its own answer.

`RequestClient` is the interface. A `Request` is sent on a `ReplyChannel`, where its answers come in
too; one that no queue takes is returned there, its queue is declared, and it is sent again. What it
receives goes to a thread or a coroutine that waits, or to a future (`answers`). An answer in parts
comes into a queue of its own (`reply_stream`).
"""

from __future__ import annotations

from neon_mq_connector.client.reply_stream import ReplyStream
from neon_mq_connector.client.request import RequestSpec, answer_id, is_final
from neon_mq_connector.client.request_client import RequestClient

__all__ = ["ReplyStream", "RequestClient", "RequestSpec", "answer_id", "is_final"]
