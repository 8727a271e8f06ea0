"""Queues as lines of text."""

from __future__ import annotations

from neon_mq_connector.cli.queue_table import QUEUE, sorted_states, table, without_parked
from neon_mq_connector.operations.queues import QueueState

STATES = [
    QueueState("a", consumers=1, ready=3, unacked=0, parked=2, published=12.5),
    QueueState("a.dead", ready=2, parked=2),
    QueueState("service.news.dead", ready=7, parked=7),
    QueueState("x" * 200, ready=1_000_000),
]


def test_a_dead_letter_queue_is_counted_with_its_queue() -> None:
    names = [each.queue for each in without_parked(STATES)]
    assert names == ["a", "service.news.dead", "x" * 200]


def test_lines_fit_into_a_terminal_and_names_are_whole_in_a_pipe() -> None:
    states = sorted_states(STATES, QUEUE)
    assert {len(line) for line in table(states, 80)} == {80}
    assert "1,000,000" in table(states, 80)[-1]
    assert "x" * 200 in table(states)[-1]


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert "\x1b" not in "".join(table([QueueState("\x1b[2J")]))
