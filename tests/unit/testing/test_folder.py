"""The files and the environment of a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from neon_mq_connector.testing import PrivateBrokerError
from neon_mq_connector.testing.folder import NodeFolder, NodeIdentity, NodePorts

PORTS = NodePorts(amqp=1, management=2, distribution=3, epmd=4)


@pytest.fixture
def folder(tmp_path: Path) -> NodeFolder:
    return NodeFolder(tmp_path / "node")


@pytest.mark.parametrize("user", [("other", None), ("neon", "another password")])
def test_a_folder_remembers_its_node_and_refuses_another_user(
    folder: NodeFolder, user: tuple[str, str | None]
) -> None:
    first = folder.identity("neon", None)
    assert folder.identity("neon", None) == first == folder.identity("neon", first.password)
    with pytest.raises(PrivateBrokerError, match="another folder"):
        folder.identity(*user)


def test_settings_override_ours_in_files_that_only_the_owner_can_read(folder: NodeFolder) -> None:
    identity = folder.identity("neon", "secret")
    folder.write(identity, PORTS, {"collect_statistics_interval": "5000", "heartbeat": "7"})
    text = (folder.path / "rabbitmq.conf").read_text()
    assert "listeners.tcp.1 = 127.0.0.1:1\n" in text
    assert "heartbeat = 7\n" in text
    assert text.count("collect_statistics_interval") == 1
    files = [file for file in folder.path.rglob("*") if file.is_file()]
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(NodeIdentity("node@localhost", "neon", "secret"))


def test_settings_of_the_machines_own_broker_are_not_passed_on(folder: NodeFolder) -> None:
    identity = folder.identity("neon", None)
    environ = {"PATH": "/somewhere", "RABBITMQ_NODENAME": "rabbit@host", "ERL_FLAGS": "-x"}
    environment = folder.environment(identity, PORTS, environ)
    assert environment["RABBITMQ_NODENAME"] == identity.nodename
    assert environment["PATH"].startswith("/somewhere")
    assert "ERL_FLAGS" not in environment


def test_the_first_errors_are_told_or_else_the_end_of_a_log(folder: NodeFolder) -> None:
    folder.write(folder.identity("neon", None), PORTS, {})
    assert folder.log_excerpt() == "(it wrote no log)"
    folder.console.write_text("\n".join(f"line {number}" for number in range(100)))
    (folder.logs / "node.log").write_text("fine\n1 [error] why\n2 [error] so\n3 [error] crash\n")
    assert folder.log_excerpt(lines=2).splitlines() == [
        "--- end of console.log",
        "line 98",
        "line 99",
        "--- errors in node.log",
        "1 [error] why",
        "2 [error] so",
    ]
