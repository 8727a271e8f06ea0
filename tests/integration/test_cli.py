"""The command `neon-mq` on a real broker: what it prints, how it ends, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import Result
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import MQConnector
from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.codec import decode_body
from neon_mq_connector.errors import RequestRefusedError
from neon_mq_connector.testing import EmbeddedBroker
from neon_mq_connector.testing.running import RunningBroker
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.conftest import MQConfig
from tests.integration.conftest import Queues
from tests.support.nodes import free_port
from tests.support.polling import eventually
from tests.support.vhosts import User
from tests.unit.cli.conftest import invoke

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "neon_mq_connector.cli"]
PATIENCE = 120.0

Run = Callable[..., Result]


@pytest.fixture
def url(broker: RunningBroker, vhost: str, mq_user: User) -> str:
    return broker.url(vhost, username=mq_user.name, password=mq_user.password)


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `neon-mq` in this process, on the test's virtual host."""
    monkeypatch.setenv("NEON_MQ_URL", url)
    return invoke


class EchoService(MQConnector):
    """Answers in one part, in three, or not at all."""

    def __init__(self, config: MQConfig, vhost: str) -> None:
        super().__init__(config, "test_service")
        self.formats: list[str] = []
        self._there = vhost
        self.register_consumer("echo", vhost, "echo_q", self.on_echo)
        self.register_consumer("parts", vhost, "parts_q", self.on_parts)
        self.register_consumer("mute", vhost, "mute_q", lambda *_: None)

    def on_echo(self, _channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        request, wire_format = decode_body(body, properties.content_type)
        if request["text"] == "refuse me":
            raise RequestRefusedError("no", type="NoSuchText", details=["text"])
        self.formats.append(wire_format.value)
        self._answer(request, {"text": request["text"], "pair": (1, 2)})

    def on_parts(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        for number in range(3):
            self._answer(request, {"number": number, "is_final": number == 2})

    def _answer(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        self.send_message(
            {**answer, "message_id": request["message_id"]},
            vhost=self._there,
            queue=request["routing_key"],
        )


@pytest.fixture
def service(mq_config: MQConfig, vhost: str) -> Iterator[EchoService]:
    service = EchoService(mq_config, vhost)
    service.run_consumers()
    yield service
    service.stop()


class Process:
    """`neon-mq` in a process of its own."""

    def __init__(self, *arguments: str, url: str = "", output: Any = subprocess.PIPE) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NEON_MQ_URL": url}
        self.popen = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        self._said: list[str] = []
        assert self.popen.stderr is not None
        self._reader = threading.Thread(target=self._said.extend, args=(self.popen.stderr,))
        self._reader.start()

    @property
    def said(self) -> str:
        """What came on standard error so far."""
        return "".join(self._said)

    def wait_until_said(self, words: str) -> None:
        """Wait for words on standard error."""
        eventually(lambda: words in self.said, what=f"{words!r} is said")

    def next_line(self) -> str:
        """Wait for a line on standard output."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()

    def end(self, number: signal.Signals | None = None) -> int:
        """Wait until it ends, after a signal if one is given."""
        if number is not None:
            self.popen.send_signal(number)
        code = self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def kill(self) -> None:
        """End it in any case."""
        self.popen.kill()
        self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def process(*arguments: str, **more: Any) -> Iterator[Process]:
    started = Process(*arguments, **more)
    try:
        yield started
    finally:
        started.kill()


def waiting(broker: RunningBroker, vhost: str, queue: str) -> list[int]:
    return [each["messages"] for each in broker.list_queues(vhost) if each["name"] == queue]


# -- request -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wire_format", ["legacy", "json"])
def test_request_prints_the_answer_as_one_line_of_json(
    run: Run, service: EchoService, wire_format: str
) -> None:
    done = run("request", "echo_q", '{"text": "hällo"}', "--format", wire_format)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("\n") == 1
    answer = json.loads(done.stdout)
    assert (answer["text"], answer["pair"]) == ("hällo", [1, 2])
    assert service.formats == [wire_format]
    assert done.stderr == ""


def test_request_prints_each_part_of_a_streamed_answer_and_why_a_service_refuses(
    run: Run, service: EchoService
) -> None:
    done = run("request", "parts_q", '{"text": "x"}', "--stream")
    assert done.exit_code == 0, done.stderr
    parts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [part["number"] for part in parts] == [0, 1, 2]
    assert parts[-1]["is_final"]
    done = run("request", "echo_q", '{"text": "refuse me"}')
    assert (done.exit_code, done.stdout) == (ExitCode.REMOTE, "")
    assert "queue 'echo_q' failed: NoSuchText: no\n[\n  \"text\"\n]" in done.stderr


@pytest.mark.parametrize(
    "queue, code, words",
    [
        ("mute_q", ExitCode.FAILED, ["no answer within 0.3 s; consumers of the queue: 1"]),
        (
            "lonely",
            ExitCode.FAILED,
            ["Warning: no service consumes queue 'lonely'", "; no service consumes the queue"],
        ),
        ("nowhere", ExitCode.NOT_DELIVERED, ["there is no queue 'nowhere' in virtual host"]),
    ],
)
def test_request_without_an_answer_says_why_and_makes_no_queue(
    run: Run,
    service: EchoService,
    channel: BlockingChannel,
    queue: str,
    code: ExitCode,
    words: list[str],
    queues: Queues,
) -> None:
    channel.queue_declare("lonely", durable=True)
    done = run("request", queue, '{"text": "x"}', "--timeout", "0.3")
    assert (done.exit_code, done.stdout) == (code, "")
    assert all(each in done.stderr for each in words)
    assert "nowhere" not in queues()


def test_request_waits_for_a_service_to_come_when_told_to(
    broker: RunningBroker, url: str, vhost: str, mq_config: MQConfig
) -> None:
    with process("request", "echo_q", '{"text": "x"}', "--wait-for-queue", url=url) as client:
        eventually(lambda: waiting(broker, vhost, "echo_q") == [1])
        service = EchoService(mq_config, vhost)
        service.run_consumers()
        try:
            assert json.loads(client.next_line())["text"] == "x"
            assert client.end() == 0
        finally:
            service.stop()


def test_the_configuration_that_services_use_is_used(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    mq_config: MQConfig,
    vhost: str,
    service: EchoService,
) -> None:
    path = tmp_path / "mq.json"
    path.write_text(json.dumps({"MQ": mq_config}))
    monkeypatch.delenv("NEON_MQ_URL", raising=False)
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(path))
    ask = ("request", "echo_q", '{"text": "x"}', "--vhost", vhost)
    assert invoke(*ask).exit_code == 0
    assert invoke(*ask, "--user", "test_service").exit_code == 0
    monkeypatch.delenv("NEON_MQ_CONFIG_PATH")
    assert invoke(*ask, "--config", str(path)).exit_code == 0


# -- send --------------------------------------------------------------------------------------


def test_send_prints_the_id_of_a_message_that_is_in_its_queue(
    run: Run, channel: BlockingChannel
) -> None:
    done = run("send", "new_q", '{"text": "hi"}')
    assert done.exit_code == 0, done.stderr
    assert "queue 'new_q' did not exist" in done.stderr
    _method, properties, body = channel.basic_get("new_q", auto_ack=True)
    assert properties is not None
    assert body is not None
    assert b64_to_dict(body)["text"] == "hi"
    assert b64_to_dict(body)["message_id"] == properties.message_id == done.stdout.strip()
    assert properties.delivery_mode == 2
    assert properties.expiration is None


def test_send_says_nothing_besides_for_a_queue_that_exists(
    run: Run, channel: BlockingChannel
) -> None:
    channel.queue_declare("old_q", durable=True, arguments={"x-max-length": 10})
    done = run("send", "old_q", '{"text": "hi"}', "--expires", "60", "--format", "json")
    assert (done.exit_code, done.stderr) == (0, "")
    _method, properties, body = channel.basic_get("old_q", auto_ack=True)
    assert properties is not None
    assert body is not None
    assert json.loads(body)["text"] == "hi"
    assert properties.expiration == "60000"


def test_send_to_a_fanout_exchange_needs_no_listener(run: Run) -> None:
    assert run("send", "--exchange", "news", '{"text": "hi"}').exit_code == 0


def test_send_with_a_routing_key_that_nobody_takes_is_an_error_and_makes_no_queue(
    run: Run, queues: Queues
) -> None:
    done = run("send", "--exchange", "events", "--type", "topic", "user.new", '{"a": 1}')
    assert done.exit_code == ExitCode.NOT_DELIVERED
    assert "'user.new'" in done.stderr
    assert queues() == set()


# -- listen ------------------------------------------------------------------------------------


def test_listen_prints_what_is_published_and_leaves_nothing_when_it_is_ended(
    run: Run, url: str, queues: Queues
) -> None:
    with process("listen", "--exchange", "news", "--json", url=url) as listener:
        listener.wait_until_said("listening to fanout exchange 'news'")
        sent = [run("send", "--exchange", "news", f'{{"n": {n}}}').stdout.strip() for n in range(3)]
        lines = [json.loads(listener.next_line()) for _ in sent]
        assert [line["message_id"] for line in lines] == sent
        assert [line["body"]["n"] for line in lines] == [0, 1, 2]
        assert {line["exchange"] for line in lines} == {"news"}
        assert listener.end(signal.SIGTERM) == 0
        assert "Traceback" not in listener.said
    eventually(lambda: queues() == set())


@pytest.mark.parametrize(
    "kind, keys, expected",
    [("topic", (), [0, 1]), ("direct", ("--routing-key", "user.new"), [0])],
)
def test_listen_finds_out_what_kind_of_exchange_it_is(
    channel: BlockingChannel, url: str, kind: str, keys: tuple[str, ...], expected: list[int]
) -> None:
    channel.exchange_declare("events", exchange_type=kind, durable=True)
    count = str(len(expected))
    arguments = ("listen", "--exchange", "events", *keys, "--json", "--count", count)
    with process(*arguments, url=url) as listener:
        listener.wait_until_said(f"listening to {kind} exchange 'events'")
        channel.basic_publish("events", "user.new", b'{"n": 0}')
        channel.basic_publish("events", "order.new", b'{"n": 1}')
        assert [json.loads(listener.next_line())["body"]["n"] for _ in expected] == expected
        assert listener.end() == 0


def test_listen_to_a_direct_exchange_asks_for_a_routing_key(
    run: Run, channel: BlockingChannel
) -> None:
    channel.exchange_declare("events", exchange_type="direct")
    done = run("listen", "--exchange", "events")
    assert done.exit_code == ExitCode.USAGE
    assert "give --routing-key" in done.stderr


def test_listen_takes_from_a_queue_only_what_it_prints(
    run: Run, broker: RunningBroker, vhost: str, channel: BlockingChannel
) -> None:
    channel.queue_declare("work", durable=True)
    for number in range(5):
        channel.basic_publish("", "work", json.dumps({"n": number}).encode())
    done = run("listen", "--queue", "work", "--count", "2", "--json")
    assert done.exit_code == 0, done.stderr
    assert [json.loads(line)["body"]["n"] for line in done.stdout.splitlines()] == [0, 1]
    assert "each message is taken from queue 'work'" in done.stderr
    eventually(lambda: waiting(broker, vhost, "work") == [3])


def test_listen_to_a_queue_that_does_not_exist_makes_none_unless_told_to(
    run: Run, vhost: str, url: str, channel: BlockingChannel, queues: Queues
) -> None:
    done = run("listen", "--queue", "nosuch")
    assert done.exit_code == ExitCode.REFUSED
    assert f"there is no queue 'nosuch' in virtual host '{vhost}'" in done.stderr
    assert "--make-queue" in done.stderr
    assert queues() == set()
    arguments = ("listen", "--queue", "nosuch", "--make-queue", "--count", "1", "--headers")
    with process(*arguments, url=url) as listener:
        listener.wait_until_said("listening to queue 'nosuch'")
        assert "did not exist" in listener.said
        properties = BasicProperties(headers={"why": "asked for"})
        channel.basic_publish("", "nosuch", b'{"n": 1}', properties)
        assert "nosuch" in listener.next_line()
        assert listener.next_line() == '  why: "asked for"\n'
        assert listener.end() == 0


def test_listen_keeps_what_a_reader_that_went_away_has_not_read(
    broker: RunningBroker, vhost: str, url: str, channel: BlockingChannel
) -> None:
    channel.queue_declare("work", durable=True)
    read_end, write_end = os.pipe()
    with process("listen", "--queue", "work", "--json", url=url, output=write_end) as listener:
        os.close(write_end)
        listener.wait_until_said("listening to queue 'work'")
        os.close(read_end)
        channel.basic_publish("", "work", b'{"n": 1}')
        assert listener.end() == 0
        assert "Traceback" not in listener.said
    eventually(lambda: waiting(broker, vhost, "work") == [1])


def test_listen_reports_a_broker_that_restarts_and_goes_on() -> None:
    with (
        EmbeddedBroker() as node,
        process("listen", "--exchange", "news", "--json", url=node.url()) as listener,
    ):
        listener.wait_until_said("listening to fanout exchange 'news'")
        node.kill()
        listener.wait_until_said("Warning: interrupted, trying again")
        node.start()
        eventually(lambda: listener.said.count("listening to") == 2)
        done = invoke("send", "--exchange", "news", '{"n": 1}', "--url", node.url())
        assert done.exit_code == 0, done.stderr
        assert json.loads(listener.next_line())["body"]["n"] == 1
        assert listener.end(signal.SIGINT) == 0


def test_a_user_who_may_do_nothing_is_told_by_every_command(
    broker: RunningBroker, vhost: str, mq_user: User, run: Run, url: str, channel: BlockingChannel
) -> None:
    channel.queue_declare("work", durable=True)
    broker.management.permit(mq_user.name, vhost, configure="^$", write="^$", read="^$")
    for arguments in (
        ("request", "work", '{"a": 1}'),
        ("send", "work", '{"a": 1}'),
        ("send", "--exchange", "news", '{"a": 1}'),
        ("listen", "--exchange", "news"),
    ):
        done = run(*arguments)
        assert done.exit_code == ExitCode.REFUSED, done.stderr
        assert "refused" in done.stderr
        assert "Traceback" not in done.stderr


# -- broker ------------------------------------------------------------------------------------


@pytest.mark.needs_rabbitmq
def test_broker_runs_a_node_and_tells_if_it_dies(tmp_path: Path) -> None:
    config = tmp_path / "mq.json"
    arguments = ("--vhost", "/llm", "--refuse-transient", "--json")
    files = ("--write-config", str(config), "--service", "old_service")
    with process("broker", *arguments, *files) as node:
        where = json.loads(node.next_line())
        assert where["refuses_transient"]
        assert config.stat().st_mode & 0o077 == 0
        users = json.loads(config.read_text())["MQ"]["users"]
        assert set(users) == {"old_service", "mq_handler", "default"}
        done = invoke("send", "q", '{"a": 1}', "--url", where["urls"]["/llm"])
        assert done.exit_code == 0, done.stderr
        psutil.Process(where["pid"]).kill()
        assert node.end() == ExitCode.NO_BROKER
        assert "has ended by itself" in node.said
    assert not config.exists()


def _ask_the_example(config: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NEON_MQ_CONFIG_PATH": str(config)}
    examples = ROOT / "examples"
    with subprocess.Popen(
        [sys.executable, str(examples / "echo_service.py")],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as service:
        try:
            assert service.stdout is not None
            assert service.stdout.readline().startswith("answering at queue echo_input")
            asked = subprocess.run(
                [sys.executable, str(examples / "ask.py"), "hello", "world"],
                capture_output=True,
                text=True,
                env=environment,
                timeout=PATIENCE,
                check=False,
            )
            assert (asked.returncode, asked.stdout) == (0, "hello world\n"), asked.stderr
            service.send_signal(signal.SIGTERM)
            assert service.wait(PATIENCE) == 0
        finally:
            service.kill()


def test_broker_writes_a_configuration_over_an_old_one_only_when_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "mq_config.json"
    config.write_text("left behind")
    refused = invoke("broker", "--embedded", "--write-config")
    assert refused.exit_code == ExitCode.USAGE
    assert "mq_config.json exists already" in refused.stderr
    assert "--force" in refused.stderr
    assert config.read_text() == "left behind"
    with process("broker", "--embedded", "--write-config", str(config), "--force") as node:
        labels = [node.next_line().split()[0] for _ in range(3)]
        assert labels == ["URL", "user", "password"]
        assert "default" in json.loads(config.read_text())["MQ"]["users"]
        _ask_the_example(config)
        assert node.end(signal.SIGINT) == 0
    assert not config.exists()


def test_broker_runs_an_embedded_one_until_a_signal() -> None:
    user, port = ("--user", "ada", "--password", "a b/c"), free_port()
    arguments = ("--port", str(port), "--vhost", "/llm", "--refuse-transient", "--json")
    with process("broker", "--embedded", *user, *arguments) as node:
        where = json.loads(node.next_line())
        assert (where["user"], where["port"], where["refuses_transient"]) == ("ada", port, True)
        assert where["management_url"] is None
        done = invoke("send", "q", '{"a": 1}', "--url", where["urls"]["/llm"])
        assert done.exit_code == 0, done.stderr
        assert node.end(signal.SIGTERM) == 0
        assert "the embedded broker is gone" in node.said
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=120)


@pytest.mark.parametrize("option", ["--user", "--vhost", "--service"])
def test_a_broker_is_given_no_empty_names(option: str) -> None:
    done = invoke("broker", "--embedded", "--write-config", option, "")
    assert done.exit_code == ExitCode.USAGE
    assert f"'{option}': a name is empty" in done.stderr


# -- demo --------------------------------------------------------------------------------------


@pytest.mark.needs_rabbitmq
def test_demo_shows_answers_and_failures_and_leaves_nothing() -> None:
    done = invoke("demo", "--json", "--rabbitmq", "--refuse-transient")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    steps = report["steps"]
    assert '{"price":7.0}' in steps["answer"]
    assert "KeyError: 'coffee'" in steps["parked"]
    assert '{"price":13.5}' in steps["replayed"]
    assert '{"price":7.0}' in steps["back"]
    assert "nothing is left" in steps["stopped"]


def test_demo_tells_its_steps_in_plain_lines() -> None:
    done = invoke("demo", env={"NEON_MQ_URL": "amqp://u:p@nobody.invalid/"})
    assert done.exit_code == 0, done.stderr
    labels = [line.split()[0] for line in done.stdout.splitlines() if line]
    steps = "broker service request answer message parked replayed killed back stopped That"
    assert labels == steps.split()
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert done.stderr == ""
