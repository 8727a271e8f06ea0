"""Who may import whom: the layers (pyproject.toml has them), and what each may bring along."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import neon_mq_connector
from tests.support.programs import python

PACKAGE = Path(neon_mq_connector.__file__).parent
ROOT = PACKAGE.parent
CONNECTION_CLASSES = {"BlockingConnection", "SelectConnection", "AsyncioConnection"}

# Where pika connections are opened. The last two open theirs for a moment and for one purpose:
# `probe` asks whether a broker is there, and utils/ keeps legacy functions.
OPENERS = (
    "link/",
    "control/probe.py",
    "utils/",
)


@functools.cache
def sources() -> list[tuple[str, ast.Module]]:
    return [
        (file.relative_to(PACKAGE).as_posix(), ast.parse(file.read_text(), str(file)))
        for file in sorted(PACKAGE.rglob("*.py"))
    ]


def imported_packages(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the full names that a module imports, wherever in it, and the lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


def test_each_module_under_aio_has_its_layer() -> None:
    # what stands there belongs to more than one layer, so they are named one by one
    layers = (ROOT / "pyproject.toml").read_text()
    modules = {path.stem for path in (PACKAGE / "aio").glob("[a-z]*")}
    assert not {name for name in modules if f"(aio.{name})" not in layers}


def test_only_link_and_control_open_pika_connections() -> None:
    found = []
    for path, tree in sources():
        if path.startswith(OPENERS):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = node.func
                name = called.attr if isinstance(called, ast.Attribute) else None
                name = called.id if isinstance(called, ast.Name) else name
                if name in CONNECTION_CLASSES:
                    found.append(f"{path}:{node.lineno} opens a {name}")
    assert not found


@pytest.mark.parametrize(
    "place, packages",
    [("aio/", ("aio_pika", "aiormq")), ("cli/", ("click", "rich", "rich_click"))],
)
def test_what_is_optional_or_heavy_is_imported_in_one_place(
    place: str, packages: tuple[str, ...]
) -> None:
    found = [
        f"{path}:{line} imports {name}"
        for path, tree in sources()
        if not path.startswith(place)
        for name, line in imported_packages(tree)
        if name.startswith(packages)
    ]
    assert not found


def test_importing_the_package_brings_no_command_line_and_no_asyncio_client() -> None:
    program = (
        "import sys, ovos_config, ovos_utils, pika\n"
        "before = set(sys.modules)\n"
        "import neon_mq_connector.connector, neon_mq_connector.utils.client_utils\n"
        "from neon_mq_connector.consumers import SelectConsumerThread\n"
        "print(*sorted(name.partition('.')[0] for name in set(sys.modules) - before))\n"
    )
    assert not {"aio_pika", "click", "rich", "rich_click"} & set(python("-c", program).split())
