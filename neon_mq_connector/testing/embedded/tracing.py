"""The trace of a virtual host: a copy of each published message, as RabbitMQ's firehose has it."""

from __future__ import annotations

from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.names import TRACE_EXCHANGE
from neon_mq_connector.testing.embedded.properties import Properties
from neon_mq_connector.testing.embedded.queue import Queue
from neon_mq_connector.testing.embedded.tables import Field
from neon_mq_connector.testing.embedded.users import User
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost

_NO_PROPERTIES = Properties(b"\0\0")


def trace_published(vhost: VirtualHost, user: User, message: Message, queues: list[Queue]) -> None:
    """Publish what is known of a message that was published to the exchange for traces.

    Of the default exchange RabbitMQ names the queues that the message was for, even missing ones.
    """
    names = [queue.name for queue in queues] if message.exchange else message.routing_keys
    headers = {
        "exchange_name": _text(message.exchange),
        "routed_queues": Field("array", [_text(name) for name in names]),
        "routing_keys": Field("array", [_text(key) for key in message.routing_keys]),
        "user": _text(user.name),
        "vhost": _text(vhost.name),
    }
    header = _NO_PROPERTIES.with_headers(headers).encode()
    trace = Message(TRACE_EXCHANGE, f"publish.{message.exchange}", header, message.body)
    vhost.publish(trace, vhost.router.route(vhost.exchange(TRACE_EXCHANGE), trace))


def _text(value: str) -> Field:
    return Field("longstr", value)
