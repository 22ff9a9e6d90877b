"""The state file: how soon a restart has taken up what it holds, how large it is, how often and how much is written."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.api import Size
from benchmarks.internals import write_past
from benchmarks.polls import FOUND, SELDOM
from benchmarks.processes import DAY, Running, Setting, api, daemon, until, watching
from benchmarks.report import Row, limit
from monitor.clock import utc_now


def store(*, quick: bool) -> list[Row]:
    """Batches that are found, on pages: those of a restart are known from the state file before they are found again."""
    size = Size(2, 1, 250) if quick else FOUND
    setting = Setting(size, interval="2s" if quick else "30s", outcomes_interval=SELDOM)
    subject = f"state file: {size.count:,} batches with the history of a day"
    scraped, ready = [], []
    for _ in range(1 if quick else 2):
        scraped.append(_restart(setting, "/metrics"))
        ready.append(_restart(setting, "/-/ready"))
    return [
        limit(subject, "restart, until a scrape has all batches", min(scraped), "s", 3.0),
        limit(subject, "restart, until /-/ready", min(ready), "s", 3.0),
        *_written(subject, setting, quick=quick),
    ]


def _restart(setting: Setting, path: str) -> float:
    """Seconds from the start of the process to the answer that is complete."""
    count, created = setting.size.count, utc_now().timestamp() - DAY
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(write_past(folder / "monitor.db", created, setting.size))
        with (
            api(setting.size, "--created", str(created)) as asked,
            daemon(setting, asked.url, folder) as begun,
        ):
            if path == "/-/ready":
                return until(begun, path)
            return until(begun, path, holds=lambda body: body.count(b"\nultravox_batch_info{") == count)


def _written(subject: str, setting: Setting, *, quick: bool) -> list[Row]:
    with watching(setting) as scene:
        time.sleep(1 if quick else 10)
        scene.api.ask("/bench?reset")
        before, seconds = _bytes_written(scene.daemon), 3 if quick else 30
        time.sleep(seconds)
        counts, written = scene.api.ask("/bench")["counts"], _bytes_written(scene.daemon) - before
        size, wal = ((scene.folder / name).stat().st_size for name in ("monitor.db", "monitor.db-wal"))
        rows = [
            Row(subject, "size for each batch", size / setting.size.count / 1024, "KiB"),
            Row(subject, "size of the write-ahead log", wal / 2**20, "MiB"),
            Row(subject, "written to disk for each batch seen", written / counts["batches"] / 1024, "KiB"),
        ]
        scene.api.ask("/bench?reset")
        syncs = _syncs(scene.daemon, seconds)
        asked = scene.api.ask("/bench")["counts"]
        requests = sum(asked.get(name, 0) for name in ("list_batches", "get_batch", "accounts_me")) / seconds
    peer = "pages, single polls and probes"
    if syncs is None:
        return [*rows, Row(subject, "requests answered: syncs not counted without strace", requests, "/s")]
    # A commit is one; a checkpoint, two.
    return [*rows, Row(subject, "syncs to disk, by strace", syncs / seconds, "/s", peer, requests, 1.5)]


def _bytes_written(running: Running) -> int:
    """What it has caused to be written to the disk, as the kernel counts it."""
    lines = Path(f"/proc/{running.process.pid}/io").read_text().splitlines()
    return next(int(line.split(":")[1]) for line in lines if line.startswith("write_bytes"))


def _syncs(running: Running, seconds: float) -> int | None:
    """How often it waits for the disk in so many seconds. None: there is no strace here, or it may not look."""
    program = shutil.which("strace")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        summary = Path(folder) / "summary"
        options = ("-f", "-c", "-e", "trace=fsync,fdatasync", "-o", summary, "-p", str(running.process.pid))
        tracer = subprocess.Popen([program, *options], stderr=subprocess.DEVNULL)  # noqa: S603 - strace, where it was found
        time.sleep(seconds)
        tracer.send_signal(2)
        if tracer.wait(10) not in {0, -2, 130}:
            return None
        calls = re.findall(
            r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s.*\bf(?:data)?sync$", summary.read_text(), re.MULTILINE
        )
        return sum(map(int, calls))
