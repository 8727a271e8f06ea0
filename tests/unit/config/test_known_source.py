from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ovos_config.config
import pytest

from neon_mq_connector.config import Source, find_source, known_source
from neon_mq_connector.config.known_source import KnownSource
from neon_mq_connector.errors import ConfigurationError


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note each time that something is read."""
    noted: list[object] = []

    def find(config: Any) -> Source | None:
        noted.append(config)
        return find_source(config)

    monkeypatch.setattr(known_source, "find_source", find)
    return noted


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take files for old enough to go by their times at once."""
    monkeypatch.setattr(known_source, "_COARSEST_CLOCK_NS", -1)


def write(path: Path, **config: Any) -> None:
    path.write_text(json.dumps(config))


def server(known: KnownSource) -> Any:
    source = known.find()
    return None if source is None else source.section.get("server")


def test_a_file_that_has_not_changed_is_read_once(
    config_file: Path, looks: list[object], settled: None
) -> None:
    write(config_file, server="a")
    known = KnownSource()
    first = known.find()
    assert [known.find() for _ in range(3)] == [first] * 3
    assert first is known.find()
    assert len(looks) == 1


def test_changes_of_a_file_are_seen(config_file: Path, settled: None) -> None:
    known = KnownSource()
    assert known.find() is None
    write(config_file, server="a")
    assert server(known) == "a"
    write(config_file, server="longer")
    assert server(known) == "longer"
    other = config_file.with_name("other")
    write(other, server="lOnger")
    os.replace(other, config_file)
    assert server(known) == "lOnger"
    config_file.unlink()
    assert known.find() is None


def test_a_file_that_is_written_twice_at_once_is_seen_both_times(config_file: Path) -> None:
    known = KnownSource()
    for number in range(100):  # of one size and, mostly, within one tick of the file system
        write(config_file, server=f"{number:03}")
        assert server(known) == f"{number:03}"


def test_the_same_content_is_the_same_object(config_file: Path) -> None:
    write(config_file, server="a")
    known = KnownSource()
    first = known.find()
    write(config_file, server="a")
    assert known.find() is first


def test_a_file_that_goes_before_is_seen(
    config_file: Path, credentials_file: Path, settled: None
) -> None:
    known = KnownSource()
    write(credentials_file, server="behind")
    assert server(known) == "behind"
    write(config_file, server="before")
    assert server(known) == "before"


def test_changes_of_the_environment_are_seen(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: None
) -> None:
    known = KnownSource()
    assert known.find() is None
    write(tmp_path / "named.json", server="named")
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(tmp_path / "named.json"))
    assert server(known) == "named"
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", "relative.json")
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "relative.json", server=folder)
        monkeypatch.chdir(tmp_path / folder)
        assert server(known) == folder
    monkeypatch.delenv("NEON_MQ_CONFIG_PATH")
    (tmp_path / "xdg" / "neon").mkdir(parents=True)
    write(tmp_path / "xdg" / "neon" / "mq_config.json", server="xdg")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert server(known) == "xdg"


def test_an_error_is_raised_until_it_is_mended(config_file: Path, settled: None) -> None:
    known = KnownSource()
    write(config_file, server="a")
    known.find()
    config_file.write_text("{")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not JSON"):
            known.find()
    write(config_file, server="b")
    assert server(known) == "b"


def test_whatever_stands_in_for_ovos_config_is_asked_each_time(
    ovos: Callable[[Any], None],
) -> None:
    known = KnownSource()
    for name in ("a", "b"):
        ovos({"MQ": {"server": name}})
        assert server(known) == name


def test_a_process_without_ovos_config_does_not_look_for_it_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, looks: list[object]
) -> None:
    monkeypatch.setitem(sys.modules, "ovos_config.config", None)
    known = KnownSource()
    for _ in range(3):
        assert known.find() is None
    assert len(looks) == 1


@pytest.fixture
def real_ovos(home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put the class itself back, without anything of this machine in it."""
    configuration = REAL
    monkeypatch.setattr(ovos_config.config, "Configuration", configuration)
    monkeypatch.setattr(configuration, "xdg_configs", [])
    monkeypatch.setattr(configuration, "_Configuration__patch", {}, raising=False)
    return configuration


REAL = ovos_config.config.Configuration


def test_ovos_config_is_not_merged_again_while_nothing_has_changed(
    real_ovos: Any, looks: list[object]
) -> None:
    real_ovos()["MQ"] = {"server": "patched", "users": {"a": {"user": "u"}}}
    known = KnownSource()
    first = known.find()
    assert first is not None
    known.find()  # asking may have brought about what ovos-config makes when first used
    looked = len(looks)
    assert [known.find() is first for _ in range(3)] == [True] * 3
    assert len(looks) == looked


def test_changes_of_every_layer_of_ovos_config_are_seen(
    real_ovos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownSource()
    assert known.find() is None
    layer = ovos_config.config.LocalConf(None)
    real_ovos.xdg_configs.append(layer)
    assert known.find() is None
    layer["MQ"] = {"server": "user"}
    assert server(known) == "user"
    layer["MQ"]["server"] = "in place"
    assert server(known) == "in place"
    real_ovos()["MQ"] = {"server": "patched"}
    assert server(known) == "patched"
    layer["MQ"] = {"server": "behind"}  # the merge of ovos-config has written into it
    monkeypatch.setattr(real_ovos, "_Configuration__patch", {})
    assert server(known) == "behind"
    monkeypatch.setattr(
        real_ovos, "load_all_configs", staticmethod(lambda: {"MQ": {"server": "stand-in"}})
    )
    assert server(known) == "stand-in"


def test_a_layer_that_may_no_longer_speak_is_not_heard(
    real_ovos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = ovos_config.config.LocalConf(None)
    layer["MQ"] = {"server": "user"}
    real_ovos.xdg_configs.append(layer)
    known = KnownSource()
    assert server(known) == "user"
    system = ovos_config.config.LocalConf(None)
    system["system"] = {"disable_user_config": True}
    monkeypatch.setattr(real_ovos, "system", system)
    assert known.find() is None


def test_ovos_config_that_another_thread_is_importing_is_waited_for(
    real_ovos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = types.ModuleType("ovos_config.config")
    known = KnownSource()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ovos_config.config", half)
        assert known.find() is None
    layer = ovos_config.config.LocalConf(None)
    layer["MQ"] = {"server": "a"}
    real_ovos.xdg_configs.append(layer)
    assert server(known) == "a"
