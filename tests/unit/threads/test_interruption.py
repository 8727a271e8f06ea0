"""Where a signal handler may come in between."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from neon_mq_connector.threads import interruption
from neon_mq_connector.threads.interruption import handlers_may_interrupt
from tests.support.polling import eventually, never


@pytest.fixture(autouse=True)
def signals_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at no other signals: whoever runs the tests may handle some."""
    monkeypatch.setattr(interruption, "_SIGNALS", (signal.SIGUSR1, signal.SIGHUP))


def test_the_main_thread_of_a_program_that_handles_a_signal_may_be_interrupted() -> None:
    eventually(lambda: not handlers_may_interrupt())
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        eventually(handlers_may_interrupt)
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(handlers_may_interrupt).result(30.0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    eventually(lambda: not handlers_may_interrupt())


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_signal_without_a_handler_of_the_program_does_not_count(
    handler: signal.Handlers,
) -> None:
    before = signal.signal(signal.SIGHUP, handler)
    eventually(lambda: not handlers_may_interrupt())
    try:
        never(handlers_may_interrupt, during=0.3)
    finally:
        signal.signal(signal.SIGHUP, before)
