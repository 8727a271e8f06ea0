from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_mq_connector.config import env_flag, env_path
from neon_mq_connector.config.sources import config_directory, home_directory
from neon_mq_connector.errors import ConfigurationError

NAME = "MQ_ASYNC_CONSUMERS"
TRUE = ("1", "true", "yes", "on")
FALSE = ("0", "false", "no", "off", "")


@pytest.mark.parametrize(
    "word, value",
    [
        *((word, True) for word in (*TRUE, "True", "YES", " on ")),
        *((word, False) for word in (*FALSE, "False", "NO", " off ")),
        (None, None),
    ],
)
def test_a_word_is_true_or_false_and_none_is_the_default(
    word: str | None, value: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NAME, raising=False)
    if word is not None:
        monkeypatch.setenv(NAME, word)
    for default in (False, True):
        assert env_flag(NAME, default) is (default if value is None else value)
    assert env_flag(NAME) is bool(value)


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


@pytest.mark.parametrize("given, expected", [("~/mq.json", "mq.json"), ("", None), ("  ", None)])
def test_a_path_is_expanded_and_a_blank_one_is_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str | None
) -> None:
    assert env_path("NEON_MQ_CONFIG_PATH") is None
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", given)
    assert env_path("NEON_MQ_CONFIG_PATH") == (expected and home / expected)


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
