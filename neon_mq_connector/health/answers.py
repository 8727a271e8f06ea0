"""The responses of the endpoint, by path."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from neon_mq_connector.health.prometheus import CONTENT_TYPE, metrics_text
from neon_mq_connector.health.status import Status, merged_verdict

#: Returns the status of each process that the endpoint speaks for.
ReadStatuses = Callable[[], Sequence[Status]]

_PATHS = ("/", "/live", "/ready", "/inflight", "/metrics", "/status")


class Answer(NamedTuple):
    """An HTTP response."""

    code: int
    content_type: str
    body: bytes


def answer(path: str, read_statuses: ReadStatuses) -> Answer:
    """Return the response to a request for a path."""
    path = path.partition("?")[0]
    if path == "/":
        return Answer(200, "text/html; charset=utf-8", _page())
    if path not in _PATHS:
        return _json(404, {"error": f"there is nothing at {path}", "paths": _PATHS})
    statuses = read_statuses()
    if path in ("/live", "/ready"):
        key = path[1:]
        well, reasons = merged_verdict(statuses, key)
        return _json(200 if well else 503, {key: well, "reasons": reasons})
    if path == "/inflight":
        return _json(
            200, [_of_worker(status, each) for status in statuses for each in status["running"]]
        )
    if path == "/metrics":
        try:
            return Answer(200, CONTENT_TYPE, metrics_text(statuses))
        except ImportError:
            return Answer(
                501,
                "text/plain; charset=utf-8",
                b"metrics need prometheus-client: pip install 'neon-mq-connector[metrics]'\n",
            )
    return _json(200, statuses)


def _of_worker(status: Status, data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "worker": status["worker"]} if "worker" in status else data


def _json(code: int, data: Any) -> Answer:
    return Answer(code, "application/json", json.dumps(data, indent=1).encode() + b"\n")


@cache
def _page() -> bytes:
    return files("neon_mq_connector.health").joinpath("page.html").read_bytes()
