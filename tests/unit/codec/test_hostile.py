"""Whatever arrives is read or refused with the one error, in bounded work and memory.

Work is counted in calls of functions, of Python's own ones as well, and not in seconds. A body is
made in one process and read in another, so that the memory of one is not taken for that of the
other, and both are safe from this one.
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
_PRIME: Final = 2**61 - 1


def _legacy(text: str, *, ascii_only: bool = True) -> bytes:
    return base64.b64encode(json.dumps(text, ensure_ascii=ascii_only).encode())


def _value(text: str, *, ascii_only: bool = True) -> bytes:
    return _legacy("{'a': " + text + "}", ascii_only=ascii_only)


def _many(item: str, count: int) -> bytes:
    return _value("[" + ",".join([item] * count) + "]")


BODIES: Final[dict[str, Callable[[], bytes]]] = {
    "Python source": lambda: _legacy("import os\nos.system('true')\n" * 100_000),
    "Python expression": lambda: _value("__import__('os').system('true')" * 100_000),
    "nested 100,000 deep": lambda: _value("[" * 100_000 + "]" * 100_000),
    "dicts nested 100,000 deep": lambda: _legacy("{'a': " * 100_000 + "1" + "}" * 100_000),
    "JSON nested 100,000 deep": lambda: b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "50 MB of a string": lambda: _value("'" + "a" * 37_000_000 + "'"),
    "50 MB of JSON": lambda: b'{"a":"' + b"a" * 50_000_000 + b'"}',
    "50 MB of nothing": lambda: bytes(50_000_000),
    "base64 that ends too early": lambda: base64.b64encode(b'"{' * 6_000_000)[:-1],
    "broken UTF-8": lambda: base64.b64encode(b'"{\xff' * 2_000_000),
    "flood of { in a literal": lambda: _legacy("{" * 6_000_000),
    "huge integer": lambda: _value("9" * 5_000_000),
    "huge hexadecimal integer": lambda: _value("0x" + "f" * 5_000_000),
    "10 MB of small integers and a set": lambda: _value("[" + "7," * 5_000_000 + "{7}]"),
    "10 MB of small integers in JSON": lambda: b'{"a":[' + b"7," * 5_000_000 + b"7]}",
    "integers": lambda: _value(repr(list(range(1_000_000)))),
    "empty lists that fit": lambda: _many("[]", 600_000),
    "complex numbers": lambda: _many("1j", 300_000),
    "raw strings": lambda: _many("r''", 300_000),
    "strings": lambda: _value(repr([f"{i:06}" for i in range(250_000)])),
    "numbered": lambda: _legacy(repr(dict.fromkeys(range(150_000), 7))),
    "keys with one hash": lambda: _legacy(
        "{" + ":0,".join(str(k * _PRIME) for k in range(30_000)) + ":0}"
    ),
    "backslashes": lambda: _value("'" + "\\\\" * 1_500_000 + "'"),
    "backslashes that end in a quote": lambda: _value("'" + "\\" * 5_000_001 + "'"),
    "escapes": lambda: _value("['" + "\\n" * 1_000_000 + "', 1j]"),
    "surrogates": lambda: _value("'" + "\\ud800" * 1_500_000 + "'"),
    "a string without an end": lambda: _legacy("{'" + "a" * 5_000_000),
    "quotes": lambda: _legacy("{" + "'" * 5_000_000 + "}"),
    "strings side by side": lambda: _value("'a'" * 1_500_000),
    "comments": lambda: _legacy("{" + "#\n" * 1_500_000 + "}"),
    "minus signs": lambda: _value("-" * 5_000_000),
    "parentheses 150 deep": lambda: _many("(" * 150 + "1" + ")" * 150, 1_000),
    "integers of 4300 digits": lambda: _many("9" * 4300, 1000),
    "a float of 10 MB": lambda: _value("1." + "9" * 10_000_000),
    "wide characters that fit": lambda: _value(
        "['" + "a\\n" * 1_700_000 + "😀', 1j]", ascii_only=False
    ),
    "wide characters in JSON": lambda: b'{"a":"' + b"a" * 15_000_000 + '😀"}'.encode(),
    "strings in JSON": lambda: b'{"a":[' + b'"ab",' * 1_000_000 + b"0]}",
}


def make(name: str, path: Path) -> int:
    return path.write_bytes(BODIES[name]())


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
    """Processes that do one thing each, and come from one in which nothing else has been done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(1, maxtasksperchild=1) as pool:
        yield pool


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_costs_work_in_proportion_to_its_size_and_bounded_memory(
    processes: Pool, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "body"
    size = processes.apply_async(make, (name, path)).get(140.0)
    outcome, calls, extra_mib = processes.apply_async(measure, (path,)).get(140.0)
    assert outcome in ("dict", "refused")
    assert calls < CALLS_PER_BYTE * size
    assert extra_mib is None or extra_mib < MOST_MIB
