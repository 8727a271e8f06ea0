"""Run the programs of this folder on a private broker: ``scripts/compare``."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from neon_mq_connector.testing import PrivateBroker

_HERE = Path(__file__).parent
_PATIENCE = 60.0
#: What each prints, in any order; of the error only that there is one.
_EXPECTED = {
    "price 7.0",
    "error",
    "job 1 done after 3 tries",
    "job 2 is dead",
    "alice reads: open",
    "bob reads: open",
}


def main(names: list[str]) -> int:
    """Run those that are named, or all.

    Returns:
        The exit code: how many have not done what they should.
    """
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    programs = sorted(_HERE.glob("with_*.py"))
    failed = 0
    with PrivateBroker() as broker:
        for program in programs:
            name = program.stem.removeprefix("with_")
            if names and name not in names:
                continue
            broker.delete_vhost("/")
            broker.create_vhost("/")
            began = time.monotonic()
            missing = _run(program, broker)
            lines = len(program.read_text(encoding="utf-8").splitlines())
            took = f"{time.monotonic() - began:4.1f} s"
            print(f"{name:12} {lines:4} lines {took}  {missing or 'does all of it'}", flush=True)
            failed += bool(missing)
    return failed


def _run(program: Path, broker: PrivateBroker) -> str:
    """Run one; return what is wrong."""
    env = {**os.environ, "NEON_MQ_URL": broker.url("/")}
    command = [sys.executable, str(program)]
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired as error:
        return f"does not end: {str(error.stderr)[-1000:]}"
    if done.returncode != 0:
        return f"ends with {done.returncode}: {done.stderr[-1000:]}"
    seen = {"error" if line.startswith("error ") else line for line in done.stdout.splitlines()}
    return f"does not print {sorted(missing)}" if (missing := _EXPECTED - seen) else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
