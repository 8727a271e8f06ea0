"""Find out what a service that was written for an earlier release may notice of this one.

Files are read and never imported, so a service is checked where it cannot run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from neon_mq_connector.cli.upgrade_source import SourceCheck
from neon_mq_connector.config.problems import unknown_keys
from neon_mq_connector.config.settings import MQSettings
from neon_mq_connector.config.sources import read_json
from neon_mq_connector.errors import ConfigurationError
from neon_mq_connector.operations.findings import Finding, error, ok, warning
from neon_mq_connector.version import __version__

_VERSION = tuple(int(each) for each in re.findall(r"\d+", __version__)[:3])
_BOUND = re.compile(r"(~=|==|<=|<)\s*(\d+(?:\.\d+)*)")
_USES_US = re.compile(
    r"neon_mq_connector|MQConnector|send_mq_request|register_(consumer|subscriber)"
)
_CONFIGURES_US = re.compile(r'"(MQ|users)"\s*:')
_REQUIREMENT = re.compile(
    r"neon[-_]mq[-_]connector(?:\[[\w, -]*\])?\s*(?P<range>[~=<>!][^\"'#;]*)", re.IGNORECASE
)
_LISTS_REQUIREMENTS = re.compile(r"(requirements.*\.txt|pyproject\.toml|setup\.(py|cfg))$")
_NOT_THEIRS = {"node_modules", "site-packages", "__pycache__", "build", "dist"}
_GUESSED_FIRST = {"guest", "password", "admin", "changeme", "secret"}


def check_upgrade(path: Path) -> list[Finding]:
    """Find out what a service written for an earlier release may notice of this one.

    Args:
        path: a file, or a folder of which all files are read: Python sources, configurations in
            JSON, and lists of requirements. Environments and hidden folders are left out.

    Returns:
        A finding for each place; its check is ``file:line``. An error is what does not work, a
        warning what works otherwise than before. Where there is neither, one that is ok.
    """
    found: list[Finding] = []
    relevant = 0
    for file in _files(path):
        text = file.read_bytes().decode("utf-8", "replace").removeprefix("\ufeff")
        if _LISTS_REQUIREMENTS.search(file.name):
            found += _requirements(file, text)
        if file.suffix == ".py" and _USES_US.search(text):
            relevant += 1
            found += _source(file, text)
        elif file.suffix == ".json" and _CONFIGURES_US.search(text):
            relevant += 1
            found += _configuration(file, text)
    if not relevant and not found:
        return [warning(str(path), "no source or configuration that uses this library")]
    return found or [ok(str(path), f"{relevant} files read, nothing to be noticed")]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for file in own_files(path):
        is_read = file.suffix in {".py", ".json"} or _LISTS_REQUIREMENTS.search(file.name)
        if is_read and file.is_file():
            yield file


def own_files(folder: Path) -> Iterator[Path]:
    """Iterate over the files of a project; hidden, installed and built ones are left out."""
    for name, folders, files in os.walk(folder):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = sorted(
            each for each in folders if each not in _NOT_THEIRS and not each.startswith(".")
        )
        yield from (Path(name, each) for each in sorted(files))


def _source(file: Path, text: str) -> list[Finding]:
    try:
        return SourceCheck(str(file), text).findings()
    except (SyntaxError, ValueError) as problem:  # ValueError: null bytes
        line = getattr(problem, "lineno", None) or 1
        return [error(f"{file}:{line}", f"this is not Python: {problem.args[0]}", "correct it")]


def _requirements(file: Path, text: str) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), start=1):
        named = _REQUIREMENT.search(line.partition("#")[0])
        if named and _excludes_us(named["range"]):
            yield warning(
                f"{file}:{number}",
                f"{named[0].strip()} excludes this release",
                f"change it to neon-mq-connector~={_VERSION[0]}.{_VERSION[1]}",
            )


def _excludes_us(requirement: str) -> bool:
    for operator, text in _BOUND.findall(requirement):
        version = tuple(int(each) for each in text.split("."))
        if operator in ("~=", "=="):
            prefix = version[:-1] if operator == "~=" else version
            if prefix != _VERSION[: len(prefix)]:
                return True
        else:
            bound = (*version, 0, 0)[:3]
            if bound < _VERSION or (bound == _VERSION and operator == "<"):
                return True
    return False


def _configuration(file: Path, text: str) -> Iterator[Finding]:
    lines = text.splitlines()
    try:
        settings = MQSettings.from_config(read_json(file), source=str(file))
    except ConfigurationError as problem:
        key = str(problem).partition(":")[0].rpartition(".")[2]
        yield error(_place(file, lines, key), str(problem))
        return
    for key, meant in unknown_keys(settings):
        yield warning(_place(file, lines, *key.split(".")), f"{key} is no setting", meant)
    for name, entry in settings.users.items():
        password = entry.password.get_secret_value() if entry.password else ""
        if password and (password.lower() in _GUESSED_FIRST or password == entry.username):
            yield warning(
                _place(file, lines, "users", name, "password"),
                f"the password of users.{name} is one that is guessed first",
                "change it on the broker and here; see the page Secure a system",
            )


def _place(file: Path, lines: list[str], *keys: str) -> str:
    """Return where a key stands: each is looked for from the line of the one before it."""
    at = 0
    for key in keys:
        at = next((n for n in range(at, len(lines)) if f'"{key}"' in lines[n]), at)
    return f"{file}:{at + 1}"
