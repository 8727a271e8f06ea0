"""Services by name: which class is found, how it is constructed, what is said of mistakes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neon_mq_connector import AsyncMQConnector, MQConnector
from neon_mq_connector.cli.exits import CommandError, ExitCode
from neon_mq_connector.cli.service_class import load_service, make_service

ONE = """
from neon_mq_connector import MQConnector

class HTTPGreeter(MQConnector):
    pass
"""
TWO = """
from neon_mq_connector import AsyncMQConnector, MQConnector
from one_service import HTTPGreeter as Imported

class Named(MQConnector):
    def __init__(self, config=None, service_name="usual"):
        super().__init__(config, service_name)

class Fixed(AsyncMQConnector):
    def __init__(self):
        super().__init__({"server": "mine"}, "fixed")

class Demanding(MQConnector):
    def __init__(self, config, service_name, proxy):
        super().__init__(config, service_name)
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "one_service.py").write_text(ONE)
    (tmp_path / "two_services.py").write_text(TWO)
    (tmp_path / "broken_service.py").write_text("1 / 0\n")
    (tmp_path / "unfinished.py").write_text("print(\n")
    (tmp_path / "needs_more.py").write_text("import what_is_not_there\n")
    (tmp_path / "mq.json").write_text('{"server": "found"}')
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(tmp_path / "mq.json"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("one_service", "two_services", "broken_service", "needs_more"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "where,name,service_name,server",
    [
        ("one_service", None, "http_greeter", "found"),
        ("one_service:HTTPGreeter", "other", "other", "found"),
        ("two_services:Named", None, "usual", "found"),
        ("two_services:Named", "mine", "mine", "found"),
        ("two_services:Fixed", None, "fixed", "mine"),
    ],
)
def test_a_service_is_constructed(
    where: str, name: str | None, service_name: str, server: str
) -> None:
    service = make_service(load_service(where), name)
    assert isinstance(service, (MQConnector, AsyncMQConnector))
    assert service.service_name == service_name
    assert service.config["server"] == server


@pytest.mark.parametrize(
    "where,name,said",
    [
        ("two_services", None, "it has Named, Fixed, Demanding"),
        ("two_services:Namde", None, "did you mean Named?"),
        ("two_services:MQConnector.x", None, "has no class"),
        ("json:dumps", None, "no class derived from MQConnector"),
        ("json", None, "it defines no connector class"),
        ("not_there:X", None, "there is no module 'not_there'"),
        ("./one_service.py:X", None, "here: one_service"),
        ("broken_service:X", None, "ZeroDivisionError: division by zero"),
        ("unfinished:X", None, "SyntaxError: '(' was never closed (unfinished.py, line 1)"),
        ("needs_more:X", None, "No module named 'what_is_not_there'"),
        ("two_services:Demanding", None, "needs proxy"),
        ("two_services:Fixed", "x", "takes no service_name"),
    ],
)
def test_mistakes_are_told_in_a_line(where: str, name: str | None, said: str) -> None:
    with pytest.raises(CommandError) as raised:
        make_service(load_service(where), name)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "importlib" not in str(raised.value)
    assert raised.value.code is ExitCode.USAGE
