"""The layers of the package, from the contract that import-linter checks."""

from __future__ import annotations

import re
from pathlib import Path

from pictures.svg import Drawing

_ROOT = Path(__file__).parent.parent
_PACKAGE = _ROOT / "neon_mq_connector"
_WIDTH, _LONGEST = 820, 44


def make() -> str:
    """Draw them, the uppermost first."""
    purposes = _purposes()
    rows = [_row(layer, purposes) for layer in _layers()]
    height = 64 + sum(_height(names) for names, _, _ in rows) + 14
    drawing = Drawing(_WIDTH, height, "The layers of the package, each of which imports lower ones")
    drawing.text(16, 26, "The layers of the package", "title")
    drawing.text(_WIDTH - 16, 26, "lines of code", "faint small", "end")
    drawing.line(24, 50, 24, height - 14, "line", arrow=True)
    drawing.text(36, 50, "imports go down only", "faint small")
    y = 62.0
    for names, what, lines in rows:
        drawing.box(40, y, _WIDTH - 54, _height(names) - 6)
        for place, name in enumerate(names):
            drawing.text(52, y + 18 + 16 * place, name, "code small")
        drawing.text(372, y + 18, what, "faint small")
        drawing.text(_WIDTH - 24, y + 18, f"{lines:,}", "small", "end")
        y += _height(names)
    return str(drawing)


def _height(names: list[str]) -> float:
    return 16.0 * len(names) + 18


def _layers() -> list[list[str]]:
    settings = (_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = settings.partition("\nlayers = [\n")[2].partition("\n]")[0]
    names = [re.findall(r"[\w.]+", layer) for layer in block.splitlines()]
    return [[name for name in each if _exists(name)] for each in names]


def _exists(module: str) -> bool:
    path = _PACKAGE / module.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def _row(modules: list[str], purposes: dict[str, str]) -> tuple[list[str], str, int]:
    parents = [module.partition(".")[0] for module in modules]
    what = next((purposes[each] for each in (*modules, *parents) if each in purposes), "")
    files = [file for module in modules for file in _files(module)]
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    return _wrapped(modules), what, lines


def _files(module: str) -> list[Path]:
    path = _PACKAGE / module.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def _purposes() -> dict[str, str]:
    """Read what the page on the design says of each, in its block of layers."""
    page = (_ROOT / "docs" / "explanation" / "design.md").read_text(encoding="utf-8")
    block = page.partition("\n## Layers\n")[2].partition("\n- ")[0]
    found = re.findall(r"^ {4}(\S.*?) {2,}(\S.*)$", block, re.MULTILINE)
    return {name: what.rstrip(";") for names, what in found for name in names.split(", ")}


def _wrapped(modules: list[str]) -> list[str]:
    lines = [""]
    for module in modules:
        if len(lines[-1]) + len(module) > _LONGEST:
            lines.append("")
        lines[-1] += f"{', ' if lines[-1] else ''}{module}"
    return lines
