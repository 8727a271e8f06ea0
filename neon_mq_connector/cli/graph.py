"""`neon-mq graph`: draw who talks to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from neon_mq_connector.cli.chosen_service import chosen_service, service_options
from neon_mq_connector.cli.options import management_option
from neon_mq_connector.cli.output_file import output_options, write_result


@click.command("graph", short_help="Draw exchanges, queues and services.")
@service_options(several=True)
@click.option(
    "--broker",
    "with_broker",
    is_flag=True,
    help="With classes: add what is on the broker. Without that is all there is.",
)
@management_option
@output_options("mermaid", "dot", "svg", help="How to draw it.")
def command(
    *,
    where: tuple[str, ...],
    with_broker: bool,
    management: str | None,
    form: str | None,
    output: Path | None,
    **named: Any,
) -> None:
    """Draw exchanges, queues and services, and who asks whom.

    With classes, what the services consume, and which handlers of others they ask; they are
    constructed and not run, and no broker is needed. Without, what is on the broker, by its
    management interface.

    \b
    Examples:
      neon-mq graph shop.service:Shop till.service:Till
      neon-mq graph --output broker.svg
      neon-mq graph shop.service:Shop --format dot | dot -Tpng > shop.png
    """
    from neon_mq_connector.cli.drawing import to_dot, to_mermaid, to_svg
    from neon_mq_connector.control.probe import check
    from neon_mq_connector.operations.graph import Graph, add_broker, add_service
    from neon_mq_connector.operations.management import ManagementAPI

    graph = Graph()
    for each in where or (None,):
        service, vhost = chosen_service(where=each, **named)
        if each is not None:
            add_service(graph, service)
    if with_broker or not where:
        parameters = service.get_connection_params(vhost)
        check([parameters])  # what is wrong with password or virtual host is better told by AMQP
        add_broker(
            graph,
            ManagementAPI.of(parameters, management or service.settings.management_url),
            vhost,
        )
    writers = {"mermaid": to_mermaid, "dot": to_dot, "svg": to_svg}
    write_result(graph, writers, form, output)
