"""What a soak has found, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tests.soak.books import Totals
from tests.soak.vitals import Vitals
from tests.soak.watch import Wellbeing

_VITALS = tuple(each.name for each in fields(Vitals))


@dataclass
class Report:
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
        complaints: promises that were broken.
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
    complaints: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "passed": not self.complaints}

    def as_text(self) -> str:
        """Return tables for a person."""
        kinds = list(self.totals[0].counts)
        messages = [[t.place, *map(str, t.counts.values())] for t in self.totals]
        sums = [
            str((max if kind == "tries" else sum)(t.counts[kind] for t in self.totals))
            for kind in kinds
        ]
        fared = [
            [name, self.engines[name], *map(str, each.figures())]
            for name, each in self.wellbeing.items()
        ]
        figures = [each.figures() for each in self.wellbeing.values()]
        fared.append(["most", "", *(str(max(column)) for column in zip(*figures, strict=True))])
        columns = ("engine", "silence", "in calm", "recovery", "false alarms", "unseen")
        vitals = [
            [moment, *(str(getattr(v, name)) for name in _VITALS)]
            for moment, v in self.vitals.items()
        ]
        faults = ", ".join(f"{kind} ×{count}" for kind, count in sorted(self.faults.items()))
        requests = ", ".join(f"{count} {what}" for what, count in self.requests.items())
        lines = [
            *(_table([["messages", *kinds], *messages, ["all", *sums]]), ""),
            *(_table([["health", *columns], *fared]), ""),
            *(f"requests: {requests}", ""),
            *(_table([["moment", *_VITALS], *vitals]), ""),
            f"faults: {faults}",
        ]
        lines += [f"error of a send: {name} ×{count}" for name, count in self.unexpected.items()]
        lines += [f"BROKEN: {each}" for each in self.complaints]
        lines.append(
            f"seed {self.seed}, {self.seconds:g} s: "
            + ("a promise is broken" if self.complaints else "all promises kept")
        )
        return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
