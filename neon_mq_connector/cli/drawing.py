"""Draw a graph: as Mermaid, in DOT, or as an SVG picture with nothing to load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape

from neon_mq_connector.operations.graph import Graph, Kind, Node

#: The brackets of Mermaid, the shape of DOT, and the colour and the radius of SVG.
_SHAPES = {
    Kind.CLIENT: ("([", "])", "oval", "#e8f0e8", 18),
    Kind.EXCHANGE: ("{{", "}}", "hexagon", "#fbeed5", 4),
    Kind.QUEUE: ("[(", ")]", "cylinder", "#e3ecf7", 18),
    Kind.SERVICE: ("[", "]", "box", "#e3f4e1", 4),
}
_HEIGHT, _GAP, _MARGIN, _BETWEEN = 36, 18, 24, 120
_LETTER = 7.6  # of a monospaced font of 13 pixels, and a little more
_LONGEST = 48


def to_mermaid(graph: Graph) -> str:
    """Draw it as a Mermaid flowchart, as GitHub shows it in Markdown."""
    ids = _numbered(graph)
    lines = ["flowchart LR"]
    for node, name in ids.items():
        left, right, *_ = _SHAPES[node.kind]
        lines.append(f'    {name}{left}"{_mermaid_text(node.name)}"{right}')
    for edge in graph.edges:
        label = f'|"{_mermaid_text(edge.label)}"|' if edge.label else ""
        lines.append(f"    {ids[edge.source]} -->{label} {ids[edge.target]}")
    return "\n".join(lines) + "\n"


def to_dot(graph: Graph) -> str:
    """Draw it in DOT, the language of Graphviz."""
    ids = _numbered(graph)
    lines = ["digraph {", "    rankdir=LR", '    node [fontname="sans-serif"]']
    for node, name in ids.items():
        lines.append(f"    {name} [label={_dot_text(node.name)}, shape={_SHAPES[node.kind][2]}]")
    for edge in graph.edges:
        label = f" [label={_dot_text(edge.label)}]" if edge.label else ""
        lines.append(f"    {ids[edge.source]} -> {ids[edge.target]}{label}")
    return "\n".join([*lines, "}"]) + "\n"


def to_svg(graph: Graph) -> str:
    """Draw it as SVG: a column for each kind of node."""
    return "\n".join(_Picture(graph).lines()) + "\n"


def _numbered(graph: Graph) -> dict[Node, str]:
    return {node: f"n{number}" for number, node in enumerate(graph.nodes, 1)}


def _mermaid_text(text: str) -> str:
    return escape(text).replace("&", "#")  # Mermaid writes entities so


def _dot_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class _Picture:
    """Boxes in columns, and curves from the side of one to the side of another."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._boxes: dict[Node, tuple[float, float, float]] = {}
        left, self._height = float(_MARGIN), 2.0 * _MARGIN
        for kind in Kind:
            column = [node for node in graph.nodes if node.kind is kind]
            if not column:
                continue
            width = max(len(_shown(node.name)) for node in column) * _LETTER + 24
            for row, node in enumerate(column):
                self._boxes[node] = (left, _MARGIN + row * (_HEIGHT + _GAP), width)
            left += width + _BETWEEN
            self._height = max(self._height, 2 * _MARGIN + len(column) * (_HEIGHT + _GAP) - _GAP)
        self._width = max(left - _BETWEEN, 0.0) + _MARGIN

    def lines(self) -> Iterator[str]:
        """Make the picture."""
        size = f"{self._width:.0f} {self._height:.0f}"
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
            f'width="{self._width:.0f}" height="{self._height:.0f}" '
            'font-family="ui-monospace, monospace" font-size="13">'
        )
        yield (
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
            'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#667"/></marker></defs>'
        )
        yield f'<rect width="{self._width:.0f}" height="{self._height:.0f}" fill="#fff"/>'
        for edge in self._graph.edges:
            yield self._curve(edge.source, edge.target, edge.label)
        for node, (left, top, width) in self._boxes.items():
            *_, fill, radius = _SHAPES[node.kind]
            yield (
                f"<g><title>{node.kind.name.lower()} {escape(node.name)}</title>"
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_HEIGHT}" '
                f'rx="{radius}" fill="{fill}" stroke="#667"/>'
                f'<text x="{left + width / 2:.1f}" y="{top + _HEIGHT / 2 + 4.5:.1f}" '
                f'text-anchor="middle" fill="#223">{escape(_shown(node.name))}</text></g>'
            )
        yield "</svg>"

    def _curve(self, source: Node, target: Node, label: str) -> str:
        left, top, width = self._boxes[source]
        other_left, other_top, other_width = self._boxes[target]
        forward, same_column = other_left >= left, other_left == left
        start = left + width if forward else left
        end = other_left if forward and not same_column else other_left + other_width
        # one that goes back is drawn beside the one that goes forward
        down = _HEIGHT / 2 + (0 if forward else 8)
        y, other_y = top + down, other_top + down
        bend = _BETWEEN / 2 if forward else -_BETWEEN / 2
        turn = bend if same_column else -bend
        path = f"M{start:.1f} {y:.1f}C{start + bend:.1f} {y:.1f} {end + turn:.1f} {other_y:.1f} "
        dash = "" if forward else ' stroke-dasharray="5 4"'
        line = (
            f'<path d="{path}{end:.1f} {other_y:.1f}" fill="none" stroke="#667"{dash} '
            'marker-end="url(#arrow)"/>'
        )
        if not label:
            return line
        return (
            f'{line}<text x="{(start + end) / 2:.1f}" y="{(y + other_y) / 2 - 5:.1f}" '
            f'text-anchor="middle" font-size="11" fill="#667">{escape(_shown(label, 18))}</text>'
        )


def _shown(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
