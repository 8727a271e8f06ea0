"""Bodies that are meant to hurt, and a program that reads one and tells what it cost.

Work is counted in calls of functions, of Python's own ones as well, and not in seconds.

Run as ``python -m tests.unit.codec.hostile``, it reads names of `BODIES` from its standard input,
one a line, and answers each with a line of JSON. Each body is made in one process and read in
another, so that the memory of one is not taken for that of the other.
"""

from __future__ import annotations

import base64
import cProfile
import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from neon_mq_connector.codec import decode_body
from neon_mq_connector.errors import DecodeError

_MIB: Final = 2**20
_PRIME: Final = 2**61 - 1


def _legacy(text: str, *, ascii_only: bool = True) -> bytes:
    return base64.b64encode(json.dumps(text, ensure_ascii=ascii_only).encode())


def _value(text: str, *, ascii_only: bool = True) -> bytes:
    return _legacy("{'a': " + text + "}", ascii_only=ascii_only)


def _many(item: str, count: int) -> bytes:
    return _value("[" + ",".join([item] * count) + "]")


NAMED: Final[dict[str, Callable[[], bytes]]] = {
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
}
"""Those that anybody would think of."""

INVENTED: Final[dict[str, Callable[[], bytes]]] = {
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
"""Those that take more thought."""

BODIES: Final = {**NAMED, **INVENTED}


def _peak() -> int:
    """Return the most memory this process has had since `_reset_peak`, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("no peak of memory in /proc/self/status")


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _measure(body: bytes) -> dict[str, Any]:
    decode_body(b'{"a": 1}')
    try:
        _reset_peak()
        before = _peak()
    except OSError:
        before = None
    profile = cProfile.Profile()
    try:
        decoded, _ = profile.runcall(decode_body, body)
        outcome = type(decoded).__name__
    except DecodeError as error:
        outcome = f"DecodeError: {error}"
    extra = None if before is None else (_peak() - before) / _MIB
    calls = sum(entry.callcount for entry in profile.getstats())
    return {"outcome": outcome, "calls": calls, "size": len(body), "extra_mib": extra}


def _in_a_child(task: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            task()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    """Answer names with what reading the bodies costs."""
    with tempfile.TemporaryDirectory() as folder:
        body, answer = Path(folder, "body"), Path(folder, "answer")
        for line in sys.stdin:
            make = BODIES[line.strip()]
            _in_a_child(partial(_write, body, make))
            answer.write_text("")
            code = _in_a_child(partial(_answer, body, answer))
            text = answer.read_text() or json.dumps({"outcome": f"ended with {code}"})
            print(text, flush=True)


def _write(path: Path, make: Callable[[], bytes]) -> None:
    path.write_bytes(make())


def _answer(body: Path, answer: Path) -> None:
    answer.write_text(json.dumps(_measure(body.read_bytes())))


if __name__ == "__main__":
    main()
