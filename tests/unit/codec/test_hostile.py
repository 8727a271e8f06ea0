"""Whatever arrives is read or refused with the one error, in bounded work and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.codec.hostile import INVENTED, NAMED

ROOT = Path(__file__).parents[3]
MOST_MIB = 100
CALLS_PER_BYTE = 5


class Reader:
    """A process that reads hostile bodies, so that this one is safe from them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.codec.hostile"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self, name: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


@pytest.mark.parametrize("name", [*NAMED, *INVENTED])
def test_a_hostile_body_costs_work_in_proportion_to_its_size_and_bounded_memory(
    reader: Reader, name: str
) -> None:
    answer = reader.read(name)
    outcome = answer["outcome"]
    assert outcome == "dict" or outcome.startswith("DecodeError: ")
    assert answer["calls"] < CALLS_PER_BYTE * answer["size"]
    if answer["extra_mib"] is not None:
        assert answer["extra_mib"] < MOST_MIB
