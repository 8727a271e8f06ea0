"""Compatibility contract: every import path that existing services use leads to the same thing.

Covers the table of import paths, the range of versions that dependents pin, and that the optional
extra is not needed for any of them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.support.programs import python

PATHS = [
    ("neon_mq_connector", "MQConnector"),
    ("neon_mq_connector.connector", "MQConnector"),
    ("neon_mq_connector.connector", "ConsumerThread"),
    ("neon_mq_connector.connector", "ConsumerThreadInstance"),
    ("neon_mq_connector.config", "load_neon_mq_config"),
    ("neon_mq_connector.config", "Configuration"),
    ("neon_mq_connector.consumers", "BlockingConsumerThread"),
    ("neon_mq_connector.consumers", "SelectConsumerThread"),
    ("neon_mq_connector.consumers.blocking_consumer", "BlockingConsumerThread"),
    ("neon_mq_connector.consumers.select_consumer", "SelectConsumerThread"),
    ("neon_mq_connector.utils", "RepeatingTimer"),
    ("neon_mq_connector.utils", "retry"),
    ("neon_mq_connector.utils", "wait_for_mq_startup"),
    ("neon_mq_connector.utils.client_utils", "NeonMQHandler"),
    ("neon_mq_connector.utils.client_utils", "send_mq_request"),
    ("neon_mq_connector.utils.client_utils", "MQConnector"),
    ("neon_mq_connector.utils.client_utils", "_default_mq_config"),
    ("neon_mq_connector.utils.connection_utils", "get_timeout"),
    ("neon_mq_connector.utils.connection_utils", "retry"),
    ("neon_mq_connector.utils.connection_utils", "wait_for_mq_startup"),
    ("neon_mq_connector.utils.connection_utils", "check_rmq_is_available"),
    ("neon_mq_connector.utils.connection_utils", "SuppressPikaLogging"),
    ("neon_mq_connector.utils.network_utils", "b64_to_dict"),
    ("neon_mq_connector.utils.network_utils", "dict_to_b64"),
    ("neon_mq_connector.utils.network_utils", "check_port_is_open"),
    ("neon_mq_connector.utils.rabbit_utils", "create_mq_callback"),
    ("neon_mq_connector.utils.consumer_utils", "default_error_handler"),
    ("neon_mq_connector.utils.thread_utils", "RepeatingTimer"),
]


def look_up(path: tuple[str, str]) -> object:
    module, name = path
    return getattr(importlib.import_module(module), name)


def test_all_paths_lead_somewhere_and_those_to_one_name_to_the_same_thing() -> None:
    found: dict[str, object] = {}
    for path in PATHS:
        assert look_up(path) is found.setdefault(path[1], look_up(path)) is not None
    assert found["ConsumerThread"] is found["BlockingConsumerThread"]


def test_each_module_may_be_the_first_one_imported_and_none_needs_the_aio_extra() -> None:
    """A cycle between modules shows only when the wrong one comes first."""
    program = f"""
import importlib, sys
sys.modules["aio_pika"] = None
for module in {sorted({module for module, _ in PATHS})!r}:
    for name in [n for n in sys.modules if n.split(".")[0] == "neon_mq_connector"]:
        del sys.modules[name]
    importlib.import_module(module)
"""
    python("-c", program)


REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "requirements.txt"


@pytest.fixture(scope="module")
def required() -> dict[str, SpecifierSet]:
    lines = (line.split("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    requirements = [Requirement(line) for line in lines if line]
    return {requirement.name: requirement.specifier for requirement in requirements}


@pytest.mark.parametrize(
    "name, allowed, refused",
    [
        ("pika", ["1.2.0", "1.3.2", "1.4.4"], ["1.1.0", "2.0"]),
        ("ovos-config", ["0.0.10", "0.4.6", "2.1.1"], ["3.0"]),
        ("ovos-utils", ["0.0.37", "0.1.0", "0.8.5", "1.0"], ["2.0"]),
        ("pydantic", ["2.0", "2.14.4"], ["1.10"]),
    ],
)
def test_versions_that_dependents_have_are_allowed_and_those_that_cannot_work_are_not(
    required: dict[str, SpecifierSet], name: str, allowed: list[str], refused: list[str]
) -> None:
    versions = [*allowed, *refused]
    assert [each for each in versions if required[name].contains(each)] == allowed


@pytest.mark.parametrize("name", ["aio-pika", "orjson", "numpy", "requests"])
def test_nothing_heavy_is_required(required: dict[str, SpecifierSet], name: str) -> None:
    assert name not in required


@pytest.mark.parametrize("pin", ["~=0.1", "~=0.7", "~=0.10", "~=0.10,>=0.10.0", ">=0.8,<1"])
def test_the_version_satisfies_a_pin_of_dependents(pin: str) -> None:
    from neon_mq_connector.version import __version__

    assert SpecifierSet(pin).contains(__version__)
    assert SpecifierSet(">=0.11").contains(__version__)
