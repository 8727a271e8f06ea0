"""Findings: the result of a check, and what would fix it."""

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
        message: what was found.
        remedy: what would fix it; empty if nothing is wrong.
    """

    check: str
    level: Level
    message: str
    remedy: str = ""


def ok(check: str, message: str) -> Finding:
    """Return a finding of something that works."""
    return Finding(check, Level.OK, message)


def warning(check: str, message: str, remedy: str = "") -> Finding:
    """Return a finding of something that may matter."""
    return Finding(check, Level.WARNING, message, remedy)


def error(check: str, message: str, remedy: str = "") -> Finding:
    """Return a finding of something that does not work."""
    return Finding(check, Level.ERROR, message, remedy)


def skipped(check: str, reason: str) -> Finding:
    """Return a finding of something that was not checked."""
    return Finding(check, Level.WARNING, f"not checked: {reason}")
