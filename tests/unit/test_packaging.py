"""The package as it is built and installed."""

from __future__ import annotations

import ast
import shutil
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from neon_mq_connector.version import __version__
from tests.support.environment import original_environment
from tests.support.programs import python

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "neon_mq_connector"
REQUIREMENTS = ROOT / "requirements"
# what aio-pika, pydantic 2 and ovos-config are never without
PARTS_OF_REQUIRED = {"aiormq", "pydantic_core", "typing_extensions", "yaml"}
LOADED_BY = {"pytest"}  # it loads the plugin, which nothing else imports
BUILT_FROM = (
    "CHANGELOG.md",
    "LICENSE.md",
    "MANIFEST.in",
    "README.md",
    "pyproject.toml",
    "setup.py",
    "neon_mq_connector",
    "requirements",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, since building leaves files behind."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Iterator[zipfile.ZipFile]:
    """The wheel that `pip install .` installs."""
    build = ("wheel", "-q", "--no-deps", "--no-build-isolation", ".")
    python("-m", "pip", *build, cwd=checkout, env=original_environment())
    (file,) = checkout.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


def read_requirements(name: str) -> list[Requirement]:
    lines = (REQUIREMENTS / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def test_setup_py_tells_the_version(checkout: Path) -> None:
    assert python("setup.py", "--version", cwd=checkout).strip() == __version__


def test_the_wheel_says_what_it_is_and_brings_the_command(wheel: zipfile.ZipFile) -> None:
    def read(name: str) -> bytes:
        (found,) = (each for each in wheel.namelist() if each.endswith(f".dist-info/{name}"))
        return wheel.read(found)

    metadata = message_from_bytes(read("METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("neon-mq-connector", __version__)
    assert metadata["License"] == "BSD-3-Clause"
    extras = {"aio", "dev", "metrics", "otel", "test"}
    assert set(metadata.get_all("Provides-Extra", ())) == extras
    assert any(name.endswith("LICENSE.md") for name in wheel.namelist())
    assert "neon-mq = neon_mq_connector.cli:main" in read("entry_points.txt").decode()


def test_the_wheel_has_every_module_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    code = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert code == {
        *(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")),
        "neon_mq_connector/py.typed",
        "neon_mq_connector/health/page.html",
    }


def imported_packages(tree: ast.Module) -> Iterator[str]:
    """Yield the full names that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_everything_imported_is_required() -> None:
    required = {
        each.name.replace("-", "_")
        for name in ("requirements.txt", "aio.txt", "metrics.txt")
        for each in read_requirements(name)
    }
    required.add("opentelemetry")  # of opentelemetry-api, in otel.txt
    imported = {
        name.partition(".")[0]
        for file in PACKAGE.rglob("*.py")
        for name in imported_packages(ast.parse(file.read_text()))
    }
    others = imported - set(sys.stdlib_module_names) - {"neon_mq_connector"}
    assert others - PARTS_OF_REQUIRED - LOADED_BY <= required


def test_the_oldest_tested_releases_are_within_the_ranges() -> None:
    ranges = {
        each.name: each.specifier
        for each in (*read_requirements("requirements.txt"), *read_requirements("aio.txt"))
    }
    for oldest in read_requirements("oldest.txt"):
        (pin,) = oldest.specifier
        assert ranges[oldest.name].contains(Version(pin.version)), oldest.name


def test_the_version_is_written_in_one_place() -> None:
    places = [ROOT / "pyproject.toml", ROOT / "setup.py", *REQUIREMENTS.glob("*.txt")]
    places += PACKAGE.rglob("*.py")
    found = [place.name for place in places if __version__ in place.read_text()]
    assert found == ["version.py"]
