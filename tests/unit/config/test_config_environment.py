from __future__ import annotations

from pathlib import Path

import pytest

from neon_mq_connector.config import env_flag
from neon_mq_connector.config.sources import home_directory
from neon_mq_connector.errors import ConfigurationError

NAME = "MQ_ASYNC_CONSUMERS"
TRUE = ("1", "true", "yes", " On ")
FALSE = ("0", "False", "no", "off", "")


@pytest.mark.parametrize("word", [*TRUE, *FALSE, "maybe", "2", "a\nb"], ids=repr)
def test_a_word_is_true_or_false_or_one_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    assert env_flag(NAME, True)
    assert not env_flag(NAME)
    monkeypatch.setenv(NAME, word)
    if word in {*TRUE, *FALSE}:
        assert env_flag(NAME, True) is env_flag(NAME) is (word in TRUE)
        return
    with pytest.raises(ConfigurationError, match=rf"{NAME}.*true") as caught:
        env_flag(NAME)
    assert len(str(caught.value).splitlines()) == 1


def test_a_process_without_a_home_or_an_account_has_no_home(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 987654)
    assert home_directory() is None
