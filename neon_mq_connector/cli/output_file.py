"""The options `--format` and `--output`, and what is written by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from neon_mq_connector.cli.exits import CommandError, ExitCode


def output_options(*forms: str, help: str) -> Callable[[Callable[..., Any]], Any]:
    """Add `--format` and `--output`, which `write_result` takes; the first form is the default."""
    format_option = click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        help=f"{help}  [default: by the name of the file, or {forms[0]}]",
    )
    output_option = click.option(
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write it to this file.",
    )
    return lambda function: format_option(output_option(function))


def write_result(
    value: Any,
    writers: Mapping[str, Callable[[Any], str]],
    form: str | None,
    output: Path | None,
) -> None:
    """Write a result to a file, or to standard output.

    Args:
        value: the result.
        writers: make a text of it, by the name of the form; the first is the default.
        form: the value of `--format`; by default the name of the file says it.
        output: the value of `--output`.
    """
    suffix = "" if output is None else output.suffix.lstrip(".").lower()
    text = writers[form or (suffix if suffix in writers else next(iter(writers)))](value)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"{output} cannot be written: {error.strerror or error}", ExitCode.FAILED
        ) from error
