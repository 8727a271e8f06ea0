"""The states of a consumer, from the table of legal moves."""

from __future__ import annotations

from neon_mq_connector.lifecycle import _MOVES, State
from pictures.graph import Move, Node, check, draw
from pictures.svg import Drawing

_NODES = {
    "new": Node(75, 76, ("new",), 90),
    "connecting": Node(240, 76, ("connecting",)),
    "consuming": Node(600, 76, ("consuming",)),
    "failed": Node(420, 166, ("failed",), 100),
    "recovering": Node(420, 286, ("recovering",)),
    "stopping": Node(300, 376, ("stopping",)),
    "stopped": Node(75, 376, ("stopped",), 100, last=True),
}
#: To stop is possible in every state that runs: one remark instead of eight arrows.
_STOPS = {"stopping", "stopped"}
_MOVES_DRAWN = {
    ("new", "connecting"): Move(("run",)),
    ("new", "stopped"): Move(("stop",), shift=(8, 0), anchor="start"),
    ("connecting", "consuming"): Move(("attached",)),
    ("connecting", "recovering"): Move(("the broker is away",), shift=(-8, 8), anchor="end"),
    ("connecting", "failed"): Move(("refused",), shift=(8, -6), anchor="start"),
    ("consuming", "recovering"): Move(("lost",), bend=34, shift=(10, 6), anchor="start"),
    ("recovering", "consuming"): Move(),
    ("consuming", "failed"): Move(("refused",), bend=-10, shift=(-8, -6), anchor="end"),
    ("failed", "consuming"): Move(("attached",), bend=-10, at=0.4, shift=(0, 14)),
    ("recovering", "recovering"): Move(),
    ("recovering", "failed"): Move(("refused",), bend=16, shift=(-8, 4), anchor="end"),
    ("failed", "recovering"): Move(
        ("tried again",), bend=16, at=0.45, shift=(7, 4), anchor="start"
    ),
    ("stopping", "stopped"): Move(("settled, closed",)),
}


def make() -> str:
    """Draw them.

    Raises:
        ValueError: the table has other moves than are drawn.
    """
    found = {(a.value, b.value) for a, others in _MOVES.items() for b in others}
    from_running = {a for a in State if a not in (State.NEW, State.STOPPING, State.STOPPED)}
    everywhere = {(a.value, each) for a in from_running for each in _STOPS}
    check("the picture of states", list(_MOVES_DRAWN), found - everywhere)
    drawing = Drawing(700, 412, "The states of a consumer and the moves between them")
    drawing.text(16, 26, "The states of a consumer", "title")
    draw(drawing, _NODES, _MOVES_DRAWN)
    drawing.line(440, 376, 363, 376, "line dash", arrow=True)
    drawing.text(450, 380, "stop, from each state that runs", "faint small")
    return str(drawing)
