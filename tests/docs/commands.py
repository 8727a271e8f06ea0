"""Lines that a page tells its reader to type."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import click

from neon_mq_connector.cli.app import cli
from neon_mq_connector.testing import EmbeddedBroker, PrivateBroker
from tests.docs.pages import ROOT
from tests.docs.programs import Programs

#: Commands of `neon-mq` that are run; of the others it is only checked that they exist.
_RUN = {"run", "request", "send", "listen", "status", "dead"}
#: Tests start a broker, and start it once more.
_PATIENCE_WITH_TESTS = 240.0
#: Programs of others, which the reader may have and these tests need not.
_NOT_OURS = {"cd", "docker", "export", "git", "kill", "pip", "python3", "sudo"}


@dataclass(frozen=True)
class Typed:
    """A line that is typed, and what the page shows below it."""

    line: str
    shown: str

    @property
    def words(self) -> list[str]:
        """Its words, as a shell has them."""
        return shlex.split(self.line, comments=True)


def read_console(text: str) -> list[Typed]:
    """Read a block of the kind ``console``: lines that begin with ``$`` are typed."""
    typed: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            typed.append([line[2:]])
        elif typed and typed[-1][-1].endswith("\\"):
            typed[-1][-1] = typed[-1][-1][:-1] + line.strip()
        else:
            assert typed, f"output without a command: {line!r}"
            typed[-1].append(line)
    return [Typed(line, "\n".join(shown)) for line, *shown in typed]


def run(typed: Typed, programs: Programs, broker: PrivateBroker | EmbeddedBroker | None) -> None:
    """Run a line that is typed, or check that it could be."""
    name, *arguments = typed.words
    if name == "python":
        _run_python(typed, arguments, programs)
    elif name == "pytest":
        program = programs.start(typed.line, ["-m", "pytest", "-p", "no:cacheprovider", *arguments])
        program.finish(_PATIENCE_WITH_TESTS)
        program.expect(typed.shown)
    elif name == "neon-mq":
        _run_command(typed, arguments, programs)
    elif name == "rabbitmqctl":
        assert isinstance(broker, PrivateBroker), typed.line
        _run_rabbitmqctl(arguments, broker)
    elif name.startswith("~"):
        pass  # a program in an environment of the reader's own
    elif name.startswith("scripts/"):
        _check_script(name, arguments)
    else:
        assert name in _NOT_OURS, f"nobody knows how to check {typed.line!r}"


def _run_python(typed: Typed, arguments: list[str], programs: Programs) -> None:
    if not arguments[0].startswith("-"):
        assert (programs.folder / arguments[0]).is_file(), f"the page has no file {arguments[0]}"
    programs.stop_one(typed.line)
    program = programs.start(typed.line, arguments)
    if not programs.is_service(program):
        program.finish()
    program.expect(typed.shown)


def _run_rabbitmqctl(arguments: list[str], broker: PrivateBroker) -> None:
    # it takes a second each time: what the management interface does as well is done by that
    match arguments:
        case ["add_user", user, password]:
            broker.add_user(user, password)
        case ["set_permissions", user, configure, write, read]:
            broker.management.permit(user, "/", configure=configure, write=write, read=read)
        case _:
            broker.rabbitmqctl(*arguments)


def _run_command(typed: Typed, arguments: list[str], programs: Programs) -> None:
    check_command(arguments)
    if not arguments or "--help" in arguments:
        return
    finds_errors = arguments[0] == "doctor" and "error " in typed.shown
    if arguments[0] not in _RUN and not finds_errors and not _describes(arguments, programs):
        return
    program = programs.start(typed.line, ["-m", "neon_mq_connector.cli", *arguments])
    if arguments[0] not in ("run", "listen") or "--count" in arguments:
        program.ends_with = int(finds_errors)
        program.finish()
    program.expect(typed.shown)


def _describes(arguments: list[str], programs: Programs) -> bool:
    """Whether a service is described or checked that is a program of the page."""
    if arguments[0] == "doctor" and "--upgrade" in arguments:
        return (programs.folder / arguments[-1]).is_file()
    if arguments[0] != "asyncapi":
        return False
    return (programs.folder / f"{arguments[1].partition(':')[0]}.py").is_file()


def check_command(arguments: list[str]) -> None:
    """Check that `neon-mq` knows the command and its options.

    Raises:
        click.UsageError: it does not.
    """
    context = click.Context(cli, info_name="neon-mq", **cli.context_settings)
    if not arguments or arguments[0].startswith("-"):
        return
    name, command, rest = cli.resolve_command(context, arguments)
    assert command is not None
    if "--help" not in rest:
        command.make_context(name, list(rest), parent=context).close()


def _check_script(name: str, arguments: list[str]) -> None:
    path = Path(ROOT, name)
    assert path.is_file(), f"there is no {name}"
    text = path.read_text(encoding="utf-8")
    for argument in arguments:
        assert not argument.startswith("-") or argument in text, f"{name} knows no {argument}"
