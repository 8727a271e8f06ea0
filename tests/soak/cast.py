"""Who takes part in a soak."""

from __future__ import annotations

from tests.soak.actors import (
    Actor,
    Conversation,
    Deleted,
    Hooks,
    HostileHeaders,
    Large,
    SlowSubscriber,
    Subscriber,
)
from tests.soak.asking import ASKED, Asked

_QUORUM = {"x-queue-type": "quorum"}
#: The longest name that a queue can have: 255 bytes.
_LONG_NAME = "soak.long." + "ü" * 122 + "y"


def make_cast() -> list[Actor]:
    """Return the actors, each new."""
    # callbacks of `slow` seconds are slow by this, and have messages wait behind them
    slow = {"slow_callback_after": 1.0}
    little = {"inbox_max_bytes": 500_000, **slow}
    expiring = {"subscriber_queue_expires": 1.0, **slow}
    return [
        Actor("soak.plain"),
        Actor("soak.failing", fails=True, concurrency=4),
        Actor("soak.quorum", "manual", arguments=_QUORUM),
        Actor("soak.receipt", "on_receipt"),
        Actor(_LONG_NAME, fails=True),
        Subscriber("soak.news"),
        Conversation("soak.conversation", "on_receipt", slow=3.0, settings=slow),
        Large("soak.large", slow=3.0, settings=little),
        Large("soak.large-quorum", slow=3.0, settings=little, arguments=_QUORUM),
        Actor("soak.slow", slow=6.0, settings=slow),
        SlowSubscriber("soak.slow-news", slow=4.0, settings=expiring),
        Deleted("soak.deleted"),
        HostileHeaders("soak.headers"),
        HostileHeaders("soak.headers-receipt", "on_receipt"),
        Hooks("soak.hooks"),
        Hooks("soak.hooks-workers", concurrency=4),
        Asked(ASKED, "manual"),
    ]
