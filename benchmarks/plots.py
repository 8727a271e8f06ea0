"""The plots, drawn from the JSON that a measurement has left."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import number
from benchmarks.scale import SCALES, Chart, Curve, curves_of
from benchmarks.topics import TOPICS, Bar, Samples, Topic, value_of
from pictures.svg import Drawing

_WIDTH, _LABELS, _VALUES = 640, 242, 56
_ROW, _GROUP = 22, 26
#: The largest and the smallest of a linear axis from zero; beyond it is logarithmic.
_LINEAR_UP_TO = 40.0


def draw_figures(folder: Path) -> None:
    """Draw the plots of ``results.json`` into its folder; none of what was not measured."""
    samples: Samples = _read(folder / "results.json")
    for topic in TOPICS:
        rows = _rows(topic, samples)
        if any(bar for _, bar, _ in rows):
            (folder / f"{topic.name}.svg").write_text(_bar_plot(topic, rows), encoding="utf-8")


def draw_scales(folder: Path) -> None:
    """Draw the curves of ``scale.json`` into its folder."""
    samples = _read(folder / "scale.json")
    for scale in SCALES:
        points = {int(point): each for point, each in samples.get(scale.name, {}).items()}
        for chart in scale.charts:
            curves = curves_of(chart, points)
            if curves:
                text = _curve_plot(curves, chart, scale.axis)
                (folder / f"scale-{chart.name}.svg").write_text(text, encoding="utf-8")


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))["samples"]


#: A row is a heading, or a bar with its value.
_Row = tuple[str, Bar | None, float]


def _rows(topic: Topic, samples: Samples) -> list[_Row]:
    rows: list[_Row] = []
    for group in topic.groups:
        bars = [(bar, value_of(bar, group, topic, samples)) for bar in group.bars]
        found: list[_Row] = [(bar.label, bar, value) for bar, value in bars if value is not None]
        if found:
            rows += [(group.title, None, 0.0)] if group.title else []
            rows += found
    return rows


def _bar_plot(topic: Topic, rows: Sequence[_Row]) -> str:
    marked = [topic.mark[0]] if topic.mark else []
    ticks = _ticks(max([value for _, _, value in rows] + marked))
    height = 86 + sum(_ROW if bar else _GROUP for _, bar, _ in rows)
    drawing = Drawing(_WIDTH, height, topic.title)
    drawing.text(16, 26, topic.title, "title")
    better = "higher is better →" if topic.higher else "← lower is better"
    drawing.text(_WIDTH - 16, 26, better, "faint", "end")

    def x(value: float) -> float:
        return _LABELS + (_WIDTH - _LABELS - _VALUES) * value / ticks[-1]

    for tick in ticks:
        drawing.line(x(tick), 44, x(tick), height - 30, "grid")
        drawing.text(x(tick), height - 13, f"{tick:,g}", "faint small", "middle")
    y = 48.0
    for label, bar, value in rows:
        if bar is None:
            drawing.text(16, y + 19, label, "faint small")
            y += _GROUP
            continue
        drawing.text(_LABELS - 10, y + 15, label, "bold" if bar.ours else "", "end")
        drawing.box(x(0), y + 3, x(value) - x(0), 16, "ours" if bar.ours else "other", 2)
        drawing.text(x(value) + 6, y + 15, number(value), "small")
        y += _ROW
    if topic.mark is not None:
        at, words = topic.mark
        drawing.line(x(at), 44, x(at), height - 30, "line dash")
        drawing.text(x(at) + 5, 42, words, "faint small")
    return str(drawing)


def _ticks(most: float) -> list[float]:
    """Choose four to eight round values from zero to above the largest."""
    step = 10.0 ** math.floor(math.log10(most / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if most / (step * factor) <= 7)
    return [step * place for place in range(math.ceil(most / step) + 1)]


def _curve_plot(curves: Sequence[Curve], chart: Chart, axis: str) -> str:
    left, top, width, height = 78, 48, 516, 240
    values = [y for curve in curves for _, y in curve.points if y > 0]
    xs = sorted({x for curve in curves for x, _ in curve.points})
    linear = max(values) / min(values) <= _LINEAR_UP_TO
    if linear:
        ticks = _ticks(max(values))
    else:
        low, high = (math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))))
        ticks = [10.0**exponent for exponent in range(low, high + 1)]
    span = math.log10(xs[-1] / xs[0]) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + width * math.log10(x / xs[0]) / span
        share = y / ticks[-1] if linear else math.log10(y / ticks[0]) / (len(ticks) - 1)
        return across, top + height * (1 - share)

    title = f"{chart.title}, {chart.unit}"
    drawing = Drawing(640, top + height + 62 + 20 * len(curves), title)
    drawing.text(16, 26, title, "title")
    drawing.text(624, 26, f"{'higher' if chart.higher else 'lower'} is better", "faint", "end")
    for tick in ticks:
        _, y = place(xs[0], tick)
        drawing.line(left, y, left + width, y, "grid")
        drawing.text(left - 8, y + 4, f"{tick:,g}", "faint small", "end")
    for x in xs:
        drawing.text(
            place(x, ticks[-1])[0], top + height + 18, f"{x:,.0f}", "faint small", "middle"
        )
    drawing.text(left + width / 2, top + height + 37, axis, "faint", "middle")
    for order, curve in enumerate(curves):
        kind = ("ours", "other")[min(order, 1)]
        placed = [(place(x, y), y) for x, y in curve.points if y > 0]
        drawing.path("M" + "L".join(f"{x:.1f} {y:.1f}" for (x, y), _ in placed), f"curve {kind}")
        for (x, y), value in placed:
            drawing.dot(x, y, kind, f"{number(value)} {chart.unit}")
        y = top + height + 60 + 20 * order
        drawing.box(left, y - 10, 12, 12, kind, 2)
        drawing.text(left + 19, y, curve.label, "")
    return str(drawing)
