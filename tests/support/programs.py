"""Programs that tests run in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def python(*arguments: str, **options: Any) -> str:
    """Run Python to its end, and return what it has printed; options as for `subprocess.run`."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed: str = done.stdout
    return printed
