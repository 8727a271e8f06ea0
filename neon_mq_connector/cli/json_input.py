"""A JSON object on the command line: written there, read from a file, or from standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from neon_mq_connector.config.values import kind_of

STANDARD_INPUT = "-"
FILE_MARK = "@"
_SHOWN = 60


def read_object(value: str) -> dict[str, Any]:
    """Read a JSON object that is not empty.

    Args:
        value: the text itself, ``@FILE``, or ``-`` for standard input.

    Raises:
        click.BadParameter: it is no such object; the message shows the place.
    """
    origin = "the JSON argument"
    if value == STANDARD_INPUT:
        origin = "standard input"
        value = _decode(sys.stdin.buffer.read(), origin)
    elif value.startswith(FILE_MARK):
        origin = value[1:]
        value = _decode(_read_file(origin), origin)
    return _parse(value, origin)


def _parse(text: str, origin: str) -> dict[str, Any]:
    try:
        data = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise click.BadParameter(_located(error, origin)) from error
    except RecursionError:
        raise click.BadParameter(f"{origin}: it is nested too deep") from None
    except ValueError as error:
        raise click.BadParameter(f"{origin}: {error}") from error
    if not isinstance(data, dict):
        raise click.BadParameter(
            f'{origin}: a message is an object, such as {{"text": "hello"}}; '
            f"this is {kind_of(data)}"
        )
    if not data:
        raise click.BadParameter(f"{origin}: the object is empty, there is nothing to send")
    return data


def _read_file(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise click.BadParameter(f"{name} cannot be read: {reason}") from error


def _decode(content: bytes, origin: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{origin} is not UTF-8 (at byte {error.start})") from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write a number, a text or null")


def _located(error: json.JSONDecodeError, origin: str) -> str:
    """Return the message of an error, with the place in the text and a mark under it."""
    reason = error.msg[:1].lower() + error.msg[1:]
    message = f"{origin} is not JSON at line {error.lineno}, column {error.colno}: {reason}"
    lines = error.doc.splitlines()
    if not lines:
        return message
    line = lines[min(error.lineno, len(lines)) - 1]
    start = max(0, error.colno - _SHOWN)
    shown = "".join(c if c.isprintable() else " " for c in line[start : start + _SHOWN + 10])
    return f"{message}\n  {shown}\n  {' ' * (error.colno - 1 - start)}^"
