"""`neon-mq run`: services in processes of their own, on the embedded broker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.cli.supervisor import SourceChanges
from neon_mq_connector.testing import EmbeddedBroker
from tests.integration.embedded.test_health_endpoint import fetch, fetch_json
from tests.support.configurations import config_of
from tests.support.nodes import free_port
from tests.support.polling import eventually

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0

SERVICE = """
import logging
import os
from neon_mq_connector import AsyncMQConnector, MQConnector, create_mq_callback

form = logging.Formatter("%(mq_message_id)s: %(message)s", defaults={"mq_message_id": "-"})
logging.getLogger().handlers[0].setFormatter(form)

class Greeter(MQConnector):
    def __init__(self, config=None, service_name="greeter"):
        super().__init__(config, service_name)
        self.register_consumer("greet", self.vhost, "greet", self.greet)
        self.register_consumer("die", "/", "die", lambda *_: os._exit(9))

    @create_mq_callback()
    def greet(self, body):
        logging.getLogger("of_the_user").warning("greeting")
        return {"said": "hello", "pid": os.getpid()}

class Plain(Greeter):
    def run(self):
        super().run()

class Unprepared(Greeter):
    def pre_run(self, **kwargs):
        raise ValueError("no model")

class Waiter(AsyncMQConnector):
    def __init__(self, config=None, service_name="greeter"):
        super().__init__(config, service_name)
        self.register_consumer("greet", self.vhost, "greet", self.greet)

    async def greet(self, channel, method, properties, body):
        logging.getLogger("of_the_user").warning("greeting")
        from neon_mq_connector.codec import decode_body
        request, _ = decode_body(body, properties.content_type)
        answer = {"said": "hello", "pid": os.getpid(), "message_id": request["message_id"]}
        await self.send_message(answer, queue=request["routing_key"])
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(embedded: EmbeddedBroker, tmp_path: Path) -> Path:
    (tmp_path / "mq.json").write_text(json.dumps(config_of(embedded, "greeter", "client")))
    (tmp_path / "greeter.py").write_text(SERVICE)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start `neon-mq run` with arguments."""
    started: list[subprocess.Popen[str]] = []
    environment = {
        "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
        "NEON_MQ_CONFIG_PATH": str(folder / "mq.json"),
    }

    def start_one(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "neon_mq_connector.cli", "run", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)


@pytest.fixture
def ask(folder: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """Ask the service for its greeting."""
    client = MQConnector(json.loads((folder / "mq.json").read_text()), "client")
    yield lambda: client.request({"name": "you"}, "greet", vhost="/")
    client.stop()


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(PATIENCE)


@pytest.mark.parametrize(
    "where,number", [("greeter:Greeter", 15), ("greeter:Plain", 15), ("greeter:Waiter", 2)]
)
def test_a_service_runs_until_a_signal(
    start: Start, ask: Callable[[], dict[str, Any]], where: str, number: int
) -> None:
    process = start(where)
    assert ask()["pid"] == process.pid
    assert end(process, number) == ExitCode.OK
    assert process.stderr is not None
    # the handler of the command says which message it was
    assert re.search(r"^\w[\w-]+: greeting$", process.stderr.read(), re.MULTILINE)


def test_what_a_service_raises_is_shown_and_is_no_mistake_in_the_command_line(
    start: Start,
) -> None:
    process = start("greeter:Unprepared")
    assert process.wait(PATIENCE) == ExitCode.INTERNAL  # a worker is started anew
    assert process.stderr is not None
    told = process.stderr.read()
    assert "in pre_run" in told
    assert "ValueError: no model" in told


def test_an_address_for_the_health_of_a_service_goes_with_the_port_of_its_settings(
    start: Start, folder: Path
) -> None:
    port = free_port()
    config = json.loads((folder / "mq.json").read_text())
    (folder / "mq.json").write_text(json.dumps({**config, "health_port": port}))
    process = start("greeter:Greeter", "--health-host", "127.0.0.2")
    assert process.stderr is not None
    assert any(f"http://127.0.0.2:{port}/" in line for line in process.stderr)


def test_workers_are_started_anew_and_one_endpoint_speaks_for_all(
    start: Start, folder: Path
) -> None:
    port = free_port()
    process = start("greeter:Greeter", "--workers", "2", "--health-port", str(port))
    eventually(lambda: _code(port, "/ready") == 200)
    statuses = fetch_json(port, "/status")[1]
    assert [status["worker"] for status in statuses] == [1, 2]
    before = {status["pid"] for status in statuses}
    client = MQConnector(json.loads((folder / "mq.json").read_text()), "client")
    client.send_message({"some": "thing"}, vhost="/", queue="die")
    client.stop()
    eventually(lambda: _code(port, "/ready") == 503)
    assert _code(port, "/live") == 200
    eventually(lambda: _code(port, "/ready") == 200)
    after = {status["pid"] for status in fetch_json(port, "/status")[1]}
    assert len(after) == 2
    assert len(after & before) == 1
    assert process.stderr is not None
    assert any("exit code 9; it is started anew" in line for line in process.stderr)
    process.kill()  # workers end with it, however that was
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in after))


def test_a_change_of_the_source_starts_the_service_anew(
    start: Start, folder: Path, ask: Callable[[], dict[str, Any]]
) -> None:
    process = start("greeter:Greeter", "--reload")
    assert ask()["said"] == "hello"
    source = folder / "greeter.py"
    source.write_text("1 / 0\n")  # waits for the next change
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    assert any("ZeroDivisionError" in line for line in lines)
    source.write_text(SERVICE.replace("hello", "good evening"))
    answer = ask()
    assert answer["said"] == "good evening"
    assert end(process, signal.SIGINT) == ExitCode.OK
    assert not psutil.pid_exists(answer["pid"])


@pytest.mark.parametrize(
    "arguments, url, code, said",
    [
        (("greeter:Nobody",), {}, ExitCode.USAGE, "did you mean"),
        (("greeter:Nobody", "--workers", "2"), {}, ExitCode.USAGE, "did you mean"),
        (("greeter:Greeter", "--name", "other"), {}, ExitCode.CONFIGURATION, "users"),
        (("greeter:Greeter",), {"vhost": "/missing"}, ExitCode.REFUSED, "'/missing'"),
        (
            ("greeter:Waiter", "--workers", "2"),
            {"username": "neon", "password": "wrong"},
            ExitCode.REFUSED,
            "password",
        ),
    ],
)
def test_what_cannot_work_ends_with_a_line_and_a_code(
    start: Start,
    embedded: EmbeddedBroker,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    url: dict[str, str],
    code: ExitCode,
    said: str,
) -> None:
    if url:
        monkeypatch.setenv("NEON_MQ_URL", embedded.url(**url))
    process = start(*arguments)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert said in errors
    assert "Traceback" not in errors


def test_only_sources_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neon_mq_connector.cli.supervisor._RELOAD_INTERVAL", 0.0)
    for name in ("env/pyvenv.cfg", "env/lib/a.py", ".hidden/a.py", "part/a.py", "part/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    changes = SourceChanges(tmp_path)
    for name in ("env/lib/a.py", ".hidden/a.py", "part/a.txt"):
        os.utime(tmp_path / name, (1, 1))
        assert changes.poll() == ""
    os.utime(tmp_path / "part" / "a.py", (1, 1))
    assert changes.poll() == os.path.join("part", "a.py")
    assert changes.poll() == ""
    (tmp_path / "new.py").write_text("")
    assert changes.poll() == "new.py"


def _code(port: int, path: str) -> int:
    try:
        return fetch(port, path)[0]
    except OSError:  # it does not listen yet
        return 0
