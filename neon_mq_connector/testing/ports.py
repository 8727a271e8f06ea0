"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import contextlib
import random
import socket
from itertools import islice
from pathlib import Path

from neon_mq_connector.testing.errors import PrivateBrokerError

LOOPBACK = "127.0.0.1"

_LOWEST = 10_000
_USUAL_EPHEMERAL_START = 32_768


def free_ports(count: int) -> list[int]:
    """Find ports that nothing uses now and that no outgoing connection will take by chance.

    They lie below the range from which the kernel takes the local ports of outgoing connections.
    Otherwise, while a broker is down, a client that keeps trying its port could be given that very
    port as its own, connect to itself, and so keep the broker from coming back.

    Args:
        count: how many different ports.

    Returns:
        the ports, all different.

    Raises:
        PrivateBrokerError: there are not that many free ports.
    """
    count_of_all = max(_ephemeral_start() - _LOWEST, 1_000)
    start = random.randrange(count_of_all)
    ports = (_LOWEST + (start + step) % count_of_all for step in range(count_of_all))
    found = list(islice(filter(is_free, ports), count))
    if len(found) < count:
        raise PrivateBrokerError(f"{count} free ports were asked for, {len(found)} were found")
    return found


def is_free(port: int) -> bool:
    """Return whether a server could listen on a loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that ended a moment ago do not make a port unusable.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _ephemeral_start() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return _USUAL_EPHEMERAL_START
