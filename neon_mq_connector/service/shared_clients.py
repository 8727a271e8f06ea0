"""One request client per process, server, user, virtual host and TLS identity."""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Hashable, Sequence
from typing import Any

import pika

from neon_mq_connector import tracing
from neon_mq_connector.client import RequestClient
from neon_mq_connector.config.values import TLS_IDENTITY
from neon_mq_connector.threads import forking

_shared: dict[tuple[Any, ...], RequestClient] = {}
_shared_lock = threading.RLock()


def shared_client(
    parameters: Sequence[pika.ConnectionParameters], *, owner: str = ""
) -> RequestClient:
    """Return the process's client for some servers, a user and a virtual host.

    Args:
        parameters: one entry per server of the cluster.
        owner: the name of the asking service, for a client that is made.

    Returns:
        The client; it is closed when the interpreter ends, or by `close_shared_clients`.
    """
    first = parameters[0]
    key = (
        tuple((each.host, each.port, _tls_identity(each.ssl_options)) for each in parameters),
        first.virtual_host,
        getattr(first.credentials, "username", None),
        getattr(first.credentials, "password", None),
    )
    with _shared_lock:
        client = _shared.get(key)
        if client is None:
            tracing.begin()
            client = _shared[key] = RequestClient(parameters, owner=owner)
            _close_at_the_end_of_a_worker()
        return client


def _tls_identity(options: pika.SSLOptions | None) -> Hashable:
    """Return whom a connection trusts and what it shows; the same for the same configuration."""
    if options is None:
        return None
    # a context from elsewhere does not tell which certificate it shows
    return getattr(options.context, TLS_IDENTITY, options.context), options.server_hostname


def _after_fork() -> None:
    """Replace the lock, whose holder is not here, and the clients: a worker closes its own."""
    global _shared_lock
    _shared_lock = threading.RLock()
    forking.keep(dict(_shared))
    _shared.clear()


forking.call_in_child(_after_fork)


def _close_at_the_end_of_a_worker() -> None:
    """Close the clients in processes of `multiprocessing` too, which skip `atexit`."""
    if "multiprocessing.util" in sys.modules:
        from multiprocessing.util import Finalize

        Finalize(None, close_shared_clients, exitpriority=10)


def close_shared_clients() -> None:
    """Close the shared clients; the next request makes another."""
    with _shared_lock:
        clients = list(_shared.values())
        _shared.clear()
    for client in clients:
        client.close()


atexit.register(close_shared_clients)
