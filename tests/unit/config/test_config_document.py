from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from neon_mq_connector.config import MQSettings, TLSSettings, UserSettings
from neon_mq_connector.config.document import main, render
from neon_mq_connector.config.problems import notes

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "configuration.md"
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def fences(language: str) -> list[str]:
    return [f["text"] for f in FENCE.finditer(render()) if f["language"] == language]


def test_the_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(PAGE)]) == 0, capsys.readouterr().err


def test_a_page_that_is_out_of_date_is_found_and_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "docs" / "page.md"
    assert main(["--check", str(page)]) == 1
    assert "neon_mq_connector.config.document" in capsys.readouterr().err
    assert main([str(page)]) == 0
    assert main(["--check", str(page)]) == 0
    page.write_text(page.read_text() + "more\n")
    assert main(["--check", str(page)]) == 1


@pytest.mark.parametrize("section", [MQSettings, UserSettings, TLSSettings])
def test_every_setting_is_described_and_on_the_page(section: type[MQSettings]) -> None:
    page = render()
    for name, field in section.model_fields.items():
        assert f"| `{name}` |" in page
        assert field.description
        assert field.description.endswith(".")
        assert notes(field)["expects"]


def test_every_default_is_a_value_that_would_be_taken() -> None:
    settings = MQSettings.from_config({})
    given = {
        name: getattr(settings, name) for name in MQSettings.model_fields if name not in {"tls"}
    }
    assert MQSettings.from_config(given) == MQSettings.from_config({**given})
    assert MQSettings.from_config(given).endpoints == settings.endpoints


@pytest.mark.parametrize("number", range(len(fences("python"))))
def test_an_example_runs(number: int, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    exec(compile(fences("python")[number], f"example {number}", "exec"), {"__name__": "example"})
    assert dict(os.environ) == before


@pytest.mark.parametrize("number", range(len(fences("json"))))
def test_a_file_is_taken(number: int) -> None:
    content = json.loads(fences("json")[number])
    content["MQ"].get("tls", {})["enabled"] = False  # its files are not there
    MQSettings.from_config(content)


def test_there_are_examples() -> None:
    assert len(fences("python")) >= 6
    assert len(fences("json")) >= 3
