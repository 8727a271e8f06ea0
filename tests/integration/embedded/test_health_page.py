"""The page that shows the state of a service, in a headless browser."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from neon_mq_connector.testing import EmbeddedBroker
from tests.support.browser import Browser
from tests.support.watched import broken, healthy


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    found = Browser.find(tmp_path / "profile")
    if found is None:
        pytest.skip("there is no Chromium here")
    return found


def words(page: str) -> str:
    """Return what a reader sees."""
    body = re.sub(r"<script>.*?</script>", "", page.partition("<body>")[2], flags=re.S)
    return html.unescape(re.sub(r"<[a-z/][^>]*>", " ", body))


def test_a_healthy_service_is_shown_at_work(embedded: EmbeddedBroker, browser: Browser) -> None:
    with healthy(embedded) as server:
        seen = words(page := browser.read(server.url))
    assert not re.search(r"(src|href)=.?(https?:)?//", page), "it loads nothing from elsewhere"
    assert "not ready" not in seen
    assert re.search(r"shop\s+ready\s+live", seen)
    assert re.search(r"orders\s+consuming\s+[\d.]+\s+[\d.]+ ms\s+[1-9]", seen), "handled"
    assert "self._done.wait(_HELD)" in seen, "where the callback of the report is"
    assert "mq-io:/" in seen


def test_of_a_broken_service_it_is_shown_what_is_wrong(
    embedded: EmbeddedBroker, browser: Browser
) -> None:
    with broken(embedded) as server:
        seen = words(page := browser.read(server.url))
    assert re.search(r"shop\s+not ready\s+live", seen)
    assert "consumer 'audit' is recovering" in seen
    assert "RESOURCE_LOCKED" in seen
    assert "audit <b>log</b>" in seen
    assert "<b>log" not in page, "what a service says is text, not markup"
    assert re.search(r"invoices\s+consuming\s+[\d.]+\s+[\d.]+ ms\s+0\s+1\s+1", seen)
