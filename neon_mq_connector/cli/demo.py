"""`neon-mq demo`: a service at work, its failures and those of its broker, in one terminal."""

from __future__ import annotations

import time
from contextlib import closing

import click

from neon_mq_connector.cli.logs import debug_option, shown_logs
from neon_mq_connector.cli.terminal import print_json, progress

_LABEL_WIDTH = 9


@click.command("demo")
@click.option(
    "--rabbitmq",
    is_flag=True,
    help="On a node of the installed RabbitMQ instead of the embedded broker.",
)
@click.option(
    "--refuse-transient",
    is_flag=True,
    help="On a broker that refuses transient queues, as RabbitMQ 4.3 does.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON at the end instead.")
@debug_option
@click.pass_context
def command(ctx: click.Context, *, rabbitmq: bool, refuse_transient: bool, as_json: bool) -> None:
    """See a service at work, and what becomes of failures.

    It starts a broker, a service and a client of its own. It shows a request and its answer, a
    message that fails, is parked and is handled after all, and that the service is back after the
    broker was killed. Then it stops everything and looks whether something is left.

    \b
    Examples:
      neon-mq demo
      neon-mq demo --rabbitmq
      neon-mq demo --json | jq .seconds
    """
    from neon_mq_connector.cli.demo_story import Story
    from neon_mq_connector.testing import EmbeddedBroker, PrivateBroker

    began = time.monotonic()
    shown_logs(ctx).show_nothing()  # the story tells of failures in its own words
    broker = (PrivateBroker if rabbitmq else EmbeddedBroker)(refuse_transient=refuse_transient)
    steps: dict[str, str] = {}
    with closing(broker):
        with progress("starting a private RabbitMQ", plain=rabbitmq):
            broker.start()
        for label, text in Story(broker).tell():
            steps[label] = text
            if not as_json:
                click.echo(f"{click.style(f'{label:<{_LABEL_WIDTH}}', bold=True)}  {text}")
    seconds = round(time.monotonic() - began, 2)
    if as_json:
        print_json({"ok": True, "steps": steps, "seconds": seconds})
    else:
        click.echo(f"\nThat took {seconds:.1f} s.")
