"""A headless Chromium, where there is one: what a page has become, as text and as a picture."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: How long the page may go on before it is looked at: milliseconds of its own clock.
_BUDGET = 4000
_PATIENCE = 90.0


class Browser:
    """Open pages, each in a fresh profile.

    Args:
        program: the browser.
        folder: where profiles are kept.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder

    @classmethod
    def find(cls, folder: Path) -> Browser | None:
        """Return one; None where none is installed."""
        found = next(filter(None, map(shutil.which, _NAMES)), None)
        return None if found is None else cls(found, folder)

    def read(self, url: str) -> str:
        """Return the page as the browser has it after some seconds."""
        return self._run(url, "--dump-dom")

    def draw(self, url: str, path: Path, *, width: int, height: int, dark: bool = False) -> None:
        """Write a picture of the page."""
        self._run(
            url,
            f"--screenshot={path}",
            f"--window-size={width},{height}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        )

    def _run(self, url: str, *options: str) -> str:
        command = [self._program, "--headless=new", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--virtual-time-budget={_BUDGET}", f"--user-data-dir={self._folder}"]
        if os.geteuid() == 0:
            command += ["--no-sandbox"]  # as root there is none
        done = subprocess.run(
            [*command, *options, url],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_PATIENCE,
        )
        return done.stdout
