"""How a request is answered: where the answer goes, in which format, and what it must carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from neon_mq_connector.codec import WireFormat
from neon_mq_connector.envelope import is_reply_name
from neon_mq_connector.publishing.confirm_channel import Message
from neon_mq_connector.sending.outgoing import prepare_encoded

#: How long an answer may wait in the reply queue, in milliseconds.
EXPIRATION = 1000


class Reply(NamedTuple):
    """How the answer to one request is sent.

    Attributes:
        queue: the reply queue, or the direct reply-to name of the requester.
        wire_format: the format in which the request came.
        correlation_id: what the answer must carry; None for its own message id.
    """

    queue: str
    wire_format: WireFormat
    correlation_id: str | None


def make_answer(data: Mapping[str, Any], reply: Reply, *, app_id: str) -> Message:
    """Encode an answer.

    Args:
        data: what it says.
        reply: how it is sent.
        app_id: the name of the service.

    Raises:
        EncodeError: the data has no representation in the format of the request.
    """
    outgoing = prepare_encoded(
        data,
        wire_format=reply.wire_format,
        expiration=EXPIRATION,
        app_id=app_id,
        correlation_id=reply.correlation_id,
    )
    # whoever had such a queue and has it no longer waits for nothing
    declares = not is_reply_name(reply.queue)
    return Message(
        "",
        reply.queue,
        outgoing.body,
        outgoing.properties,
        mandatory=declares,
        declare_missing=declares,
        repeatable=True,
    )
