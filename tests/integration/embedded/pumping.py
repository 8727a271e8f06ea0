"""Waiting with a channel of plain pika, which does nothing unless it is let."""

from __future__ import annotations

from collections.abc import Callable

from pika.adapters.blocking_connection import BlockingChannel

from tests.support.polling import eventually


def pump(channel: BlockingChannel, seconds: float = 120.0) -> None:
    """Let a channel's connection handle what comes, for so long or until it is closed."""
    channel.connection.process_data_events(time_limit=seconds)


def until(channel: BlockingChannel, probe: Callable[[], bool]) -> None:
    """Let a channel's connection handle what comes until something is true."""

    def pumped() -> bool:
        pump(channel, 0.01)
        return probe()

    eventually(pumped)
