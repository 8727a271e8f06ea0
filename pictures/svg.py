"""A drawing as SVG, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

#: Its own background, since a page may be dark where the system is light.
_STYLE = """
svg{--paper:#fff;--ink:#24292f;--faint:#656d76;--grid:#d8dee4;--fill:#eef2f6;--ours:#1f7a5c;
--other:#8b949e}
@media(prefers-color-scheme:dark){svg{--paper:#161b22;--ink:#e6edf3;--faint:#9da7b3;--grid:#30363d;
--fill:#21262d;--ours:#3fb68b;--other:#768390}}
text{font:13px system-ui,sans-serif;fill:var(--ink)}.faint{fill:var(--faint)}
.small{font-size:11.5px}.bold{font-weight:600}.title{font-size:15px;font-weight:600}
.code{font-family:ui-monospace,monospace}.paper{fill:var(--paper)}
.box{fill:var(--fill);stroke:var(--grid)}.strong{fill:var(--fill);stroke:var(--ours)}
.grid{stroke:var(--grid);fill:none}.line{stroke:var(--ink);fill:none}.dash{stroke-dasharray:5 4}
.ours{fill:var(--ours)}.other{fill:var(--other)}
.curve{fill:none;stroke-width:2}.curve.ours{stroke:var(--ours);fill:none}
.curve.other{stroke:var(--other);fill:none}.tip{fill:var(--ink)}
"""
_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" class="tip"/></marker></defs>'
)


class Drawing:
    """What is drawn, in the order in which it is.

    Classes of the style are named by words: ``"faint small"``.

    Args:
        width: in pixels.
        height: in pixels.
        title: what is told to those who cannot see it.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self._width, self._height, self._title = width, height, title
        self._parts: list[str] = []

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Write a line of text; y is its base line."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def column(self, x: float, y: float, lines: Sequence[str], kind: str = "") -> None:
        """Write lines of text below each other, each in the middle of x."""
        for place, line in enumerate(lines):
            self.text(x, y + 16 * place, line, f"{kind} faint small" if place else kind, "middle")

    def box(
        self, x: float, y: float, width: float, height: float, kind: str = "box", round: float = 6
    ) -> None:
        """Draw a rectangle."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'rx="{round:g}" class="{kind}"/>'
        )

    def path(self, steps: str, kind: str = "line", *, arrow: bool = False) -> None:
        """Draw a path as SVG's ``d`` has it, with an arrow at its end if wanted."""
        tip = ' marker-end="url(#arrow)"' if arrow else ""
        self._parts.append(f'<path d="{steps}" class="{kind}"{tip}/>')

    def line(
        self, x1: float, y1: float, x2: float, y2: float, kind: str = "line", *, arrow: bool = False
    ) -> None:
        """Draw a straight line."""
        self.path(f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}", kind, arrow=arrow)

    def dot(self, x: float, y: float, kind: str, tip: str = "") -> None:
        """Draw a small filled circle, which tells ``tip`` when it is pointed at."""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="{kind}">'
            f"<title>{escape(tip)}</title></circle>"
        )

    def __str__(self) -> str:
        """Return the SVG document."""
        size = f"{self._width:.0f} {self._height:.0f}"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
            f'width="{self._width:.0f}" height="{self._height:.0f}" role="img" '
            f"aria-label={quoteattr(self._title)}>"
        )
        paper = '<rect width="100%" height="100%" rx="8" class="paper"/>'
        return "\n".join(
            [head, f"<style>{_STYLE}</style>", _ARROW, paper, *self._parts, "</svg>\n"]
        )
