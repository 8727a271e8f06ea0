"""The pages of the documentation, and what stands between fences on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\s*$")
_FILE_NAME = re.compile(r"^# (?P<name>[\w-]+\.py)$")
_HEADING = re.compile(r"^#+ +(?P<title>.+?)\s*$")
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """What stands between two fences.

    Attributes:
        language: the word behind the opening fence; empty for none.
        text: the lines between.
        line: the number of the first of them on the page.
        follows: the language of the block that ends just before, prose of one line between them
            allowed; empty for none.
    """

    language: str
    text: str
    line: int
    follows: str = ""

    @property
    def file_name(self) -> str:
        """The name of the file that a block of Python is said to be, in its first line."""
        found = _FILE_NAME.match(self.text.partition("\n")[0])
        return found["name"] if found and self.language == "python" else ""


@dataclass(frozen=True)
class Page:
    """A page in Markdown."""

    path: Path

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        """The whole page."""
        return self.path.read_text(encoding="utf-8")

    def blocks(self) -> list[Block]:
        """List the blocks in the order in which they stand.

        Raises:
            ValueError: a fence is not closed.
        """
        blocks: list[Block] = []
        lines: list[str] | None = None
        language, indent, begin, end = "", "", 0, -10
        for number, line in enumerate(self.text.splitlines(), start=1):
            fence = _FENCE.match(line)
            if lines is None and fence:
                lines, language, indent, begin = [], fence["language"], fence["indent"], number + 1
            elif lines is not None and fence and not fence["language"]:
                near = blocks and begin - 1 - end <= _NEAR
                follows = blocks[-1].language if near else ""
                blocks.append(Block(language, "\n".join(lines) + "\n", begin, follows))
                lines, end = None, number
            elif lines is not None:
                lines.append(line.removeprefix(indent))
        if lines is not None:
            raise ValueError(f"{self}:{begin}: a fence is not closed")
        return blocks

    def prose(self) -> str:
        """The page without what stands between fences."""
        kept, inside = [], False
        for line in self.text.splitlines():
            if line.lstrip().startswith("```"):
                inside = not inside
            elif not inside:
                kept.append(line)
        return "\n".join(kept)

    def links(self) -> list[str]:
        """List where the page's links lead."""
        return [found["target"] for found in _LINK.finditer(self.prose())]

    def anchors(self) -> set[str]:
        """List what a link may name behind ``#``: the headings, as GitHub writes them."""
        found = (_HEADING.match(line) for line in self.prose().splitlines())
        return {_anchor(heading["title"]) for heading in found if heading}


#: From a closing to an opening fence: an empty line, one of prose, an empty line.
_NEAR = 4


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def all_pages() -> list[Page]:
    """List the pages: README, change notes, CONTRIBUTING, and everything under docs."""
    return [
        Page(path)
        for path in (
            ROOT / "README.md",
            ROOT / "CHANGELOG.md",
            ROOT / "CONTRIBUTING.md",
            *sorted((ROOT / "docs").rglob("*.md")),
        )
    ]
