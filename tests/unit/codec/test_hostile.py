"""Whatever arrives is read or refused with the one error, in bounded work and memory.

Work is counted in calls of functions, of Python's own ones as well, and not in seconds. A body is
read in a process of its own, so that no memory of before is used again.
"""

from __future__ import annotations

import base64
import cProfile
import json
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Final

import pytest

from neon_mq_connector.codec import decode_body
from neon_mq_connector.errors import DecodeError

MOST_MIB = 100
CALLS_PER_BYTE = 5


def _legacy(text: str, *, ascii_only: bool = True) -> bytes:
    return base64.b64encode(json.dumps(text, ensure_ascii=ascii_only).encode())


def _value(text: str, *, ascii_only: bool = True) -> bytes:
    return _legacy("{'a': " + text + "}", ascii_only=ascii_only)


def _many(item: str, count: int) -> bytes:
    return _value("[" + ",".join([item] * count) + "]")


BODIES: Final[dict[str, Callable[[], bytes]]] = {
    "Python expression": lambda: _value("__import__('os').system('true')" * 100_000),
    "nested 100,000 deep": lambda: _value("[" * 100_000 + "]" * 100_000),
    "JSON nested 100,000 deep": lambda: b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "50 MB of JSON": lambda: b'{"a":"' + b"a" * 50_000_000 + b'"}',
    "broken UTF-8": lambda: base64.b64encode(b'"{\xff' * 2_000_000),
    "flood of { in a literal": lambda: _legacy("{" * 6_000_000),
    "huge integer": lambda: _value("9" * 5_000_000),
    "1 MB of small integers and a set": lambda: _value("[" + "7," * 500_000 + "{7}]"),
    "10 MB of small integers in JSON": lambda: b'{"a":[' + b"7," * 5_000_000 + b"7]}",
    "empty lists that fit": lambda: _many("[]", 600_000),
    "complex numbers": lambda: _many("1j", 100_000),
    "strings": lambda: _value(repr([f"{i:06}" for i in range(250_000)])),
    "numbered": lambda: _legacy(repr(dict.fromkeys(range(80_000), 7))),
    "backslashes": lambda: _value("'" + "\\\\" * 1_500_000 + "'"),
    "backslashes that end in a quote": lambda: _value("'" + "\\" * 5_000_001 + "'"),
    "escapes": lambda: _value("['" + "\\n" * 1_000_000 + "', 1j]"),
    "a string without an end": lambda: _legacy("{'" + "a" * 5_000_000),
    "quotes": lambda: _legacy("{" + "'" * 5_000_000 + "}"),
    "strings side by side": lambda: _value("'a'" * 1_500_000),
    "minus signs": lambda: _value("-" * 5_000_000),
    "parentheses 150 deep": lambda: _many("(" * 150 + "1" + ")" * 150, 1_000),
    "integers of 4300 digits": lambda: _many("9" * 4300, 1000),
    "wide characters that fit": lambda: _value(
        "['" + "a\\n" * 1_700_000 + "😀', 1j]", ascii_only=False
    ),
    "strings in JSON": lambda: b'{"a":[' + b'"ab",' * 1_000_000 + b"0]}",
}


def measure(path: Path) -> tuple[str, int, float | None]:
    """Read a body; return what came of it, how many calls and how many MiB that took."""
    body = path.read_bytes()
    decode_body(b'{"a": 1}')
    try:
        Path("/proc/self/clear_refs").write_text("5")  # begins to look for the peak anew
        before = _peak()
    except OSError:
        before = None
    profile = cProfile.Profile()
    try:
        outcome = type(profile.runcall(decode_body, body)[0]).__name__
    except DecodeError:
        outcome = "refused"
    extra = None if before is None else (_peak() - before) / 2**20
    return outcome, sum(entry.callcount for entry in profile.getstats()), extra


def _peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.fixture(scope="module")
def processes() -> Iterator[Pool]:
    """Processes that read one body each, and come from one in which nothing else has been done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(1, maxtasksperchild=1) as pool:
        yield pool


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_costs_work_in_proportion_to_its_size_and_bounded_memory(
    processes: Pool, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "body"
    size = path.write_bytes(BODIES[name]())
    outcome, calls, extra_mib = processes.apply_async(measure, (path,)).get(140.0)
    assert outcome in ("dict", "refused")
    assert calls < CALLS_PER_BYTE * size
    assert extra_mib is None or extra_mib < MOST_MIB
