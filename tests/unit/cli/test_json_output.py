from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_mq_connector.cli.json_output import to_json
from tests.unit.codec.oracle import literals


@pytest.mark.parametrize(
    "value, expected",
    [
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ({"a": {3, 1}}, {"a": [1, 3]}),
        ({"a": b"text"}, {"a": "text"}),
        ({"a": b"\xff\x00"}, {"a": {"base64": "/wA="}}),
        ({"a": float("nan"), "b": float("-inf")}, {"a": "nan", "b": "-inf"}),
        ({"a": 1 + 2j}, {"a": "(1+2j)"}),
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "null": "b", "[1, 2]": "c"}),
    ],
)
def test_what_json_has_not_is_written_as_what_comes_near(value: Any, expected: Any) -> None:
    assert json.loads(to_json(value, pretty=False)) == expected


@given(literals | st.frozensets(st.integers()), st.booleans())
def test_any_value_becomes_json_that_every_program_reads(value: Any, pretty: bool) -> None:
    text = to_json({"value": value}, pretty=pretty)
    json.loads(text.encode("utf-8"), parse_constant=lambda name: pytest.fail(name))


@given(st.text(st.characters()))
def test_a_text_comes_back_as_it_was(text: str) -> None:
    assert json.loads(to_json({"text": text}, pretty=False)) == {"text": text}


@given(st.text(st.characters(categories=["Cc", "Cs", "Zl", "Zp"])))
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    assert to_json({"text": text}, pretty=False).isprintable()


def test_one_line_is_compact_and_letters_stay_readable() -> None:
    assert to_json({"text": "hällo ✓", "n": [1, 2]}, pretty=False) == '{"text":"hällo ✓","n":[1,2]}'
