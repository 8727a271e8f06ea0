"""What becomes of a message that fails, and what its sender is told, from the table of the page."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from pictures.svg import Drawing

_PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "handle-failing-messages.md"
_HEAD = "| what has happened |"
_COLUMNS = ("tried again", "parked", "the caller")
_LEFT, _WIDTH, _ROW, _TOP = 380, 150, 44, 70
_MARKUP = re.compile(r"[`*]")


def make() -> str:
    """Draw it."""
    rows = _rows()
    drawing = Drawing(
        _LEFT + 3 * _WIDTH + 16, _TOP + _ROW * len(rows) + 12, "What happens in each failure"
    )
    drawing.text(16, 26, "What happens in each failure", "title")
    for place, name in enumerate(_COLUMNS):
        drawing.text(_LEFT + _WIDTH * (place + 0.5), _TOP - 14, name, "bold", "middle")
    for number, (what, *cells) in enumerate(rows):
        y = _TOP + _ROW * number
        drawing.line(16, y, _LEFT + 3 * _WIDTH, y, "grid")
        lines = textwrap.wrap(what, 52)
        for line, text in enumerate(lines):
            drawing.text(16, y + (26 if len(lines) == 1 else 18) + 16 * line, text, "small")
        for place, cell in enumerate(cells):
            _draw_cell(drawing, _LEFT + _WIDTH * place, y, cell)
    return str(drawing)


def _draw_cell(drawing: Drawing, x: float, y: float, cell: str) -> None:
    """Draw a cell; what saves the message or reaches the caller is in a frame."""
    lines = textwrap.wrap(cell, 22)
    happens = not re.match(r"no\b|time-out|as |$", cell)
    if lines:
        drawing.box(x + 4, y + 5, _WIDTH - 8, _ROW - 10, "strong" if happens else "box")
    for line, text in enumerate(lines):
        height = y + (26 if len(lines) == 1 else 20) + 13 * line
        kind = "small" if happens else "faint small"
        drawing.text(x + _WIDTH / 2, height, text, kind, "middle")


def _rows() -> list[list[str]]:
    """Return what has happened, and the first three cells of each row."""
    table = _PAGE.read_text(encoding="utf-8").partition(_HEAD)[2].partition("\n\n")[0]
    cells = [
        [_MARKUP.sub("", cell).strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()[2:]
    ]
    return [each[:4] for each in cells]
