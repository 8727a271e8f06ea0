"""Print what `import neon_mq_connector` costs beyond what its services import anyway.

Both are timed one after the other in an interpreter of its own, several times. The fastest counts:
whatever else the machine does can only add.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

_PROGRAM = """
import time
began = time.perf_counter()
import pika, ovos_config, ovos_utils
base = time.perf_counter()
import neon_mq_connector
print(base - began, time.perf_counter() - base)
"""


def import_cost(rounds: int = 7) -> tuple[float, float]:
    """Measure.

    Args:
        rounds: how often it is imported (7); one more goes first, to compile all.

    Returns:
        Seconds for what services import anyway, and for this package on top of it.
    """
    environment = {**os.environ}
    # an installed package has its bytecode: compiling is no part of the cost
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    measured = []
    with tempfile.TemporaryDirectory(prefix="neon-mq-import-cost-") as cache:
        environment["PYTHONPYCACHEPREFIX"] = cache
        for _ in range(rounds + 1):
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM],
                check=True,
                capture_output=True,
                env=environment,
                text=True,
                timeout=60,
            )
            base, cost = done.stdout.split()[-2:]
            measured.append((float(base), float(cost)))
    return min(base for base, _ in measured[1:]), min(cost for _, cost in measured[1:])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="(default: %(default)s)")
    base, cost = import_cost(parser.parse_args().rounds)
    print(f"pika, ovos-config, ovos-utils: {base * 1000:.0f} ms")
    print(f"neon_mq_connector on top:      {cost * 1000:.0f} ms (at most 60 are allowed)")


if __name__ == "__main__":
    main()
