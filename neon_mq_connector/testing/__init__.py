"""Help for testing services that use this library: brokers of one's own, and a broken network.

The fixtures of the pytest plugin are in `neon_mq_connector.testing.pytest_plugin`. What is here is
imported when it is first used: the plugin is loaded by every run of pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neon_mq_connector.operations.management import ManagementError
    from neon_mq_connector.testing.broker import PrivateBroker
    from neon_mq_connector.testing.embedded import EmbeddedBroker
    from neon_mq_connector.testing.errors import (
        BrokerProgramsNotFoundError,
        PrivateBrokerError,
    )
    from neon_mq_connector.testing.management import ManagementClient
    from neon_mq_connector.testing.proxy import FaultProxy

__all__ = [
    "BrokerProgramsNotFoundError",
    "EmbeddedBroker",
    "FaultProxy",
    "ManagementClient",
    "ManagementError",
    "PrivateBroker",
    "PrivateBrokerError",
]

_WHERE = {
    "BrokerProgramsNotFoundError": "errors",
    "EmbeddedBroker": "embedded",
    "FaultProxy": "proxy",
    "ManagementClient": "management",
    "ManagementError": "management",
    "PrivateBroker": "broker",
    "PrivateBrokerError": "errors",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used.

    Raises:
        AttributeError: there is nothing of that name.
    """
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    return value
