"""A stop has one time for everything that it waits for."""

from __future__ import annotations

import time
from typing import cast

import pytest

from neon_mq_connector import MQConnector, connector
from neon_mq_connector.connections import Connections
from neon_mq_connector.service.liveness import LivenessWatch

STOP_TIMEOUT = 4.0


class Clock:
    """A clock that goes on when somebody waits, and then for as long as he may."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def wait(self, timeout: float) -> bool:
        self.now += timeout
        return False

    close = wait


class Watch:
    """What looks after consumers and does not end in time."""

    def __init__(self, clock: Clock) -> None:
        self.join = clock.wait

    def stop(self) -> None:
        pass


@pytest.mark.parametrize("used_up", [0.0, STOP_TIMEOUT])
def test_however_many_brokers_are_silent_a_stop_keeps_to_its_time(
    monkeypatch: pytest.MonkeyPatch, used_up: float
) -> None:
    clock = Clock()
    users = {"service": {"user": "u", "password": "p"}}
    connector = MQConnector(
        {"server": "127.0.0.1", "port": 1, "users": users, "stop_timeout": STOP_TIMEOUT}, "service"
    )
    connector._mq_connections = {f"/{n}": cast(Connections, clock) for n in range(10)}
    connector._mq_watch = cast(LivenessWatch, Watch(clock))
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr("neon_mq_connector.connector.wait_for_end", lambda *_: clock.wait(used_up))
    connector.stop()
    # some of it is for saying good-bye where callbacks have used up all of it
    assert clock.now - 1_000.0 <= STOP_TIMEOUT + 0.5


def test_at_the_end_of_the_process_a_stop_that_raises_keeps_no_other_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped: list[str] = []

    class Running:
        def __init__(self, name: str) -> None:
            self._name = name

        def stop(self) -> None:
            stopped.append(self._name)
            if self._name == "raises":
                raise RuntimeError(self._name)

    running = [Running("one"), Running("raises"), Running("another")]
    monkeypatch.setattr(connector, "_running", running)
    with pytest.raises(RuntimeError, match="raises"):
        connector._stop_what_runs()
    assert sorted(stopped) == ["another", "one", "raises"]
