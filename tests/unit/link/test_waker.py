"""A descriptor that becomes readable when somebody wakes, with and without eventfd."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from neon_mq_connector.link.waker import Waker


@pytest.fixture(params=["eventfd", "socket pair"])
def waker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waker]:
    if request.param == "socket pair":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    waker = Waker()
    yield waker
    waker.close()


def is_readable(waker: Waker) -> bool:
    return bool(select.select([waker.fd], [], [], 0.0)[0])


def test_it_is_readable_from_a_wake_to_a_clear(waker: Waker) -> None:
    assert not is_readable(waker)
    for _ in range(3):
        waker.wake()
        assert is_readable(waker)
        waker.clear()
        assert not is_readable(waker)


def test_several_wakes_are_cleared_at_once(waker: Waker) -> None:
    for _ in range(100):
        waker.wake()
    waker.clear()
    assert not is_readable(waker)


def test_clearing_what_nobody_woke_does_not_wait(waker: Waker) -> None:
    waker.clear()
    assert not is_readable(waker)


def test_a_wake_never_waits_however_many_there_were(waker: Waker) -> None:
    for _ in range(20_000):  # more than a socket takes
        waker.wake()
    assert is_readable(waker)


def test_a_wake_never_waits_when_a_counter_is_full() -> None:
    if not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    waker = Waker()
    try:
        os.eventfd_write(waker.fd, 2**64 - 2)
        waker.wake()
        assert is_readable(waker)
        waker.clear()
        assert not is_readable(waker)
    finally:
        waker.close()


def test_a_wake_after_the_end_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "eventfd", raising=False)
    waker = Waker()
    waker.close()
    waker.wake()
