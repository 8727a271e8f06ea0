"""What a guarded block raises is logged and told, and ends there; Ctrl-C alone is passed on."""

from __future__ import annotations

import logging
import threading

import pytest

from neon_mq_connector.threads.guard import Guard, name_of


@pytest.mark.parametrize("kind", [ValueError, SystemExit, GeneratorExit])
def test_what_is_raised_is_logged_with_its_traceback_and_told(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException] = []
    guard = Guard("hook %s of %r", "on_close", "q", report=told.append)
    error = kind("boom")
    with caplog.at_level(logging.ERROR):
        for _ in range(2):  # a guard may be used again
            with guard:
                raise error
    assert told == [error, error]
    assert [each.getMessage() for each in caplog.records] == ["hook on_close of 'q' failed"] * 2
    assert "boom" in caplog.text
    assert "Traceback" in caplog.text


def test_only_an_interrupt_of_the_main_thread_is_passed_on() -> None:
    def interrupt() -> None:
        with Guard("a hook"):
            raise KeyboardInterrupt
        passed.append(True)

    passed: list[bool] = []
    thread = threading.Thread(target=interrupt)
    thread.start()
    thread.join(30.0)
    assert passed == [True]
    with pytest.raises(KeyboardInterrupt):
        interrupt()


class Nameless:
    def __repr__(self) -> str:
        raise ValueError("no name")

    def __call__(self) -> None: ...


def test_a_callback_always_has_a_name() -> None:
    assert name_of(Nameless.__call__) == "Nameless.__call__"
    assert name_of(Nameless()) == "a Nameless"
