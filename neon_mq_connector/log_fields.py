"""The fields that log records of queues and messages have beside their text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_bound: ContextVar[dict[str, object] | None] = ContextVar("neon_mq_log_fields", default=None)


def log_fields(
    queue: str = "", vhost: str = "", message_id: str | None = None
) -> dict[str, object]:
    """Return ``extra`` for a log call: these fields, as ``mq_...``, and the bound ones."""
    fields = {"mq_queue": queue, "mq_vhost": vhost, "mq_message_id": message_id}
    return {**(_bound.get() or {}), **{name: value for name, value in fields.items() if value}}


@contextmanager
def bound_log_fields(fields: dict[str, object]) -> Iterator[None]:
    """Add fields to all records that are logged with `log_fields` in a ``with`` block."""
    token = _bound.set(fields)
    try:
        yield
    finally:
        _bound.reset(token)
