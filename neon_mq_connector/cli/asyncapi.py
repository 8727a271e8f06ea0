"""`neon-mq asyncapi`: describe what a service takes and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from neon_mq_connector.cli.chosen_service import chosen_service, service_options
from neon_mq_connector.cli.output_file import output_options, write_result


@click.command("asyncapi", short_help="Describe a service as an AsyncAPI document.")
@service_options(required=True)
@output_options("yaml", "json", "html", help="How to write it; html is a page for people.")
def command(*, form: str | None, output: Path | None, **named: Any) -> None:
    """Describe what a service takes and answers, as an AsyncAPI 3 document.

    It has the queues of the declared handlers, the JSON Schemas of what they take and answer, and
    the broker of the configuration, without user and password. The service is constructed and not
    run.

    \b
    Examples:
      neon-mq asyncapi my_package.service:Shop
      neon-mq asyncapi my_package.service:Shop --output shop.html
      neon-mq contract released.yaml current.yaml
    """
    from neon_mq_connector.cli.asyncapi_html import to_html
    from neon_mq_connector.contract.document import describe
    from neon_mq_connector.contract.files import to_json, to_yaml

    service, _ = chosen_service(**named)
    writers = {"yaml": to_yaml, "json": to_json, "html": to_html}
    write_result(describe(service), writers, form, output)
