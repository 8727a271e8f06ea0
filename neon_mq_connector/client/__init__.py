"""Asking services: requests from any thread, each with its own answer.

`RequestClient` is what others use. A `question` is what is asked. It leaves as a `request`, for
whose answers a thread waits (`waiting_request`) or a future (`future_request`), on the
`reply_channel`, where the answers come in too. An answer in parts comes into a `parts_queue`, from
which `reply_stream` reads. What all requests share is in `shared`. The asyncio face,
`aio.requests`, stands on the same.
"""

from __future__ import annotations

from neon_mq_connector.client.reply_stream import ReplyStream
from neon_mq_connector.client.request import answer_id, is_final
from neon_mq_connector.client.request_client import RequestClient

__all__ = ["ReplyStream", "RequestClient", "answer_id", "is_final"]
