"""The command line of ``scripts/bench``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import plots, report, scale
from benchmarks.actor import Load
from benchmarks.figures import EXPERIMENTS
from benchmarks.profiles import NoProfilerError, find_profiler, profile
from benchmarks.runner import Results, measure
from benchmarks.scale import SCALES
from neon_mq_connector.testing import PrivateBroker

_QUICK = 0.1
_ROUNDS, _ROUNDS_OF_A_SCALE, _QUICK_ROUNDS = 5, 3, 1


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        only: the names of what is wanted; empty for all.
        rounds: how many rounds count; None for as many as are usual.
        load: how much to do in a round.
        out: the folder to write to.
        profile: whether to look where the time goes, too.
        scale: whether to measure what grows, instead.
        draw: whether to draw the plots of earlier measurements, and measure nothing.
    """

    only: tuple[str, ...]
    rounds: int | None
    load: Load
    out: Path
    profile: bool = False
    scale: bool = False
    draw: bool = False


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line."""
    names = [each.name for each in EXPERIMENTS]
    scales = [each.name for each in SCALES]
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure the library and plain pika side by side, on a private broker. Prints "
        "a table with the medians, writes JSON and plots.",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="measure only this; may be repeated: "
        f"{', '.join(names)}; with --scale {', '.join(scales)}",
    )
    parser.add_argument("--rounds", type=int, help="rounds of each (5; 3 with --scale)")
    parser.add_argument(
        "--quick", action="store_true", help="one round, and a tenth of the work in it"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="say as well in which functions clients and services spend their time",
    )
    parser.add_argument(
        "--scale",
        action="store_true",
        help="measure what the work costs as queues, threads and bodies grow, and nothing else",
    )
    parser.add_argument(
        "--draw",
        action="store_true",
        help="measure nothing: draw the plots anew from the JSON files in the folder",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent.parent / "docs" / "benchmarks",
        metavar="FOLDER",
        help="the folder to write to (docs/benchmarks)",
    )
    chosen = parser.parse_args(arguments)
    known = scales if chosen.scale else names
    for name in chosen.only:
        if name not in known:
            parser.error(f"--only {name}: it is one of {', '.join(known)}")
    if chosen.scale and chosen.profile:
        parser.error("--profile goes without --scale")
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error("--rounds: 1 at least")
    return Options(
        only=tuple(chosen.only),
        rounds=_QUICK_ROUNDS if chosen.quick and chosen.rounds is None else chosen.rounds,
        load=Load().scaled(_QUICK) if chosen.quick else Load(),
        out=chosen.out,
        profile=chosen.profile,
        scale=chosen.scale,
        draw=chosen.draw,
    )


def run(options: Options, broker: PrivateBroker) -> bool:
    """Measure, print and write.

    Args:
        options: what to do.
        broker: where to measure.

    Returns:
        Whether all contenders did what they should.

    Raises:
        NoProfilerError: a profile is wanted, and there is no profiler.
    """
    if options.profile:
        find_profiler()
    options.out.mkdir(parents=True, exist_ok=True)
    results = _run_scales(options, broker) if options.scale else _run_figures(options, broker)
    return not any(each.failed for each in results)


def _run_figures(options: Options, broker: PrivateBroker) -> list[Results]:
    rounds = options.rounds or _ROUNDS
    chosen = [each for each in EXPERIMENTS if not options.only or each.name in options.only]
    everything = []
    for experiment in chosen:
        _say(f"{experiment.name}: {experiment.title} ...")
        results = measure(experiment, broker, options.load, rounds)
        _tell_who_is_missing(results)
        everything.append(results)
    lines = [line for each in everything for line in report.lines_of(each)]
    print(report.as_text(lines))
    _write_json(options.out / "results.json", report.as_dict(everything, options.load, rounds))
    plots.draw_figures(options.out)
    if options.profile:
        for experiment in chosen:
            _say(f"{experiment.name}: a profile ...")
            for each in profile(experiment, broker, options.load, options.out / "profiles"):
                print(each.as_text())
    return everything


def _run_scales(options: Options, broker: PrivateBroker) -> list[Results]:
    rounds = options.rounds or _ROUNDS_OF_A_SCALE
    everything: list[Results] = []
    content: dict[str, Any] = {}
    for each in SCALES:
        if options.only and each.name not in options.only:
            continue
        _say(f"{each.name}: {', '.join(f'{point:,}' for point in each.points)} ...")
        results = scale.measure_scale(each, broker, options.load, rounds)
        for point in results.values():
            _tell_who_is_missing(point)
        everything += results.values()
        content[each.name] = {
            point: report.rounded(found.samples) for point, found in results.items()
        }
        for chart in each.charts:
            curves = scale.curves_of(chart, content[each.name])
            if curves:
                print(scale.as_text(each, chart, curves))
    _write_json(
        options.out / "scale.json", {**report.conditions(options.load, rounds), "samples": content}
    )
    plots.draw_scales(options.out)
    return everything


def _tell_who_is_missing(results: Results) -> None:
    name = results.experiment.name
    for contender, reason in results.skipped.items():
        print(f"{name}: {contender} is skipped: {reason}", flush=True)
    for contender, error in results.failed.items():
        _say(f"{name}: {contender}: {error}")


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> int:
    """Start a broker and run.

    Returns:
        The exit code: 1 when a contender failed or there is no profiler.
    """
    options = parse()
    if options.draw:
        plots.draw_figures(options.out)
        plots.draw_scales(options.out)
        return 0
    with PrivateBroker() as broker:
        try:
            return 0 if run(options, broker) else 1
        except NoProfilerError as error:
            _say(str(error))
            return 1
