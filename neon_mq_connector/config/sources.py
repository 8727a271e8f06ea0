"""Where a configuration comes from.

The first of these that exists is used, whole; nothing is merged, so a file can be read and
understood by itself:

1. the dict passed to the constructor (an empty one counts as none),
2. the URL in ``NEON_MQ_URL``,
3. the file named by ``NEON_MQ_CONFIG_PATH``,
4. ``~/.config/neon/mq_config.json`` (under ``$XDG_CONFIG_HOME`` where that is set),
5. ``~/.local/share/neon/credentials.json``,
6. the ``MQ`` section of ovos-config.

In each of them the settings may stand at the top or under ``MQ``.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from neon_mq_connector.config.values import configuration_error, expand, kind_of

log = logging.getLogger("neon_mq_connector.config")

URL_VARIABLE = "NEON_MQ_URL"
URL_FORM = "amqp://user:password@host:port/vhost"
CONFIG_PATH_VARIABLE = "NEON_MQ_CONFIG_PATH"
SECTION = "MQ"
#: The entry under ``users`` for services that have no user and password of their own.
DEFAULT_ENTRY = "default"
#: The entry under which scripts ask services.
CLIENT_ENTRY = "mq_handler"
PASSED_DICT = "the dict passed to the constructor"
OVOS_SECTION = "the MQ section of ovos-config"
NO_SOURCE = "no configuration"


@dataclass(frozen=True)
class Source:
    """A configuration as it was found, before it is validated.

    Attributes:
        name: what to call it in messages: the path of a file, or words.
        config: the dict as it was found, with or without the outer ``MQ``; not in the ``repr``.
        vhost: the virtual host for services that set none; empty where the source names none.
    """

    name: str
    config: Mapping[str, Any] = field(repr=False)
    vhost: str = ""

    @property
    def section(self) -> Mapping[str, Any]:
        """The settings themselves, without the outer ``MQ``."""
        return unwrap(self.config, self.name)

    @property
    def prefix(self) -> str:
        """What stands before a key in the source: ``"MQ."`` or nothing."""
        return f"{SECTION}." if SECTION in self.config else ""


def unwrap(config: Any, source: str) -> Mapping[str, Any]:
    """Return the settings of a dict that has them at its top or under ``MQ``.

    Raises:
        ConfigurationError: it is no dict, or what is under ``MQ`` is none; names the source.
    """
    section = config.get(SECTION, config) if isinstance(config, Mapping) else config
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise configuration_error(
            f"{source}: {kind_of(section)} is not a configuration; it has to be an object such as "
            '{"server": "localhost", "users": {...}}, at the top or under MQ'
        )
    return section


def find_source(config: Mapping[str, Any] | None = None) -> Source | None:
    """Find the configuration to use.

    Args:
        config: the dict that was passed to a constructor; None or an empty one to look elsewhere.

    Returns:
        The first source that exists, None when there is none at all.

    Raises:
        ConfigurationError: a file is there (or is named by ``NEON_MQ_CONFIG_PATH``) and cannot be
            used; the message names it. A source further down is not taken instead, since that
            would hide the mistake.
    """
    unwrap(config, PASSED_DICT)  # a text or a list is refused, even an empty one
    source = Source(PASSED_DICT, config) if config else _find_elsewhere()
    if source is not None:
        log.debug("configuration is read from %s", source.name)
    return source


def source_of(config: Mapping[str, Any] | None) -> Source:
    """Find the configuration as `find_source` does; an empty one when there is none at all."""
    return find_source(config) or Source(NO_SOURCE, {})


def _find_elsewhere() -> Source | None:
    url = os.environ.get(URL_VARIABLE, "").strip()
    if url:
        try:
            return parse_url(url, URL_VARIABLE)
        except ValueError as error:
            raise configuration_error(f"environment variable {URL_VARIABLE}: {error}") from error
    if named := os.environ.get(CONFIG_PATH_VARIABLE, "").strip():
        path = expand(named)
        return Source(str(path), read_json(path, f"; {CONFIG_PATH_VARIABLE} names it"))
    for path in default_files():
        if os.path.exists(path):  # not where HOME belongs to another user, either
            return Source(str(path), read_json(path))
    section = _ovos_section()
    return Source(OVOS_SECTION, {SECTION: section}) if section else None


def parse_url(text: str, name: str) -> Source:
    """Read an AMQP URL as a configuration that serves every service.

    Args:
        text: ``amqp://user:password@host:port/vhost``, or ``amqps`` for TLS. All but the host may
            be percent-encoded. No path, or an empty one, is the virtual host ``/``.
        name: what to call it in messages.

    Raises:
        ValueError: it is no such URL. The message says why and has the form; it does not repeat
            the value, in which there is a password.
    """
    if problem := _problem_of(text):
        raise ValueError(
            f"{problem}; write {URL_FORM}, with %2F for a slash in the name of a virtual host"
        )
    url = urlsplit(text)
    user = {"user": unquote(url.username or ""), "password": unquote(url.password or "")}
    config: dict[str, Any] = {
        "server": url.hostname,
        "users": {DEFAULT_ENTRY: user},
        "tls": url.scheme == "amqps",
    }
    if url.port is not None:
        config["port"] = url.port
    return Source(name, config, unquote(url.path[1:]) or "/")


def _problem_of(text: str) -> str:
    try:
        url = urlsplit(text)
        url.port  # noqa: B018  # it is read when it is asked for
    except ValueError:  # its message may quote the URL
        return "it is no URL, or its port is not a number from 1 to 65535"
    if url.scheme not in ("amqp", "amqps"):
        return "it does not begin with amqp:// or amqps://"
    if not url.hostname:
        return "it has no host"
    if url.query or url.fragment:
        return "options after ? are not understood, put them into a configuration file"
    return "" if url.username and url.password is not None else "it has no user and password"


def default_files() -> Iterator[Path]:
    """Iterate over the files that are looked for without being named, in their order."""
    home, named = home_directory(), os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(named):
        yield Path(named) / "neon" / "mq_config.json"
    elif home is not None:
        yield home / ".config" / "neon" / "mq_config.json"
    if home is not None:
        yield home / ".local" / "share" / "neon" / "credentials.json"


def home_directory() -> Path | None:
    """Return the user's home directory.

    A process has none where a container runs it under a user id without a password entry.
    """
    home = os.path.expanduser("~")
    return Path(home) if os.path.isabs(home) else None


def place_for_settings(source: str) -> str:
    """Return where to add a missing key: the source, or a file to create if there is none."""
    if source != NO_SOURCE:
        return source
    for path in default_files():
        return f"{path}, which does not exist yet"
    return f"a JSON file that {CONFIG_PATH_VARIABLE} names"


def read_json(path: Path, hint: str = "") -> dict[str, Any]:
    """Read a JSON object from a file in UTF-8, with or without a byte order mark.

    Raises:
        ConfigurationError: the file cannot be read, or is not a JSON object; one line that names
            the file, and line and column where JSON ends. It quotes nothing of the content.
    """
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        problem = f"cannot be read ({reason}); make it a file that this user can read"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 (at byte {error.start}); save it as UTF-8"
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        problem = f"is not JSON ({where}: {error.msg.lower()}); correct it there"
    except (RecursionError, ValueError):
        problem = "is nested too deeply, or holds a number that is too long; correct it"
    else:
        if isinstance(content, dict):
            return content
        problem = 'is JSON but not an object; make it one, such as {"MQ": {"server": "localhost"}}'
    # Raised here and not in an except clause: the errors of json carry the whole text of the file,
    # passwords included, and would hang on as __context__.
    raise configuration_error(f"{path}: {problem}{hint}")


def _ovos_section() -> dict[str, Any]:
    try:
        from ovos_config.config import Configuration

        section = Configuration().get(SECTION)
    except ImportError:
        return {}
    except Exception as error:  # its own message may quote a line of the file
        problem = type(error).__name__
    else:
        copied: dict[str, Any] = plain(unwrap({SECTION: section}, "ovos-config"))
        return copied
    raise configuration_error(
        f"{OVOS_SECTION} cannot be read ({problem}); correct mycroft.conf or ovos.conf, or name a "
        f"file of its own with {CONFIG_PATH_VARIABLE}"
    )


def plain(value: Any) -> Any:
    """Copy nested mappings and lists into dicts and lists of their own."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
