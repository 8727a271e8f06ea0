"""What operators see and mend on RabbitMQ: what its management interface and its queues decide."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import MQConnector
from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.operations.diagnosis import diagnose
from neon_mq_connector.testing.running import RunningBroker
from tests.conftest import MQConfig
from tests.support.accounting import take_all
from tests.support.polling import eventually
from tests.support.vhosts import User
from tests.unit.cli.conftest import invoke

pytestmark = pytest.mark.needs_rabbitmq

ROOT = Path(__file__).parents[2]
_MESSAGES = 300

Run = Callable[..., Result]


@pytest.fixture
def run(broker: RunningBroker, vhost: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `neon-mq` as the administrator, on the test's virtual host."""
    monkeypatch.setenv("NEON_MQ_URL", broker.url(vhost))
    monkeypatch.setenv("NEON_MQ_MANAGEMENT_URL", broker.management_url)
    return invoke


def park(channel: BlockingChannel, count: int, type: str = "classic") -> None:
    for name in ("work", "work.dead"):
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": type})
    channel.confirm_delivery()
    for number in range(count):
        headers = {"neon-queue": "work", "neon-error": "KeyError: 'name'", "neon-attempts": 3}
        properties = BasicProperties(message_id=str(number), headers=headers)
        channel.basic_publish("", "work.dead", b"{}", properties)


def ids_in(channel: BlockingChannel, queue: str) -> list[str]:
    """Take the messages of a queue, and return their ids."""
    return [str(properties.message_id) for properties, _body in take_all(channel, queue)]


def test_the_management_interface_lists_queues_and_what_is_parked(
    run: Run, channel: BlockingChannel
) -> None:
    park(channel, 3)
    channel.basic_get("work.dead")  # held here, unacked
    states = {each["queue"]: each for each in json.loads(run("status", "--json").stdout)["queues"]}
    assert states["work"]["parked"] == states["work.dead"]["ready"] == 2
    assert (states["work.dead"]["unacked"], states["work"]["type"]) == (1, "classic")
    assert [line.split()[0] for line in run("status").stdout.splitlines()] == ["QUEUE", "work"]
    assert json.loads(run("dead", "list", "--json").stdout) == [
        {"queue": "work.dead", "messages": 2, "consumers": 0}
    ]
    assert run("top").stdout.splitlines()[1].split()[:5] == ["work", "0", "0", "0", "2"]


def test_a_user_without_the_tag_management_is_told_so_and_may_name_queues(
    run: Run, broker: RunningBroker, vhost: str, mq_user: User, channel: BlockingChannel
) -> None:
    park(channel, 1)
    url = broker.url(vhost, username=mq_user.name, password=mq_user.password)
    done = run("status", "--url", url)
    assert done.exit_code == ExitCode.REFUSED
    assert f"does not accept user '{mq_user.name}'; give the user the tag" in done.stderr
    (told,) = json.loads(run("status", "work", "--url", url, "--json").stdout)["queues"]
    assert (told["parked"], told["unacked"]) == (1, None)


def test_a_quorum_queue_gives_back_what_was_shown_and_takes_what_is_replayed(
    run: Run, channel: BlockingChannel
) -> None:
    park(channel, 3, "quorum")
    for _ in range(25):  # more often than a message may come back to it
        shown = run("dead", "show", "work", "--json").stdout.splitlines()
        assert len(shown) == 3
    assert run("dead", "replay", "work").stdout == "replayed: 3\n"
    assert sorted(ids_in(channel, "work")) == ["0", "1", "2"]


def test_kill_at_any_moment_of_a_replay_loses_nothing_and_the_last_one_named_may_be_in_both(
    run: Run, broker: RunningBroker, vhost: str, channel: BlockingChannel
) -> None:
    park(channel, _MESSAGES)
    every = {str(number) for number in range(_MESSAGES)}
    moved: set[str] = set()
    named: set[str] = set()
    for _ in range(2):
        named.add(_kill_a_replay(broker.url(vhost)))
        moved |= set(ids_in(channel, "work"))
        left = _left(run, moved, every)
        assert len(left) == len(set(left))
        assert moved & set(left) <= named
    assert run("dead", "replay", "work").exit_code == 0
    assert moved | set(ids_in(channel, "work")) == every


def _left(run: Run, moved: set[str], every: set[str]) -> list[str]:
    """Wait until no message is missing, and return those that are dead letters still."""
    left: list[str] = []

    def is_nothing_lost() -> bool:
        left[:] = _shown(run)
        return moved | set(left) == every

    eventually(is_nothing_lost)  # the broker has to see the end of the process
    return left


def _shown(run: Run) -> list[str]:
    lines = run("dead", "show", "work", "--json").stdout.splitlines()
    return [json.loads(line)["id"] for line in lines]


def _kill_a_replay(url: str) -> str:
    """Kill a replay soon after it has begun; return the message that it has named last."""
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT), "NEON_MQ_URL": url}
    command = [sys.executable, "-m", "neon_mq_connector.cli", "dead", "replay", "work"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as replay:
        assert replay.stderr is not None
        said = [replay.stderr.readline()]
        time.sleep(random.uniform(0.0, 0.05))
        replay.kill()
        said += replay.stderr.readlines()
    return [line.split()[1] for line in said if line.startswith("replaying ")][-1]


# -- diagnosis -----------------------------------------------------------------------------------


@pytest.mark.refusing_only
def test_a_policy_and_the_ban_of_transient_queues_are_found(
    broker: RunningBroker, vhost: str, mq_config: MQConfig
) -> None:
    service = MQConnector(mq_config, "test_service")
    service.register_consumer("orders", vhost, "orders", lambda *_: None, durable=True)
    service.run_consumers()
    service.stop()
    broker.management.set_policy(vhost, "short", "^orders$", {"message-ttl": 1000})
    eventually(
        lambda: broker.management.queue(vhost, "orders").get("effective_policy_definition"),
        what="the policy is listed",
    )
    try:
        found = diagnose(service, vhost=vhost, management=broker.management)
    finally:
        broker.management.call("DELETE", "policies", vhost, "short")
    by_check = {each.check: each for each in found if each.check != "queue 'orders'"}
    not_ok = {check for check, each in by_check.items() if each.level.value != "ok"}
    assert not_ok == {"transient queues"}, found
    told = [each.message for each in found if each.check == "queue 'orders'"]
    assert any("'short' has message-ttl 1000" in message for message in told), told
