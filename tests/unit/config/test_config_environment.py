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


@given(
    st.sampled_from([*TRUE, *FALSE, "True", " on ", "NO"])
    | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=80),
    st.booleans(),
)
def test_a_word_is_true_or_false_or_one_error_that_names_the_variable(
    word: str, default: bool
) -> None:
    meant = word.strip().lower()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(NAME, raising=False)
        assert env_flag(NAME, default) is default
        patch.setenv(NAME, word)
        if meant in {*TRUE, *FALSE}:
            assert env_flag(NAME, default) is (meant in TRUE)
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
