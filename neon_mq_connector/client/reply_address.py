"""Where the answers to a client's requests are to go, which depends on what the broker permits."""

from __future__ import annotations

from neon_mq_connector.control.control import Control
from neon_mq_connector.deadline import time_left
from neon_mq_connector.envelope import DIRECT_REPLY_TO, build_properties, new_id
from neon_mq_connector.errors import RequestLostError
from neon_mq_connector.link import LinkChannel
from neon_mq_connector.topology import (
    ACCESS_REFUSED,
    INTERNAL_ERROR,
    NOT_IMPLEMENTED,
    BrokerFacts,
    DeclareQueue,
    DeleteQueue,
    Queue,
    QueueStatus,
    Refusal,
    Steps,
)


def declare_reply_queue(control: Control, name: str, deadline: float) -> str:
    """Declare a plain queue, the only kind that old services can declare too; or nothing.

    Args:
        control: where it is declared.
        name: its name.
        deadline: until when to wait for the broker, on the monotonic clock, in seconds.

    Returns:
        The name; empty where such a queue is not permitted. Where the user may declare no queue it
        is `DIRECT_REPLY_TO` itself: those who know direct reply-to can answer still.
    """

    def steps(facts: BrokerFacts) -> Steps:
        try:
            if facts.refuses_transient_queues:
                # whether a queue may be declared by which the direct name is learned
                own: QueueStatus = yield DeclareQueue(Queue("", exclusive=True))
                yield DeleteQueue(own.name)
                return QueueStatus("")
            status: QueueStatus = yield DeclareQueue(Queue(name))
        except Refusal as refusal:
            if refusal.code == ACCESS_REFUSED:
                return QueueStatus(DIRECT_REPLY_TO)
            if refusal.code not in (INTERNAL_ERROR, NOT_IMPLEMENTED):
                raise
            facts.refuses_transient_queues = True
            return (yield from steps(facts))
        return status

    status = control.perform(f"declaring reply queue {name!r}", steps, timeout=time_left(deadline))
    return status.name


def learn_direct_name(channel: LinkChannel, deadline: float) -> str:
    """Find out the name under which a channel's direct reply-to can be published to.

    The broker puts it into ``reply_to`` of each message on its way; so one is sent to a queue of
    the connection's own and read back.

    Args:
        channel: consumes from direct reply-to.
        deadline: until when to wait for the broker, on the monotonic clock, in seconds.

    Raises:
        RequestLostError: the broker did not tell.
    """
    queue = channel.declare_queue(Queue("", exclusive=True), timeout=time_left(deadline)).name
    properties = build_properties(
        message_id=new_id(), content_type="text/plain", reply_to=DIRECT_REPLY_TO
    )
    channel.publish("", queue, b"", properties)
    _method, received, _body = channel.get(queue, True, timeout=time_left(deadline))
    channel.delete_queue(queue, timeout=time_left(deadline))
    if received is None or not received.reply_to:
        raise RequestLostError("the broker did not tell the direct reply-to name of this client")
    return str(received.reply_to)
