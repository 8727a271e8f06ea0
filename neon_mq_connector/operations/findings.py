"""What a check has found, and what would mend it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(str, enum.Enum):
    """How bad a finding is: only an error keeps a service from working."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what was looked at, such as ``"port"`` or ``"queue 'greet_input'"``.
        level: how bad it is.
        message: what is the case.
        remedy: what would mend it; empty where there is nothing to mend.
    """

    check: str
    level: Level
    message: str
    remedy: str = ""


def ok(check: str, message: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Level.OK, message)


def warning(check: str, message: str, remedy: str = "") -> Finding:
    """Return a finding that may matter."""
    return Finding(check, Level.WARNING, message, remedy)


def error(check: str, message: str, remedy: str = "") -> Finding:
    """Return a finding that has to be mended."""
    return Finding(check, Level.ERROR, message, remedy)


def skipped(check: str, reason: str) -> Finding:
    """Return a finding that something was not looked at."""
    return Finding(check, Level.WARNING, f"not checked: {reason}")
