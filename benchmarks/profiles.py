"""Where the time goes: a sampling profiler looks at the processes while they do a round.

The profiler is py-spy, which reads the stacks of another process from outside of it. What is
measured while it looks is not to be compared with anything.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.actor import Load
from benchmarks.experiment import Experiment
from benchmarks.runner import measure
from neon_mq_connector.testing import PrivateBroker

_SAMPLES_PER_SECOND = 200
_TOP = 15
#: What starts processes and threads is around everything and says nothing.
_SCAFFOLDING = ("(multiprocessing/", "(threading.py", "(benchmarks/worker.py", "<module>")
#: A round takes so many times as long, for there to be enough samples.
_LONGER = 4.0


class NoProfilerError(Exception):
    """There is no py-spy."""


@dataclass(frozen=True)
class Profile:
    """Stacks of one process.

    Attributes:
        name: experiment, contender and role.
        file: the stacks, a line for each with how often it was seen; speedscope.app and
            flamegraph.pl read that.
    """

    name: str
    file: Path

    def as_text(self) -> str:
        """Say in which functions the time goes: within them, and with what they call."""
        alone: Counter[str] = Counter()
        with_calls: Counter[str] = Counter()
        threads: Counter[str] = Counter()
        for text in self.file.read_text().splitlines():
            stack, _, count = text.rpartition(" ")
            thread, *frames = stack.split(";")
            if not frames:
                continue
            threads[thread.partition(": ")[2] or thread] += int(count)
            alone[frames[-1]] += int(count)
            for frame in set(frames):
                if not any(each in frame for each in _SCAFFOLDING):
                    with_calls[frame] += int(count)
        total = max(1, sum(threads.values()))
        lines = [f"{self.name}: {total} samples"]
        for heading, counter in (
            ("by thread", threads),
            ("within the function", alone),
            ("with what it calls", with_calls),
        ):
            lines.append(f"  {heading}")
            lines += [
                f"    {count / total * 100:5.1f} %  {what}"
                for what, count in counter.most_common(_TOP)
            ]
        return "\n".join(lines)


def profile(
    experiment: Experiment, broker: PrivateBroker, load: Load, folder: Path
) -> list[Profile]:
    """Run one round of each contender with a profiler at its client and its service.

    Args:
        experiment: what to run.
        broker: where to run it.
        load: how much to do; the time is longer, for there to be enough samples.
        folder: where the stacks go.

    Returns:
        The profiles.

    Raises:
        NoProfilerError: it is not installed.
    """
    program = find_profiler()
    folder.mkdir(parents=True, exist_ok=True)
    profiles: list[Profile] = []

    @contextmanager
    def observe(contender: str, pids: dict[str, int]) -> Iterator[None]:
        with ExitStack() as stack:
            for role, pid in pids.items():
                name = f"{experiment.name}-{contender}-{role}".replace(" ", "-")
                file = folder / f"{name}.txt"
                stack.enter_context(_sampling(program, pid, file))
                profiles.append(Profile(name, file))
            yield

    lasting = {
        name: replace(contender, fresh=False) for name, contender in experiment.contenders.items()
    }
    measure(
        replace(experiment, contenders=lasting),
        broker,
        replace(load, seconds=load.seconds * _LONGER),
        1,
        observe=observe,
    )
    return [each for each in profiles if each.file.exists()]


def find_profiler() -> str:
    """Find py-spy: beside this Python, or where programs are.

    Raises:
        NoProfilerError: it is not installed.
    """
    beside = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if beside is None:
        raise NoProfilerError("py-spy is missing: scripts/bench installs it")
    return beside


@contextmanager
def _sampling(program: str, pid: int, file: Path) -> Iterator[None]:
    command = [program, "record", "--pid", str(pid), "--output", str(file)]
    command += ["--format", "raw", "--threads", "--function", "--rate", str(_SAMPLES_PER_SECOND)]
    sampler = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield
    finally:
        sampler.send_signal(signal.SIGINT)
        said, _ = sampler.communicate(timeout=30)
        if not file.exists():
            print(f"no profile of process {pid}: {said.strip()}", file=sys.stderr)
