"""Queues of the embedded broker, without a socket."""

from __future__ import annotations

from unittest.mock import Mock

from neon_mq_connector.testing.embedded.consumers import Consumer
from tests.unit.testing.embedded.models import declare, new_vhost, publish, waiting


def test_priorities_come_first_and_are_bounded() -> None:
    queue = declare(new_vhost(), "q", max_priority=2)
    publish(queue, b"low")
    publish(queue, b"mid", priority=1)
    publish(queue, b"top", priority=9)
    publish(queue, b"top too", priority=2)
    assert waiting(queue) == [b"top", b"top too", b"mid", b"low"]


def test_a_single_active_consumer_is_followed_by_the_next() -> None:
    queue = declare(new_vhost(), "q", single_active_consumer=True)
    outlet = Mock(congested=False, prefetch_limit=0, prefetched=0)
    active, next_one = Consumer("active", outlet), Consumer("next", outlet)
    queue.add_consumer(active)
    queue.add_consumer(next_one)
    publish(queue, b"1", b"2")
    queue.remove_consumer(active)
    publish(queue, b"3")
    took = [call.args[0] for call in outlet.deliver.call_args_list]
    assert took == [active, active, next_one]


def test_a_dead_letter_that_comes_round_is_dropped_unless_it_was_rejected() -> None:
    vhost = new_vhost()
    letters = {"dead_letter_exchange": "", "dead_letter_routing_key": "q"}
    queue = declare(vhost, "q", max_length=1, **letters)
    publish(queue, b"1", b"2")
    assert waiting(queue) == [b"2"]
    entry = queue.get(no_ack=False)
    assert entry is not None
    queue.reject([entry])
    (entry,) = queue.ready
    assert [(death.reason, death.times) for death in entry.message.deaths] == [("rejected", 1)]


def test_nothing_stays_in_the_books_when_all_is_consumed() -> None:
    vhost = new_vhost()
    queue = declare(vhost, "q")
    publish(queue, b"1", b"2", b"3")
    assert vhost.shared.stored > 0
    entry = queue.get(no_ack=False)
    assert entry is not None
    queue.acknowledge([entry])
    queue.get(no_ack=True)
    queue.purge()
    assert vhost.shared.stored == 0
