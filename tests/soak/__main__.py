"""`make soak`: SOAK_MINUTES of it (60), a table, and exit code 1 when something grows.

SOAK_SEED: the same batches and faults again. SOAK_FOLDER: where logs, state file and all readings are left.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it

from soak.flat import judge, table
from soak.scenario import Size
from soak.world import World


def main() -> int:
    """Play it and say how it was."""
    minutes = float(os.environ.get("SOAK_MINUTES", "60"))
    folder = Path(os.environ.get("SOAK_FOLDER") or tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(exist_ok=True)
    world = World(folder, minutes, int(os.environ.get("SOAK_SEED", "7")))
    asyncio.run(world.play())
    warm = 60 * 1.25 * Size.of(minutes).lives[1]
    verdicts = [judge(series, warm) for series in world.series()]
    lines = [
        f"{minutes:g} minutes, of which {warm / 60:.1f} are not judged; all files in {folder}",
        table(verdicts),
        ", ".join(f"{name}: {count:,}" for name, count in sorted(world.counts.items())),
        *(f"WRONG: {text}" for text in world.wrong),
    ]
    for one, series in zip(verdicts, world.series(), strict=True):
        if one.wrong:
            values = " ".join(f"{value:.4g}" for _, value in series.points)
            lines.append(f"NOT FLAT: {one.name} {one.wrong}: {values}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if world.wrong or any(one.wrong for one in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
