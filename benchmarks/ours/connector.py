"""Connectors as services make them."""

from __future__ import annotations

from benchmarks.site import Site
from neon_mq_connector import MQConnector


def make_connector(site: Site, name: str = "bench_service") -> MQConnector:
    """Make a connector with default settings.

    Args:
        site: where the broker is.
        name: the name of the service.
    """
    connector = MQConnector(site.config(name), name)
    connector.vhost = site.vhost
    return connector
