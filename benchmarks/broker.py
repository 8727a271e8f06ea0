"""The private broker, a virtual host for each experiment."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.site import Site
from neon_mq_connector.testing import PrivateBroker


@contextmanager
def new_site(broker: PrivateBroker) -> Iterator[Site]:
    """Make a virtual host, and delete it with all that is left in it."""
    name = f"/bench-{secrets.token_hex(4)}"
    broker.create_vhost(name)
    try:
        yield Site(broker.host, broker.port, name, broker.username, broker.password)
    finally:
        broker.delete_vhost(name)
