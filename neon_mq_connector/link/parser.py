"""Cut what was read into frames: messages and confirms are taken here, pika gets the others.

pika makes objects of every frame and calls several functions for each. Of the frames that come by
the thousand, those of messages and of confirms, this takes what it needs by offset.

Nothing that comes is trusted: sizes are checked before anything is kept because of them, and the
time to parse grows with the number of bytes only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Protocol

from pika.spec import (
    FRAME_BODY,
    FRAME_END,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    Basic,
    Channel,
)

from neon_mq_connector.errors import FrameError
from neon_mq_connector.link.encoder import FRAME_OVERHEAD, HEADER_FIELDS

#: A message as it came: the arguments of ``Basic.Deliver`` after the method's id, the payload of
#: the content header from the property flags on, and the body.
RawDelivery = tuple[bytes, bytes, bytes]

#: The largest body of a message that is taken, in bytes; a broker's own bound is not above it.
MAX_BODY = 512 * 1024 * 1024

_FRAME_START = 7
#: A body gets room for all of it once one part in so many has come: a peer that announces much has
#: to send something too.
_CREDIBLE = 16
#: The least payload of a content header, which has the property flags, and its frame.
_HEADER_LEAST = HEADER_FIELDS + 2
_HEADER_FRAME_LEAST = _HEADER_LEAST + FRAME_OVERHEAD
#: The arguments of a confirm: the delivery tag, and the octet with the bits.
_CONFIRM_SIZE = 9

_frame_start = struct.Struct(">BHI").unpack_from
_header_start = struct.Struct(">BHIHxxQ").unpack_from
_content_fields = struct.Struct(">HxxQ").unpack_from
_tag_and_bits = struct.Struct(">QB").unpack_from

_BASIC = Basic.INDEX
_DELIVER = struct.pack(">I", Basic.Deliver.INDEX)
_ACK = struct.pack(">I", Basic.Ack.INDEX)
_NACK = struct.pack(">I", Basic.Nack.INDEX)
_CONFIRMS = (_ACK, _NACK)
_CLOSE = struct.pack(">I", Channel.Close.INDEX)
_CLOSE_OK = struct.pack(">I", Channel.CloseOk.INDEX)

_WITH_CONTENT = {
    struct.pack(">I", method.INDEX) for method in (Basic.Deliver, Basic.GetOk, Basic.Return)
}

_FRAME_TYPES = (FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT)
_NAMES = {FRAME_HEADER: "content header", FRAME_BODY: "body"}


class ChannelSink(Protocol):
    """Where the frames of a channel go that are not pika's business.

    Attributes:
        deliveries: takes messages, in order, those of one read at once; None leaves them to pika.
        confirms: takes (delivery tag, multiple, nacked); None leaves them to pika.
    """

    deliveries: Callable[[list[RawDelivery]], None] | None
    confirms: Callable[[int, bool, bool], None] | None

    def closing(self) -> None:
        """Refuse to send: the broker closes the channel, or the connection is given up."""


class _Assembly:
    """A message that has come in part."""

    __slots__ = ("_body", "_has_room", "body_size", "header", "method", "size")

    def __init__(self, method: bytes) -> None:
        self.method = method
        self.header: bytes | None = None
        self.body_size = 0
        self.size = 0
        # not a list of the parts: of parts of one byte each it would be many times the message; and
        # what is written to this with room for it becomes the body without a copy
        self._body = BytesIO()
        self._has_room = False

    def add(self, part: memoryview) -> None:
        body = self._body
        if not self._has_room and (self.size + len(part)) * _CREDIBLE >= self.body_size:
            self._has_room = True
            body.seek(self.body_size - 1)
            body.write(b"\0")
            body.seek(self.size)
        body.write(part)
        self.size += len(part)

    @property
    def body(self) -> bytes:
        return self._body.getvalue()


def _whole_content(
    data: bytes, position: int, channel: int, largest: int
) -> tuple[bytes, bytes, int] | None:
    """Cut the content of a message out of what was read, if it is all there, in one body frame.

    Returns:
        The properties, the body and the position behind it; None also when anything is not as it
        should be: frame by frame it will be seen what.
    """
    if len(data) - position < _HEADER_FRAME_LEAST:
        return None
    kind, number, size, class_id, body_size = _header_start(data, position)
    stop = position + FRAME_OVERHEAD + size
    if (
        kind != FRAME_HEADER
        or number != channel
        or class_id != _BASIC
        or not _HEADER_LEAST <= size <= largest
        or body_size > largest
        or stop > len(data)
        or data[stop - 1] != FRAME_END
    ):
        return None
    header = data[position + _FRAME_START + HEADER_FIELDS : stop - 1]
    if not body_size:
        return header, b"", stop
    start, stop = stop, stop + FRAME_OVERHEAD + body_size
    if (
        stop > len(data)
        or _frame_start(data, start) != (FRAME_BODY, channel, body_size)
        or data[stop - 1] != FRAME_END
    ):
        return None
    return header, data[start + _FRAME_START : stop - 1], stop


class FrameParser:
    """The parser of one connection. Not for several threads.

    What a handler or `pass_on` raises ends the call of `feed`. The frame at which it did counts as
    handled; the next call, with no data if need be, goes on behind it.

    Args:
        pass_on: takes the bytes of every frame that is for pika, one frame at a time.
        frame_max: the largest frame that may come, in bytes, overhead included.

    Attributes:
        channels: the sinks by the number of the channel, to be added to and taken from at any time.
            A message goes to the sink with which it began. Messages for a sink that is gone are
            dropped: the broker has them still.
        frame_max: as above, to be set to what was negotiated.
    """

    def __init__(self, pass_on: Callable[[bytes], object], frame_max: int) -> None:
        self.channels: dict[int, ChannelSink] = {}
        self.frame_max = frame_max
        self._pass_on = pass_on
        self._failure: str | None = None
        self._held: list[bytes] = []
        self._missing = 0
        self._assemblies: dict[int, _Assembly] = {}
        self._batches: dict[int, list[RawDelivery]] = {}
        #: the channels on which content frames belong to a method that pika got
        self._content_of_pika: set[int] = set()

    def feed(self, data: bytes) -> int:
        """Parse what was read.

        The messages of a channel are handed over together at the end, or before anything else is
        done that the channel could notice.

        Returns:
            How many bytes of whole frames did not go to `pass_on`.

        Raises:
            FrameError: this is no AMQP; the connection is of no use any more. What came before is
                handed over all the same.
        """
        if self._failure is not None:
            raise FrameError(self._failure)
        if self._held:
            self._held.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return 0
            data = b"".join(self._held)
            self._held.clear()
        try:
            return self._walk(data)
        finally:
            while self._batches:
                self._hand_over(next(iter(self._batches)))

    def _walk(self, data: bytes) -> int:
        """Handle the whole frames in the data and hold the rest."""
        channels, batches, assemblies = self.channels, self._batches, self._assemblies
        end = len(data)
        position = taken = missing = 0
        try:
            largest = self.frame_max - FRAME_OVERHEAD
            while True:
                if end - position < _FRAME_START:
                    missing = _FRAME_START - (end - position)
                    break
                kind, channel, size = _frame_start(data, position)
                if size > largest or kind not in _FRAME_TYPES:
                    raise self._no_frame(kind, channel, size)
                start, stop = position, position + FRAME_OVERHEAD + size
                if stop > end:
                    missing = stop - end
                    break
                if data[stop - 1] != FRAME_END:
                    raise self._fail(channel, f"a frame of {size} bytes does not end there")
                position = stop  # whatever its handler raises, the frame counts as handled

                if kind == FRAME_METHOD:
                    method_id = data[start + 7 : start + 11]
                    if assemblies and channel in assemblies:
                        self._interrupt(channel, method_id)
                    sink = channels.get(channel)
                    if sink is not None:
                        if method_id == _DELIVER and sink.deliveries is not None:
                            method = data[start + 11 : stop - 1]
                            content = _whole_content(data, stop, channel, largest)
                            if content is None:
                                assemblies[channel] = _Assembly(method)
                            else:
                                header, body, position = content
                                if channel in batches:
                                    batches[channel].append((method, header, body))
                                else:
                                    batches[channel] = [(method, header, body)]
                            taken += position - start
                            continue
                        if method_id in _CONFIRMS and sink.confirms is not None:
                            taken += position - start
                            self._confirm(channel, data[start + 11 : stop - 1], method_id == _NACK)
                            continue
                    self._pass_method(channel, method_id, data[start:stop])
                elif assemblies and channel in assemblies and kind != FRAME_HEARTBEAT:
                    taken += position - start
                    self._assemble(channel, kind, data, start + 7, stop - 1)
                else:
                    self._pass_content(channel, kind, data[start:stop])
                largest = self.frame_max - FRAME_OVERHEAD  # pika may have tuned it
        finally:
            if position < end:
                self._held.append(data[position:] if position else data)
            self._missing = missing
        return taken

    def _interrupt(self, channel: int, method_id: bytes) -> None:
        """Drop the message that a method cuts short; only the end of a channel may."""
        if method_id not in (_CLOSE, _CLOSE_OK):
            raise self._fail(channel, "a method comes before the message ahead of it is complete")
        del self._assemblies[channel]

    def _confirm(self, channel: int, arguments: bytes, nacked: bool) -> None:
        if len(arguments) != _CONFIRM_SIZE:
            raise self._fail(channel, f"a confirm has {len(arguments)} bytes of arguments")
        tag, bits = _tag_and_bits(arguments)
        self._hand_over(channel)
        sink = self.channels.get(channel)  # again: what was just called may have changed it
        if sink is not None and sink.confirms is not None:
            sink.confirms(tag, bits & 1 != 0, nacked)

    def _pass_method(self, channel: int, method_id: bytes, frame: bytes) -> None:
        if len(frame) < FRAME_OVERHEAD + len(method_id):
            raise self._fail(channel, "a method frame is too short to say which method")
        if method_id in _WITH_CONTENT:
            self._content_of_pika.add(channel)
        else:
            self._content_of_pika.discard(channel)
        if channel:
            self._hand_over(channel)
        else:  # of the connection: it may be the end of every channel
            while self._batches:
                self._hand_over(next(iter(self._batches)))
        sink = self.channels.get(channel)
        if sink is not None and method_id == _CLOSE:
            sink.closing()
        self._pass_on(frame)

    def _pass_content(self, channel: int, kind: int, frame: bytes) -> None:
        if kind != FRAME_HEARTBEAT and channel not in self._content_of_pika:
            raise self._fail(channel, f"a {_NAMES[kind]} frame belongs to no message")
        if kind == FRAME_HEADER:
            self._check_content_header(channel, frame, _FRAME_START, len(frame) - 1)
        self._hand_over(channel)
        self._pass_on(frame)

    def _assemble(self, channel: int, kind: int, data: bytes, start: int, stop: int) -> None:
        """Add the payload of a content frame to the message that is under way."""
        assembly = self._assemblies[channel]
        size = stop - start
        if kind == FRAME_HEADER:
            if assembly.header is not None:
                raise self._fail(channel, "a second content header comes before the body")
            assembly.body_size = self._check_content_header(channel, data, start, stop)
            assembly.header = data[start + HEADER_FIELDS : stop]
        else:
            if assembly.header is None:
                raise self._fail(channel, "a body frame comes before the content header")
            if assembly.size + size > assembly.body_size:
                raise self._fail(
                    channel, f"a body is longer than the {assembly.body_size} bytes announced"
                )
            assembly.add(memoryview(data)[start:stop])
        if assembly.size == assembly.body_size:
            del self._assemblies[channel]
            message = assembly.method, assembly.header, assembly.body
            self._batches.setdefault(channel, []).append(message)

    def _check_content_header(self, channel: int, data: bytes, start: int, stop: int) -> int:
        """Return the size of the body that a content header announces."""
        size = stop - start
        if size < _HEADER_LEAST:
            raise self._fail(channel, f"a content header has {size} bytes only")
        class_id, body_size = _content_fields(data, start)
        if class_id != _BASIC:
            raise self._fail(channel, f"a content header is of class {class_id}")
        if body_size > MAX_BODY:
            raise self._fail(
                channel, f"a body of {body_size} bytes is announced, {MAX_BODY} are allowed"
            )
        return int(body_size)

    def _hand_over(self, channel: int) -> None:
        """Hand a channel the messages that were collected for it."""
        batch = self._batches.pop(channel, None)
        sink = self.channels.get(channel)
        if batch is not None and sink is not None and sink.deliveries is not None:
            sink.deliveries(batch)

    def _no_frame(self, kind: int, channel: int, size: int) -> FrameError:
        if kind not in _FRAME_TYPES:
            return self._fail(channel, f"a frame is of the unknown type {kind}; is this AMQP?")
        return self._fail(
            channel,
            f"a frame has {size + FRAME_OVERHEAD} bytes, {self.frame_max} are allowed",
        )

    def _fail(self, channel: int, what: str) -> FrameError:
        """Give up the stream: it is not known where the next frame begins."""
        self._failure = f"broken AMQP frames on channel {channel}: {what}"
        return FrameError(self._failure)
