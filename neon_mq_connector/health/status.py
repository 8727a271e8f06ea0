"""The status of one process as data, from which the endpoint makes all its responses."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from neon_mq_connector import metrics
from neon_mq_connector.service.health import Health, describe_running

#: As JSON; see `status_of`, and `unreachable` for a process that does not report one.
Status: TypeAlias = dict[str, Any]


def status_of(connector: Any) -> Status:
    """Return the state of a connector, and of the process that it runs in.

    Args:
        connector: an `MQConnector` or `AsyncMQConnector`.

    Returns:
        ``at``: when, in seconds of a clock of its own; ``live`` and ``ready``, each with ``ok`` and
        ``reasons``; ``running``: the callbacks that run; ``consumers``, ``connections``,
        ``publishes``; ``callback_seconds`` and ``request_seconds``: see
        `metrics.Durations.to_dict`.
    """
    health: Health = connector.health()
    reasons = list(health.reasons)
    if not reasons and not connector.check_health():  # services override it
        reasons = [f"check_health() of service {connector.service_name!r} returns False"]
    return {
        "service": connector.service_name,
        "pid": os.getpid(),
        "at": time.monotonic(),
        "live": _verdict(health.stuck),
        "ready": _verdict(reasons),
        "running": describe_running(dict(connector.consumers)),
        "consumers": [asdict(each) for each in health.consumers.values()],
        "connections": [asdict(each) for each in health.connections],
        "publishes": dict(health.publishes),
        "callback_seconds": _durations(metrics.callback_seconds),
        "request_seconds": _durations(metrics.request_seconds),
    }


def unreachable(service: str, reason: str, *, live: bool) -> Status:
    """Return the status of a process that does not report one.

    Args:
        service: what to call it.
        reason: why.
        live: whether it is being started already, so that nothing needs to restart it.
    """
    return {
        "service": service,
        "pid": None,
        "at": None,
        "live": _verdict([] if live else [reason]),
        "ready": _verdict([reason]),
        "running": [],
        "consumers": [],
        "connections": [],
        "publishes": {},
        "callback_seconds": {},
        "request_seconds": {},
    }


def merged_verdict(statuses: Iterable[Mapping[str, Any]], key: str) -> tuple[bool, list[str]]:
    """Return whether all processes are ``live`` or ``ready``, and what is wrong with which."""
    reasons, well = [], True
    for status in statuses:
        verdict, worker = status[key], status.get("worker")
        prefix = "" if worker is None else f"worker {worker}: "
        well = well and verdict["ok"]
        reasons += [prefix + reason for reason in verdict["reasons"]]
    return well, reasons


def _verdict(reasons: Iterable[str]) -> dict[str, Any]:
    reasons = list(reasons)
    return {"ok": not reasons, "reasons": reasons}


def _durations(durations: metrics.Durations | None) -> dict[str, Any]:
    return {} if durations is None else durations.to_dict()
