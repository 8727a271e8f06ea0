"""`neon-mq demo`: a service answers a client over RabbitMQ, in one terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from neon_mq_connector.cli.address import Address, parse_address
from neon_mq_connector.cli.connection import Connection, find_connection
from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.cli.failures import CommandError
from neon_mq_connector.cli.json_output import to_json
from neon_mq_connector.cli.options import add_connection_options, chosen_connection
from neon_mq_connector.cli.terminal import make_console, progress
from neon_mq_connector.envelope import new_id

if TYPE_CHECKING:
    from neon_mq_connector.cli.demo_page import DemoPage
    from neon_mq_connector.cli.demo_view import BrokerView

_VHOST = "/demo"


@click.command("demo")
@click.option(
    "--requests",
    type=click.IntRange(1, 100_000),
    default=5,
    show_default=True,
    metavar="N",
    help="How many requests to send.",
)
@click.option(
    "--refuse-transient",
    is_flag=True,
    help="On a private broker that refuses transient queues, as RabbitMQ 4.3 does.",
)
@click.option(
    "--management",
    metavar="URL",
    help="With --url or --config: the broker's management page, such as http://host:15672, to be "
    "asked about connections as the same user.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON at the end instead.")
@add_connection_options
def command(
    *,
    requests: int,
    refuse_transient: bool,
    management: str | None,
    as_json: bool,
    url: Address | None,
    config_file: Path | None,
    user: str | None,
    vhost: str | None,
) -> None:
    """See a service answer requests over RabbitMQ.

    It starts a private broker, an echo service, a subscriber and a client; shows requests, answers
    and times, a message that is published, and what the broker says of all that; then it stops
    everything and looks whether something is left. With --url, --config, --user or --vhost it uses
    that broker instead, and leaves it as it was.

    \b
    Examples:
      neon-mq demo
      neon-mq demo --requests 1000 --json | jq .median_ms
      neon-mq demo --url amqp://guest:guest@localhost:5672/
    """
    began = time.monotonic()
    if click.get_current_context().get_parameter_source("url") is ParameterSource.ENVIRONMENT:
        url = None  # exported for other commands; the demo has a broker of its own unless told
    if any(each is not None for each in (url, config_file, user, vhost)):
        if refuse_transient:
            raise click.UsageError("--refuse-transient is for the private broker: drop --url")
        place = _given(chosen_connection(url, config_file, user, vhost), management)
    else:
        if management:
            raise click.UsageError("--management goes with --url or --config")
        place = _private(refuse_transient=refuse_transient)
    page = None if as_json else _make_page()
    with place as (view, suffix, described):
        report = _perform(view, suffix, requests, page, described)
    report["seconds"] = round(time.monotonic() - began, 2)
    if page is None:
        click.echo(to_json(report, pretty=False))
    else:
        if view.connection.source == _PRIVATE:
            page.line("broker", "the private broker is gone")
        page.line("took", f"{report['seconds']:.1f} s in all")
    if not report["ok"]:
        raise CommandError(
            "the demo did not go as it should: see what is wrong or left above", ExitCode.FAILED
        )


_PRIVATE = "the private broker"
_Place = tuple["BrokerView", str, str]


@contextmanager
def _private(*, refuse_transient: bool) -> Iterator[_Place]:
    from neon_mq_connector.cli.demo_view import BrokerView
    from neon_mq_connector.testing import PrivateBroker

    broker = PrivateBroker(refuse_transient=refuse_transient)
    try:
        with progress("starting a private RabbitMQ", plain=True):
            began = time.monotonic()
            broker.start()
            broker.create_vhost(_VHOST)
        connection = find_connection(url=parse_address(broker.url(_VHOST)), source=_PRIVATE)
        view = BrokerView(connection, broker.management)
        yield view, "", f"a private node, ready in {time.monotonic() - began:.1f} s"
    finally:
        with progress("stopping the private RabbitMQ"):
            broker.close()


@contextmanager
def _given(connection: Connection, management: str | None) -> Iterator[_Place]:
    from pika import PlainCredentials

    from neon_mq_connector.cli.demo_view import BrokerView
    from neon_mq_connector.testing import ManagementClient

    with progress(f"connecting to {connection.where}"):
        connection.check()
    client = None
    if management is not None:
        credentials = connection.parameters()[0].credentials
        assert isinstance(credentials, PlainCredentials)  # the only kind that is configured
        client = ManagementClient(
            management, credentials.username or "", credentials.password or ""
        )
    yield BrokerView(connection, client), f"_{new_id()[:8]}", f"given by {connection.source}"


def _make_page() -> DemoPage:
    from neon_mq_connector.cli.demo_page import DemoPage

    return DemoPage(make_console())


def _perform(
    view: BrokerView, suffix: str, count: int, page: DemoPage | None, described: str
) -> dict[str, Any]:
    """Play it all, and tell how it went; whatever happens, everything is stopped."""
    from neon_mq_connector.cli.demo_stage import Stage, median_ms

    connection = view.connection
    version = view.version()
    stage = Stage(connection, suffix)
    try:
        with progress("starting the service and the subscriber"):
            stage.start()
        if page:
            page.line("broker", f"RabbitMQ {version}, {described}".replace(" ,", ","))
            page.line("address", f"{connection.where}, virtual host {connection.vhost}")
            page.line("service", f"EchoService consumes queue {stage.queue}")
        with progress(f"sending {count} requests"):
            exchanged = stage.ask(count)
        if page:
            page.requests(exchanged)
        published = stage.publish()
        if page:
            page.published(published)
        with progress("asking the broker (it counts once a second)"):
            seen = stage.look(view, count)
        if page:
            page.broker(seen)
    finally:
        with progress("stopping"):
            stage.stop()
    with progress("looking for what is left"):
        left = stage.left(view)
    if page:
        page.left(left, with_connections=view.management is not None)
    right = all(each.is_right for each in exchanged)
    return {
        "ok": right and not left,
        "broker": {
            "address": connection.where,
            "vhost": connection.vhost,
            "version": version or None,
            "private": connection.source == _PRIVATE,
        },
        "requests": [asdict(each) for each in exchanged],
        "median_ms": median_ms(exchanged),
        "published": asdict(published),
        "queues": [asdict(row) for row in seen.queues],
        "connections": [asdict(row) for row in seen.connections],
        "left": asdict(left),
    }
