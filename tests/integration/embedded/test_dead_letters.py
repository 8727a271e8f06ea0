"""`neon-mq dead` and the functions behind it, on the embedded broker."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest
from click.testing import Result
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import MQConnector, create_mq_callback
from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.operations import dead_letters
from neon_mq_connector.operations.dead_letters import ReplayInterruptedError
from neon_mq_connector.testing import EmbeddedBroker, FaultProxy, ports
from tests.support.configurations import config_of
from tests.support.polling import eventually
from tests.unit.cli.conftest import invoke

ROOT = Path(__file__).parents[3]

Run = Callable[..., Result]


@pytest.fixture
def run(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("NEON_MQ_URL", embedded.url())
    monkeypatch.setenv("NEON_MQ_MANAGEMENT_URL", "http://127.0.0.1:1")
    return invoke


@pytest.fixture
def channel(messages: BlockingChannel) -> BlockingChannel:
    messages.queue_declare("work.dead", durable=True)
    return messages


class Greeter(MQConnector):
    """Fails as long as it is broken."""

    is_broken = True

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config, "greeter")
        self.greeted: list[str] = []
        self.register_consumer("greet", "/", "greet_input", self.greet)
        self.register_subscriber("news", "/", self.greet, exchange="news")

    @create_mq_callback()
    def greet(self, body: dict[str, Any]) -> None:
        if self.is_broken:
            raise KeyError(body["name"])
        self.greeted.append(body["name"])


@pytest.fixture
def greeter(embedded: EmbeddedBroker) -> Any:
    service = Greeter(config_of(embedded, "greeter"))
    service.run(run_sync=False, run_observer=False)
    yield service
    service.stop()


def park(channel: BlockingChannel, *ids: str, queue: str = "work", **headers: Any) -> None:
    """Put messages into `work.dead` as consumers do."""
    for each in ids:
        told = {
            "neon-queue": queue,
            "neon-exchange": "",
            "neon-routing-key": queue,
            "neon-error": "KeyError: 'name'",
            "neon-traceback": 'Traceback:\n  File "x.py"\n',
            "neon-parked-at": 1_700_000_000,
            "neon-attempts": 3,
        }
        channel.basic_publish(
            "",
            "work.dead",
            b'{"n":"%s"}' % each.encode(),
            BasicProperties(message_id=each, headers={**told, **headers}),
        )


def ids_in(channel: BlockingChannel, queue: str) -> list[str | None]:
    """Return the ids of the messages in a queue, which stay there."""
    found, tag = [], 0
    while True:
        method, properties, _body = channel.basic_get(queue)
        if method is None or properties is None:
            break
        found.append(properties.message_id)
        tag = method.delivery_tag
    if tag:
        channel.basic_nack(tag, multiple=True)
    return found


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_message_that_fails_is_shown_replayed_and_parked_again_until_it_is_handled(
    run: Run, greeter: Greeter, channel: BlockingChannel
) -> None:
    greeter.send_message({"name": "Ada"}, queue="greet_input")

    def parked() -> list[dict[str, Any]]:
        listed = run("dead", "list", "greet_input", "--json")
        return [each for each in json.loads(listed.stdout or "[]") if each["messages"]]

    assert eventually(parked)[0]["queue"] == "greet_input.dead"
    (shown,) = lines(run("dead", "show", "greet_input", "--json"))
    assert shown["error"] == "KeyError: 'Ada'"
    assert "Traceback" in shown["traceback"]
    assert shown["body"]["name"] == "Ada"
    assert (shown["queue"], shown["attempts"], shown["replayed"]) == ("greet_input", 1, 0)
    assert lines(run("dead", "replay", "greet_input", "--json"))[0]["replayed"] == 1

    eventually(parked)
    (again,) = lines(run("dead", "show", "greet_input", "--json"))
    assert (again["id"], again["replayed"]) == (shown["id"], 1)
    greeter.is_broken = False
    assert run("dead", "replay", "greet_input.dead", "--id", shown["id"]).exit_code == 0
    eventually(lambda: greeter.greeted == ["Ada"])
    assert not parked()


def test_a_subscribers_messages_go_to_the_exchange_again_when_their_queue_is_gone(
    run: Run, greeter: Greeter, embedded: EmbeddedBroker, channel: BlockingChannel
) -> None:
    greeter.publish_message(
        greeter.create_mq_connection("/"), {"name": "Ada"}, exchange="news", expiration=60_000
    )
    eventually(lambda: run("dead", "show", "greeter.news", "--json").stdout, interval=0.1)
    greeter.stop()
    refused = run("dead", "replay", "greeter.news")
    assert refused.exit_code == ExitCode.NOT_DELIVERED
    assert "a subscriber's queue goes with the subscriber" in refused.stderr

    successor = Greeter(config_of(embedded, "greeter"))
    successor.is_broken = False
    successor.run(run_sync=False, run_observer=False)
    try:
        assert run("dead", "replay", "greeter.news", "--publish").exit_code == 0
        eventually(lambda: successor.greeted == ["Ada"])
    finally:
        successor.stop()


def test_what_is_shown_stays_in_its_order(run: Run, channel: BlockingChannel) -> None:
    park(channel, "a", "b", "c")
    assert [each["id"] for each in lines(run("dead", "show", "work", "--json"))] == ["a", "b", "c"]
    assert [each["id"] for each in lines(run("dead", "show", "work", "--count=1", "--json"))] == [
        "a"
    ]
    text = run("dead", "show", "work.dead", "--id", "b").stdout
    assert "KeyError: 'name'" in text
    assert 'File "x.py"' in text
    assert '"n": "b"' in text
    assert '"n": "a"' not in text
    assert ids_in(channel, "work.dead") == ["a", "b", "c"]


@pytest.mark.parametrize(
    "options, moved, stay",
    [
        ([], ["a", "b", "c"], []),
        (["--count", "2"], ["a", "b"], ["c"]),
        (["--id", "b"], ["b"], ["a", "c"]),
    ],
)
def test_replay_sends_what_is_asked_for(
    run: Run, channel: BlockingChannel, options: list[str], moved: list[str], stay: list[str]
) -> None:
    park(channel, "a", "b", "c")
    done = run("dead", "replay", "work", *options)
    assert done.stdout == f"replayed: {len(moved)}\n"
    assert [line.split()[-1] for line in done.stderr.splitlines()] == moved
    assert ids_in(channel, "work") == moved
    assert ids_in(channel, "work.dead") == stay


def test_replayed_messages_have_the_properties_that_they_were_sent_with(
    run: Run, channel: BlockingChannel
) -> None:
    original: dict[str, Any] = {
        "reply_to": "answers",
        "priority": 4,
        "user_id": "somebody",
        "headers": {"CC": ["work"], "x-tenant": "t", "x-death": [], "neon-replayed": 2, "big": ""},
    }
    headers: dict[str, Any] = {"tenant": 1, "neon-original": original, "neon-expiration": "1"}
    park(channel, "a", **headers)
    assert run("dead", "replay", "work").exit_code == 0
    _method, properties, body = channel.basic_get("work", auto_ack=True)
    assert properties is not None
    assert properties.headers == {"tenant": 1, "x-tenant": "t", "neon-replayed": 3}
    assert (properties.reply_to, properties.priority, properties.delivery_mode) == ("answers", 4, 2)
    assert (properties.user_id, properties.expiration, body) == (None, None, b'{"n":"a"}')


def test_what_cannot_be_sent_stays_and_the_rest_is_sent(run: Run, channel: BlockingChannel) -> None:
    park(channel, "a", queue="gone")
    park(channel, "b")
    done = run("dead", "replay", "work", "--json")
    assert done.exit_code == ExitCode.NOT_DELIVERED
    told = json.loads(done.stdout)
    assert (told["replayed"], told["left"][0]["id"]) == (1, "a")
    assert "'gone'" in told["left"][0]["reason"]
    assert ids_in(channel, "work.dead") == ["a"]
    assert run("dead", "replay", "work", "--to", "work").exit_code == 0
    assert ids_in(channel, "work") == ["b", "a"]


def test_messages_that_the_broker_has_dead_lettered_go_back_to_their_first_queue(
    run: Run, channel: BlockingChannel
) -> None:
    route = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "rejected"}
    channel.queue_declare("orders", durable=True, arguments=route)
    channel.queue_declare("rejected", durable=True)
    channel.basic_publish("", "orders", b"plain text", BasicProperties(message_id="a"))
    method, _properties, _body = channel.basic_get("orders")
    assert method is not None
    channel.basic_reject(method.delivery_tag, requeue=False)
    eventually(lambda: ids_in(channel, "rejected") == ["a"])
    (shown,) = lines(run("dead", "show", "rejected", "--json"))
    assert (shown["queue"], shown["body"], shown["attempts"]) == ("orders", "plain text", 1)
    assert "rejected" in shown["error"]
    assert run("dead", "replay", "rejected").exit_code == 0
    assert ids_in(channel, "orders") == ["a"]


def test_a_queue_at_work_is_left_alone(run: Run, channel: BlockingChannel) -> None:
    channel.queue_delete("work.dead")
    channel.basic_publish("", "work", b"{}", BasicProperties(message_id="a"))
    assert "there are no dead letters" in run("dead", "show", "work").stderr
    assert run("dead", "replay", "work").stdout == "replayed: 0\n"
    assert run("dead", "discard", "work", "--all", "--yes").stdout == "discarded: 0\n"
    assert ids_in(channel, "work") == ["a"]


def test_discard_deletes_what_is_asked_for_and_nothing_without_yes(
    run: Run, channel: BlockingChannel
) -> None:
    park(channel, "a", "b", "c")
    for options in (["--all"], ["--yes"], ["--all", "--id", "a", "--yes"]):
        assert run("dead", "discard", "work", *options).exit_code == ExitCode.USAGE
    assert run("dead", "discard", "work", "--id", "z", "--yes").exit_code == ExitCode.FAILED
    assert run("dead", "discard", "work", "--id", "b", "--yes").stdout == "discarded: 1\n"
    assert ids_in(channel, "work.dead") == ["a", "c"]
    assert run("dead", "discard", "work", "--all", "--yes", "--json").stdout == '{"discarded":2}\n'
    assert ids_in(channel, "work.dead") == []


def test_a_stop_ends_a_replay_and_a_discard_after_the_message_at_hand(
    embedded: EmbeddedBroker, channel: BlockingChannel
) -> None:
    park(channel, "a", "b", "c")
    parameters = [_parameters(embedded)]
    assert dead_letters.replay(parameters, "work", stopped=lambda: True).replayed == 1
    assert dead_letters.discard(parameters, "work", stopped=lambda: True) == 1
    assert (ids_in(channel, "work"), ids_in(channel, "work.dead")) == (["a"], ["c"])


def test_what_fails_again_during_a_replay_is_not_replayed_once_more(
    embedded: EmbeddedBroker, channel: BlockingChannel
) -> None:
    park(channel, "a", "b")

    def fail_again(_letter: Any) -> None:
        park(channel, "again")

    done = dead_letters.replay([_parameters(embedded)], "work", on_letter=fail_again)
    assert done.replayed == 2
    assert ids_in(channel, "work.dead") == ["again", "again"]


def test_a_connection_that_is_lost_loses_no_message_and_the_error_says_how_far_it_came(
    embedded: EmbeddedBroker, channel: BlockingChannel
) -> None:
    park(channel, "a", "b", "c")
    with FaultProxy(embedded.port) as proxy:
        sent: list[str] = []

        def cut(letter: Any) -> None:
            sent.append(letter.id)
            if letter.id == "b":
                proxy.reset()

        parameters = _parameters(embedded)
        parameters.port = proxy.port
        with pytest.raises(ReplayInterruptedError) as caught:
            dead_letters.replay([parameters], "work", on_letter=cut)
    moved: set[str | None] = set()
    stay: set[str | None] = set()

    def is_nothing_lost() -> bool:
        moved.update(ids_in(channel, "work"))
        stay.update(ids_in(channel, "work.dead"))
        return moved | stay == {"a", "b", "c"}

    eventually(is_nothing_lost)
    assert moved & stay <= {caught.value.doubtful}
    assert caught.value.replayed in (1, 2)


def test_without_the_management_interface_queues_have_to_be_named(
    run: Run, channel: BlockingChannel
) -> None:
    park(channel, "a")
    for command in (["status"], ["top"], ["dead", "list"]):
        done = run(*command)
        assert done.exit_code == ExitCode.NO_BROKER
        assert "no management interface answers at http://127.0.0.1:1" in done.stderr
        assert done.stderr.count("\n") == 1
    (told,) = json.loads(run("status", "work", "--json").stdout)["queues"]
    assert (told["queue"], told["parked"], told["unacked"]) == ("work", 1, None)
    assert "work.dead" in run("dead", "list", "work").stdout
    assert run("top", "work").stdout.startswith("QUEUE")
    assert run("status", "nowhere").exit_code == ExitCode.REFUSED
    assert run("dead", "show", "nowhere").exit_code == ExitCode.REFUSED


def test_top_sorts_by_a_key_and_ends_with_q(
    embedded: EmbeddedBroker, channel: BlockingChannel
) -> None:
    park(channel, "a")
    channel.queue_declare("busy", durable=True)
    channel.basic_publish("", "busy", b"{}")
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 80, 0, 0))
    command = [sys.executable, "-m", "neon_mq_connector.cli", "top", "work", "busy"]
    environment = {**os.environ, "NEON_MQ_URL": embedded.url(), "PYTHONPATH": str(ROOT)}
    seen = b""

    def shows(*words: bytes) -> bool:
        nonlocal seen
        while select.select([near], [], [], 0)[0]:
            seen += os.read(near, 65_536)
        last = seen.rpartition(b"\x1b[H")[2]
        places = [last.find(word) for word in words]
        return -1 not in places and places == sorted(places)

    with subprocess.Popen(command, stdin=far, stdout=far, stderr=far, env=environment) as top:
        try:
            eventually(lambda: shows(b"busy ", b"work "))
            os.write(near, b"p")
            eventually(lambda: shows(b"work ", b"busy "))
            os.write(near, b"q")
            assert top.wait(120) == 0
        finally:
            top.kill()
    shows()
    assert seen.endswith(b"\x1b[?25h\x1b[?1049l")  # the screen is as it was
    os.close(near)
    os.close(far)


@pytest.mark.parametrize(
    "command",
    [
        ["request", "work", '{"a": 1}'],
        ["status", "work"],
        ["top", "work"],
        ["dead", "list", "work"],
        ["dead", "replay", "work"],
        ["dead", "discard", "work", "--all", "--yes"],
    ],
    ids=" ".join,
)
def test_what_is_wrong_with_the_connection_is_told_in_one_line(
    run: Run, embedded: EmbeddedBroker, channel: BlockingChannel, command: list[str]
) -> None:
    (closed,) = ports.free_ports(1)
    for url, code, words in (
        (
            embedded.url(username="nobody", password="sesam"),
            ExitCode.REFUSED,
            "refused the password",
        ),
        (embedded.url("/nowhere"), ExitCode.REFUSED, "virtual host '/nowhere'"),
        (f"amqp://a:b@127.0.0.1:{closed}/", ExitCode.NO_BROKER, "no broker answers"),
    ):
        done = run(*command, "--url", url)
        assert (done.exit_code, done.stdout) == (code, "")
        assert done.stderr.startswith("Error: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert "sesam" not in done.stderr


def _parameters(embedded: EmbeddedBroker) -> pika.ConnectionParameters:
    credentials = pika.PlainCredentials(embedded.username, embedded.password)
    return pika.ConnectionParameters(embedded.host, embedded.port, credentials=credentials)
