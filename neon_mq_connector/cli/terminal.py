"""Results go to standard output; notes, warnings and spinners to standard error."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from neon_mq_connector.cli.json_output import to_json

if TYPE_CHECKING:
    from rich.console import Console

#: A spinner is shown for what takes longer, in seconds.
SPINNER_AFTER = 0.4


def is_terminal(*, error: bool = False) -> bool:
    """Tell whether somebody looks at standard output, or at standard error."""
    return bool((sys.stderr if error else sys.stdout).isatty())


def make_console(*, error: bool = False) -> Console:
    """Make what draws tables and colours; plain text where nobody looks."""
    from rich.console import Console

    return Console(stderr=error, highlight=False, soft_wrap=False)


def note(text: str) -> None:
    """Tell the user something that is no result."""
    click.secho(text, err=True, dim=True)


def warn(text: str) -> None:
    """Tell the user something that may matter."""
    click.secho(f"Warning: {text}", err=True, fg="yellow")


def print_value(value: Any, *, one_line: bool = False) -> None:
    """Print a value as JSON: pretty in colours on a terminal, otherwise in one line."""
    if one_line or not is_terminal():
        click.echo(to_json(value, pretty=False))
        return
    from rich.highlighter import JSONHighlighter
    from rich.text import Text

    text = Text(to_json(value, pretty=True))
    JSONHighlighter().highlight(text)
    # lines stay whole, so that they can be copied
    make_console().print(text, soft_wrap=True)


@contextmanager
def progress(doing: str, *, plain: bool = False) -> Iterator[Callable[[], None]]:
    """Show that something is going on, if it takes long enough to be noticed.

    Args:
        doing: what, e.g. ``"waiting for an answer"``.
        plain: say it in a line of its own where there is no terminal.

    Yields:
        What ends it before the block does, so that something can be printed.
    """
    if not is_terminal(error=True):
        if plain:
            click.echo(f"{doing} ...", err=True)
        yield lambda: None
        return
    over = threading.Event()
    spinner = threading.Thread(
        target=_spin, args=(doing, over), name="neon-mq-progress", daemon=True
    )

    def end() -> None:
        over.set()
        spinner.join(timeout=2.0)

    spinner.start()
    try:
        yield end
    finally:
        end()


def _spin(doing: str, over: threading.Event) -> None:
    began = time.monotonic()
    if over.wait(SPINNER_AFTER):
        return
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    spinner = Spinner("dots", Text(doing))
    # not redirected: what the command prints meanwhile must not end up on standard error
    with Live(
        spinner,
        console=make_console(error=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        while not over.wait(0.5):
            spinner.update(text=Text(f"{doing} ({time.monotonic() - began:.0f} s)"))
