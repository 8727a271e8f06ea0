"""A stop has one time for everything that it waits for."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.config import MQSettings
from neon_mq_connector.connections import Connections
from neon_mq_connector.service import core
from neon_mq_connector.service.liveness import LivenessWatch

STOP_TIMEOUT = 4.0


class Clock:
    """A clock that goes on when somebody waits, and then for as long as he may."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def wait(self, timeout: float) -> bool:
        self.now += timeout
        return False


class Silent:
    """Connections to a broker that says nothing."""

    def __init__(self, clock: Clock) -> None:
        self.close = clock.wait


class Watch(LivenessWatch):
    """What looks after consumers and does not end in time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("watch", MQSettings.from_config({}), dict)
        self.join = clock.wait  # type: ignore[method-assign,assignment]

    def is_alive(self) -> bool:
        return True


@pytest.mark.parametrize("used_up", [0.0, STOP_TIMEOUT])
def test_however_many_brokers_are_silent_a_stop_keeps_to_its_time(
    monkeypatch: pytest.MonkeyPatch, used_up: float
) -> None:
    clock = Clock()
    users = {"service": {"user": "u", "password": "p"}}
    connector = MQConnector(
        {"server": "127.0.0.1", "port": 1, "users": users, "stop_timeout": STOP_TIMEOUT}, "service"
    )
    parts = connector._mq_core
    parts.hosts._open = {f"/{n}": cast(Connections, Silent(clock)) for n in range(10)}
    parts.consumers.watch = Watch(clock)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(core, "wait_for_end", lambda *_: clock.wait(used_up))
    connector.stop()
    # some of it is for saying good-bye where callbacks have used up all of it
    assert clock.now - 1_000.0 <= STOP_TIMEOUT + 0.5


def test_a_stop_that_comes_while_a_consumer_is_registered_finds_all_of_it() -> None:
    users = {"service": {"user": "u", "password": "p"}}
    connector = MQConnector({"server": "127.0.0.1", "port": 1, "users": users}, "service")

    class Threads(dict[str, Any]):
        def __setitem__(self, name: str, thread: Any) -> None:
            super().__setitem__(name, thread)
            connector.stop()  # a signal handler may, here

    threads = connector._mq_core.consumers.threads = Threads()
    connector.register_consumer("one", "/", "queue", print)
    assert not threads["one"].is_consumer_alive


def test_a_stop_ends_the_run_that_it_was_for_and_no_later_one() -> None:
    users = {"service": {"user": "u", "password": "p"}}
    connector = MQConnector({"server": "127.0.0.1", "port": 1, "users": users}, "service")
    parts = connector._mq_core
    connector.stop()  # there is no run
    first = parts.begin_run()
    assert not first.is_set()
    connector.stop()
    second = parts.begin_run()  # while the first still waits for the broker
    assert not parts.note_started(connector, first)
    assert parts.note_started(connector, second)
    assert connector.started
    connector.stop()


def test_at_the_end_of_the_process_a_stop_that_raises_keeps_no_other_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped: list[str] = []

    class Running:
        started = True

        def __init__(self, name: str) -> None:
            self._name = name

        def stop(self) -> None:
            stopped.append(self._name)
            if self._name == "raises":
                raise RuntimeError(self._name)

    running = [Running("one"), Running("raises"), Running("another")]
    monkeypatch.setattr(core, "_running", running)
    with pytest.raises(RuntimeError, match="raises"):
        core._stop_what_runs()
    assert sorted(stopped) == ["another", "one", "raises"]
