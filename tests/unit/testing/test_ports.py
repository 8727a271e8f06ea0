"""Free ports."""

from __future__ import annotations

import socket

import pytest

from neon_mq_connector.testing import PrivateBrokerError, ports


def test_ports_are_different_free_and_below_those_of_outgoing_connections() -> None:
    found = ports.free_ports(20)
    assert len(set(found)) == 20
    assert all(ports.is_free(port) for port in found)
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        assert max(found) < server.getsockname()[1]


def test_a_port_that_something_listens_on_is_not_free() -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        assert not ports.is_free(server.getsockname()[1])


def test_no_free_port_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: False)
    with pytest.raises(PrivateBrokerError, match="2 free ports were asked for, 0 were found"):
        ports.free_ports(2)
