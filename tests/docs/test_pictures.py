"""The pictures show what is so."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pictures.__main__ import FOLDER, PICTURES


@pytest.mark.parametrize("name", ["consumer-states", "failures", "message-states"])
def test_states_are_drawn_as_they_are(name: str) -> None:
    drawn = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert PICTURES[name]() == drawn, f"bring it up to date: scripts/pictures {name}"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_there_and_says_what_it_shows(name: str) -> None:
    assert ElementTree.parse(FOLDER / f"{name}.svg").getroot().get("aria-label")
