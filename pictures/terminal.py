"""A terminal in which `neon-mq demo` has run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

from pictures.svg import Drawing

_LINE, _CHARACTER = 20, 7.3
_PATIENCE = 120.0


def make() -> str:
    """Run it, and draw what it has printed.

    Raises:
        subprocess.CalledProcessError: it has failed.
    """
    command = [sys.executable, "-m", "neon_mq_connector.cli", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PATIENCE)
    lines = ["$ neon-mq demo", *done.stdout.rstrip().splitlines()]
    drawing = terminal("neon-mq demo, as it runs", len(lines))
    for place, line in enumerate(lines):
        label, _, text = line.partition("  ")
        if line.startswith("$") or not text:
            kind = "code bold" if line.startswith("$") else "code faint"
            write(drawing, place, [(0, line, kind)])
        else:
            write(drawing, place, [(0, label, "code bold"), (11, text.strip(), "code")])
    return str(drawing)


def terminal(title: str, lines: int, columns: int = 96) -> Drawing:
    """Return a terminal with room for so many lines and columns."""
    drawing = Drawing(columns * _CHARACTER + 40, 58 + _LINE * lines, title)
    for place, kind in enumerate(("other", "other", "ours")):
        drawing.dot(22 + 16 * place, 20, kind)
    return drawing


def write(drawing: Drawing, place: int, parts: Iterable[tuple[int, str, str]]) -> None:
    """Write parts of a line: the column of each, its text, and the words of its style."""
    for column, text, kind in parts:
        drawing.text(20 + column * _CHARACTER, 56 + _LINE * place, text, kind)
