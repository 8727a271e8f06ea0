"""Configuration: where it comes from, what is in it, and what a wrong value says.

`load_settings` finds a configuration and validates it; `load_neon_mq_config` gives the dict.
The order of the sources is described in `neon_mq_connector.config.sources`.

The settings are made with pydantic, whose import costs more than that of the rest of the library;
so it is put off until the first of the names that need it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neon_mq_connector.config.legacy import Configuration, load_neon_mq_config
from neon_mq_connector.config.sources import Source, find_source
from neon_mq_connector.config.values import Credentials, Endpoint, env_flag

if TYPE_CHECKING:
    from neon_mq_connector.config.settings import MQSettings, UserSettings, load_settings
    from neon_mq_connector.config.tls import TLSSettings, create_ssl_context


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from neon_mq_connector.config import settings, tls

    module = tls if hasattr(tls, name) else settings
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Configuration",
    "Credentials",
    "Endpoint",
    "MQSettings",
    "Source",
    "TLSSettings",
    "UserSettings",
    "create_ssl_context",
    "env_flag",
    "find_source",
    "load_neon_mq_config",
    "load_settings",
]
