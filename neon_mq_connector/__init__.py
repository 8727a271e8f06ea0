"""Talk to other services over RabbitMQ: consume queues, send messages, ask and answer.

What is here is imported when it is first used: pytest imports this package in every project where
it is installed, for its plugin.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from neon_mq_connector.version import __version__ as __version__

if TYPE_CHECKING:
    from neon_mq_connector.aio.connector import AsyncMQConnector as AsyncMQConnector
    from neon_mq_connector.backoff import ExponentialBackoff as ExponentialBackoff
    from neon_mq_connector.connector import MQConnector as MQConnector
    from neon_mq_connector.consumers.delivery_channel import MessageFields as MessageFields
    from neon_mq_connector.consumers.registration import AckMode as AckMode
    from neon_mq_connector.consumers.registration import Retry as Retry
    from neon_mq_connector.decoded_callback import create_mq_callback as create_mq_callback
    from neon_mq_connector.errors import InvalidRequestError as InvalidRequestError
    from neon_mq_connector.errors import RemoteError as RemoteError
    from neon_mq_connector.errors import RequestRefusedError as RequestRefusedError
    from neon_mq_connector.handlers.context import Context as Context
    from neon_mq_connector.handlers.declared import consumer as consumer
    from neon_mq_connector.handlers.declared import subscriber as subscriber
    from neon_mq_connector.utils.client_utils import send_mq_request as send_mq_request
    from neon_mq_connector.utils.client_utils import send_mq_request_async as send_mq_request_async

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

__all__ = ["__version__", *_WHERE]


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
