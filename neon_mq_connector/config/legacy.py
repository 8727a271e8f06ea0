"""Names that services have always imported from here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

from neon_mq_connector.config.sources import read_json, source_of
from neon_mq_connector.config.values import expand


def load_neon_mq_config() -> dict[str, Any]:
    """Read the configuration that a connector without one of its own would use.

    Returns:
        A new dict of the settings, without an outer ``MQ``, not validated, from the first source
        that exists (see `neon_mq_connector.config.sources`); empty when there is none.

    Raises:
        ConfigurationError: a source exists and cannot be read; the message names it.
    """
    return dict(source_of(None).section)


class _OnClassOrInstance:
    """A method that fills an object, or a new one when it is called on the class."""

    def __init__(self, function: Callable[..., Configuration]) -> None:
        self._function = function

    def __get__(self, instance: Any, owner: Any) -> Callable[[Any], Configuration]:
        if instance is None:
            _warn()
            instance = owner.__new__(owner)
        return MethodType(self._function, instance)


class Configuration:
    """Hold a configuration dict; deprecated, use `load_settings` or `load_neon_mq_config`.

    Args:
        file_path: a JSON file to read at once; None for an empty configuration.

    Attributes:
        config_data: the dict as it was read, with the outer ``MQ`` if it has one.

    Raises:
        ConfigurationError: the file cannot be read, or is not a JSON object.
    """

    config_data: dict[str, Any] = {}  # noqa: RUF012  # each instance has its own

    def __init__(self, file_path: str | Path | None = None) -> None:
        _warn()
        self.config_data = {} if file_path is None else read_json(expand(file_path))

    @_OnClassOrInstance
    def from_file(self, file_path: str | Path) -> Configuration:
        """Read a JSON file, into a new object when called on the class."""
        self.config_data = read_json(expand(file_path))
        return self

    @_OnClassOrInstance
    def from_dict(self, config_data: dict[str, Any]) -> Configuration:
        """Take a dict, into a new object when called on the class."""
        self.config_data = config_data
        return self


def _warn() -> None:
    warnings.warn(
        "neon_mq_connector.config.Configuration is deprecated; "
        "use load_settings() for validated settings or load_neon_mq_config() for the plain dict",
        DeprecationWarning,
        stacklevel=3,
    )
