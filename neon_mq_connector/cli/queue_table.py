"""Queues as lines of text, for a terminal and for a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neon_mq_connector.cli.messages import printable

if TYPE_CHECKING:
    from neon_mq_connector.operations.queues import QueueState


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        field: what of a `QueueState` it shows.
        title: its heading.
        key: the key by which `neon-mq top` sorts by it.
    """

    field: str
    title: str
    key: str


QUEUE = Column("queue", "QUEUE", "n")
COLUMNS = (
    Column("consumers", "CONSUMERS", "c"),
    Column("ready", "READY", "r"),
    Column("unacked", "UNACKED", "u"),
    Column("parked", "PARKED", "p"),
    Column("published", "IN/S", "i"),
    Column("delivered", "OUT/S", "o"),
)
_NARROWEST = 10


def without_parked(states: Sequence[QueueState]) -> list[QueueState]:
    """Leave out each dead-letter queue whose queue is listed with the number of parked messages."""
    from neon_mq_connector.consumers.registration import dead_queue_name

    told = {dead_queue_name(each.queue) for each in states}
    return [each for each in states if each.queue not in told]


def sorted_states(states: Iterable[QueueState], column: Column) -> list[QueueState]:
    """Sort queues by name, or those with most of something first."""
    if column is QUEUE:
        return sorted(states, key=lambda each: each.queue)
    return sorted(states, key=lambda each: (-(getattr(each, column.field) or 0), each.queue))


def table(states: Sequence[QueueState], width: int | None = None) -> list[str]:
    """Return a heading and a line for each queue.

    Args:
        states: the queues.
        width: how many characters a line may have; longer names are shortened in their middle.
            None leaves them whole, for a pipe.
    """
    rows = [[column.title for column in COLUMNS]]
    rows += [[_cell(getattr(each, column.field)) for column in COLUMNS] for each in states]
    widths = [max(len(row[number]) for row in rows) for number in range(len(COLUMNS))]
    names = [QUEUE.title, *(printable(each.queue) for each in states)]
    longest = max(len(name) for name in names)
    if width is not None:
        longest = min(longest, max(_NARROWEST, width - sum(widths) - 2 * len(widths)))
    return [
        "  ".join([_shortened(name, longest).ljust(longest), *map(str.rjust, row, widths)])
        for name, row in zip(names, rows, strict=True)
    ]


def _cell(value: int | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


def _shortened(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return f"{name[: width - 1 - end]}…{name[len(name) - end :]}"
