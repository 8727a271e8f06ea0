"""Plots as SVG, written by hand: two kinds are not worth a library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.report import Line, number
from benchmarks.scale import Curve

_STYLE = (
    "text{font:12px sans-serif;fill:#333}.faint{fill:#777}.title{font-weight:bold}"
    ".grid{stroke:#ddd}.one{stroke:#333}"
)
_BACKGROUND = "#fff"
_REACHED, _MISSED, _OPEN = "#2a7f62", "#c2553a", "#8a8a8a"
_COLOURS = ("#2a7f62", "#c2553a", "#3a6ea5", "#8a6d3b")


def ratio_plot(lines: Sequence[Line], title: str) -> str:
    """Draw a bar for each ratio, from 1 to where it is, and a mark where it is wanted to be.

    Args:
        lines: what was measured; those with a target of another kind are left out.
        title: what stands above.

    Returns:
        An SVG document.
    """
    shown = [line for line in lines if not line.figure.absolute]
    names, width, row = 330, 420, 24
    exponents = [abs(math.log2(line.ratio.median)) for line in shown if line.ratio.median > 0]
    targets = [line.figure.target.bound for line in shown if line.figure.target is not None]
    exponents += [abs(math.log2(bound)) for bound in targets]
    reach = math.ceil(max([1.0, *exponents]))
    height = 60 + row * len(shown)

    def x(ratio: float) -> float:
        return names + width / 2 * (1 + math.log2(ratio) / reach)

    parts = [_text(10, 20, title, "title")]
    for exponent in range(-reach, reach + 1):
        at = x(2.0**exponent)
        parts.append(_line(at, 34, at, height - 22, "one" if exponent == 0 else "grid"))
        parts.append(_text(at, height - 8, f"{2.0**exponent:g}", "faint", "middle"))
    for place, line in enumerate(shown):
        top = 36 + row * place
        colour = {None: _OPEN, True: _REACHED, False: _MISSED}[line.reached]
        start, end = sorted((x(1.0), x(line.ratio.median)))
        parts.append(_text(10, top + 16, line.figure.title.replace("  ", "– "), ""))
        parts.append(
            f'<rect x="{start:.1f}" y="{top + 5}" width="{end - start:.1f}" height="14" '
            f'fill="{colour}"/>'
        )
        if line.figure.target is not None:
            at = x(line.figure.target.bound)
            parts.append(
                f'<path d="M{at:.1f} {top + 1}v22" stroke="#000" stroke-width="2">'
                f"<title>{escape(line.figure.wanted)}</title></path>"
            )
        parts.append(_text(names + width + 10, top + 16, f"{line.ratio.median:.2f}", "faint"))
    return _document(names + width + 60, height, parts)


def curve_plot(curves: Sequence[Curve], title: str, axis: str, unit: str) -> str:
    """Draw curves, both axes logarithmic.

    Args:
        curves: what was measured.
        title: what stands above.
        axis: what grows to the right.
        unit: of what grows upward.

    Returns:
        An SVG document.
    """
    left, top, width, height = 70, 40, 460, 240
    points = [point for curve in curves for point in curve.points if point[1] > 0]
    xs = sorted({point[0] for point in points})
    low = math.floor(math.log10(min(point[1] for point in points)))
    high = max(low + 1, math.ceil(math.log10(max(point[1] for point in points))))
    span = math.log10(xs[-1] / xs[0]) or 1.0

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = math.log10(point[0] / xs[0]) / span
        up = (math.log10(point[1]) - low) / (high - low)
        return left + width * across, top + height * (1 - up)

    parts = [_text(10, 20, f"{title}, {unit}", "title")]
    for exponent in range(low, high + 1):
        _, y = place((xs[0], 10.0**exponent))
        parts.append(_line(left, y, left + width, y, "grid"))
        parts.append(_text(left - 8, y + 4, f"{10.0**exponent:,g}", "faint", "end"))
    for value in xs:
        across, _ = place((value, 10.0**low))
        parts.append(_text(across, top + height + 18, f"{value:,.0f}", "faint", "middle"))
    parts.append(_text(left + width / 2, top + height + 36, axis, "faint", "middle"))
    for order, curve in enumerate(curves):
        colour = _COLOURS[order % len(_COLOURS)]
        placed = [(place(point), point) for point in curve.points if point[1] > 0]
        path = " ".join(f"{across:.1f},{y:.1f}" for (across, y), _ in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{across:.1f}" cy="{y:.1f}" r="3" fill="{colour}">'
            f"<title>{escape(f'{number(point[1])} {unit}')}</title></circle>"
            for (across, y), point in placed
        ]
        y = top + height + 58 + 18 * order
        parts.append(f'<rect x="{left}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(left + 18, y, curve.label, ""))
    return _document(left + width + 40, top + height + 60 + 18 * len(curves), parts)


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="{kind}"/>'


def _document(width: float, height: float, parts: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}">',
            f"<style>{_STYLE}</style>",
            f'<rect width="100%" height="100%" fill="{_BACKGROUND}"/>',
            *parts,
            "</svg>\n",
        ]
    )
