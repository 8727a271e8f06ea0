"""Print how fast message bodies are read, beside what `ast.literal_eval` takes for the text alone.

All are timed by turns in one process, round by round, so that whatever else the machine does hits
all alike. The fastest round of each counts.
"""

from __future__ import annotations

import argparse
import ast
import base64
import json
import time
from collections.abc import Callable
from typing import Any

from neon_mq_connector.codec import WireFormat, b64_to_dict, decode_body, encode_body
from neon_mq_connector.errors import DecodeError

TYPICAL: dict[str, Any] = {
    "msg_type": "recognizer_loop:utterance",
    "data": {
        "utterances": ["what is the weather like in Lviv tomorrow"],
        "lang": "en-us",
        "confidence": 0.93,
        "final": True,
        "session": None,
    },
    "context": {
        "client": "mobile",
        "ident": "1700000000.123",
        "username": "guest",
        "timing": {"stt": 0.213, "total": 1.5, "retries": 3},
        "source": ["mq_api"],
        "destination": ["skills"],
        "node_data": {"site": "kitchen", "latitude": 49.84, "longitude": 24.03},
        "mq": {"routing_key": "reply.6c1d", "message_id": "b3f0c2", "stream": False},
        "user_profile": {"units": "metric", "age": 41, "email": ""},
    },
    "message_id": "b3f0c2",
    "routing_key": "reply.6c1d",
}
"""What a voice assistant's services send each other: some 600 bytes, nested, mostly strings."""

VARIANTS: dict[str, dict[str, Any]] = {
    "typical": TYPICAL,
    "an apostrophe": {**TYPICAL, "msg_type": "what's the weather"},
    "both quotes, escapes": {**TYPICAL, "msg_type": 'it\'s "so"\n', "app": 'say "hi"'},
    "other scripts": {**TYPICAL, "msg_type": "яка погода завтра"},
    "a tuple": {**TYPICAL, "shape": (1, 2)},
    "bytes": {**TYPICAL, "audio": b"RIFF\x00"},
    "a complex number": {**TYPICAL, "z": 1 + 2j},
}


def fastest(tasks: dict[str, Callable[[], object]], rounds: int, calls: int) -> dict[str, float]:
    """Time tasks by turns.

    Args:
        tasks: what to time, by name.
        rounds: how often each has its turn.
        calls: how often it is called in one turn.

    Returns:
        Seconds for one call in the fastest round, by name.
    """
    best = dict.fromkeys(tasks, float("inf"))
    for _ in range(rounds):
        for name, task in tasks.items():
            began = time.perf_counter()
            for _ in range(calls):
                task()
            best[name] = min(best[name], (time.perf_counter() - began) / calls)
    return best


def measure(message: dict[str, Any], rounds: int, calls: int) -> dict[str, float]:
    """Time reading and writing one message.

    Args:
        message: the message.
        rounds: how often each operation has its turn.
        calls: how often it is done in one turn.

    Returns:
        Seconds by operation.
    """
    text = repr(message)
    body = base64.b64encode(json.dumps(text).encode())
    assert b64_to_dict(body) == message == ast.literal_eval(text)
    tasks: dict[str, Callable[[], object]] = {
        "literal_eval": lambda: ast.literal_eval(text),
        "read legacy": lambda: b64_to_dict(body),
        "write legacy": lambda: encode_body(message, WireFormat.LEGACY),
    }
    if message == TYPICAL:
        plain = encode_body(message, WireFormat.JSON)
        tasks["read JSON"] = lambda: decode_body(plain)
        tasks["write JSON"] = lambda: encode_body(message, WireFormat.JSON)
    return fastest(tasks, rounds, calls)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds (default: %(default)s)")
    parser.add_argument(
        "--calls", type=int, default=200, help="calls a round (default: %(default)s)"
    )
    arguments = parser.parse_args()
    body = base64.b64encode(json.dumps("{'a': (" + "7," * 5_000_000 + ")}").encode())
    began = time.process_time()
    try:
        b64_to_dict(body)
    except DecodeError:
        print(f"a tuple of 5 million integers: refused after {time.process_time() - began:.2f} s")
    for name, message in VARIANTS.items():
        seconds = measure(message, arguments.rounds, arguments.calls)
        ratio = seconds["literal_eval"] / seconds["read legacy"]
        print(f"{name}, {len(repr(message))} characters: {ratio:.1f} times as fast as literal_eval")
        for operation, each in seconds.items():
            print(f"    {operation:14} {each * 1e6:7.1f} µs")


if __name__ == "__main__":
    main()
