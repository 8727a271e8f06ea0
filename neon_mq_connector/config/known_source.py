"""Find the configuration again and again, without reading what has not changed.

What `find_source` goes by is looked at each time: environment variables, files, the layers of
ovos-config. It is read only when one of them is not what it was. Installing ovos-config into a
running process is the one thing that goes unnoticed.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from operator import is_
from typing import Any, Final

from neon_mq_connector.config.environment import CONFIG_PATH_VARIABLE, env_path
from neon_mq_connector.config.sources import SECTION, Source, default_files, find_source, plain

_VARIABLES: Final = (
    CONFIG_PATH_VARIABLE,
    "XDG_CONFIG_HOME",
    "USERPROFILE" if os.name == "nt" else "HOME",
)
_OVOS: Final = "ovos_config.config"

#: Keys of ovos-config that decide what its section is: itself, and which layers may say so.
_OVOS_KEYS: Final = (SECTION, "system")

#: A file that is younger when it is read may be written once more without its times changing; the
#: coarsest file systems count in steps of two seconds.
_COARSEST_CLOCK_NS: Final = 2_000_000_000

_FileStamp = tuple[int, int, int, int, int] | None


@dataclass(frozen=True)
class _Ovos:
    """What ovos-config is made of, and what it says.

    Attributes:
        parts: what `Configuration` holds, or where ovos-config was not found.
        holders: those of the parts that are layers, or lists of layers.
        content: what the layers say under `_OVOS_KEYS`.
    """

    parts: tuple[Any, ...] = field(repr=False)
    holders: tuple[dict[Any, Any] | list[Any], ...] = field(repr=False)
    content: list[Any] = field(repr=False)


@dataclass(frozen=True)
class _Found:
    """What was found, and what has to be as it was for that to hold.

    Attributes:
        source: what was found.
        environment: the values of `_VARIABLES`.
        paths: the files that are looked for, in their order.
        stamps: of these files up to the first that is there.
        ovos: of ovos-config where that was asked; None where it was not.
    """

    source: Source | None
    environment: tuple[str | None, ...]
    paths: tuple[str, ...]
    stamps: list[_FileStamp]
    ovos: _Ovos | None


class KnownSource:
    """Give what `find_source` would; any thread may ask.

    Args:
        fresh_for: for how long what was looked at counts as unchanged, in seconds (0): a process
            that sends thousands of requests a second need not look thousands of times. Environment
            variables are looked at always.
    """

    def __init__(self, fresh_for: float = 0.0) -> None:
        self._fresh_for = fresh_for
        self._found: _Found | None = None
        self._fresh_until = 0.0

    def find(self) -> Source | None:
        """Find the configuration that is not passed by anybody.

        Returns:
            The source, the very same object as long as its content is the same; None when there is
            none. Its dict is not to be changed.

        Raises:
            ConfigurationError: as `find_source`.
        """
        environment = tuple([os.environ.get(name) for name in _VARIABLES])
        found = self._found
        now = time.monotonic()
        if found is not None and found.environment == environment:
            if now < self._fresh_until:
                return found.source
            self._fresh_until = now + self._fresh_for
            paths = found.paths
            stamps = _stamps(paths)
            if stamps == found.stamps and (_exists(stamps) or _is_unchanged(found.ovos)):
                return found.source
        else:
            paths = _paths()
            stamps = _stamps(paths)
        return self._look(environment, paths, stamps)

    def _look(
        self, environment: tuple[str | None, ...], paths: tuple[str, ...], stamps: list[_FileStamp]
    ) -> Source | None:
        before, self._found = self._found, None
        # both before anything is read: a change meanwhile is then seen by the next call
        now = time.time_ns()
        ovos = None if _exists(stamps) else _ovos_now()
        source = find_source(None)
        if before is not None and before.source == source:
            source = before.source
        newest = max((max(stamp[3:]) for stamp in stamps if stamp is not None), default=0)
        if now - newest <= _COARSEST_CLOCK_NS:
            stamps = []  # equal to none, so that the next call reads the file again
        self._found = _Found(source, environment, paths, stamps, ovos)
        return source


def _paths() -> tuple[str, ...]:
    named = env_path(CONFIG_PATH_VARIABLE)
    return tuple(map(str, default_files() if named is None else (named,)))


def _stamps(paths: tuple[str, ...]) -> list[_FileStamp]:
    stamps: list[_FileStamp] = []
    for path in paths:
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            stamps.append(None)
        else:
            stamps.append(
                (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            )
            break
    return stamps


def _exists(stamps: list[_FileStamp]) -> bool:
    return bool(stamps) and stamps[-1] is not None


def _is_unchanged(before: _Ovos | None) -> bool:
    """Tell whether ovos-config is as it was; False where that cannot be told."""
    if before is None:
        return False
    parts = _ovos_parts()
    return (
        parts is not None
        and len(parts) == len(before.parts)
        and all(map(is_, parts, before.parts))
        and _content(before.holders) == before.content
    )


def _ovos_now() -> _Ovos | None:
    parts = _ovos_parts()
    if parts is None:
        return None
    holders = tuple([part for part in parts if isinstance(part, (dict, list))])
    return _Ovos(parts, holders, plain(_content(holders)))


def _ovos_parts() -> tuple[Any, ...] | None:
    """List what ovos-config's `Configuration` is made of; None where it is something else.

    To ask it for the section merges all of its layers, which takes longer than sending a request.
    Each layer is a dict that the class holds, or stands in a list that it holds.
    """
    module = sys.modules.get(_OVOS)
    if module is None:
        return tuple(sys.path)  # not imported yet, or not to be found there
    held = getattr(module, "Configuration", None)  # another thread may be importing it
    if not isinstance(held, type) or held.__module__ != _OVOS:
        return None
    return tuple(vars(held).values())


def _content(holders: tuple[dict[Any, Any] | list[Any], ...]) -> list[Any]:
    content: list[Any] = []
    for holder in holders:
        for layer in holder if isinstance(holder, list) else (holder,):
            if isinstance(layer, dict):
                content.append([layer.get(key) for key in _OVOS_KEYS])
    return content
