"""Draws docs/images/*.png: the dashboards on the made-up history. `make pictures`

Needs promtool and prometheus on PATH, and a `grafana-preview` (GRAFANA_PREVIEW names another) that takes a dashboard,
--prometheus, --out, --from, --to, --theme, --width, --var: it draws a dashboard without a Grafana.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path

from deploy.grafana.source import FOLDER
from tests.deploy import history

IMAGES = Path(__file__).parent.parent.parent / "docs/images"
SHOWN = timedelta(hours=6)
SPRING_RENEWALS = "f27acd75-5785-553b-80ff-c2821f4daa9d"  # the simulator makes ids from names

PICTURES = (
    ("campaigns-dark.png", "ultravox-campaigns", "dark", ()),
    ("campaigns-light.png", "ultravox-campaigns", "light", ()),
    ("campaign-dark.png", "ultravox-campaign", "dark", ("--var", f"batch_id={SPRING_RENEWALS}")),
    ("monitor-dark.png", "ultravox-monitor", "dark", ()),
)


def draw(url: str) -> None:
    """Every picture. CalledProcessError where a panel has no data or an error."""
    IMAGES.mkdir(exist_ok=True)
    start, end = (round(at.timestamp() * 1000) for at in (history.END - SHOWN, history.END))
    for name, page, theme, more in PICTURES:
        command = (
            os.environ.get("GRAFANA_PREVIEW", "grafana-preview"),
            str(FOLDER / f"{page}.json"),
            f"--prometheus={url}",
            f"--out={IMAGES / name}",
            f"--from={start}",
            f"--to={end}",
            f"--theme={theme}",
            "--width=1366",
            "--timezone=utc",
            "--min-interval=60s",
        )
        subprocess.run((*command, *more), check=True)


if __name__ == "__main__":
    logging.disable()  # what the daemon says of the story's mishaps
    with tempfile.TemporaryDirectory(prefix="pictures-") as name:
        folder = Path(name)
        with history.prometheus(folder, history.make(folder)) as url:
            draw(url)
