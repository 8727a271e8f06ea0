"""The connections of a service, while it is stopped and run again; nothing here opens a socket."""

from __future__ import annotations

import pytest

from neon_mq_connector.service.configured import ConfiguredService
from neon_mq_connector.service.virtual_hosts import VirtualHosts


@pytest.fixture
def hosts() -> VirtualHosts:
    users = {"service": {"user": "u", "password": "p"}}
    return VirtualHosts(ConfiguredService({"server": "127.0.0.1", "users": users}, "service"))


def test_a_stop_closes_what_callbacks_open_until_it_ends(hosts: VirtualHosts) -> None:
    before = hosts.connections("/a")
    end_stop = hosts.begin_stop()
    assert hosts.connections("/a") is before, "callbacks that end may send"
    opened = hosts.connections("/b")
    assert list(end_stop()) == [before, opened]
    assert hosts.connections("/a") is not before


def test_a_run_before_a_stop_has_ended_has_connections_of_its_own(hosts: VirtualHosts) -> None:
    before = hosts.connections("/a")
    end_stop = hosts.begin_stop()
    hosts.begin_run()
    after = hosts.connections("/a")
    assert after is not before
    end_next_stop = hosts.begin_stop()
    assert list(end_stop()) == [before]
    sent_late = hosts.connections("/b")
    assert list(end_next_stop()) == [after, sent_late]


def test_each_of_two_stops_closes_what_was_opened_before_it_ends(hosts: VirtualHosts) -> None:
    end_stop, end_other_stop = hosts.begin_stop(), hosts.begin_stop()
    first = hosts.connections("/a")
    assert list(end_stop()) == [first]
    second = hosts.connections("/a")
    assert list(end_other_stop()) == [second]
    third = hosts.connections("/a")  # sent without a run
    hosts.begin_run()
    assert hosts.connections("/a") is third
