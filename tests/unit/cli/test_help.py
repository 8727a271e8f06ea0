"""What the command says about itself, and what that costs."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from neon_mq_connector.cli.app import COMMANDS, cli
from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.version import __version__
from tests.support.programs import python
from tests.unit.cli.conftest import Run

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "command.md"


#: The commands, and those below `dead`.
EVERY = (*COMMANDS, *(f"dead {name}" for name in ("list", "show", "replay", "discard")))


def command_named(name: str) -> click.Command:
    command: click.Command | None = cli
    for word in name.split():
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(cli, **cli.context_settings), word)
    assert command is not None
    return command


def test_help_names_every_command_and_every_exit_code(run: Run) -> None:
    done = run("--help")
    assert done.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", done.stdout, re.MULTILINE), name
    for code in ExitCode:
        assert f"{code.value:>3}  {code.meaning}" in done.stdout


@pytest.mark.parametrize("name", EVERY)
def test_the_help_of_a_command_has_examples_and_fits_into_80_columns(run: Run, name: str) -> None:
    done = run(*name.split(), "-h", env={"COLUMNS": "80"})
    assert done.exit_code == 0
    assert f"neon-mq {name}" in done.stdout.partition("Examples:")[2]
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


@pytest.mark.parametrize("name", EVERY)
def test_every_option_is_on_the_page_of_the_documentation(name: str) -> None:
    heading = name.partition(" ")[0]
    section = re.search(
        rf"^## neon-mq {heading}$(?P<text>.*?)(?=^## |\Z)",
        PAGE.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert section is not None, f"{PAGE} has no section on {name}"
    shared = PAGE.read_text().partition("## Where the broker is")[2].partition("\n## ")[0]
    for parameter in command_named(name).params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            option = parameter.opts[-1]
            assert f"`{option}" in section["text"] + shared, f"{name}: {option} is not described"


def test_every_exit_code_is_on_the_page_of_the_documentation() -> None:
    page = PAGE.read_text()
    for code in ExitCode:
        assert f"| {code.value} | {code.meaning} |" in page


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").stdout.strip() == f"neon-mq, version {__version__}"


def test_nothing_that_draws_or_validates_is_imported_for_help() -> None:
    program = (
        "import sys\n"
        "from neon_mq_connector.cli.app import cli\n"
        "cli(['--help'], standalone_mode=False)\n"
        "print('IMPORTED', *sys.modules)"
    )
    imported = python("-c", program, cwd=ROOT).partition("IMPORTED")[2].split()
    assert "click" in imported
    assert not {"rich", "pydantic", "rich_click", "ovos_config"} & set(imported)
    assert "neon_mq_connector.testing" not in imported
