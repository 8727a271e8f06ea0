"""What a measured program looks like to the process that runs it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.site import Site

PAYLOAD_BYTES = 256

Sample = dict[str, float]
"""What one round gave, by the names of the quantities: ``rate`` (per second), ``cpu`` (µs), ..."""


@dataclass(frozen=True)
class Load:
    """How much is done in one round.

    Attributes:
        seconds: how long, where an experiment goes by time.
        messages: how many at most, where it goes by number.
        volume: how many bytes in all at most, where it goes by number.
        queues: how many, where a connector is to have many.
    """

    seconds: float = 1.0
    messages: int = 20_000
    volume: int = 150_000_000
    queues: int = 1_000

    def scaled(self, factor: float) -> Load:
        """Return a part of this load."""
        return Load(
            self.seconds * factor,
            int(self.messages * factor),
            int(self.volume * factor),
            max(1, int(self.queues * factor)),
        )

    def bodies(self, size: int) -> int:
        """Say how many bodies of a size, in bytes, are this load: two at least."""
        return max(2, min(self.messages, self.volume // size))


class Skipped(Exception):
    """This cannot be measured here; the message says why."""


class Actor:
    """A program with a role in an experiment: a client, a service, a source of messages.

    It lives in a process of its own. Made and closed in the main thread of it, and told there to do
    a round.

    Args:
        site: where the broker is.
        queue: the queue that it is about.
    """

    def __init__(self, site: Site, queue: str) -> None:
        self.site = site
        self.queue = queue

    def round(self, load: Load) -> Sample:
        """Do a round's work and say how it went."""
        raise NotImplementedError

    def count(self) -> int:
        """Say how many messages were handled so far, where somebody wants to know."""
        return 0

    def close(self) -> None:
        """End what was started."""


class Stopwatch:
    """Measure the time that passes and the processor's time of all threads; starts at once."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._began = time.perf_counter()

    def sample(self, operations: int) -> Sample:
        """Stop, and say how it went.

        Args:
            operations: how many there were.
        """
        seconds = time.perf_counter() - self._began
        cpu = time.process_time() - self._cpu
        done = max(1, operations)
        return {
            "operations": operations,
            "seconds": seconds,
            "rate": operations / seconds,
            "cpu": cpu / done * 1e6,
        }


def of_bodies(sample: Sample, size: int) -> Sample:
    """Add to a sample what matters with big bodies.

    Args:
        sample: of as many operations as bodies went by.
        size: of a body, in bytes.

    Returns:
        The sample with ``volume`` (MB/s) and ``peak`` (MiB of memory, the most so far).
    """
    return {**sample, "volume": sample["rate"] * size / 1e6, "peak": peak_resident_mib()}


def resident_mib() -> float:
    """Say how much memory this process has now, in MiB."""
    return _status("VmRSS")


def peak_resident_mib() -> float:
    """Say how much memory this process has had at most, in MiB.

    Not `resource.getrusage`: its figure begins with that of the process that started this one.
    """
    return _status("VmHWM")


def _status(key: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise Skipped("memory is read from /proc, which is not here") from error
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024
