"""`neon-mq status`: what waits in queues, who consumes them, and what is parked."""

from __future__ import annotations

import shutil
from dataclasses import asdict

import click

from neon_mq_connector.cli.connection import Connection
from neon_mq_connector.cli.options import checked_name, connection_options, management_option
from neon_mq_connector.cli.queue_table import table, without_parked
from neon_mq_connector.cli.terminal import is_terminal, note, print_json, progress


@click.command("status", short_help="Show queues: who consumes, what waits, what is parked.")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...", callback=checked_name)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@management_option
@connection_options
def command(
    connection: Connection, *, queues: tuple[str, ...], as_json: bool, management: str | None
) -> None:
    """Show queues once: consumers, messages that wait, are unacked, or are parked.

    Messages that are parked are counted with the queue they came from. Without QUEUE all queues of
    the virtual host are listed, for which RabbitMQ's management plugin is needed. With QUEUE it is
    not, but unacked messages and rates are only known with it.

    \b
    Examples:
      neon-mq status
      neon-mq status my_queue other_queue --vhost /llm
      neon-mq status --json | jq '.queues[] | select(.consumers == 0)'
    """
    with (
        progress(f"connecting to {connection.where}"),
        connection.queue_reader(management) as reader,
    ):
        states = reader.states(queues)
    if as_json:
        print_json({"queues": [asdict(each) for each in states]})
        return
    if not states:
        note(f"there are no queues in virtual host {connection.vhost!r}")
        return
    width = shutil.get_terminal_size().columns if is_terminal() else None
    heading, *lines = table(states if queues else without_parked(states), width)
    click.secho(heading, bold=True)
    for line in lines:
        click.echo(line)
