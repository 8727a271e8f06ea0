"""Make the pictures anew: ``python -m pictures [NAME...]``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pictures import (
    answer,
    consumer_states,
    failures,
    layers,
    settlement,
    terminal,
    threads,
    top,
)

FOLDER = Path(__file__).parent.parent / "docs" / "images"
PICTURES = {
    "answer": answer.make,
    "consumer-states": consumer_states.make,
    "demo": terminal.make,
    "failures": failures.make,
    "layers": layers.make,
    "message-states": settlement.make,
    "threads": threads.make,
    "top": top.make,
}


def main(names: list[str]) -> None:
    """Make those that are named, or all."""
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("neon_mq_connector").setLevel(logging.CRITICAL)
    FOLDER.mkdir(exist_ok=True)
    for name in names or PICTURES:
        (FOLDER / f"{name}.svg").write_text(PICTURES[name](), encoding="utf-8")
        print(f"docs/images/{name}.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
