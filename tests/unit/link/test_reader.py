"""A thread that waits for an answer may read it itself; nothing depends on that thread."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import pytest
from pika.spec import Basic, Channel

from neon_mq_connector.link import reader as reader_module
from tests.support.polling import eventually
from tests.unit.link.frames import HEARTBEAT, method_frame
from tests.unit.link.line import Line

Read = Callable[[Line, Callable[[], object]], Future[None]]


def confirm(tag: int) -> bytes:
    return method_frame(1, Basic.Ack(tag))


class Books:
    """Note confirms and the frames for pika, in order, each with the thread that brought it."""

    def __init__(self, line: Line) -> None:
        self.entries: list[tuple[Any, int]] = []
        self.sink = Mock()
        self.sink.confirms = lambda tag, _multiple, _nacked: self.note(tag)
        line.transport.reader.parser.channels[1] = self.sink
        line.protocol.data_received = self.note  # type: ignore[method-assign,assignment]

    def note(self, what: Any) -> None:
        self.entries.append((what, threading.get_ident()))

    @property
    def notes(self) -> list[Any]:
        return [what for what, _thread in self.entries]

    def has(self, what: Any) -> bool:
        return what in self.notes


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that read: the test runner may handle signals on the main thread."""
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture
def make_line(pool: ThreadPoolExecutor) -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(*, tls: bool = False, buffers: int | None = None) -> Line:
        made.append(Line(tls=tls, buffers=buffers))
        return made[-1]

    yield make
    for line in made:
        line.close()  # which ends those who read


@pytest.fixture
def line(make_line: Callable[..., Line]) -> Line:
    return make_line()


@pytest.fixture
def books(line: Line) -> Books:
    return Books(line)


@pytest.fixture
def read(pool: ThreadPoolExecutor) -> Read:
    """Have a thread read until something is so; returns when it does."""

    def start(line: Line, done: Callable[[], object]) -> Future[None]:
        reader = line.transport.reader
        reading = pool.submit(reader.read_until, done, time.monotonic() + 300.0)
        eventually(lambda: reader.lease.holder is not None or reading.done())
        return reading

    return start


def test_the_answer_is_read_by_the_thread_that_waits_for_it(
    line: Line, books: Books, read: Read
) -> None:
    line.theirs.sendall(confirm(1))
    read(line, lambda: books.has(1)).result(120.0)
    # it may have come before the turn was taken
    assert books.notes == [1]
    reading = read(line, lambda: books.has(2))
    line.theirs.sendall(confirm(2))
    reading.result(120.0)
    assert books.notes == [1, 2]
    assert books.entries[1][1] != line.loop_thread.ident


@pytest.mark.parametrize("cut", [None, 4, 10])
def test_frames_for_pika_reach_it_on_its_thread_and_in_their_order(
    line: Line, books: Books, read: Read, cut: int | None
) -> None:
    sent = [confirm(1), HEARTBEAT, confirm(2), HEARTBEAT, method_frame(7, Channel.FlowOk(True))]
    reading = read(line, lambda: books.has(3))
    data = b"".join([*sent, confirm(3)])
    if cut is None:
        line.theirs.sendall(data)
    else:
        line.theirs.sendall(data[:-cut])
        eventually(lambda: len(books.entries) >= 2)
        line.theirs.sendall(data[-cut:])
    reading.result(120.0)
    eventually(lambda: books.has(3))
    assert books.notes == [1, HEARTBEAT, 2, HEARTBEAT, sent[4], 3]
    for what, thread in books.entries:
        if isinstance(what, bytes):
            assert thread == line.loop_thread.ident


def test_a_thread_that_is_held_up_loses_the_lease(line: Line, books: Books, read: Read) -> None:
    held = threading.Event()
    at_it = threading.Event()

    def done() -> bool:
        at_it.set()
        held.wait(120.0)  # as if a signal handler had come in between
        return False

    reading = read(line, done)
    at_it.wait(120.0)
    line.theirs.sendall(confirm(1))

    def looked_after() -> bool:
        line.loop.add_callback(line.transport.reader.lease.revoke_expired)
        return books.has(1)

    eventually(looked_after)
    assert books.entries[0][1] == line.loop_thread.ident
    held.set()
    reading.result(120.0)
    line.theirs.sendall(confirm(2))
    eventually(lambda: books.has(2))
    assert books.entries[1][1] == line.loop_thread.ident


def test_the_end_of_the_connection_is_told_by_the_loop(line: Line, read: Read) -> None:
    ends: list[int] = []
    line.protocol.on_lost = lambda: ends.append(threading.get_ident())
    reading = read(line, lambda: False)
    line.stop_reading()
    line.theirs.close()
    eventually(lambda: ends)
    reading.result(120.0)
    assert ends == [line.loop_thread.ident]


def test_an_interrupt_while_it_reads_ends_the_connection(
    line: Line, books: Books, read: Read
) -> None:
    def interrupted(_tag: int, _multiple: bool, _nacked: bool) -> None:
        raise KeyboardInterrupt

    books.sink.confirms = interrupted
    reading = read(line, lambda: False)
    line.theirs.sendall(confirm(1))
    assert isinstance(reading.exception(120.0), KeyboardInterrupt)
    eventually(lambda: line.protocol.lost)


def test_what_waits_to_be_written_leaves_while_a_thread_reads(
    make_line: Callable[..., Line], read: Read
) -> None:
    line = make_line(buffers=2_048)
    reading = read(line, lambda: False)
    size = 4 * 2**20
    line.transport.send(b"x" * size, line.gate)
    line.has_received(size)
    assert line.transport.reader.lease.holder is not None
    assert not reading.done()


def test_a_thread_that_reads_for_others_is_woken_at_once_for_what_comes_from_elsewhere(
    line: Line, books: Books, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_RENEWAL", 600.0)  # so it is woken, or the test fails
    reader = line.transport.reader
    events: list[str] = []
    until = time.monotonic() + 150.0
    reading = pool.submit(reader.read_until, events.__len__, until, wakeable=True)
    eventually(lambda: reader.lease.holder is not None)
    line.theirs.sendall(confirm(1))
    eventually(lambda: books.has(1))
    assert books.entries[0][1] != line.loop_thread.ident
    assert not reading.done()
    events.append("an event")
    reader.wake()
    reading.result(60.0)
    assert reader.lease.holder is None


def test_over_tls_only_the_io_thread_reads(
    make_line: Callable[..., Line], pool: ThreadPoolExecutor
) -> None:
    done = Mock()
    read_until = make_line(tls=True).transport.reader.read_until
    pool.submit(read_until, done, time.monotonic() + 0.1).result(120.0)
    assert not done.called


def test_a_thread_that_a_handler_may_interrupt_does_not_read(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_found", [0.0, False])
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    done = Mock()
    try:
        line.transport.reader.read_until(done, time.monotonic() + 0.1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not done.called
