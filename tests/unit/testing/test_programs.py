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


def test_rabbitmq_home_comes_before_path_on_which_a_link_is_followed(tmp_path: Path) -> None:
    scripts = ("rabbitmq-server", "rabbitmqctl", "rabbitmq-env")
    at_home = install(tmp_path / "home" / "sbin", *scripts)
    real = install(tmp_path / "real", *scripts)
    linked = install(tmp_path / "bin")
    (linked / "rabbitmq-server").symlink_to(real / "rabbitmq-server")
    environ = {"RABBITMQ_HOME": str(tmp_path / "home"), "PATH": str(linked)}
    assert programs.find_broker_programs(environ).folder == at_home
    del environ["RABBITMQ_HOME"]
    assert programs.find_broker_programs(environ).server == real / "rabbitmq-server"


def test_the_wrapper_of_a_distribution_is_passed_over(tmp_path: Path) -> None:
    wrappers = install(tmp_path / "sbin", "rabbitmq-server", "rabbitmqctl")
    with pytest.raises(BrokerProgramsNotFoundError):
        programs.find_broker_programs({"PATH": str(wrappers)})
