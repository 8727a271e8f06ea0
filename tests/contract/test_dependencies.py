"""Compatibility contract: the library installs beside what dependents pin.

Covers the ranges of what the library itself requires and the pins of those who require it. Nothing
is installed here: what works together is tried by running all tests with the oldest and the newest.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

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
