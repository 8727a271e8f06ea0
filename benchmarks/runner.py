"""Give the contenders of an experiment their turns, and keep what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

from benchmarks.actor import Load, Sample, Skipped
from benchmarks.broker import new_site
from benchmarks.experiment import Contender, Experiment
from benchmarks.site import Site
from benchmarks.worker import Role, Worker, WorkerError
from neon_mq_connector.testing import PrivateBroker

#: What comes before the first round that counts, as a part of a round.
_WARM_UP = 0.1

Observer = Callable[[str, dict[str, int]], AbstractContextManager[object]]
"""Given the name of a contender and the ids of its processes; entered for each of its rounds."""


@dataclass
class Results:
    """What an experiment gave.

    Attributes:
        experiment: which one.
        samples: by contender, one a round.
        skipped: by contender, why it did not take part.
        failed: by contender, how it failed; the others went on.
    """

    experiment: Experiment
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class Crew:
    """The processes of one contender."""

    def __init__(self, contender: Contender, site: Site) -> None:
        self._contender = contender
        self._site = site
        self._stack = ExitStack()
        try:
            self._service = self._hire(contender.service)
            self._before = self._hire(contender.before)
            self._meanwhile = self._hire(contender.meanwhile)
            self._client = None if contender.fresh else self._hire(contender.client)
        except BaseException:
            self.close()
            raise

    def _hire(self, role: Role | None) -> Worker | None:
        if role is None:
            return None
        worker = Worker(role, self._site)
        self._stack.callback(worker.close)
        return worker

    def pids(self) -> dict[str, int]:
        """Name the processes that last longer than a round."""
        workers = {"client": self._client, "service": self._service}
        return {name: worker.pid for name, worker in workers.items() if worker is not None}

    def round(self, load: Load) -> Sample:
        """Do a round and say how it went; what the service did is part of that."""
        if self._before is not None:
            self._before.round(load)
        handled, used = self._service.vitals() if self._service else (0, 0.0)
        if self._meanwhile is not None:
            self._meanwhile.begin(load)
        with self._client_of_the_round() as client:
            sample = client.round(load)
        handled_after, used_after = self._service.vitals() if self._service else (0, 0.0)
        if self._meanwhile is not None:
            self._meanwhile.end()
        if self._service is not None:
            sample["service_cpu"] = (used_after - used) / max(1.0, sample["operations"]) * 1e6
            sample["service_rate"] = (handled_after - handled) / sample["seconds"]
        return sample

    @contextmanager
    def _client_of_the_round(self) -> Iterator[Worker]:
        if self._client is not None:
            yield self._client
            return
        worker = Worker(self._contender.client, self._site)
        try:
            yield worker
        finally:
            worker.close()

    def close(self) -> None:
        """End the processes."""
        self._stack.close()


def measure(
    experiment: Experiment,
    broker: PrivateBroker,
    load: Load,
    rounds: int,
    *,
    observe: Observer = lambda name, pids: nullcontext(),
) -> Results:
    """Measure an experiment: a round of each contender, and again.

    Args:
        experiment: what to measure.
        broker: where.
        load: how much to do in a round.
        rounds: how many rounds count; a short one goes before them.
        observe: a context for each round that counts.

    Returns:
        What every contender said in every round.
    """
    results = Results(experiment)
    with new_site(broker) as site, ExitStack() as stack:
        crews: dict[str, Crew] = {}
        for name, contender in experiment.contenders.items():
            with _failure_noted(results, name):
                crew = Crew(contender, site)
                stack.callback(crew.close)
                if not contender.fresh:
                    crew.round(load.scaled(_WARM_UP))
                crews[name] = crew
        for _ in range(rounds):
            for name, crew in crews.items():
                if name in results.failed:
                    continue
                with _failure_noted(results, name), observe(name, crew.pids()):
                    results.samples.setdefault(name, []).append(crew.round(load))
    return results


@contextmanager
def _failure_noted(results: Results, name: str) -> Iterator[None]:
    try:
        yield
    except Skipped as reason:
        results.skipped[name] = str(reason)
    except WorkerError as error:
        results.failed[name] = str(error)
