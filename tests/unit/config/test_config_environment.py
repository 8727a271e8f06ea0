from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_mq_connector.config import env_flag
from neon_mq_connector.config.sources import home_directory
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


def test_a_process_without_a_home_or_an_account_has_no_home(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 987654)
    assert home_directory() is None
