"""`neon-mq doctor --upgrade`: what it finds in services of earlier releases, and where."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.cli.upgrade import check_upgrade
from neon_mq_connector.operations.findings import Level
from tests.unit.cli.conftest import invoke

#: Each line that has something to be found ends with the words that it is told in.
SERVICE = """
from ast import literal_eval
from unittest.mock import patch

import neon_mq_connector.utils.nothing  # error: no such name
from neon_mq_connector.utils.network_utils import b64_to_dic  # error: b64_to_dict?
from neon_mq_connector.consumers import SelectConsumerThread  # warning: thread of their own
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.utils.client_utils import send_mq_request

patch("neon_mq_connector.connector.create_mq_conn")  # error: is not there
patch("neon_mq_connector.connector.MQConnector.send_message")  # warning: may not notice
patch("neon_mq_connector.utils.connection_utils.get_timeout")
send_mq_request("/", {}, "queue", time_out=3)  # error: did you mean timeout?


class Old(MQConnector):
    def __init__(self, config):
        super().__init__(config, "old")
        self.vhost = "/old"
        self._config = {}  # error: attribute of MQConnector
        self._mine = self._sync_thread  # warning: private
        self.register_consumer("a", "/", "a", self.good, self.failed)  # warning: auto_ack=True
        self.register_consumer(  # error: takes 3 arguments | warning: auto_ack=False
            "b", self.vhost, "b", self.bad, auto_ack=False
        )
        self.register_subscriber("c", "/", good)  # warning: <service>.<exchange>.dead
        self.register_subscriber("c", "/", good, exchange="\\n", auto_ack=ACK)  # error: line break
        self.register_subscriber("e", "/", good, self.bad, auto_ack=ACK)  # error: takes 3
        self.register_subscriber("d", "/", self.wrapped, autoack=1)  # error: auto_ack? | warning: _
        assert self.consumers["a"]._consumer_started.is_set()
        self.consumers["a"]._is_consuming  # warning: private
        self._mine

    def request(self, what):  # warning: hides MQConnector.request
        self.send_message(what, queue="a")  # warning: raises
        try:
            self.send_message(what, queue="a")
        except Exception:
            pass

    def good(self, channel, method, properties, body):
        request = literal_eval(body.decode())  # warning: reads the body by itself
        channel.queue_declare(queue=request["routing_key"])
        channel.basic_publish("", request["routing_key"], b"")
        mine = self.create_mq_connection().channel()
        mine.queue_declare(queue="mine")  # warning: transient
        mine.basic_publish("", request["routing_key"], b"")  # warning: not confirmed

    def bad(self, channel, method, body): ...

    def failed(self, thread, exception): ...

    @some_decorator
    def wrapped(self, body): ...
"""

CONFIG = """
{
  "MQ": {
    "host": "mq.example",  // warning: server
    "prefetch_cuont": 3,  // warning: prefetch_count
    "greeting": "hello",
    "users": {
      "old": {
        "user": "guest",
        "password": "guest"  // warning: guessed first
      }
    }
  }
}
"""


def expected(text: str, mark: str) -> list[tuple[int, str, str]]:
    """Return line, level and words of what is told at the ends of lines."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        for told in line.partition(f"  {mark} ")[2].split(" | ") if f"  {mark} " in line else []:
            level, _, words = told.partition(": ")
            found.append((number, level, words))
    return found


@pytest.mark.parametrize(
    "name, text, mark", [("old.py", SERVICE, "#"), ("config.json", CONFIG, "//")]
)
def test_each_place_is_found_and_no_other(tmp_path: Path, name: str, text: str, mark: str) -> None:
    file = tmp_path / name
    file.write_text(re.sub(rf"  {mark} .*", "", text), encoding="utf-8")
    left = check_upgrade(tmp_path)
    for line, level, words in expected(text, mark):
        for each in left:
            whole = f"{each.message}; {each.remedy}"
            if (each.check, each.level.value) == (f"{file}:{line}", level) and words in whole:
                left.remove(each)
                break
        else:
            pytest.fail(f"not found: line {line}: {level}: {words}, in {left}")
    assert left == []


def test_services_that_run_as_they_are_have_no_errors() -> None:
    levels = {each.level for each in check_upgrade(Path(__file__).parents[3] / "examples")}
    assert levels
    assert Level.ERROR not in levels


def test_what_is_not_theirs_is_left_out_and_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    environment = tmp_path / "env"
    (tmp_path / ".hidden").mkdir()
    environment.mkdir()
    (environment / "pyvenv.cfg").touch()
    for folder in (environment, tmp_path / ".hidden"):
        (folder / "wrong.py").write_text("import neon_mq_connector.nothing")
    (tmp_path / "notes.json").write_text('["users"]')
    assert [each.message for each in check_upgrade(tmp_path)] == [
        "no source or configuration that uses this library"
    ]
    (tmp_path / "broken.py").write_text("import neon_mq_connector\nprint 'x'\n")
    (tmp_path / "broken.json").write_text('{"MQ": {\n"port": "no"}}')
    (tmp_path / "requirements.txt").write_text("pika\nneon-mq-connector==0.7.1  # old\n")
    found = {each.check: each.level.value for each in check_upgrade(tmp_path)}
    assert found == {
        f"{tmp_path / 'broken.py'}:2": "error",
        f"{tmp_path / 'broken.json'}:2": "error",
        f"{tmp_path / 'requirements.txt'}:2": "warning",
    }


@pytest.mark.parametrize(
    "requirement, is_found",
    [
        ("~=0.7", False),
        ("~=0.7.1", True),
        ("[aio]>=0.7,<1", False),
        (">=0.7,<0.8", True),
        ("<0.11", True),
        ("<=0.11", False),
    ],
)
def test_a_requirement_is_found_that_excludes_this_release(
    tmp_path: Path, requirement: str, is_found: bool
) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(f'dependencies = ["neon-mq-connector{requirement}"]\n')
    found = [each for each in check_upgrade(file) if "excludes" in each.message]
    assert bool(found) is is_found


def test_the_command_prints_a_line_for_each_and_ends_with_1_if_there_is_an_error(
    tmp_path: Path,
) -> None:
    file = tmp_path / "old.py"
    file.write_text("from neon_mq_connector import MQConector\n")
    done = invoke("doctor", "--upgrade", str(file))
    assert done.exit_code == 1
    assert re.fullmatch(rf"{re.escape(str(file))}:1: error: .*MQConnector\?\n", done.stdout)
    file.write_text("from neon_mq_connector import MQConnector\n")
    done = invoke("doctor", "--json", "--upgrade", str(tmp_path))
    assert done.exit_code == 0
    assert [each["level"] for each in json.loads(done.stdout)] == ["ok"]
    assert invoke("doctor", "--upgrade", str(file), "a:B").exit_code == 2


def test_what_is_new_in_a_connector_is_there() -> None:
    from neon_mq_connector.cli.upgrade_names import NEW_NAMES

    assert all(hasattr(MQConnector, each) for each in NEW_NAMES)
