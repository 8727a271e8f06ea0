"""Speaks with the test that started this process: one JSON object a line, both ways.

The first line from the test is the set-up. Each other one asks for something::

    {"ask": 1, "do": "request", "with": "{'target': 'echo', 'data': {'a': (1, 2)}}"}

and this process says what it has seen, and how what was asked for ended::

    {"event": "got", "facts": "{'by': 'raw', 'body': {'a': (1, 2)}}"}
    {"event": "done", "ask": 1, "value": "{'r': 1}"}
    {"event": "failed", "ask": 1, "error": "ValueError('...')"}

Values are the text of Python literals, since messages may hold tuples and bytes.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pika

_PATIENCE = 120.0

_writing = threading.Lock()
# ovos-utils logs to standard output, which is the test's: the log goes where errors go
_to_the_test = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
os.dup2(2, 1)


def setup() -> dict[str, Any]:
    """Read the first line: where the broker is, and what this peer is to do there."""
    settings: dict[str, Any] = json.loads(sys.stdin.readline())
    return settings


def tell(event: str, **facts: Any) -> None:
    """Tell the test that something happened; from any thread."""
    _write({"event": event, "facts": repr(facts)})


def answer(actions: Mapping[str, Callable[..., Any]], *, at_once: bool = False) -> None:
    """Say that this peer is ready, then do what the test asks for until it hangs up.

    With `at_once` each action has a thread of its own. Else the main thread does them, the only one
    in which the published package can make a consumer.
    """
    tell("ready")
    for line in sys.stdin:
        asked = json.loads(line)
        # not in the threads: before Python 3.11.8 two that parse at once fail with a SystemError
        arguments = ast.literal_eval(asked["with"])
        what = (actions[asked["do"]], arguments, asked["ask"])
        if at_once:
            threading.Thread(target=_act, args=what, daemon=True).start()
        else:
            _act(*what)
    # without goodbye: the published package takes a second for every consumer it stops
    os._exit(0)


def wait_for_consumers(connector: Any, *queues: str) -> None:
    """Wait until the broker counts a consumer on each queue.

    The published package says that a consumer consumes as soon as its channel is open, even when
    the broker then refuses its queue.
    """
    deadline = time.monotonic() + _PATIENCE
    left = list(queues)
    with connector.create_mq_connection(connector.vhost) as connection:
        while left:
            assert time.monotonic() < deadline, f"there are no consumers on {left}"
            time.sleep(0.02)
            channel = connection.channel()
            with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):  # no such queue yet
                while left and channel.queue_declare(left[-1], passive=True).method.consumer_count:
                    left.pop()
                channel.close()


def _act(action: Callable[..., Any], arguments: dict[str, Any], number: int) -> None:
    try:
        value = action(**arguments)
    except Exception as error:
        traceback.print_exc()
        _write({"event": "failed", "ask": number, "error": repr(error)})
    else:
        _write({"event": "done", "ask": number, "value": repr(value)})


def _write(line: dict[str, Any]) -> None:
    with _writing:
        _to_the_test.write(json.dumps(line) + "\n")
