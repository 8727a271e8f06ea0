"""What an answer says of itself: whose it is, and whether it is the last part."""

from __future__ import annotations

from typing import Any

import pytest

from neon_mq_connector.client import answer_id, is_final


@pytest.mark.parametrize(
    "answer, expected",
    [
        ({"message_id": "a"}, "a"),
        ({"message_id": "a", "context": {"mq": {"message_id": "b"}}}, "b"),
        ({"message_id": "a", "context": {"mq": {"message_id": None}}}, "a"),
        ({"message_id": "a", "context": {"mq": "nonsense"}}, "a"),
        ({"message_id": "a", "context": None}, "a"),
        ({"message_id": 5}, "5"),
        ({"message_id": None}, None),
        ({}, None),
    ],
)
def test_an_answer_says_which_request_it_is_for(
    answer: dict[str, Any], expected: str | None
) -> None:
    assert answer_id(answer) == expected


@pytest.mark.parametrize(
    "part, final",
    [
        ({"is_final": True}, True),
        ({"_is_final": True}, True),
        ({"is_final": False, "_is_final": True}, True),
        ({"context": {"mq": {"is_final": True}}}, True),
        ({"context": {"mq": {"_is_final": 1}}}, True),
        ({"context": {"is_final": True}}, False),
        ({"context": [], "is_final": False}, False),
        ({}, False),
    ],
)
def test_a_part_says_whether_it_is_the_last(part: dict[str, Any], final: bool) -> None:
    assert is_final(part) is final
