"""`neon-mq doctor`: find out what keeps a service from working, and what would mend it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from neon_mq_connector.cli.chosen_service import chosen_service, service_options
from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.cli.logs import shown_logs
from neon_mq_connector.cli.options import Seconds, management_option
from neon_mq_connector.cli.terminal import print_value, progress
from neon_mq_connector.operations.findings import Finding, Level

_STYLES = {
    Level.OK: {"fg": "green"},
    Level.WARNING: {"fg": "yellow"},
    Level.ERROR: {"fg": "red", "bold": True},
}
_INDENT = " " * 9
_WIDEST = 100


@click.command("doctor", short_help="Find out what is wrong, and what would mend it.")
@service_options()
@management_option
@click.option(
    "--timeout",
    type=Seconds(min=0.1, max=600),
    default=10.0,
    metavar="SECONDS",
    help="How long each step may take (10).",
)
@click.option(
    "--upgrade",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Read a service's files instead, and list what it may notice of this release.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a list of findings as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    management: str | None,
    timeout: float,
    upgrade: Path | None,
    as_json: bool,
    **named: Any,
) -> None:
    """Find out what keeps a service from working, and what would mend it.

    It looks at the way to the broker, the login, the permissions (on a queue of its own, which is
    deleted), alarms, and the way of a request and its answer. With a class it looks at each queue
    of its consumers, too: those that its constructor registers and its declared handlers. The
    service is constructed and not run.

    With --upgrade it reads sources and configurations that were written for an earlier release, a
    file or a folder, and lists line by line what does not work, or works otherwise. Nothing is
    imported, and no broker is needed.

    It ends with 1 if there is an error; warnings do not count.

    \b
    Examples:
      neon-mq doctor
      neon-mq doctor my_package.service:Greeter
      neon-mq doctor --upgrade .
      neon-mq doctor --json | jq '.[] | select(.level == "error")'
    """
    shown_logs(ctx).show_nothing()  # the findings say it
    if upgrade is not None:
        from neon_mq_connector.cli.upgrade import check_upgrade

        if named["where"] is not None:
            raise click.UsageError(f"--upgrade reads files: leave {named['where']} out")
        findings = check_upgrade(upgrade)
    else:
        from neon_mq_connector.operations.diagnosis import diagnose

        service, vhost = chosen_service(**named)
        with progress("examining"):
            findings = diagnose(service, vhost=vhost, management=management, timeout=timeout)
    if as_json:
        print_value([asdict(each) for each in findings])
    elif upgrade is not None:
        for each in findings:
            remedy = f"; {each.remedy}" if each.remedy else ""
            click.echo(f"{each.check}: {each.level.value}: {each.message}{remedy}")
    else:
        _print(findings)
    if any(each.level is Level.ERROR for each in findings):
        ctx.exit(ExitCode.FAILED)


def _print(findings: Iterable[Finding]) -> None:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    counts = dict.fromkeys(Level, 0)
    for each in findings:
        counts[each.level] += 1
        level = click.style(f"{each.level.value:<9}", **_STYLES[each.level])  # type: ignore[arg-type]
        lines = _wrapped(f"{each.check}: {each.message}", width)
        click.echo(level + lines[0])
        remedy = _wrapped(f"-> {each.remedy}", width) if each.remedy else []
        for line in (*lines[1:], *remedy):
            click.echo(_INDENT + line)
    click.echo(", ".join(f"{count} {level.value}" for level, count in counts.items()))


def _wrapped(text: str, width: int) -> list[str]:
    room = max(20, width - len(_INDENT))
    return textwrap.wrap(text, room, break_on_hyphens=False) or [""]
