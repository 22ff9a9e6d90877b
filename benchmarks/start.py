"""How long one waits: for a command, for a daemon that begins. Wall clock, the best of several."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.api import Size
from benchmarks.processes import Setting, api, daemon, until, watching
from benchmarks.report import Row, limit

ONE = Setting(Size(1, 1, 1))


def start(*, quick: bool) -> list[Row]:
    """Commands, beside what Python itself takes; then a daemon without a past."""
    with watching(ONE, past=False) as scene:
        commands = {
            "--version": ("-m", "monitor", "--version"),
            "healthcheck": ("-m", "monitor", "healthcheck", "--url", scene.daemon.url),
            "pass": ("-c", "pass"),
            "aiohttp": ("-c", "import aiohttp"),
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(3 if quick else 10):  # in turn, so that a noisy moment hits all
            for name, command in commands.items():
                begin = time.perf_counter()
                subprocess.run([sys.executable, *command], check=True, capture_output=True)  # noqa: S603 - this interpreter, with arguments of ours
                took[name].append(time.perf_counter() - begin)
    best = {name: min(times) for name, times in took.items()}
    first = min(_first_scrape() for _ in range(2 if quick else 5))
    subject, python, with_aiohttp = "start", "python -c pass", "python -c 'import aiohttp'"
    return [
        limit(subject, "batch-monitor --version", best["--version"], "s", 0.15),
        Row(subject, "the same", best["--version"], "s", python, best["pass"]),
        limit(subject, "batch-monitor healthcheck, of a daemon", best["healthcheck"], "s", 0.15),
        Row(subject, "the same", best["healthcheck"], "s", python, best["pass"]),
        limit(subject, "run, until it answers a scrape", first, "s", 1.0),
        Row(subject, "the same", first, "s", with_aiohttp, best["aiohttp"]),
    ]


def _first_scrape() -> float:
    with (
        tempfile.TemporaryDirectory() as folder,
        api(ONE.size) as asked,
        daemon(ONE, asked.url, Path(folder)) as begun,
    ):
        return until(begun, "/metrics")
