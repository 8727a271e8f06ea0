"""One request client per process, server, user and virtual host."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pika

from neon_mq_connector.client import RequestClient
from neon_mq_connector.threads import forking

LOG = logging.getLogger("neon_mq_connector.client")


ClientKey = tuple[Any, ...]

_shared: dict[ClientKey, RequestClient] = {}
_shared_lock = threading.RLock()


def client_key(parameters: Sequence[pika.ConnectionParameters]) -> ClientKey:
    """Tell what a client is known by: the servers, the virtual host, and who logs in how.

    Args:
        parameters: one entry per server of the cluster.
    """
    first = parameters[0]
    credentials = first.credentials
    return (
        tuple((each.host, each.port) for each in parameters),
        first.virtual_host,
        getattr(credentials, "username", None),
        getattr(credentials, "password", None),
        first.ssl_options is not None,
    )


def known_client(key: ClientKey) -> RequestClient | None:
    """Give the client of a key, if it was made and not closed since."""
    return _shared.get(key)


def shared_client(
    parameters: Sequence[pika.ConnectionParameters], *, owner: str = ""
) -> RequestClient:
    """Give the process's client for a server, user and virtual host; made when first asked for.

    Args:
        parameters: one entry per server of the cluster.
        owner: the name of the asking service, for the client that is made.

    Returns:
        The client; it is closed when the interpreter ends, or by `close_shared_clients`.
    """
    key = client_key(parameters)
    with _shared_lock:
        client = _shared.get(key)
        if client is None:
            made = RequestClient(parameters, owner=owner)
            client = _shared.setdefault(key, made)  # a signal handler may have been quicker
            _close_at_the_end_of_a_worker()
        return client


def _after_fork() -> None:
    """Replace the lock: whoever held it when the process forked is not here."""
    global _shared_lock
    _shared_lock = threading.RLock()


forking.call_in_child(_after_fork)


def _close_at_the_end_of_a_worker() -> None:
    """Have the clients closed in processes of `multiprocessing` too, which skip `atexit`."""
    if "multiprocessing.util" in sys.modules:
        from multiprocessing.util import Finalize

        Finalize(None, close_shared_clients, exitpriority=10)


def close_shared_clients(timeout: float = 3.0) -> None:
    """Close the clients that `send_mq_request` made; the next request makes another.

    Args:
        timeout: for each, in seconds.
    """
    with _shared_lock:
        clients = list(_shared.values())
        _shared.clear()
    for client in clients:
        client.close(timeout)


atexit.register(close_shared_clients)
