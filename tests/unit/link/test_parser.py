"""What comes is cut into frames; messages and confirms are taken, and pika gets all the rest."""

from __future__ import annotations

import cProfile
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.frame import decode_frame
from pika.spec import Basic, BasicProperties, Channel, Connection, Queue

from neon_mq_connector.errors import FrameError
from neon_mq_connector.link.parser import MAX_BODY, FrameParser, RawDelivery
from tests.unit.link import frames
from tests.unit.link.frames import FRAME_MAX, HEARTBEAT, message, method_frame

CLOSE = method_frame(1, Channel.Close(404, "gone", 60, 40))
CLOSE_OK = method_frame(1, Channel.CloseOk())


class Sink:
    """A channel's side, which writes down what it gets."""

    def __init__(self, seen: list[Any], number: int) -> None:
        self.seen = seen
        self.number = number
        self.deliveries: Callable[[list[RawDelivery]], None] | None = self.take
        self.confirms: Callable[[int, bool, bool], None] | None = self.confirm

    def take(self, batch: list[RawDelivery]) -> None:
        self.seen.append((self.number, "deliveries", [_tag(raw) for raw in batch]))

    def confirm(self, tag: int, multiple: bool, nacked: bool) -> None:
        self.seen.append((self.number, tag, multiple, nacked))

    def closing(self) -> None:
        self.seen.append((self.number, "closing"))


