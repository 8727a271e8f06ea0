"""Who shares a request client: those whose connections would be made with the same identity."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient
from neon_mq_connector.service.configured import server_parameters
from neon_mq_connector.service.shared_clients import close_shared_clients, shared_client
from tests.support.certificates import OPENSSL, Certificates

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificates")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    close_shared_clients()


def client_with(**tls: Any) -> RequestClient:
    """Return the client of a new service with these settings; it opens no connection."""
    user = {"user": "u", "password": "p"}
    service = MQConnector({"server": "localhost", "users": {"s": user}, "tls": tls}, "s")
    return shared_client(server_parameters(service, "/"))


def test_a_client_is_shared_by_equal_tls_settings_only(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    mine = certificates.client
    copy = tmp_path / "copy.pem"
    shutil.copy(mine["ca_file"], copy)
    different: list[dict[str, Any]] = [
        mine,
        certificates.strange_client,
        certificates.server_only,
        {"ca_file": str(certificates.stranger)},
        {**mine, "server_hostname": "elsewhere"},
        {**mine, "verify": False},
        {"enabled": False},
    ]
    clients = [client_with(**each) for each in different]
    assert len(set(clients)) == len(different)
    assert [client_with(**each) for each in different] == clients
    assert client_with(**{**mine, "ca_file": str(copy)}) is clients[0]
    shutil.copy(certificates.stranger, copy)  # replaced by another
    assert client_with(**{**mine, "ca_file": str(copy)}) is not clients[0]
