"""How much memory the daemon holds: with one batch, and for each of many. RSS and RssAnon of /proc/PID/status.

The base is RSS, program and libraries included; what each batch adds is memory of the daemon's own, RssAnon. Measured
after scrapes, on the state file of a day: curves and samples are full.
"""

from __future__ import annotations

import time

from benchmarks.api import Size
from benchmarks.polls import FOUND, SELDOM, SINGLE
from benchmarks.processes import Setting, watching
from benchmarks.report import Row, limit

SCRAPES = 4


def memory(*, quick: bool) -> list[Row]:
    """KiB for each batch, each way of looking at them; MiB of the base."""
    interval = "2s" if quick else "30s"
    base, alone, _ = _measured(
        Setting(Size(1, 1, 1), interval=interval), past=False, settle=2 if quick else 12
    )
    subject = "memory, after scrapes"
    rows = [limit(subject, "base: RSS with one batch", base / 1024, "MiB", 60)]
    settings = {
        "page path": Setting(
            Size(2, 1, 250) if quick else FOUND, interval=interval, outcomes_interval=SELDOM
        ),
    }
    if not quick:
        settings["get path"] = Setting(SINGLE, single=True, interval=interval, outcomes_interval=SELDOM)
    for name, setting in settings.items():
        whole, own, peak = _measured(setting, past=True, settle=4 if quick else 36)
        count = setting.size.count
        each = limit(subject, f"{name}, {count:,}: for each batch", (own - alone) / count, "KiB", 8)
        rows += [
            each,
            Row(subject, f"{name}, {count:,}: RSS", whole / 1024, "MiB"),
            Row(subject, f"{name}, {count:,}: its peak since the start", peak / 1024, "MiB"),
        ]
    return rows


def _measured(setting: Setting, *, past: bool, settle: float) -> tuple[int, int, int]:
    """VmRSS, RssAnon and VmHWM in KiB."""
    with watching(setting, past=past) as scene:
        for _ in range(SCRAPES):
            time.sleep(settle / SCRAPES)
            scene.daemon.get("/metrics", **{"Accept-Encoding": "gzip"})
        found = scene.daemon.memory()
    return found["VmRSS"], found["RssAnon"], found["VmHWM"]
