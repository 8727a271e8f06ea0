"""A thread that waits for an answer may read it itself; nothing depends on that thread."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import pytest
from pika.spec import Basic, Channel

from neon_mq_connector.link import reader as reader_module
from tests.support.polling import eventually
from tests.unit.link.frames import HEARTBEAT, method_frame
from tests.unit.link.line import Line


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
def line() -> Iterator[Line]:
    made = Line(tls=False)
    yield made
    made.close()


@pytest.fixture
def books(line: Line) -> Books:
    return Books(line)


def read_until(line: Line, done: Callable[[], object], seconds: float = 300.0) -> None:
    """Read on a thread of its own: the test runner may handle signals on the main thread."""
    with ThreadPoolExecutor(1) as pool:
        deadline = time.monotonic() + seconds
        pool.submit(line.transport.reader.read_until, done, deadline).result(120.0)


def reading_thread(
    line: Line, done: Callable[[], object], seconds: float = 300.0
) -> threading.Thread:
    """Start a thread that reads, and return it once it does."""
    deadline = time.monotonic() + seconds
    thread = threading.Thread(
        target=line.transport.reader.read_until, args=(done, deadline), name="reader", daemon=True
    )
    thread.start()
    eventually(lambda: line.transport.reader.lease.is_held)
    return thread


def test_the_answer_is_read_by_the_thread_that_waits_for_it(line: Line, books: Books) -> None:
    line.theirs.sendall(confirm(1))
    read_until(line, lambda: books.has(1))
    # it may have come before the turn was taken
    before = books.notes
    reader = reading_thread(line, lambda: books.has(2))
    line.theirs.sendall(confirm(2))
    reader.join(120.0)
    assert before == [1]
    assert books.entries[1] == (2, reader.ident)


@pytest.mark.parametrize("cut", [None, 4, 10])
def test_frames_for_pika_reach_it_on_its_thread_and_in_their_order(
    line: Line, books: Books, cut: int | None
) -> None:
    sent = [confirm(1), HEARTBEAT, confirm(2), HEARTBEAT, method_frame(7, Channel.FlowOk(True))]
    reader = reading_thread(line, lambda: books.has(3))
    data = b"".join([*sent, confirm(3)])
    if cut is None:
        line.theirs.sendall(data)
    else:
        line.theirs.sendall(data[:-cut])
        eventually(lambda: len(books.entries) >= 2)
        line.theirs.sendall(data[-cut:])
    reader.join(120.0)
    assert not reader.is_alive()
    eventually(lambda: books.has(3))
    assert books.notes == [1, HEARTBEAT, 2, HEARTBEAT, sent[4], 3]
    for what, thread in books.entries:
        if isinstance(what, bytes):
            assert thread == line.loop_thread.ident


def test_a_thread_that_is_held_up_loses_the_lease(line: Line, books: Books) -> None:
    held = threading.Event()
    at_it = threading.Event()

    def done() -> bool:
        at_it.set()
        held.wait(120.0)  # as if a signal handler had come in between
        return False

    reader = reading_thread(line, done)
    at_it.wait(120.0)
    line.theirs.sendall(confirm(1))

    def looked_after() -> bool:
        line.loop.add_callback(line.transport.reader.lease.revoke_expired)
        return books.has(1)

    eventually(looked_after)
    assert books.entries[0][1] == line.loop_thread.ident
    held.set()
    reader.join(120.0)
    assert not reader.is_alive()
    line.theirs.sendall(confirm(2))
    eventually(lambda: books.has(2))
    assert books.entries[1][1] == line.loop_thread.ident


def test_the_end_of_the_connection_is_told_by_the_loop(line: Line, books: Books) -> None:
    ends: list[int] = []
    line.protocol.on_lost = lambda: ends.append(threading.get_ident())
    reader = reading_thread(line, lambda: False)
    line.stop_reading()
    line.theirs.close()
    eventually(lambda: ends)
    reader.join(120.0)
    assert not reader.is_alive()
    assert ends == [line.loop_thread.ident]


def test_an_interrupt_while_it_reads_ends_the_connection(line: Line, books: Books) -> None:
    def interrupted(_tag: int, _multiple: bool, _nacked: bool) -> None:
        raise KeyboardInterrupt

    books.sink.confirms = interrupted
    caught: list[BaseException] = []

    def read() -> None:
        try:
            line.transport.reader.read_until(lambda: False, time.monotonic() + 300.0)
        except BaseException as error:
            caught.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    eventually(lambda: line.transport.reader.lease.is_held)
    line.theirs.sendall(confirm(1))
    reader.join(120.0)
    assert [type(error) for error in caught] == [KeyboardInterrupt]
    eventually(lambda: line.protocol.lost)


def test_what_waits_to_be_written_leaves_while_a_thread_reads() -> None:
    line = Line(tls=False, buffers=2_048)
    try:
        reader = reading_thread(line, lambda: False)
        size = 4 * 2**20
        line.transport.send(b"x" * size, line.gate)
        line.has_received(size)
        assert line.transport.reader.lease.is_held
        assert reader.is_alive()
    finally:
        line.close()
    reader.join(120.0)
    assert not reader.is_alive()


def test_a_thread_that_reads_for_others_is_woken_at_once_for_what_comes_from_elsewhere(
    line: Line, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_RENEWAL", 600.0)  # so it is woken, or the test fails
    reader = line.transport.reader
    events: list[str] = []
    until = time.monotonic() + 600.0
    taker = threading.Thread(
        target=lambda: reader.read_until(events.__len__, until, wakeable=True), daemon=True
    )
    taker.start()
    eventually(lambda: reader.lease.is_held)
    line.theirs.sendall(confirm(1))
    eventually(lambda: books.has(1))
    assert books.entries == [(1, taker.ident)]
    assert taker.is_alive()
    events.append("an event")
    reader.wake()
    taker.join(60.0)
    assert not taker.is_alive()
    assert not reader.lease.is_held


def test_over_tls_only_the_io_thread_reads() -> None:
    line = Line(tls=True)
    asked: list[None] = []
    try:
        read_until(line, lambda: asked.append(None), seconds=0.1)
    finally:
        line.close()
    assert not asked


def test_a_thread_that_a_handler_may_interrupt_does_not_read(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_found", [0.0, False])
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    asked: list[None] = []
    try:
        line.transport.reader.read_until(lambda: asked.append(None), time.monotonic() + 0.1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not asked
