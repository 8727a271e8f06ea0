"""Finding RabbitMQ's programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from neon_mq_connector.testing import BrokerProgramsNotFoundError, programs


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_FOLDERS", ())


def install(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def test_rabbitmq_home_comes_before_path(tmp_path: Path) -> None:
    scripts = ("rabbitmq-server", "rabbitmqctl", "rabbitmq-env")
    at_home = install(tmp_path / "home" / "sbin", *scripts)
    on_path = install(tmp_path / "path", *scripts)
    environ = {"RABBITMQ_HOME": str(tmp_path / "home"), "PATH": str(on_path)}
    assert programs.find_broker_programs(environ).folder == at_home
    del environ["RABBITMQ_HOME"]
    assert programs.find_broker_programs(environ).server == on_path / "rabbitmq-server"


def test_a_link_on_path_is_followed_to_the_scripts(tmp_path: Path) -> None:
    scripts = install(tmp_path / "real", "rabbitmq-server", "rabbitmqctl", "rabbitmq-env")
    linked = install(tmp_path / "bin")
    (linked / "rabbitmq-server").symlink_to(scripts / "rabbitmq-server")
    assert programs.find_broker_programs({"PATH": str(linked)}).folder == scripts


def test_the_wrapper_of_a_distribution_is_passed_over(tmp_path: Path) -> None:
    wrappers = install(tmp_path / "sbin", "rabbitmq-server", "rabbitmqctl")
    with pytest.raises(BrokerProgramsNotFoundError):
        programs.find_broker_programs({"PATH": str(wrappers)})
