from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_mq_connector.config import env_flag, env_path
from neon_mq_connector.config.environment import config_directory, home_directory
from neon_mq_connector.errors import ConfigurationError

NAME = "MQ_ASYNC_CONSUMERS"
TRUE = ("1", "true", "yes", "on")
FALSE = ("0", "false", "no", "off", "")


@pytest.mark.parametrize("word", [*TRUE, "True", "YES", " on "])
def test_a_true_word_is_true(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, word)
    assert env_flag(NAME) is True
    assert env_flag(NAME, True) is True


@pytest.mark.parametrize("word", [*FALSE, "False", "NO", " off "])
def test_a_false_word_is_false_even_where_the_default_is_true(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, word)
    assert env_flag(NAME) is False
    assert env_flag(NAME, True) is False


@pytest.mark.parametrize("default", [True, False])
def test_a_variable_that_is_not_set_gives_the_default(
    default: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NAME, raising=False)
    assert env_flag(NAME, default) is default
    assert env_flag(NAME) is False


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=80))
def test_any_other_word_is_one_error_that_names_the_variable(word: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NAME, word)
        if word.strip().lower() in {*TRUE, *FALSE}:
            assert env_flag(NAME) is (word.strip().lower() in TRUE)
            return
        with pytest.raises(ConfigurationError) as caught:
            env_flag(NAME)
    message = str(caught.value)
    assert NAME in message
    assert "true" in message
    assert len(message.splitlines()) == 1


def test_a_path_is_expanded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", "~/mq.json")
    assert env_path("NEON_MQ_CONFIG_PATH") == home / "mq.json"


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_path_is_none(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", blank)
    assert env_path("NEON_MQ_CONFIG_PATH") is None


def test_a_path_that_is_not_set_is_none(home: Path) -> None:
    assert env_path("NEON_MQ_CONFIG_PATH") is None


def test_a_relative_home_is_no_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("HOME", "here")
    assert home_directory() is None
    assert config_directory() is None


def test_a_process_without_a_home_or_an_account_has_no_home(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 987654)
    assert home_directory() is None


def test_the_configuration_directory_follows_xdg(
    monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    assert config_directory() == home / ".config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert config_directory() == tmp_path / "xdg"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert config_directory() == home / ".config"
