"""The benchmarks still run: one of them, with as little to do as can be measured."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.actor import Load
from benchmarks.cli import Options, run
from neon_mq_connector.testing import PrivateBroker


@pytest.mark.own_broker
def test_a_benchmark_measures_both_sides_and_writes_what_it_found(
    broker: PrivateBroker, tmp_path: Path
) -> None:
    tiny = Load(seconds=0.05, messages=10, volume=10_000, queues=1)
    assert run(Options(only=("disk",), rounds=2, load=tiny, out=tmp_path), broker)
    found = json.loads((tmp_path / "results.json").read_text())
    assert {name: len(each) for name, each in found["samples"]["disk"].items()} == {
        "ours": 2,
        "pika": 2,
    }
    assert all(line["ratio"]["median"] > 0 for line in found["figures"])
    ElementTree.parse(tmp_path / "sending.svg")
