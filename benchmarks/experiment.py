"""The words for what is measured: who takes part, what is compared, and what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.worker import Role


@dataclass(frozen=True)
class Contender:
    """One way of doing the work of an experiment.

    Attributes:
        client: whose rounds are measured.
        service: who is there all the time, a process of its own.
        before: does a round before each of the client's: it fills a queue.
        meanwhile: does a round while the client does its own: it makes traffic.
        fresh: whether the client's process is a new one for each round, since its memory counts.
    """

    client: Role
    service: Role | None = None
    before: Role | None = None
    meanwhile: Role | None = None
    fresh: bool = False


@dataclass(frozen=True)
class Target:
    """What a figure is wanted to be; it is shown whether it is, and nothing else follows."""

    bound: float
    at_least: bool = True

    def reached(self, value: float) -> bool:
        """Say whether a value is as wanted."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


def at_least(bound: float) -> Target:
    """Want no less than this."""
    return Target(bound)


def at_most(bound: float) -> Target:
    """Want no more than this."""
    return Target(bound, at_least=False)


@dataclass(frozen=True)
class Figure:
    """One line of the report: a quantity of one contender beside that of another.

    Attributes:
        title: what it is.
        ours: the contender that it is about.
        theirs: the contender that it is compared with.
        quantity: which of the quantities of their samples.
        unit: of that quantity.
        target: what the ratio is wanted to be.
        absolute: the quantity itself is wanted to be that, whatever the other needs.
    """

    title: str
    ours: str
    theirs: str
    target: Target | None
    quantity: str = "rate"
    unit: str = "/s"
    absolute: bool = False

    @property
    def wanted(self) -> str:
        """The target with the unit that it has; empty where there is none."""
        if self.target is None:
            return ""
        return f"{self.target} {self.unit}" if self.absolute else str(self.target)


@dataclass(frozen=True)
class Experiment:
    """Something that is measured in one go, the contenders taking turns.

    Attributes:
        name: for ``--only``.
        title: what it is.
        contenders: by name, in the order of their turns.
        figures: what is reported.
    """

    name: str
    title: str
    contenders: Mapping[str, Contender]
    figures: tuple[Figure, ...] = field(default=())