class Stream:
    """A parser with sinks on channels 1 and 2, and everything it gives away in one list."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.parser = FrameParser(self.pass_on, FRAME_MAX)
        self.sinks = {number: Sink(self.seen, number) for number in (1, 2)}
        self.parser.channels.update(self.sinks)
        self.passed = b""
        self.raw: list[tuple[int, RawDelivery]] = []

    def pass_on(self, frame: bytes) -> None:
        self.passed += frame
        self.seen.append(frame)

    def keep_raw(self) -> None:
        for number, sink in self.sinks.items():
            sink.deliveries = lambda batch, number=number: self.raw.extend(
                (number, raw) for raw in batch
            )

    def feed(self, *pieces: bytes) -> int:
        return sum(self.parser.feed(piece) for piece in pieces)

    def refuses(self, match: str, *pieces: bytes) -> None:
        with pytest.raises(FrameError, match=match):
            self.feed(*pieces)


def _tag(raw: RawDelivery) -> int:
    return int(Basic.Deliver().decode(raw[0]).delivery_tag)


def _whole(*parts: bytes | list[bytes]) -> bytes:
    return b"".join(part if isinstance(part, bytes) else b"".join(part) for part in parts)


# -- what goes where ------------------------------------------------------------------------------

_others = st.sampled_from(
    [
        HEARTBEAT,
        method_frame(0, Connection.Blocked("memory")),
        method_frame(1, Queue.DeclareOk("q", 1, 2)),
        method_frame(2, Basic.CancelOk("consumer")),
        method_frame(3, Basic.Ack(1)),
        _whole(message(3, 9, b"not ours")),
        _whole(
            method_frame(1, Basic.Return(312, "NO_ROUTE", "", "q")),
            frames.content(1, BasicProperties(app_id="x"), b"returned"),
        ),
    ]
)
_numbers = st.sampled_from([1, 2])
_part = st.one_of(
    _others.map(lambda frame: ("other", frame)),
    st.tuples(st.just("message"), _numbers, frames.delivers, frames.properties, frames.bodies),
    st.tuples(st.just("confirm"), _numbers, frames.tags, st.booleans(), st.booleans()),
)


@given(st.lists(_part, max_size=8), st.data())
def test_whatever_pika_would_read_goes_where_it_belongs(
    parts: list[Any], data: st.DataObject
) -> None:
    encoded, ours, passed, expected, confirmed = [], 0, b"", [], []
    for part in parts:
        if part[0] == "other":
            made = [part[1]]
            passed += part[1]
        elif part[0] == "message":
            _, number, method, properties, body = part
            made = [method_frame(number, method), *frames.content(number, properties, body)]
            expected.append((number, frames.raw(method, properties, body)))
        else:
            _, number, tag, multiple, nacked = part
            answer = Basic.Nack(tag, multiple) if nacked else Basic.Ack(tag, multiple)
            made = [method_frame(number, answer)]
            confirmed.append((number, tag, multiple, nacked))
        encoded += made
        ours += 0 if part[0] == "other" else len(_whole(made))
    whole = _whole(encoded)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    stream = Stream()
    stream.keep_raw()
    taken = stream.feed(*(whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)))
    assert taken == ours
    assert stream.passed == passed
    for number in (1, 2):
        assert [raw for n, raw in stream.raw if n == number] == [
            raw for n, raw in expected if n == number
        ]
    assert [each for each in stream.seen if isinstance(each, tuple)] == confirmed
    for each in stream.seen:  # pika gets whole frames, one at a time
        assert isinstance(each, tuple) or decode_frame(each)[0] == len(each)


EVERYTHING = _whole(
    HEARTBEAT,
    message(1, 1),
    message(2, 1, b""),
    message(1, 2, b"in several frames", largest=5),
    method_frame(1, Basic.Ack(1, True)),
    method_frame(2, Basic.Nack(2)),
    method_frame(1, Queue.DeclareOk("q", 1, 2)),
    message(3, 1, b"not ours"),
    message(1, 3),
    CLOSE,
)


def _flat(seen: list[Any]) -> list[Any]:
    """The events with one per message, however they were handed over."""
    return [
        one
        for event in seen
        for one in (
            [(*event[:2], tag) for tag in event[2]] if event[1] == "deliveries" else [event]
        )
    ]


def _of(number: int, seen: list[Any]) -> list[Any]:
    """The events of a channel, in order."""
    return [
        event
        for event in _flat(seen)
        if (event[0] == number if isinstance(event, tuple) else event[2] == number)
    ]


def test_messages_of_other_channels_may_come_between_the_frames_of_one() -> None:
    first, second = message(1, 1, b"0123456789", largest=3), message(2, 2, b"abc", largest=1)
    mixed = [frame for pair in zip(first, [*second, HEARTBEAT], strict=False) for frame in pair]
    stream = Stream()
    stream.keep_raw()
    stream.feed(_whole(mixed, first[len(second) + 1 :]))
    assert {(number, raw[2]) for number, raw in stream.raw} == {(1, b"0123456789"), (2, b"abc")}
    assert stream.passed == HEARTBEAT


# -- the order of events --------------------------------------------------------------------------


def test_messages_come_before_what_follows_them_and_a_close_is_told_before_pika_has_it() -> None:
    stream = Stream()
    cancel = method_frame(1, Basic.Cancel("consumer"))
    answer = method_frame(2, Basic.CancelOk("consumer"))
    stream.feed(
        _whole(
            message(1, 1),
            message(2, 1),
            cancel,
            message(1, 2),
            method_frame(1, Basic.Ack(7)),
            message(1, 3),
            answer,
            message(1, 4, b""),
            message(2, 2),
            CLOSE,
        )
    )
    assert stream.seen == [
        (1, "deliveries", [1]),
        cancel,
        (1, "deliveries", [2]),
        (1, 7, False, False),
        (2, "deliveries", [1]),
        answer,
        (1, "deliveries", [3, 4]),
        (1, "closing"),
        CLOSE,
        (2, "deliveries", [2]),
    ]


# -- handlers that raise or change the channels ---------------------------------------------------


@pytest.mark.parametrize("where", ["deliveries", "confirms", "closing", "pass_on"])
def test_what_a_handler_raises_costs_no_frame(where: str) -> None:
    stream = Stream()
    raised = []

    def fail(*_: object) -> None:
        raised.append(1)
        if where in ("deliveries", "confirms", "closing"):
            setattr(stream.sinks[1], where, getattr(Sink(stream.seen, 1), where))
        else:
            stream.parser._pass_on = stream.pass_on
        raise RuntimeError("boom")

    if where == "pass_on":
        stream.parser._pass_on = fail
    else:
        setattr(stream.sinks[1], where, fail)
    before = _whole(message(1, 1), method_frame(1, Basic.Ack(1)), CLOSE)
    after = _whole(message(2, 5), method_frame(2, Basic.Ack(6)), HEARTBEAT)
    with pytest.raises(RuntimeError, match="boom"):
        stream.feed(before + after)
    stream.feed(b"")  # what was in the same read is still there
    assert raised == [1]
    assert _of(2, stream.seen) == [(2, "deliveries", 5), (2, 6, False, False)]
    assert stream.seen[-1] == HEARTBEAT


def test_a_channel_that_is_gone_gets_no_more() -> None:
    stream = Stream()
    stream.sinks[1].confirms = lambda *_: stream.parser.channels.clear()
    stream.feed(_whole(message(2, 1), method_frame(1, Basic.Ack(1)), message(1, 2)))
    assert stream.seen == message(1, 2)


def test_a_channel_that_appears_gets_what_begins_then() -> None:
    stream = Stream()
    sink = stream.parser.channels.pop(1)
    first, second = message(1, 1), message(1, 2)
    stream.feed(first[0])
    stream.parser.channels[1] = sink  # pika has the method: the content is its too
    stream.feed(_whole(first[1:], second))
    assert stream.seen == [*first, (1, "deliveries", [2])]


def test_a_message_whose_channel_goes_while_it_comes_is_dropped() -> None:
    stream = Stream()
    first = message(1, 1)
    stream.feed(first[0])
    del stream.parser.channels[1]  # pika does not know of the method, nor must it of the rest
    stream.feed(_whole(first[1:], message(2, 1)))
    assert stream.seen == [(2, "deliveries", [1])]


@pytest.mark.parametrize("end", [CLOSE, CLOSE_OK], ids=["close", "close ok"])
def test_the_end_of_a_channel_ends_a_message_that_was_under_way(end: bytes) -> None:
    stream = Stream()
    stream.feed(_whole(message(1, 1)[:2], end, message(1, 2)))
    assert stream.seen[-2:] == [end, (1, "deliveries", [2])]


# -- hostile --------------------------------------------------------------------------------------


def frame(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def header_frame(body_size: int, class_id: int = 60, channel: int = 1) -> bytes:
    return frame(2, channel, struct.pack(">HHQH", class_id, 0, body_size, 0))


DELIVER, HEADER, BODY = message(1, 1)


@pytest.mark.parametrize(
    "match, pieces",
    [
        ("4097 bytes, 4096 are", [struct.pack(">BHI", 1, 1, FRAME_MAX - 7)]),
        ("4294967303 bytes", [struct.pack(">BHI", 8, 0, 2**32 - 1)]),
        ("4294967303 bytes", [DELIVER, HEADER[:3] + b"\xff" * 4]),
        ("4294967303 bytes", [DELIVER, header_frame(MAX_BODY), b"\x03\x00\x01" + b"\xff" * 4]),
        ("does not end", [HEARTBEAT[:-1] + b"\x00"]),
        ("does not end", [DELIVER, HEADER[:-1] + b"\x00", BODY]),
        ("does not end", [DELIVER, HEADER, BODY[:-1] + b"\x00"]),
        ("unknown type 4", [frame(4, 1, b"")]),
        ("unknown type 0", [DELIVER, HEADER, frame(0, 1, b"body")]),
        ("too short to say", [frame(1, 1, b"\x00\x3c\x00")]),
        ("too short to say", [frame(1, 0, b"")]),
        ("confirm has 8 bytes", [frame(1, 1, b"\x00\x3c\x00\x50" + bytes(8))]),
        (f"{2**64 - 1} bytes is announced", [DELIVER, header_frame(2**64 - 1)]),
        ("longer than the 3 bytes", [DELIVER, header_frame(3), BODY]),
        ("longer than the 7 bytes", [DELIVER, header_frame(7), BODY, BODY]),
        ("belongs to no message", [DELIVER, header_frame(0), BODY]),
        ("belongs to no message", [DELIVER, HEADER, BODY, BODY]),
        ("belongs to no message", [HEADER]),
        ("belongs to no message", [frame(2, 5, b"")]),
        ("body frame comes before", [DELIVER, BODY]),
        ("second content header", [DELIVER, HEADER, HEADER]),
        ("header is of class 61", [DELIVER, header_frame(4, 61), BODY]),
        ("header has 13 bytes", [DELIVER, frame(2, 1, header_frame(4)[7:-2]), BODY]),
        ("header has 0 bytes", [DELIVER, frame(2, 1, b""), BODY]),
        ("before the message ahead", [DELIVER, DELIVER]),
        ("before the message ahead", [DELIVER, HEADER, DELIVER]),
        ("before the message ahead", [DELIVER, method_frame(1, Basic.Ack(1))]),
        ("before the message ahead", [DELIVER, HEADER, method_frame(1, Basic.CancelOk("c"))]),
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_broken_frames_are_refused(match: str, pieces: list[bytes], apart: bool) -> None:
    stream = Stream()
    good = _whole(message(1, 77), message(2, 78), HEARTBEAT)
    stream.refuses(f"channel .*{match}", *([good, *pieces] if apart else [_whole(good, pieces)]))
    # what came before has been handed over, and nothing comes after
    assert {event[2][0] for event in stream.seen if event[1] == "deliveries"} >= {77, 78}
    before = len(stream.seen)
    stream.refuses(match, HEARTBEAT, _whole(message(1, 1)))
    assert len(stream.seen) == before


@given(st.integers(0, len(EVERYTHING) - 1), frames.octets)
def test_a_changed_byte_does_no_harm(where: int, value: int) -> None:
    changed = EVERYTHING[:where] + bytes((value,)) + EVERYTHING[where + 1 :]
    outcomes = []
    for pieces in ([changed], [changed[at : at + 1] for at in range(len(changed))]):
        stream = Stream()
        stream.keep_raw()
        failure = ""
        try:
            stream.feed(*pieces)
        except FrameError as error:
            failure = str(error)
        outcomes.append((failure, *(_of(number, stream.raw + stream.seen) for number in (1, 2))))
    assert outcomes[0] == outcomes[1]


# -- time and memory ------------------------------------------------------------------------------


def _calls_for(size: int, step: int) -> int:
    """Count the calls that reading a body in pieces takes."""
    stream = Stream()
    stream.parser.frame_max = 131072
    stream.keep_raw()
    whole = _whole(message(1, 1, bytes(size), largest=131072 - 8))
    pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    profile = cProfile.Profile()
    profile.runcall(stream.feed, *pieces)
    assert len(stream.raw[0][1][2]) == size
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize("size, step", [(5 * 1024 * 1024, 4096), (65_000, 1)])
def test_a_body_in_small_reads_takes_work_in_line_with_its_size(size: int, step: int) -> None:
    assert _calls_for(2 * size, step) < 2.2 * _calls_for(size, step)


def _peak(size: int, *pieces: bytes) -> float:
    """Return how much memory it takes to read something, in units of a size."""
    stream = Stream()
    stream.parser.frame_max = 131072
    stream.keep_raw()
    tracemalloc.start()
    try:
        stream.feed(*pieces)
        return tracemalloc.get_traced_memory()[1] / size
    finally:
        tracemalloc.stop()


def test_a_large_body_is_held_once_and_one_that_is_only_announced_gets_little_room() -> None:
    size = 10 * 1024 * 1024
    whole = _whole(message(1, 1, bytes(size), largest=131072 - 8))
    assert _peak(size, *(whole[at : at + 65536] for at in range(0, len(whole), 65536))) < 2.2
    part = frame(3, 1, bytes(100_000))
    assert _peak(1_000_000, DELIVER, header_frame(MAX_BODY), part, part) < 1
