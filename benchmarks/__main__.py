"""Run the benchmarks.

The processes that are measured import this module too: what it needs is imported when it is run.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return the exit code."""
    from benchmarks.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
