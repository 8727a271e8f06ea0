"""What a soak has found, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.soak.books import Totals
from tests.soak.vitals import Vitals


@dataclass
class Report:
    """All that a run has to say.

    Attributes:
        seed: by which it can be repeated.
        seconds: how long it was to take.
        faults: how many of each kind there were.
        totals: the sums, place by place.
        requests: how many were asked and answered, and have failed.
        vitals: what the process held, moment by moment.
        silent: consumers that were silent after the last fault, and for how long.
        unexpected: errors of sends that are not those of a send.
        complaints: promises that were broken.
    """

    seed: int
    seconds: float
    faults: dict[str, int] = field(default_factory=dict)
    totals: list[Totals] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)
    vitals: dict[str, Vitals] = field(default_factory=dict)
    silent: dict[str, float] = field(default_factory=dict)
    unexpected: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "passed": not self.complaints}

    def as_text(self) -> str:
        """Return tables for a person."""
        columns = (
            "sent",
            "confirmed",
            "unsure",
            "refused",
            "handled",
            "repeated",
            "parked",
            "ready",
            "lost",
            "false_alarms",
        )
        rows = [[t.place, *(str(getattr(t, name)) for name in columns)] for t in self.totals]
        sums = [str(sum(getattr(t, name) for t in self.totals)) for name in columns]
        messages = _table([["messages", *columns], *rows, ["all", *sums]])
        names = ("threads", "sockets", "connections", "queues", "resident_mb")
        vitals = _table(
            [["moment", *names]]
            + [
                [when, *(str(getattr(v, name)) for name in names)]
                for when, v in self.vitals.items()
            ]
        )
        faults = ", ".join(f"{kind} ×{count}" for kind, count in sorted(self.faults.items()))
        requests = ", ".join(f"{count} {what}" for what, count in self.requests.items())
        lines = [messages, "", f"requests: {requests}", "", vitals, "", f"faults: {faults}"]
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
