"""Programs that a page tells its reader to start, started for real."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT
from tests.support.polling import eventually

#: How long a program may take to say what the page shows, and to end, in seconds.
PATIENCE = 120.0


@dataclass
class Program:
    """A process with all that it has printed."""

    command: str
    process: subprocess.Popen[bytes]
    output_file: Path
    ends_with: int = 0

    @property
    def output(self) -> str:
        """What it has printed so far, errors included."""
        return self.output_file.read_text(encoding="utf-8", errors="replace")

    def expect(self, shown: str) -> None:
        """Wait until it has printed what the page shows."""

        def says_it() -> bool:
            assert is_shown(shown, self.output), f"{self.command} printed:\n{self.output}"
            return True

        eventually(says_it, timeout=PATIENCE)

    def finish(self, patience: float = PATIENCE) -> None:
        """Wait until it has ended as it should."""
        code = self.process.wait(patience)
        assert code == self.ends_with, f"{self.command} ended with {code}:\n{self.output}"

    def stop(self, *, well: bool) -> None:
        """End it as a supervisor does; one that has ended by itself must have ended well."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(PATIENCE)
            assert code in ((0,) if well else (0, -signal.SIGTERM)), self.output
        else:
            self.finish()


class Programs:
    """The programs of one page.

    Args:
        folder: where they run.
        environment: variables beside those of the tests.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "100",
            **environment,
        }
        self._started: list[Program] = []

    def start(self, command: str, arguments: list[str]) -> Program:
        """Start Python with arguments."""
        output_file = self.folder / f"output-{len(self._started)}.txt"
        with output_file.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        program = Program(command, process, output_file)
        self._started.append(program)
        return program

    def stop_one(self, command: str) -> None:
        """End the program that was started with this command, as its reader has to."""
        for program in self._started:
            if program.command == command:
                program.stop(well=self.ends_well(program))

    def expect_somewhere(self, shown: str) -> None:
        """Wait until one of the programs has printed what the page shows."""

        def one_says_it() -> bool:
            return any(is_shown(shown, program.output) for program in self._started)

        eventually(one_says_it, timeout=PATIENCE, what=f"some program prints {shown!r}")

    def stop(self) -> None:
        """End everything that still runs, and see that all of it ended well."""
        for program in self._started:
            program.stop(well=self.ends_well(program))

    def kill(self) -> None:
        """End everything in any case."""
        for program in self._started:
            program.process.kill()
            program.process.wait(PATIENCE)

    def report(self) -> str:
        """Tell what each program has printed."""
        return "\n".join(f"$ {program.command}\n{program.output}" for program in self._started)

    def is_service(self, program: Program) -> bool:
        """Say whether it runs until it is told to stop."""
        return bool({"run", "run_forever"} & self._calls(program))

    def ends_well(self, program: Program) -> bool:
        """Say whether it ends in good order when it is told to."""
        return bool({"run_forever", "signal"} & self._calls(program))

    def _calls(self, program: Program) -> set[str]:
        """List the methods that its source calls."""
        path = self.folder / (*program.command.split(), "")[1]
        source = path.read_text(encoding="utf-8") if path.is_file() else ""
        return set(re.findall(r"\.(\w+)\(", source))


def is_shown(shown: str, output: str) -> bool:
    """Say whether an output has the lines that a page shows, in that order."""
    patterns = [
        re.compile(".*".join(re.escape(part) for part in line.strip().split("...")))
        for line in shown.splitlines()
        if line.strip()
    ]
    lines = iter(output.splitlines())
    return all(any(pattern.fullmatch(line.strip()) for line in lines) for pattern in patterns)
