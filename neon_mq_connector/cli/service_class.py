"""Find the class of a service by the name that a command line gives, and construct it."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypeAlias

from neon_mq_connector.aio.connector import AsyncMQConnector
from neon_mq_connector.cli.exits import CommandError, ExitCode
from neon_mq_connector.connector import MQConnector

Service: TypeAlias = MQConnector | AsyncMQConnector

_FORM = "write module:Class, such as my_package.service:Greeter"
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def load_service(where: str) -> type[Service]:
    """Import the class of a service; the working directory is searched first.

    Args:
        where: ``module:Class``, or ``module`` where that defines one connector class.

    Raises:
        CommandError: there is no such module or class, or the module cannot be imported.
    """
    module_name, _, class_name = where.partition(":")
    names = module_name.split(".")
    if names[-1] == "py" or not all(name.isidentifier() for name in names):
        stem = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise _unusable(f"{module_name!r} is not the name of a module; {_FORM} (here: {stem})")
    module = _import(module_name)
    candidates = _connector_classes(module)
    if not class_name:
        if len(candidates) == 1:
            return next(iter(candidates.values()))
        found = f"it has {', '.join(candidates)}" if candidates else "it defines no connector class"
        raise _unusable(f"which class of module {module_name!r}? {found}; {_FORM}")
    kind = getattr(module, class_name, None)
    if kind is None:
        close = difflib.get_close_matches(class_name, candidates) or list(candidates)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise _unusable(f"module {module_name!r} has no class {class_name!r}{hint}")
    if not _is_connector_class(kind):
        raise _unusable(f"{where} is no class derived from MQConnector or AsyncMQConnector")
    service: type[Service] = kind
    return service


def make_service(
    kind: type[Service], name: str | None = None, config: Mapping[str, Any] | None = None
) -> Service:
    """Construct a service.

    Args:
        kind: its class, whose constructor may take ``config`` and ``service_name``.
        name: the name of the service; by default that of the constructor, or the name of the class
            in snake case.
        config: its configuration; by default it looks for one as services do.

    Raises:
        CommandError: the constructor takes no name or no configuration, or needs other arguments.
    """
    parameters = inspect.signature(kind).parameters
    required = [
        each.name
        for each in parameters.values()
        if each.default is each.empty and each.kind not in _VARIADIC
    ]
    others = set(required) - {"config", "service_name"}
    if others:
        raise _unusable(
            f"{kind.__name__} needs {', '.join(sorted(others))}: derive a class whose constructor "
            "takes only config and service_name, or nothing"
        )
    if config is not None and "config" not in parameters:
        raise _unusable(f"--url or --config: the constructor of {kind.__name__} takes no config")
    given = config is not None or "config" in required
    arguments: dict[str, Any] = {"config": config} if given else {}
    if name is not None and "service_name" not in parameters:
        raise _unusable(f"--name: the constructor of {kind.__name__} takes no service_name")
    if name is not None or "service_name" in required:
        arguments["service_name"] = name or _snake_case(kind.__name__)
    return kind(**arguments)


def _import(name: str) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _not_importable(name, error) from error
        raise _unusable(
            f"there is no module {error.name!r} in {folder} or among what is installed; {_FORM}"
        ) from error
    except Exception as error:
        raise _not_importable(name, error) from error


def _not_importable(name: str, error: Exception) -> CommandError:
    at = traceback.extract_tb(error.__traceback__)[-1]
    # a syntax error names its place; the traceback ends in importlib
    where = "" if isinstance(error, SyntaxError) else f" ({at.filename}, line {at.lineno})"
    return _unusable(f"module {name!r} cannot be imported: {type(error).__name__}: {error}{where}")


def _connector_classes(module: ModuleType) -> dict[str, type[Service]]:
    """Return the connector classes that a module defines itself, by name."""
    return {
        name: kind
        for name, kind in vars(module).items()
        if _is_connector_class(kind) and kind.__module__ == module.__name__
    }


def _is_connector_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, (MQConnector, AsyncMQConnector))


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _unusable(problem: str) -> CommandError:
    return CommandError(problem, ExitCode.USAGE)
