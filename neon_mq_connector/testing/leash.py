"""Become a node that does not outlive the process that has started it.

A program of its own, which needs the standard library only. A child of it reads the standard input,
a pipe whose other end only the starting process holds: the kernel closes it however that process
ends, SIGKILL included. So neither a node, which may still be booting, nor its port mapper daemon
nor a temporary folder is left behind.

Its arguments: the port of the daemon, a folder to remove or an empty text, and the node's command.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

#: What the starting process writes when it has ended the node itself.
ENDED = b"."

_EPMD_KILL_REQUEST = b"\x00\x01k"


def end_epmd(port: int) -> None:
    """End the port mapper daemon that a node of ours has started on a port of ours."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), 1.0) as epmd,
    ):
        epmd.sendall(_EPMD_KILL_REQUEST)
        while epmd.recv(64):
            pass


def _end_with_parent(node: int, epmd_port: int, folder: str) -> None:
    os.setpgid(0, 0)  # the node's group is killed
    if os.read(0, 1) == ENDED:
        return
    try:
        # its number is not given to another process while this one is in its session
        os.kill(node, signal.SIGKILL)
    except ProcessLookupError:
        return  # it had ended before, and may have been started again
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node, signal.SIGKILL)
    end_epmd(epmd_port)
    deadline = time.monotonic() + 10.0
    while folder and Path(folder).exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)  # the rest of the node may still write there
        time.sleep(0.02)


def _main(epmd_port: str, folder: str, *command: str) -> None:
    node = os.getpid()
    if not os.fork():
        _end_with_parent(node, int(epmd_port), folder)
        return
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.execv(command[0], command)


if __name__ == "__main__":
    _main(*sys.argv[1:])
