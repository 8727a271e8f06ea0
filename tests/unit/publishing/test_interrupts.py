"""A signal handler may raise whenever a call returns: nothing stays locked or counted for that."""

from __future__ import annotations

import opcode
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from pika.spec import BasicProperties

from neon_mq_connector.errors import BrokerUnreachableError, ConnectionLostError
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.publishing.publisher import Publisher
from tests.support.publishing import FutureAnswer
from tests.unit.fakes import FakeChannel, FakeControl, FakeLink, make_publisher

#: After these the interpreter looks whether a signal has come.
_LOOKS = ("CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "RESUME")
_NO_LOOK = ("CALL_INTRINSIC_1", "CALL_INTRINSIC_2")
_PACKAGE = "neon_mq_connector"


class SoftTimeLimit(Exception):
    """What the handler raises."""


class Interruption:
    """Raise once in the library's code, at the nth moment at which a handler could.

    Args:
        moment: which, from 0 on.

    Attributes:
        raised: whether there were so many.
    """

    def __init__(self, moment: int) -> None:
        self.raised = False
        self._left = moment
        self._before: dict[FrameType, str] = {}

    def __enter__(self) -> Interruption:
        self._tracer_before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._tracer_before)

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if _PACKAGE not in frame.f_globals.get("__name__", ""):
            return None
        frame.f_trace = self._trace  # Python 3.13 reports opcodes of no frame without it
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event != "opcode":
            # it looks at the start of a function; and not where a call has raised
            self._before[frame] = "RESUME" if event == "call" else ""
            return self._trace
        before = self._before.get(frame, "")
        self._before[frame] = opcode.opname[frame.f_code.co_code[frame.f_lasti]]
        if before.startswith(_LOOKS) and before not in _NO_LOOK:
            if self._left == 0:
                self.raised = True
                raise SoftTimeLimit
            self._left -= 1
        return self._trace


def message(body: bytes = b"m") -> Message:
    return Message("", "q", body, BasicProperties())


def post(publisher: Publisher) -> None:
    publisher.post(message(), FutureAnswer(), time.monotonic() + 600.0)


def post_at_once(publisher: Publisher) -> None:
    publisher.post_at_once(message(), FutureAnswer(), time.monotonic() + 600.0)


def publish_in_vain(publisher: Publisher) -> None:
    with pytest.raises(Exception, match="down"):
        publisher.post(message(), FutureAnswer(), time.monotonic() + 600.0)


def confirm_all(channels: list[FakeChannel]) -> None:
    """Confirm what came to the broker; a channel that was given up is shut."""
    for channel in channels:
        if channel.closed:
            channel.shut(ConnectionLostError("closed"))
        elif channel.published and channel.error is None:
            channel.confirms(len(channel.published), multiple=True)


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "not open yet"])
@pytest.mark.parametrize("call", [post, post_at_once, publish_in_vain])
def test_at_whatever_moment_it_is_interrupted_a_publisher_goes_on(
    call: Callable[[Publisher], None], is_open: bool
) -> None:
    moment = 0
    while True:
        link = FakeLink()
        publisher = make_publisher(link, FakeControl())
        if is_open:
            post(publisher)
        if call is publish_in_vain:
            if is_open:
                link.channel.shut(ConnectionLostError("down"))
            link.refusals = [BrokerUnreachableError("down")]
        with Interruption(moment) as interruption:
            try:
                call(publisher)
            except SoftTimeLimit:
                pass
            except AssertionError:
                assert interruption.raised
        link.refusals = []
        after = FutureAnswer()
        # no lock is held any more
        publisher.post(message(b"after"), after, time.monotonic() + 600.0)
        confirm_all(link.channels)
        assert publisher._repairs.wait_until_done(120.0)
        confirm_all(link.channels)
        assert after.future.done()
        assert (publisher.unconfirmed, publisher._limit._bytes) == (0, 0), f"moment {moment}"
        if not interruption.raised:
            break
        moment += 1
    assert moment
