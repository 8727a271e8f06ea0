"""The check that nothing of ours outlives a test: what it sees, and what it lets pass."""

from __future__ import annotations

import threading

import pytest

from tests.support import leaks


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "PATIENCE_SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
def test_a_thread_of_ours_that_stays_is_named() -> None:
    end = threading.Event()
    before = leaks.baseline()
    thread = threading.Thread(target=end.wait, args=(10,), name="mq-io:/neon", daemon=True)
    thread.start()
    try:
        with pytest.raises(AssertionError, match=r"threads of ours outlive the test: mq-io:/neon"):
            leaks.check_threads(before)
        leaks.check_threads(leaks.baseline())
    finally:
        end.set()
        thread.join(30.0)
    leaks.check_threads(before)


@pytest.mark.usefixtures("impatient")
def test_threads_of_others_are_none_of_our_business() -> None:
    end = threading.Event()
    before = leaks.baseline()
    thread = threading.Thread(target=end.wait, args=(10,), name="somebody-else", daemon=True)
    thread.start()
    leaks.check_threads(before)
    end.set()
    thread.join(30.0)
