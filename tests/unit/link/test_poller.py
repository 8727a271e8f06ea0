"""The ways to wait for sockets, which a loop cannot tell apart."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from neon_mq_connector.link import poller as module
from neon_mq_connector.link.poller import READ, WRITE, Poller, new_poller
from tests.support.polling import eventually

KINDS: list[Callable[[], Poller]] = [Poller]
if sys.platform == "linux":
    KINDS.append(module.EpollPoller)


@pytest.fixture(params=KINDS)
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_socket_is_ready_for_what_is_asked(
    poller: Poller, ends: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = ends
    fd = ours.fileno()
    poller.register(fd, READ)
    assert poller.poll(0) == []
    poller.modify(fd, READ | WRITE)
    assert poller.poll(0) == [(fd, WRITE)]
    theirs.send(b"x")
    assert poller.poll(1) == [(fd, READ | WRITE)]
    poller.modify(fd, READ)
    assert poller.poll(1) == [(fd, READ)]
    poller.unregister(fd)
    assert poller.poll(0) == []


def test_a_socket_whose_other_end_is_gone_can_be_read(
    poller: Poller, ends: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = ends
    poller.register(ours.fileno(), READ)
    theirs.close()
    ((fd, events),) = poller.poll(1)
    assert fd == ours.fileno()
    assert events & READ


def test_several_are_ready(poller: Poller, ends: tuple[socket.socket, socket.socket]) -> None:
    for end in ends:
        poller.register(end.fileno(), READ)
        end.send(b"x")
    assert sorted(poller.poll(1)) == sorted((end.fileno(), READ) for end in ends)


@pytest.mark.skipif(not new_poller().any_thread, reason="this system's cannot be changed meanwhile")
def test_another_thread_may_change_what_is_waited_for(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    poller = new_poller()
    ours, theirs = ends
    poller.register(ours.fileno(), 0)
    theirs.send(b"x")
    found: list[tuple[int, int]] = []
    waiting = threading.Thread(target=lambda: found.extend(poller.poll(10)), daemon=True)
    waiting.start()
    poller.modify(ours.fileno(), READ)
    eventually(lambda: found)
    waiting.join(30.0)
    assert found == [(ours.fileno(), READ)]
    poller.close()
