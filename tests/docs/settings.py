"""The tables of the reference page on configuration, made from what the settings say of themselves.

``python -m tests.docs.settings`` brings the page up to date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from neon_mq_connector.config import MQSettings, TLSSettings, UserSettings
from neon_mq_connector.config.section import Section, notes
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "reference" / "configuration.md"

_TABLE = re.compile(
    r"^### `?(?P<title>[^`\n]+)`?\n(?:[^#|\n].*\n|\n)*(?P<table>(?:\|.*\n)+)", re.MULTILINE
)
_HEAD = "| key | value | default | unit | meaning |\n|---|---|---|---|---|\n"
_SECTIONS: dict[str, type[Section]] = {"users.<service>": UserSettings, "tls": TLSSettings}


def update(text: str) -> str:
    """Return the page with its tables as they should be."""

    def rewrite(found: re.Match[str]) -> str:
        section = _SECTIONS.get(found["title"], MQSettings)
        group = "" if found["title"] in _SECTIONS else found["title"]
        return found[0].removesuffix(found["table"]) + _HEAD + "".join(_rows(section, group))

    return _TABLE.sub(rewrite, text)


def _rows(section: type[Section], group: str) -> Iterator[str]:
    current = ""
    for name, field in section.model_fields.items():
        said = notes(field)
        current = said["group"] or current
        if current == group:
            cells = (f"`{name}`", said["expects"], _default(field), said["unit"])
            yield f"| {' | '.join(cells)} | {field.description} |\n"


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, TLSSettings):
        value = value.enabled
    return f"`{value:.12g}`" if isinstance(value, float) else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    PAGE.write_text(update(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
