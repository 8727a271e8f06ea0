"""What only the management interface of a broker tells."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from neon_mq_connector.operations.findings import Finding, ok, skipped, warning
from neon_mq_connector.operations.management import ManagementAPI, ManagementError

_PAUSE = 0.5
#: A new connection is listed after some seconds.
_LISTED_WITHIN = 7.0
#: A difference that matters to nobody, in seconds; to open a connection may take as long.
_CLOCK_DIFFERENCE = 5.0
#: What changes the way of messages, by its name in policies; as an argument it begins with `x-`.
_SURPRISES = {
    "message-ttl": "messages that wait longer (ms) are dropped or dead-lettered",
    "max-length": "of more messages some are dropped or refused",
    "max-length-bytes": "of more bytes some messages are dropped or refused",
    "expires": "the queue is deleted when it is unused for so long (ms)",
    "delivery-limit": "a message that comes back more often is dropped or dead-lettered",
    "single-active-consumer": "only one consumer at a time gets messages",
    "dead-letter-exchange": "what is rejected or expires goes to this exchange",
}


def check_clock(
    management: ManagementAPI, vhost: str, connection_name: str, connected: float
) -> Finding:
    """Compare the clock of the broker with ours, by when it says that a connection was opened.

    Args:
        management: where to ask.
        vhost: of the connection.
        connection_name: its name.
        connected: when it was opened, by our clock.

    Returns:
        What was found; it is about ``"management"`` where that does not answer.
    """
    deadline = time.monotonic() + _LISTED_WITHIN
    try:
        while time.monotonic() < deadline:
            for row in management.call("GET", "vhosts", vhost, "connections"):
                if row.get("user_provided_name") == connection_name:
                    return _difference(row["connected_at"] / 1000 - connected)
            time.sleep(_PAUSE)
    except ManagementError as failure:
        return warning("management", "clock and policies are not checked", str(failure))
    return skipped("clock", "the management interface does not list our connection")


def _difference(seconds: float) -> Finding:
    if abs(seconds) <= _CLOCK_DIFFERENCE:
        return ok("clock", f"that of the broker is ours, within {_CLOCK_DIFFERENCE:g} s")
    way = "ahead of" if seconds > 0 else "behind"
    return warning(
        "clock",
        f"that of the broker is {abs(seconds):.0f} s {way} ours",
        "have both machines follow a time server (NTP)",
    )


def surprises(row: dict[str, Any], declared: dict[str, Any]) -> Iterator[str]:
    """Describe what a policy or an argument does to a queue that its service has not asked for.

    Args:
        row: the queue, as the management interface lists it.
        declared: the arguments that the service declares.
    """
    policy = row.get("effective_policy_definition") or {}
    arguments = row.get("arguments") or {}
    for key, effect in _SURPRISES.items():
        if f"x-{key}" in declared:
            continue
        if key in policy:
            yield f"policy {row.get('policy')!r} has {key} {policy[key]!r}: {effect}"
        elif f"x-{key}" in arguments:
            yield f"it exists with x-{key} {arguments[f'x-{key}']!r}: {effect}"
