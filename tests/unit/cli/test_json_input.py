from __future__ import annotations

from pathlib import Path

import click
import pytest

from neon_mq_connector.cli.json_input import read_object


def complaint(value: str) -> str:
    with pytest.raises(click.BadParameter) as caught:
        read_object(value)
    return caught.value.message


def test_an_object_is_read_from_the_argument_and_from_a_file(tmp_path: Path) -> None:
    assert read_object('{"text": "hällo", "n": [1, null]}') == {"text": "hällo", "n": [1, None]}
    path = tmp_path / "message.json"
    path.write_bytes(b'\xef\xbb\xbf{"text": "hi"}\n')
    assert read_object(f"@{path}") == {"text": "hi"}


def test_the_place_of_a_mistake_is_shown_with_a_mark_under_it(tmp_path: Path) -> None:
    path = tmp_path / "message.json"
    path.write_text('{\n"filler": "' + "x" * 500 + '", "text": §}')
    first, line, mark = complaint(f"@{path}").split("\n")
    assert f"{path} is not JSON at line 2, column 523" in first
    assert line[mark.index("^")] == "§"
    assert len(line) < 80


def test_control_characters_of_the_input_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in complaint('{"text": \x1b[31m}')


@pytest.mark.parametrize(
    "value, words",
    [
        ("[1]", "this is a list"),
        ("null", "this is null"),
        ('"text"', "this is a text"),
        ("true", "this is a boolean"),
        ("{}", "there is nothing to send"),
        ("", "is not JSON at line 1, column 1"),
        ('{"n": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ("@missing.json", "missing.json cannot be read: no such file or directory"),
    ],
)
def test_what_is_no_object_is_refused_in_words(value: str, words: str) -> None:
    assert words in complaint(value)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "message.json"
    path.write_bytes(b'{"text": "\xff"}')
    assert "is not UTF-8 (at byte 10)" in complaint(f"@{path}")
