"""Links between the pages lead somewhere."""

from __future__ import annotations

import pydoc
import re

import pytest

from tests.docs.pages import ROOT, Page, all_pages


@pytest.mark.parametrize("page", all_pages(), ids=str)
def test_links_lead_to_pages_and_headings_that_exist(page: Page) -> None:
    broken = []
    for link in page.links():
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in Page(target).anchors()
        ):
            broken.append(link)
    assert not broken, f"{page} has links that lead nowhere: {broken}"


def test_every_page_is_reached_from_the_index() -> None:
    index = Page(ROOT / "docs" / "index.md")
    linked = {(index.path.parent / link.partition("#")[0]).resolve() for link in index.links()}
    pages = {path.resolve() for path in (ROOT / "docs").rglob("*.md")} - {index.path.resolve()}
    assert pages <= linked, f"docs/index.md does not mention {pages - linked}"


def test_the_site_leads_to_every_page_once() -> None:
    docs = ROOT / "docs"
    nav = re.findall(r"^ +- ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(nav) == sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))


def test_pages_that_are_made_from_docstrings_name_what_exists() -> None:
    pages = (ROOT / "docs" / "reference" / "python").glob("*.md")
    names = [name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)]
    assert names
    missing = [name for name in names if pydoc.locate(name) is None]
    assert not missing
