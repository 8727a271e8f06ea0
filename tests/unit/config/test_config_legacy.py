from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector.config import Configuration, load_neon_mq_config
from neon_mq_connector.errors import ConfigurationError

CONTENT = {"MQ": {"server": "mq", "users": {"a": {"user": "u", "password": "p"}}}, "other": 1}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mq.json"
    path.write_text(json.dumps(CONTENT))
    return path


def used(use: Any) -> Configuration:
    """Run what makes a configuration and see that it warns once, on the line that did it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = use()
    assert [warning.category for warning in caught] == [DeprecationWarning]
    assert "load_settings" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert isinstance(made, Configuration)
    return made


def test_the_plain_dict_is_the_inner_one_and_is_not_validated(config_file: Path) -> None:
    config_file.write_text('{"MQ": {"port": 70000}, "other": 1}')
    assert load_neon_mq_config() == {"port": 70000}


def test_configuration_reads_a_file(file: Path) -> None:
    assert used(lambda: Configuration(str(file))).config_data == CONTENT
    assert used(lambda: Configuration(file)).config_data == CONTENT
    assert used(lambda: Configuration.from_file(str(file))).config_data == CONTENT


def test_an_empty_configuration_can_be_filled(file: Path) -> None:
    made = used(Configuration)
    assert made.config_data == {}
    made.config_data["server"] = "mq"
    assert made.config_data == {"server": "mq"}
    assert made.from_file(str(file)) is made
    assert made.config_data == CONTENT
    assert made.from_dict({"server": "x"}) is made
    assert made.config_data == {"server": "x"}
    made.config_data = {"server": "y"}
    assert made.config_data == {"server": "y"}
    assert used(Configuration).config_data == {}


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[1]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in (tmp_path / "missing.json", bad):
            with pytest.raises(ConfigurationError, match=path.name):
                Configuration(str(path))
            with pytest.raises(ConfigurationError, match=path.name):
                Configuration.from_file(str(path))


def test_subclasses_stay_subclasses() -> None:
    class Mine(Configuration):
        pass

    assert isinstance(used(lambda: Mine.from_dict({})), Mine)
