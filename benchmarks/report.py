"""What came out, as a table and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pika

from benchmarks.actor import Load, Sample
from benchmarks.experiment import Figure
from benchmarks.runner import Results
from neon_mq_connector.version import __version__


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and how far they lie apart."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Describe these."""
        return cls(statistics.median(values), min(values), max(values))

    def as_dict(self) -> dict[str, float]:
        """Return plain data."""
        return {"median": self.median, "min": self.least, "max": self.most}


@dataclass(frozen=True)
class Line:
    """A figure that was measured.

    Attributes:
        experiment: the name of the experiment.
        figure: which figure.
        ours: the quantity of the contender that it is about.
        theirs: the quantity of the other.
        ratio: of the two medians; its spread is that of the rounds.
    """

    experiment: str
    figure: Figure
    ours: Spread
    theirs: Spread
    ratio: Spread

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.figure.target is None:
            return None
        value = self.ours if self.figure.absolute else self.ratio
        return self.figure.target.reached(value.median)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        figure = self.figure
        return {
            "experiment": self.experiment,
            "figure": figure.title.strip(),
            "quantity": figure.quantity,
            "unit": figure.unit,
            "ours": self.ours.as_dict(),
            "theirs": self.theirs.as_dict(),
            "ratio": self.ratio.as_dict(),
            "target": figure.wanted or None,
            "reached": self.reached,
        }


def lines_of(results: Results) -> list[Line]:
    """Compare the contenders, figure by figure; those that were skipped are left out."""
    lines = []
    for figure in results.experiment.figures:
        ours = _values(results, figure.ours, figure.quantity)
        theirs = _values(results, figure.theirs, figure.quantity)
        if not ours or not theirs:
            continue
        by_round = [one / other for one, other in zip(ours, theirs, strict=False)]
        ratio = statistics.median(ours) / statistics.median(theirs)
        lines.append(
            Line(
                results.experiment.name,
                figure,
                Spread.of(ours),
                Spread.of(theirs),
                Spread(ratio, min(by_round), max(by_round)),
            )
        )
    return lines


def _values(results: Results, contender: str, quantity: str) -> list[float]:
    samples = results.samples.get(contender, [])
    return [sample[quantity] for sample in samples if quantity in sample]


def as_text(lines: Iterable[Line]) -> str:
    """Make a table for a person."""
    rows = [["figure", "ours", "the other", "ratio", "wanted", ""]]
    for line in lines:
        figure = line.figure
        rows.append(
            [
                figure.title,
                _cell(line.ours, figure.unit),
                _cell(line.theirs, figure.unit),
                _ratio(line.ratio),
                figure.wanted,
                {None: "", True: "reached", False: "not reached"}[line.reached],
            ]
        )
    return table(rows, words=(0, 4, 5))


def conditions(load: Load, rounds: int) -> dict[str, Any]:
    """Say what a measurement was made with."""
    return {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "library": __version__,
        "pika": pika.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "processors": os.cpu_count(),
        "rounds": rounds,
        "seconds_per_round": load.seconds,
        "messages_per_round": load.messages,
    }


def as_dict(all_results: Sequence[Results], load: Load, rounds: int) -> dict[str, Any]:
    """Return everything as plain data, every sample included."""
    return {
        **conditions(load, rounds),
        "figures": [line.as_dict() for each in all_results for line in lines_of(each)],
        "samples": {each.experiment.name: rounded(each.samples) for each in all_results},
        "skipped": {each.experiment.name: each.skipped for each in all_results if each.skipped},
    }


def rounded(samples: Mapping[str, Sequence[Sample]]) -> dict[str, list[Sample]]:
    """Shorten the numbers of samples to five digits that count."""
    return {
        contender: [{name: float(f"{value:.5g}") for name, value in each.items()} for each in found]
        for contender, found in samples.items()
    }


def number(value: float) -> str:
    """Write a number with three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(rows: Sequence[Sequence[str]], *, words: Collection[int] = (0,)) -> str:
    """Lay out rows.

    Args:
        rows: all of one length.
        words: which columns have words, and stand to the left.
    """
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n in words else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _cell(spread: Spread, unit: str) -> str:
    text = f"{number(spread.median)} {unit}"
    if spread.least == spread.most or not spread.median:
        return text
    return f"{text} ±{(spread.most - spread.least) / 2 / spread.median * 100:.0f} %"


def _ratio(ratio: Spread) -> str:
    text = f"{ratio.median:.2f}"
    if ratio.least == ratio.most:
        return text
    return f"{text} ({ratio.least:.2f}–{ratio.most:.2f})"
