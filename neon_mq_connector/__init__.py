"""Talk to other services over RabbitMQ: consume queues, send messages, ask and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.consumers.registration import AckMode, Retry
from neon_mq_connector.decoded_callback import create_mq_callback
from neon_mq_connector.version import __version__

if TYPE_CHECKING:
    from neon_mq_connector.aio.connector import AsyncMQConnector
    from neon_mq_connector.utils.client_utils import send_mq_request_async

__all__ = [
    "AckMode",
    "AsyncMQConnector",
    "ExponentialBackoff",
    "MQConnector",
    "Retry",
    "__version__",
    "create_mq_callback",
    "send_mq_request_async",
]

#: What is imported when it is first asked for, and where it is.
_LATER = {
    "AsyncMQConnector": "neon_mq_connector.aio.connector",
    "send_mq_request_async": "neon_mq_connector.utils.client_utils",
}


def __getattr__(name: str) -> Any:
    """Import what not everybody needs.

    Raises:
        AttributeError: there is nothing of that name.
    """
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    """List what is imported later, too."""
    return sorted({*globals(), *_LATER})
