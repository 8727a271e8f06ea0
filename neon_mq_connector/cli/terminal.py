"""Results go to standard output; notes, warnings and spinners to standard error."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from neon_mq_connector.cli.json_output import to_json

if TYPE_CHECKING:
    from rich.progress import Progress

#: A spinner is shown for what takes longer, in seconds.
SPINNER_AFTER = 0.4


def is_terminal(*, error: bool = False) -> bool:
    """Whether standard output, or standard error, is a terminal; one that is closed is none."""
    stream = sys.stderr if error else sys.stdout
    return stream is not None and stream.isatty()


def note(text: str) -> None:
    """Print something that is no result on standard error."""
    click.secho(text, err=True, dim=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    click.secho(f"Warning: {text}", err=True, fg="yellow")


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    click.echo(to_json(value, pretty=False))


def print_pretty(value: Any) -> None:
    """Print a value as JSON in several lines; in colours on a terminal."""
    if not is_terminal():
        click.echo(to_json(value, pretty=True))
        return
    from rich.console import Console
    from rich.highlighter import JSONHighlighter
    from rich.text import Text

    text = Text(to_json(value, pretty=True))
    JSONHighlighter().highlight(text)
    # lines stay whole, so that they can be copied
    Console().print(text, soft_wrap=True)


def print_value(value: Any) -> None:
    """Print a value as JSON: pretty on a terminal, otherwise in one line."""
    (print_pretty if is_terminal() else print_json)(value)


@contextmanager
def progress(doing: str, *, plain: bool = False) -> Iterator[Callable[[], None]]:
    """Show a spinner for what takes long enough to be noticed.

    Args:
        doing: what is done, e.g. ``"waiting for an answer"``.
        plain: print a line where there is no terminal.

    Yields:
        A function that ends the spinner before the block does, so that something can be printed.
    """
    if not is_terminal(error=True):
        if plain:
            click.echo(f"{doing} ...", err=True)
        yield lambda: None
        return
    shown: list[Progress] = []

    def show() -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        text = TextColumn("{task.description}", markup=False)
        # not redirected: what the command prints meanwhile must not end up on standard error
        spinner = Progress(
            SpinnerColumn(),
            text,
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        spinner.add_task(doing, total=None)
        if timer.finished.is_set():  # it has ended while this was imported
            return
        spinner.start()
        shown.append(spinner)

    timer = threading.Timer(SPINNER_AFTER, show)
    timer.name, timer.daemon = "neon-mq-progress", True

    def end() -> None:
        timer.cancel()
        timer.join(timeout=2.0)
        while shown:
            shown.pop().stop()

    timer.start()
    try:
        yield end
    finally:
        end()
