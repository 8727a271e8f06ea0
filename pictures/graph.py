"""States and the moves between them, as a drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pictures.svg import Drawing

_HEIGHT = 34


@dataclass(frozen=True)
class Node:
    """A state.

    Attributes:
        x: of its middle.
        y: of its middle.
        lines: what is written in it.
        width: of its box.
        last: whether nothing follows.
    """

    x: float
    y: float
    lines: tuple[str, ...]
    width: float = 120
    last: bool = False

    @property
    def height(self) -> float:
        """The height of its box."""
        return _HEIGHT + 16 * (len(self.lines) - 1)


@dataclass(frozen=True)
class Move:
    """An arrow.

    Attributes:
        lines: what is written at it.
        bend: how far its middle is from the straight line, in pixels, to the left of its way.
        at: where its text stands, as a fraction of its way.
        shift: of the text, from there.
        anchor: of the text.
    """

    lines: tuple[str, ...] = ()
    bend: float = 0.0
    at: float = 0.5
    shift: tuple[float, float] = (0.0, -6.0)
    anchor: str = "middle"


def draw(
    drawing: Drawing, nodes: Mapping[str, Node], moves: Mapping[tuple[str, str], Move]
) -> None:
    """Draw boxes and arrows; texts come last, so that no line runs over them."""
    for (start, end), move in moves.items():
        if start == end:
            _loop(drawing, nodes[start])
        else:
            _arrow(drawing, nodes[start], nodes[end], move)
    for node in nodes.values():
        _box(drawing, node)
    for (start, end), move in moves.items():
        x, y = _along(nodes[start], nodes[end], move)
        for place, line in enumerate(move.lines):
            dx, dy = move.shift
            drawing.text(x + dx, y + dy + 14 * place, line, "faint small", move.anchor)


def _box(drawing: Drawing, node: Node) -> None:
    left, top = node.x - node.width / 2, node.y - node.height / 2
    kind = "strong" if node.last else "box"
    drawing.box(left, top, node.width, node.height, kind, node.height / 2 if node.last else 6)
    drawing.column(node.x, top + 22, node.lines)


def _loop(drawing: Drawing, node: Node) -> None:
    low, x = node.y + node.height / 2, node.x
    ends = f"{x - 24} {low + 30} {x + 24} {low + 30}"
    drawing.path(f"M{x - 14} {low}C{ends} {x + 14} {low + 1}", arrow=True)


def _arrow(drawing: Drawing, start: Node, end: Node, move: Move) -> None:
    control = _control(start, end, move)
    x1, y1 = _edge(start, *control)
    x2, y2 = _edge(end, *control)
    cx, cy = control
    drawing.path(f"M{x1:.1f} {y1:.1f}Q{cx:.1f} {cy:.1f} {x2:.1f} {y2:.1f}", arrow=True)


def _control(start: Node, end: Node, move: Move) -> tuple[float, float]:
    dx, dy = end.x - start.x, end.y - start.y
    length = math.hypot(dx, dy) or 1.0
    across = 2 * move.bend / length
    return (start.x + end.x) / 2 + dy * across, (start.y + end.y) / 2 - dx * across


def _along(start: Node, end: Node, move: Move) -> tuple[float, float]:
    cx, cy = _control(start, end, move)
    x1, y1 = _edge(start, cx, cy)
    x2, y2 = _edge(end, cx, cy)
    t = move.at
    a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
    return a * x1 + b * cx + c * x2, a * y1 + b * cy + c * y2


def _edge(node: Node, x: float, y: float) -> tuple[float, float]:
    """Return where the line from the middle of a box to a point leaves the box."""
    dx, dy = x - node.x, y - node.y
    scale = min(
        (node.width / 2 + 1) / abs(dx) if dx else math.inf,
        (node.height / 2 + 1) / abs(dy) if dy else math.inf,
    )
    return (node.x, node.y) if math.isinf(scale) else (node.x + dx * scale, node.y + dy * scale)


def check(what: str, drawn: Sequence[tuple[str, str]], found: set[tuple[str, str]]) -> None:
    """Check that the moves that are drawn are those that exist.

    Raises:
        ValueError: they are not; the message says which.
    """
    if missing := found - set(drawn):
        raise ValueError(f"{what} lacks {sorted(missing)}")
    if extra := set(drawn) - found:
        raise ValueError(f"{what} has {sorted(extra)}, which do not exist")
