"""The command line of a soak."""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
from dataclasses import asdict
from pathlib import Path

from tests.soak.cluster import ClusterSoak, endless_deeds
from tests.soak.report import Findings
from tests.soak.run import LAST_CALM, UNDISTURBED, Soak

_KEPT, _BROKEN = 0, 1


def main() -> int:
    """Run a soak and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description="Put producers, services and subscribers under load, break the network and the "
        "broker at random, and account for every message. The exit code is 0 when all promises "
        "were kept and 1 when one was broken.",
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="how long (%(default)g)")
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="kill and restart the nodes of a cluster of three, one after another, instead",
    )
    parser.add_argument("--seed", type=int, help="of the faults; chosen and printed if not given")
    parser.add_argument(
        "--rate", type=float, default=40.0, help="messages a second, per producer (%(default)g)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it as JSON, too")
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="write the library's log to a file"
    )
    options = parser.parse_args()
    _set_up_logging(options.log)
    report: Findings
    if options.cluster:
        deeds = endless_deeds()
        report = ClusterSoak(deeds, seconds=options.seconds, rate=options.rate, verbose=True).run()
    else:
        if options.seconds < UNDISTURBED + LAST_CALM + 5:
            parser.error(f"--seconds: {UNDISTURBED + LAST_CALM + 5:g} at least")
        seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
        print(f"seed {seed}, {options.seconds:g} s", file=sys.stderr, flush=True)
        report = Soak(options.seconds, seed, options.rate).run()
    print(report.as_text())
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(report)) + "\n")
    return _BROKEN if report.complaints else _KEPT


def _set_up_logging(file: Path | None) -> None:
    # faults are made on purpose: what pika and the library say of each is noise on a terminal
    handler: logging.Handler = logging.NullHandler()
    if file is not None:
        handler = logging.FileHandler(file, mode="w")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger("neon_mq_connector").setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    logging.getLogger("pika").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
