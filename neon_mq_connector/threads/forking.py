"""After `fork` a child must not touch what it inherited: no threads, locks held for ever.

Objects that own such things register here; in a child each is told to drop them. What they drop is
kept alive, so that no destructor closes the parent's connection. Sockets are closed: as long as a
child has them open, the broker does not see the end of a parent that is killed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet


class OwnsProcessState(Protocol):
    """An object with connections, threads or locks of its process."""

    def after_fork_in_child(self) -> None:
        """Replace locks, and drop connections and threads without closing them."""


_owners: WeakSet[OwnsProcessState] = WeakSet()
_inherited: list[object] = []
_sockets: WeakSet[socket.socket] = WeakSet()
_functions: list[Callable[[], object]] = []


def register(owner: OwnsProcessState) -> None:
    """Call `after_fork_in_child` of an object in each child process."""
    _owners.add(owner)


def keep(*inherited: object) -> None:
    """Keep what a child has dropped from being destroyed."""
    _inherited.extend(inherited)


def call_in_child(function: Callable[[], object]) -> None:
    """Call a function in each child process, to replace what a module owns."""
    _functions.append(function)


def close_in_child(sock: socket.socket) -> None:
    """Close a child's copy of a socket: nothing is sent, and the parent's stays open."""
    _sockets.add(sock)


def _in_child() -> None:
    for sock in list(_sockets):
        sock.close()
    for function in _functions:
        function()
    for owner in list(_owners):
        owner.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
