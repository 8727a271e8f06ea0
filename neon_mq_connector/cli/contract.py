"""`neon-mq contract`: find out whether a new version of a service breaks its callers."""

from __future__ import annotations

from dataclasses import asdict

import click

from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.cli.logs import debug_option
from neon_mq_connector.cli.terminal import print_value


@click.command("contract", short_help="Tell whether a new contract breaks callers.")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--json", "as_json", is_flag=True, help="Print a list of changes as JSON.")
@debug_option
@click.pass_context
def command(ctx: click.Context, /, *, old: str, new: str, as_json: bool) -> None:
    """Compare two documents of `neon-mq asyncapi`, in YAML or JSON.

    It lists what has changed. It ends with 1 if a change breaks those who ask the service: a queue
    that is gone, a request that may be refused now, an answer that lacks a field or has another
    type. Other changes are compatible.

    \b
    Examples:
      neon-mq contract released.yaml current.yaml
      neon-mq contract old.json new.json --json | jq '.[] | select(.breaking)'
    """
    from neon_mq_connector.contract.compare import compare
    from neon_mq_connector.contract.files import read_document

    changes = compare(read_document(old), read_document(new))
    if as_json:
        print_value([asdict(each) for each in changes])
    elif not changes:
        click.echo("no changes")
    else:
        for change in changes:
            word, colour = ("breaking", "red") if change.breaking else ("compatible", "green")
            click.echo(f"{click.style(f'{word:<12}', fg=colour)}{change}")
    if any(each.breaking for each in changes):
        ctx.exit(ExitCode.FAILED)
