"""A thread that waits for an answer reads it itself; nothing hangs on it, whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pika.spec import Basic, Channel

from neon_mq_connector.errors import FrameError
from neon_mq_connector.link.turn import Turn
from tests.support.polling import eventually
from tests.unit.link.frames import HEARTBEAT, message, method_frame
from tests.unit.link.line import Gate, Line, Sink


def confirm(tag: int) -> bytes:
    return method_frame(1, Basic.Ack(tag))


class Books:
    """Note confirms and the frames for pika, in order, each with the thread that brought it."""

    def __init__(self, line: Line) -> None:
        self.entries: list[tuple[Any, int]] = []
        self.sink = Sink()
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


def lead(line: Line, done: Callable[[], object], seconds: float = 10.0) -> None:
    """Lead on a thread of its own: whoever runs the tests may handle signals."""
    with ThreadPoolExecutor(1) as pool:
        deadline = time.monotonic() + seconds
        pool.submit(line.transport.lead, done, deadline).result(30.0)


def leads(line: Line, done: Callable[[], object], seconds: float = 10.0) -> threading.Thread:
    """Have another thread lead, and give it when it does."""
    deadline = time.monotonic() + seconds
    thread = threading.Thread(
        target=line.transport.lead, args=(done, deadline), name="leader", daemon=True
    )
    thread.start()
    eventually(lambda: line.transport.reader.turn.is_led)
    return thread


def test_the_answer_is_read_by_the_thread_that_waits_for_it(line: Line, books: Books) -> None:
    line.theirs.sendall(confirm(1))
    lead(line, lambda: books.has(1))
    # it may have come before the turn was taken
    before = books.notes
    leader = leads(line, lambda: books.has(2))
    line.theirs.sendall(confirm(2))
    leader.join(30.0)
    assert before == [1]
    assert books.entries[1] == (2, leader.ident)


def test_afterwards_the_loop_reads_again(line: Line, books: Books) -> None:
    leader = leads(line, lambda: books.has(1))
    line.theirs.sendall(confirm(1))
    leader.join(30.0)
    line.theirs.sendall(confirm(2))
    eventually(lambda: books.has(2))
    assert books.entries[1][1] == line.loop_thread.ident


@pytest.mark.parametrize("cut", [None, 4, 10])
def test_frames_for_pika_reach_it_on_its_thread_and_in_their_order(
    line: Line, books: Books, cut: int | None
) -> None:
    sent = [confirm(1), HEARTBEAT, confirm(2), HEARTBEAT, method_frame(7, Channel.FlowOk(True))]
    leader = leads(line, lambda: books.has(3))
    data = b"".join([*sent, confirm(3)])
    if cut is None:
        line.theirs.sendall(data)
    else:
        line.theirs.sendall(data[:-cut])
        eventually(lambda: len(books.entries) >= 2)
        line.theirs.sendall(data[-cut:])
    leader.join(30.0)
    assert not leader.is_alive()
    eventually(lambda: books.has(3))
    assert books.notes == [1, HEARTBEAT, 2, HEARTBEAT, sent[4], 3]
    for what, thread in books.entries:
        if isinstance(what, bytes):
            assert thread == line.loop_thread.ident


def test_what_comes_for_others_is_handed_on(line: Line, books: Books) -> None:
    leader = leads(line, lambda: books.has(1))
    line.theirs.sendall(b"".join([*message(1, 1, b"for somebody else"), confirm(1)]))
    leader.join(30.0)
    assert [[raw[2] for raw in batch] for batch in books.sink.batches] == [[b"for somebody else"]]


def test_only_one_leads(line: Line, books: Books) -> None:
    leader = leads(line, lambda: books.has(1))
    lead(line, lambda: False)  # returns at once
    assert leader.is_alive()
    line.theirs.sendall(confirm(1))
    leader.join(30.0)


def test_time_is_up_for_a_leader_too(line: Line, books: Books) -> None:
    began = time.monotonic()
    lead(line, lambda: False, seconds=0.1)
    assert time.monotonic() - began >= 0.1
    assert not line.transport.reader.turn.is_led


def test_what_is_done_elsewhere_ends_it(line: Line) -> None:
    answered = threading.Event()
    leader = leads(line, answered.is_set)
    answered.set()
    leader.join(30.0)
    assert not leader.is_alive()


def test_a_leader_that_does_not_come_by_loses_its_turn(line: Line, books: Books) -> None:
    held = threading.Event()
    at_it = threading.Event()

    def done() -> bool:
        at_it.set()
        held.wait(10.0)  # as if a signal handler had come in between
        return False

    leader = leads(line, done)
    at_it.wait(5.0)
    line.theirs.sendall(confirm(1))

    def looked_after() -> bool:
        line.loop.add_callback(line.transport.reader.turn.take_back)
        return books.has(1)

    eventually(looked_after)
    assert books.entries[0][1] == line.loop_thread.ident
    held.set()
    leader.join(30.0)
    assert not leader.is_alive()
    line.theirs.sendall(confirm(2))
    eventually(lambda: books.has(2))
    assert books.entries[1][1] == line.loop_thread.ident


def test_the_end_of_the_connection_is_told_by_the_loop(line: Line, books: Books) -> None:
    ends: list[int] = []
    line.protocol.on_lost = lambda: ends.append(threading.get_ident())
    leader = leads(line, lambda: False)
    line.stop_reading()
    line.theirs.close()
    eventually(lambda: ends)
    leader.join(30.0)
    assert not leader.is_alive()
    assert ends == [line.loop_thread.ident]


def test_bytes_that_make_no_sense_end_the_connection_with_their_reason(
    line: Line, books: Books
) -> None:
    ends: list[int] = []
    line.protocol.on_lost = lambda: ends.append(threading.get_ident())
    leader = leads(line, lambda: False)
    line.theirs.sendall(b"\x09 is no kind of frame")
    eventually(lambda: ends)
    leader.join(30.0)
    assert ends == [line.loop_thread.ident]
    assert isinstance(line.transport.reader.fault, FrameError)
    assert "unknown type 9" in str(line.transport.reader.fault)


def test_an_interrupt_while_it_reads_ends_the_connection(line: Line, books: Books) -> None:
    def interrupted(_tag: int, _multiple: bool, _nacked: bool) -> None:
        raise KeyboardInterrupt

    books.sink.confirms = interrupted
    caught: list[BaseException] = []

    def led() -> None:
        try:
            line.transport.lead(lambda: False, time.monotonic() + 10.0)
        except BaseException as error:
            caught.append(error)

    leader = threading.Thread(target=led, daemon=True)
    leader.start()
    eventually(lambda: line.transport.reader.turn.is_led)
    line.theirs.sendall(confirm(1))
    leader.join(30.0)
    assert [type(error) for error in caught] == [KeyboardInterrupt]
    eventually(lambda: line.protocol.lost)


def test_what_waits_for_room_leaves_while_somebody_leads() -> None:
    line = Line(tls=False, buffers=2_048)
    try:
        leader = leads(line, lambda: False, seconds=5.0)
        size = 4 * 2**20
        line.transport.send(b"x" * size, Gate())
        line.has_received(size)
        assert line.transport.reader.turn.is_led
        assert leader.is_alive()
    finally:
        line.close()
    leader.join(30.0)
    assert not leader.is_alive()


def test_over_tls_nobody_leads() -> None:
    line = Line(tls=True)
    try:
        lead(line, lambda: False)  # returns at once
    finally:
        line.close()


def test_a_turn_that_was_taken_back_is_not_given_back_twice() -> None:
    looked: list[int] = []
    turn = Turn(5, lambda _fd, events: looked.append(events))
    first = turn.begin()
    assert first is not None
    heir = turn.hand_over()
    turn.end(first)  # has no effect: it was handed over
    assert turn.is_led
    assert turn.begin() is None
    turn.end(heir)
    assert not turn.is_led
    assert looked == [0, 0, 1]
    turn.close()
    assert turn.begin() is None


def test_a_loop_that_has_ended_is_not_spoken_to() -> None:
    def look_for(_fd: int, _events: int) -> None:
        raise ValueError("I/O operation on closed epoll object")

    turn = Turn(5, look_for)
    assert turn.begin() is None
    assert turn.is_over
    turn.end(turn.hand_over())
    turn.look_for_room(True)
    turn.take_back()
