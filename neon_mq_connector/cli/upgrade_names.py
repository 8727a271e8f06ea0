"""Names of this package that sources may use, and what has become of them."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
from typing import Any

from neon_mq_connector.connector import MQConnector

#: Looked up when they are called, so that they may be replaced.
REPLACEABLE = {"get_timeout", "_default_mq_config"}
#: Private names that services have always used.
PRIVATE_IN_USE = {"_vhost", "_service_id", "_consumer_started"}
#: What `MQConnector` has and had not in earlier releases.
NEW_NAMES = {
    "gather_answers",
    "health",
    "middleware",
    "publish_many",
    "request",
    "run_forever",
    "serve_health",
    "settings",
    "stream",
    "stream_answer",
    "submit_message",
    "submit_request",
}
#: Classes that behave otherwise: how, and what to do.
CHANGED_CLASSES = {
    "SelectConsumerThread": (
        "its callbacks and hooks run on a thread of their own, not in the loop of the connection",
        "see that they wait for nothing that only that loop could bring",
    ),
    "AsyncConsumer": ("it takes coroutine functions alone", "make its callbacks `async def`"),
}
_MODULES = (
    "",
    ".connector",
    ".config",
    ".consumers",
    ".utils.client_utils",
    ".utils.connection_utils",
    ".utils.consumer_utils",
    ".utils.network_utils",
    ".utils.rabbit_utils",
    ".utils.thread_utils",
)


def unresolved(dotted: str) -> str:
    """Return why a dotted name of this package leads nowhere; empty if it leads somewhere."""
    try:
        pkgutil.resolve_name(dotted)
    except AttributeError:
        return "this release has no such name"
    except ImportError as problem:
        return f"this release has no such module, or an extra is missing ({problem})"
    return ""


def instead_of(dotted: str) -> str:
    """Return where a name of this package is, if there is one that is spelt alike."""
    last = dotted.rpartition(".")[2]
    for module in _MODULES:
        found: Any = importlib.import_module(f"neon_mq_connector{module}")
        if close := difflib.get_close_matches(last, dir(found), n=1, cutoff=0.85):
            return f"is it neon_mq_connector{module}.{close[0]}?"
    return "see the page on the interface for what there is"


def client_signature() -> inspect.Signature:
    """Return the signature of `send_mq_request`."""
    return inspect.signature(importlib.import_module("neon_mq_connector").send_mq_request)


@functools.cache
def private_names() -> frozenset[str]:
    """Return the private attributes of a connector; to construct one opens no connection."""
    names = {*dir(MQConnector), *vars(MQConnector({"server": "localhost"}, "upgrade"))}
    private = {each for each in names if each.startswith("_") and not each.endswith("__")}
    return frozenset(private - PRIVATE_IN_USE)
