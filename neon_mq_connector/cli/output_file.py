"""The option `--output`, and the form that the name of a file asks for."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import click

from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.cli.failures import CommandError

output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it to this file.",
)


def form_of(output: Path | None, forms: Container[str], default: str) -> str:
    """Return the form that the name of a file ends with, if there is one, or the default."""
    suffix = "" if output is None else output.suffix.lstrip(".").lower()
    return suffix if suffix in forms else default


def write_result(text: str, output: Path | None) -> None:
    """Write a result to a file, or to standard output.

    Raises:
        CommandError: the file cannot be written.
    """
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"{output} cannot be written: {error.strerror or error}", ExitCode.FAILED
        ) from error
