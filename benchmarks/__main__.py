"""`make bench`: what the monitor costs, each figure beside that of a peer or a limit, measured in the same run.

One table for people, `--json` for machines. These machines are shared: costs are CPU time, sides are measured at
the same time or in turn, and only ratios mean anything elsewhere. What is measured how is in README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks import growth, memory, polls, punctual, scrape, start, store
from benchmarks.report import Row, machine, table

SUBJECTS: dict[str, Callable[..., list[Row]]] = {
    "get": polls.get_path,
    "page": polls.page_path,
    "scrape": scrape.scrape,
    "memory": memory.memory,
    "store": store.store,
    "punctual": punctual.punctual,
    "start": start.start,
    "growth": growth.growth,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer batches, shorter: does it run, and roughly"
    )
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="this subject; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    options = parser.parse_args()
    rows: list[Row] = []
    begin, before = time.monotonic(), machine()
    with contextlib.suppress(KeyboardInterrupt):  # what was measured until then is shown
        for name, measure in SUBJECTS.items():
            if not options.only or name in options.only:
                started = time.monotonic()
                rows += measure(quick=options.quick)
                print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if not rows:
        return
    print(f"{before}\nafter {time.monotonic() - begin:.0f} s: {machine()}\n\n{table(rows)}")
    if options.json:
        lines = [asdict(row) | {"ratio": row.ratio, "verdict": row.verdict} for row in rows]
        options.json.write_text(json.dumps({"machine": before, "rows": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
