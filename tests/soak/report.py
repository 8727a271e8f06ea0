"""What a soak has found, as tables and as plain data."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.soak.books import Totals
from tests.soak.vitals import Vitals
from tests.soak.watch import Wellbeing


@dataclass(kw_only=True)
class Findings:
    """What each kind of run has to say.

    Attributes:
        complaints: promises that were broken.
        verbose: tell of what happens when it does.
    """

    complaints: list[str] = field(default_factory=list)
    verbose: bool = False

    def complain(self, what: str) -> None:
        """Note a promise that was broken."""
        self.say(f"BROKEN: {what}")
        self.complaints.append(what)

    def say(self, what: str) -> None:
        """Tell what happens."""
        if self.verbose:
            print(what, file=sys.stderr, flush=True)

    def as_text(self) -> str:
        """Return tables for a person."""
        kept = "a promise is broken" if self.complaints else "all promises kept"
        return "\n".join([*(f"BROKEN: {each}" for each in self.complaints), kept])


@dataclass
class Report(Findings):
    """All that a run has to say.

    Attributes:
        seed: by which it can be repeated.
        seconds: how long it was to take.
        engines: what has run the callbacks of each actor.
        faults: how many of each kind there were.
        totals: the sums, actor by actor.
        wellbeing: how each actor has fared.
        requests: how many were asked and answered, and have failed.
        vitals: what the process held, moment by moment.
        unexpected: errors of sends that are not those of a send.
    """

    seed: int
    seconds: float
    engines: dict[str, str] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    totals: list[Totals] = field(default_factory=list)
    wellbeing: dict[str, Wellbeing] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    vitals: dict[str, Vitals] = field(default_factory=dict)
    unexpected: dict[str, int] = field(default_factory=dict)

    def as_text(self) -> str:
        """Return tables for a person."""
        messages = [{"messages": each.place, **each.counts} for each in self.totals]
        health = [
            {"health": name, "engine": self.engines[name], **each.figures()}
            for name, each in self.wellbeing.items()
        ]
        vitals = [{"moment": moment, **asdict(each)} for moment, each in self.vitals.items()]
        counts = {"requests": self.requests, "faults": self.faults, "send raised": self.unexpected}
        return "\n".join(
            [
                *(f"{as_table(rows)}\n" for rows in (messages, health, vitals)),
                *(f"{what}: {listed(counted)}" for what, counted in counts.items()),
                f"seed {self.seed}, {self.seconds:g} s",
                super().as_text(),
            ]
        )


def listed(counts: Mapping[str, int]) -> str:
    """Return counts in a line."""
    return ", ".join(f"{count} {what}" for what, count in counts.items()) or "none"


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as a table."""
    cells = [list(rows[0]), *(list(map(str, row.values())) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]  # numbers to the right
        )
        for row in cells
    )
