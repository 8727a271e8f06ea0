from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import Mock

import pytest

from neon_mq_connector.config import find_source, load_neon_mq_config, load_settings
from neon_mq_connector.errors import ConfigurationError


def write(path: Path, server: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"server": server}))


def refused(path: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert path is None or str(path) in message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return message


def test_the_first_source_that_exists_is_used(
    home: Path,
    config_file: Path,
    credentials_file: Path,
    ovos: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_settings().server == "localhost"

    ovos({"MQ": {"server": "ovos"}})
    assert load_settings().server == "ovos"
    assert "ovos-config" in load_settings().source

    write(credentials_file, "credentials")
    assert load_settings().server == "credentials"

    write(config_file, "config")
    assert load_settings().server == "config"
    assert load_settings().source == str(config_file)

    named = home / "named.json"
    write(named, "named")
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", "~/named.json")
    assert load_settings().server == "named"
    assert load_settings().source == str(named)

    assert load_settings({"server": "passed"}).server == "passed"
    assert load_settings({}).server == "named"


def test_sources_are_not_merged(config_file: Path, credentials_file: Path) -> None:
    credentials_file.write_text('{"port": 1234, "users": {"a": {}}}')
    write(config_file, "config")
    settings = load_settings()
    assert (settings.port, settings.users) == (5672, {})


def test_xdg_config_home_is_followed(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(config_file, "home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert load_settings().server == "localhost"
    write(tmp_path / "xdg" / "neon" / "mq_config.json", "xdg")
    assert load_settings().server == "xdg"


@pytest.mark.parametrize("content", ['{"MQ": {"server": "mq"}, "other": 1}', '{"server": "mq"}'])
def test_mq_is_unwrapped_in_every_source(
    content: str, home: Path, credentials_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings(json.loads(content)).server == "mq"
    credentials_file.write_text(content)
    assert load_neon_mq_config() == {"server": load_settings().server} == {"server": "mq"}
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(credentials_file))
    assert load_settings().server == "mq"


def test_any_mapping_may_be_passed_and_nothing_else(home: Path) -> None:
    mapping = MappingProxyType({"MQ": MappingProxyType({"server": "mq"})})
    assert load_settings(mapping).server == "mq"
    passed: Any
    for passed in ("text", []):
        with pytest.raises(ConfigurationError, match="the dict passed to the constructor"):
            load_settings(passed)


def test_a_section_that_is_null_is_an_empty_one(config_file: Path) -> None:
    config_file.write_bytes(b'\xef\xbb\xbf{"MQ": null}')  # a byte order mark does no harm
    assert load_settings().server == "localhost"
    assert load_neon_mq_config() == {}


def test_a_named_file_that_is_missing_is_an_error_although_others_exist(
    config_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(config_file, "config")
    for missing in (home / "missing.json", config_file / "below a file"):
        monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(missing))
        assert "NEON_MQ_CONFIG_PATH" in refused(missing)
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", "")
    assert load_settings().server == "config"


BAD_CONTENT = {
    "not JSON": (b'{"MQ": {\n  "server": "mq",\n  "port" 5672}}', "line 3, column 10"),
    "a list": (b"[1]", "not an object"),
    "not UTF-8": (b'{"server": "\xff"}', "byte 12"),
    "nested too deeply": (b"[" * 200_000, "nested"),
    "a number too long": (b'{"port": ' + b"9" * 5000 + b"}", "number"),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_a_file_with_bad_content_is_one_error_that_names_it(
    case: str, config_file: Path, credentials_file: Path
) -> None:
    content, words = BAD_CONTENT[case]
    config_file.write_bytes(content)
    write(credentials_file, "not to be used instead")
    assert words in refused(config_file)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("problem", ["directory", "permission denied"])
def test_a_file_that_cannot_be_read_is_an_error(
    named: bool, problem: str, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named:
        monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(config_file))
    if problem == "directory":
        config_file.mkdir()
    else:  # permissions mean nothing to root, as whom tests run in containers
        write(config_file, "mq")
        denied = PermissionError(13, "Permission denied", str(config_file))
        monkeypatch.setattr(Path, "read_bytes", Mock(side_effect=denied))
    assert problem in refused(config_file)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(40, "loop")])
def test_a_home_that_may_not_be_entered_is_passed_over(
    error: OSError, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(str(home)):
            raise error
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    source = find_source()
    monkeypatch.undo()
    assert source is None


@pytest.mark.parametrize("broken", ["/does/not/exist", "/dev/null", "relative", "", None])
def test_without_any_configuration_or_home_the_defaults_are_used(
    home: Path, broken: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken is not None:
        monkeypatch.setenv("HOME", broken)
    assert find_source() is None
    assert load_neon_mq_config() == {}
    assert load_settings().server == "localhost"
    place = "add users" if broken is not None else f"{home}/.config/neon/mq_config.json, which"
    with pytest.raises(ConfigurationError, match=place):
        load_settings().credentials_for("some_service")


def test_the_plain_dict_of_ovos_config_is_a_copy(ovos: Callable[[Any], None]) -> None:
    content = {"MQ": {"users": {"a": {"list": [1, {"b": 2}]}}}}
    ovos(content)
    loaded = load_neon_mq_config()
    assert loaded == content["MQ"]
    loaded["users"]["a"]["list"].append("mine")
    assert content == {"MQ": {"users": {"a": {"list": [1, {"b": 2}]}}}}


def test_ovos_config_that_fails_is_one_error_and_none_at_all_is_fine(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Mock(side_effect=ValueError("line 1: password: hunter2"))
    monkeypatch.setattr("ovos_config.config.Configuration", broken)
    message = refused()
    assert "ovos-config" in message
    assert "hunter2" not in message
    monkeypatch.setitem(sys.modules, "ovos_config.config", None)
    assert load_settings().server == "localhost"
