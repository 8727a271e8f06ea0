"""Pages that are wrong are found to be so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.pages import Page
from tests.docs.programs import Programs, is_shown
from tests.docs.test_pages import Reader

MakePage = Callable[[str], Page]


@pytest.fixture
def make_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePage:
    monkeypatch.setattr(pages, "ROOT", tmp_path)

    def make(text: str) -> Page:
        path = tmp_path / "page.md"
        path.write_text(text)
        return Page(path)

    return make


def read(page: Page, printed: str = "") -> None:
    Reader(page, Programs(page.path.parent, {}), None, lambda: printed).read()


def test_an_error_names_the_line_of_the_page(make_page: MakePage) -> None:
    page = make_page("one\n\n```python\na = 1\nassert a == 2\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:4") as raised:
        read(page)
    assert "line 5" in "".join(_frames(raised.value.__cause__))


def _frames(error: BaseException | None) -> list[str]:
    frames, trace = [], error.__traceback__ if error else None
    while trace is not None:
        frames.append(f"line {trace.tb_lineno}")
        trace = trace.tb_next
    return frames


@pytest.mark.parametrize(
    "output, is_it",
    [
        pytest.param("a\nb\nc", True, id="lines between"),
        pytest.param("c\na", False, id="another order"),
        pytest.param("a", False, id="a line is missing"),
        pytest.param("a, more\nc", False, id="a line is longer"),
    ],
)
def test_what_is_shown_has_to_be_printed_in_order(output: str, is_it: bool) -> None:
    assert is_shown("a\nc\n", output) is is_it
