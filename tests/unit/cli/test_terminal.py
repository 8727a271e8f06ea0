from __future__ import annotations

import io
import sys
import threading

import pytest

from neon_mq_connector.cli import terminal
from tests.support.polling import eventually


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def look_at_standard_error(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    # not a fixture: pytest puts its own streams in place between fixtures and test
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_a_spinner_on_standard_error_is_shown_for_what_takes_long_and_ends_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = look_at_standard_error(monkeypatch)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with terminal.progress("[red]working[/red]"):
        eventually(lambda: "[red]working[/red]" in screen.getvalue())
        terminal.print_value({"text": "result"})
    assert out.getvalue() == '{"text":"result"}\n'
    assert "result" not in screen.getvalue()
    eventually(lambda: "neon-mq-progress" not in {each.name for each in threading.enumerate()})


def test_where_nobody_looks_there_is_a_line_if_any(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress("silent"):
        pass
    with terminal.progress("starting", plain=True):
        pass
    assert capsys.readouterr().err == "starting ...\n"


def test_a_value_is_pretty_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    terminal.print_value({"text": "[bold]x[/bold]" * 20})
    assert screen.getvalue() == '{\n  "text": "' + "[bold]x[/bold]" * 20 + '"\n}\n'


def test_a_stream_that_is_closed_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)  # as in `neon-mq ... 2>&-`
    assert not terminal.is_terminal(error=True)
