"""Links between the pages lead somewhere."""

from __future__ import annotations

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
