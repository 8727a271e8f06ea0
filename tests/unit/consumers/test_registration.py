"""What can be registered, and what is refused at once."""

from __future__ import annotations

from typing import Any

import pytest

from neon_mq_connector.consumers.registration import (
    Registration,
    Retry,
    bounded_name,
    dead_queue_name,
)
from neon_mq_connector.topology import Exchange, Queue


@pytest.mark.parametrize("field", ["prefetch_count", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, 65_536, 1.5, "3", None])
def test_a_number_out_of_range_is_refused_naming_queue_and_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"queue 'q': {field}={value!r}"):
        Registration(Queue("q"), **{field: value})


@pytest.mark.parametrize("name", [5, b"q", None])
def test_a_name_that_is_no_text_is_refused_naming_what_it_is_of(name: Any) -> None:
    with pytest.raises(TypeError, match="name of queue is"):
        Registration(Queue(name))
    with pytest.raises(TypeError, match="name of exchange is"):
        Registration(Queue("q"), Exchange(name))
    with pytest.raises(TypeError, match="name of routing key is"):
        Registration(Queue("q"), routing_keys=(name,))


def test_how_often_and_when_it_is_tried_is_said_by_a_retry() -> None:
    wrong: Any = 3
    with pytest.raises(TypeError, match="queue 'q': retry="):
        Registration(Queue("q"), retry=wrong)
    with pytest.raises(TypeError, match=r"backoff=3\)"):
        Retry(backoff=wrong)
    with pytest.raises(ValueError, match="at least one attempt"):
        Retry(attempts=0)


@pytest.mark.parametrize("letter", ["x", "ä", "\N{GRINNING FACE}", "\u20ac"])
def test_a_name_that_leaves_no_room_is_cut_and_stays_one_of_a_kind(letter: str) -> None:
    width = len(letter.encode())
    for length in range(251, 256):
        name = letter * (length // width) + "z" * (length % width)
        dead = dead_queue_name(name)
        assert len(dead.encode()) <= 255
        assert dead.endswith(".dead")
        assert dead.startswith(letter * 10)
        assert dead != dead_queue_name(name[:-1] + "?")
        assert len(bounded_name(3 * name, ".0123456789ab").encode()) <= 255
        assert bounded_name(3 * name, ".0123456789ab").endswith(".0123456789ab")
