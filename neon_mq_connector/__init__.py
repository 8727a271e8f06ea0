"""Talk to other services over RabbitMQ: consume queues, send messages, ask and answer.

What is here is imported when it is first used: pytest imports this package in every project where
it is installed, for its plugin.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from neon_mq_connector.version import __version__

if TYPE_CHECKING:
    from neon_mq_connector.aio.connector import AsyncMQConnector
    from neon_mq_connector.backoff import ExponentialBackoff
    from neon_mq_connector.connector import MQConnector
    from neon_mq_connector.consumers.delivery_channel import MessageFields
    from neon_mq_connector.consumers.registration import AckMode, Retry
    from neon_mq_connector.decoded_callback import create_mq_callback
    from neon_mq_connector.errors import InvalidRequestError, RemoteError, RequestRefusedError
    from neon_mq_connector.handlers.context import Context
    from neon_mq_connector.handlers.declared import consumer, subscriber
    from neon_mq_connector.utils.client_utils import send_mq_request, send_mq_request_async

__all__ = [
    "AckMode",
    "AsyncMQConnector",
    "Context",
    "ExponentialBackoff",
    "InvalidRequestError",
    "MQConnector",
    "MessageFields",
    "RemoteError",
    "RequestRefusedError",
    "Retry",
    "__version__",
    "consumer",
    "create_mq_callback",
    "send_mq_request",
    "send_mq_request_async",
    "subscriber",
]

_WHERE = {
    "AckMode": "consumers.registration",
    "AsyncMQConnector": "aio.connector",
    "Context": "handlers.context",
    "ExponentialBackoff": "backoff",
    "InvalidRequestError": "errors",
    "MQConnector": "connector",
    "MessageFields": "consumers.delivery_channel",
    "RemoteError": "errors",
    "RequestRefusedError": "errors",
    "Retry": "consumers.registration",
    "consumer": "handlers.declared",
    "create_mq_callback": "decoded_callback",
    "send_mq_request": "utils.client_utils",
    "send_mq_request_async": "utils.client_utils",
    "subscriber": "handlers.declared",
}


def __getattr__(name: str) -> Any:
    """Import a name, or a module of this package, when it is first used.

    Raises:
        AttributeError: there is nothing of that name.
    """
    if name in _WHERE:
        value = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
        return value
    # services use `neon_mq_connector.config` and others without an import of their own
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what is imported later, too."""
    return sorted({*globals(), *_WHERE})
