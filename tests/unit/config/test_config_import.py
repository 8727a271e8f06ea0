"""Importing the package must stay cheap: pydantic is for whoever validates something."""

from __future__ import annotations

import subprocess
import sys

import pytest

import neon_mq_connector.config


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["pydantic", "ovos_config", "click", "rich", "aio_pika"])
def test_the_import_brings_no_heavy_module(module: str) -> None:
    code = f"import sys, neon_mq_connector.config; print({module!r} in sys.modules)"
    assert run(code) == "False"


def test_what_needs_no_validation_needs_no_pydantic() -> None:
    code = (
        "import os, sys, tempfile\n"
        "os.environ['NEON_MQ_CONFIG_PATH'] = tempfile.mktemp()\n"
        "open(os.environ['NEON_MQ_CONFIG_PATH'], 'w').write('{\"server\": \"mq\"}')\n"
        "from neon_mq_connector.config import Configuration, env_flag, load_neon_mq_config\n"
        "assert load_neon_mq_config() == {'server': 'mq'}\n"
        "env_flag('MQ_TESTING')\n"
        "os.unlink(os.environ['NEON_MQ_CONFIG_PATH'])\n"
        "print('pydantic' in sys.modules, 'ovos_config' in sys.modules)"
    )
    assert run(code) == "False False"


def test_every_public_name_is_there() -> None:
    for name in neon_mq_connector.config.__all__:
        assert getattr(neon_mq_connector.config, name) is not None
        assert name in dir(neon_mq_connector.config)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        neon_mq_connector.config.nonsense  # noqa: B018
