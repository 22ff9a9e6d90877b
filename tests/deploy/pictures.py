"""Draws docs/images/*.png: the pages and the dashboards on the made-up history. `make pictures`

Needs chromium, promtool and prometheus on PATH, and a `grafana-preview` (GRAFANA_PREVIEW names another) that takes a dashboard,
--prometheus, --out, --from, --to, --theme, --width, --var: it draws a dashboard without a Grafana.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path

from playwright.async_api import async_playwright

from deploy.grafana.source import FOLDER
from monitor.app import App
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

PAGES = (
    ("page-light.png", "", "light", {"width": 1280, "height": 1000}),
    ("page-dark.png", "", "dark", {"width": 1280, "height": 1000}),
    ("page-phone.png", "", "light", {"width": 375, "height": 812}),
    ("batch-light.png", f"/batches/{SPRING_RENEWALS}", "light", {"width": 1280, "height": 1000}),
    ("batch-dark.png", f"/batches/{SPRING_RENEWALS}", "dark", {"width": 1280, "height": 1000}),
)


async def photograph(daemon: App) -> None:
    """Every picture of a page, as it is at the end of the story."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, path, scheme, size in PAGES:
            page = await browser.new_page(
                viewport=size, color_scheme=scheme, timezone_id="UTC", locale="en-GB"
            )
            await page.clock.set_fixed_time(history.END)
            await page.goto(daemon.address + path)
            await page.screenshot(path=IMAGES / name)
        await browser.close()


def draw(url: str) -> None:
    """Every picture of a dashboard. CalledProcessError where a panel has no data or an error."""
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
        with history.prometheus(folder, history.make(folder, look=photograph)) as url:
            draw(url)
