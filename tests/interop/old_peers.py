"""Starts processes that run the published package, and speaks with them."""

from __future__ import annotations

import ast
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.support.environment import original_environment
from tests.support.polling import eventually

START_SECONDS = 120.0
ANSWER_SECONDS = 150.0

_HERE = Path(__file__).parent
_SCRIPT = _HERE.parent.parent / "scripts" / "interop-env"
_BUILD_SECONDS = 300.0

_parsing = threading.Lock()


def build_environment() -> Path:
    """Return the Python of the published package's environment, building that where it is missing.

    Raises:
        AssertionError: it could not be built; the message has the script's own.
    """
    made = subprocess.run(
        [str(_SCRIPT)],
        env=original_environment(),
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    assert made.returncode == 0, f"{_SCRIPT.name} failed: {made.stderr.strip()}"
    return Path(made.stdout.strip())


class OldPeer:
    """A process that runs one of the scripts in `peers/`.

    Args:
        python: of the published package's environment.
        role: the script's name without its ending.
        home: an empty folder, where it looks for configuration and writes its log.
        setup: what its first line is to say.
    """

    def __init__(self, python: Path, role: str, home: Path, setup: dict[str, Any]) -> None:
        self.role = role
        self._log = home / f"{role}.log"
        self._changed = threading.Condition()
        self._asked = 0
        self._is_ready = False
        self._got: list[dict[str, Any]] = []
        self._ended: dict[int, dict[str, Any]] = {}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(python), str(_HERE / "peers" / f"{role}.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(home),
                cwd=home,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, name=f"peer-{role}", daemon=True)
        self._reader.start()
        self._write(setup)

    def wait_ready(self) -> None:
        """Wait until it can be asked for something.

        Raises:
            AssertionError: it ended, or took too long; the message has the end of its log.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_ready or self._is_over(), START_SECONDS)
            assert self._is_ready, f"the old {self.role} did not start: {self._last_words()}"

    def ask(self, do: str, **arguments: Any) -> Any:
        """Ask for something, and return what came of it.

        Raises:
            AssertionError: it raised an exception there, or nothing came of it in time.
        """
        with self._changed:
            self._asked += 1
            number = self._asked
            self._write({"ask": number, "do": do, "with": repr(arguments)})
            self._changed.wait_for(lambda: number in self._ended or self._is_over(), ANSWER_SECONDS)
            assert number in self._ended, f"{do} did not end: {self._last_words()}"
            end = self._ended[number]
        assert "value" in end, f"{do} failed there: {end}"
        return end["value"]

    def wait_got(self, by: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until a consumer of it has received as many messages, and return them."""

        def got() -> list[dict[str, Any]]:
            return [each for each in list(self._got) if each["by"] == by]

        eventually(lambda: len(got()) >= count, what=f"the old {self.role} receives {count}")
        return got()

    def stop(self) -> None:
        """End the process: it hangs up without goodbye, as a killed one would."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(120)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(120)
        self._reader.join(120.0)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _write(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            line = json.loads(text)
            for literal in {"facts", "value"} & line.keys():
                line[literal] = _parse(line[literal])
            with self._changed:
                if line["event"] == "ready":
                    self._is_ready = True
                elif line["event"] == "got":
                    self._got.append(line["facts"])
                else:
                    self._ended[line["ask"]] = line
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _is_over(self) -> bool:
        return self._process.poll() is not None

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] or "(its log is empty)"


def _parse(literal: str) -> Any:
    # before Python 3.11.8 two threads that parse at once fail with a SystemError
    with _parsing:
        return ast.literal_eval(literal)


def _environment(home: Path) -> dict[str, str]:
    """Keep what leads to our package, or to the user's configuration, away from a peer."""
    kept = {
        name: value
        for name, value in original_environment().items()
        if not name.startswith(("PYTHON", "XDG_", "MQ_", "NEON_", "MYCROFT_", "OVOS_"))
    }
    return {**kept, "HOME": str(home), "PYTHONUNBUFFERED": "1"}


DATA: dict[str, Any] = {
    "text": 'it\'s "quoted", a\\b, naïve 😀, \ud7ff and\nlines',
    "numbers": (0, -1, 1.5, 10**30, 1e300),
    "constants": [None, True, False],
    "bytes": b"\x00\xff'\"",
    "nested": {"empty": [{}, [], ()], 1: "a key that is no text", None: "nor this"},
    "words": "None, True and {not: 'code'}",
}


def message_id_of(reply: dict[str, Any]) -> Any:
    """Return the request's id as an old client reads it from a reply."""
    in_context = reply.get("context", {}).get("mq", {}).get("message_id")
    return in_context or reply.get("message_id")
