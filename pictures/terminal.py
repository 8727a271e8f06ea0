"""A terminal in which `neon-mq demo` has run."""

from __future__ import annotations

import re
import subprocess
import sys

from pictures.svg import Drawing

_BOLD = re.compile(r"\x1b\[1m(?P<bold>.*?)\x1b\[0m(?P<rest>.*)", re.DOTALL)
_LINE, _CHARACTER, _COLUMNS = 20, 7.3, 96
_PATIENCE = 120.0


def make() -> str:
    """Run it, and draw what it has printed.

    Raises:
        subprocess.CalledProcessError: it has failed.
    """
    command = [sys.executable, "-m", "neon_mq_connector.cli", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PATIENCE)
    lines = ["$ neon-mq demo", *done.stdout.rstrip().splitlines()]
    drawing = Drawing(
        _COLUMNS * _CHARACTER + 40, 58 + _LINE * len(lines), "neon-mq demo, as it runs"
    )
    for place, kind in enumerate(("other", "other", "ours")):
        drawing.dot(22 + 16 * place, 20, kind)
    for place, line in enumerate(lines):
        y = 56 + _LINE * place
        label, _, text = line.partition("  ")
        if line.startswith("$") or not text:
            drawing.text(20, y, line, "code bold" if line.startswith("$") else "code faint")
        else:
            drawing.text(20, y, label, "code bold")
            drawing.text(20 + 11 * _CHARACTER, y, text.strip(), "code")
    return str(drawing)
