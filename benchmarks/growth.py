"""Whether cost grows with the number of batches and no faster, and from where on it does not fit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from statistics import median

from benchmarks.polls import SELDOM, costs, late, settle
from benchmarks.processes import START_WITHIN, Setting, Size, watching
from benchmarks.report import Row

PAGES = (Size(1, 1, 100), Size(2, 1, 500), Size(20, 1, 500), Size(20, 5, 500))
SINGLE = (Size(1, 100, 1), Size(1, 1000, 1), Size(4, 1500, 1))

LINEAR = 1.2
"""What a batch may cost at most beside what it costs among the fewest. With few, what there is once is shared by few."""

TAKEN_UP = 400
"""Batches a second that a start is given to take up, and to catch up with: what it costs is no part of what watching costs."""


def growth(*, quick: bool) -> list[Row]:
    """Some figures for each size, on pages and by single requests."""
    rows = _sizes(
        "on pages", [Size(1, 1, 100), Size(2, 1, 250)] if quick else PAGES, single=False, quick=quick
    )
    return rows if quick else rows + _sizes("by single requests", SINGLE, single=True, quick=quick)


def _sizes(how: str, sizes: Sequence[Size], *, single: bool, quick: bool) -> list[Row]:
    rows: list[Row] = []
    fewest = None
    for size in sizes:
        setting = Setting(size, single=single, interval="2s" if quick else "30s", outcomes_interval=SELDOM)
        subject = f"growth: {size.count:,} batches each {setting.interval}, {how}"
        try:
            found = _measured(subject, setting, fewest)
        except RuntimeError as error:  # more than it can bear is a result as well
            found = [Row(subject, f"given up: {error}", START_WITHIN, "s")]
        else:
            fewest = fewest or found[0].figure
        rows += found
    return rows


def _measured(subject: str, setting: Setting, fewest: float | None) -> list[Row]:
    """The first row is the cost of a batch."""
    seconds = float(setting.interval.removesuffix("s"))
    with watching(setting) as scene:
        settle(setting)
        time.sleep(setting.size.count / TAKEN_UP)
        [[cost]] = costs([(scene.daemon, scene.api)], 2 * seconds, 1)
        lasted = []
        for _ in range(3):
            begin = time.perf_counter()
            with contextlib.suppress(OSError):  # no answer in a minute is as good as one after it
                scene.daemon.get("/metrics", **{"Accept-Encoding": "gzip"})
            lasted.append(time.perf_counter() - begin)
        whole = scene.daemon.memory()["VmRSS"]
    return [
        Row(subject, "CPU per observed batch", cost.each, "µs", "with the fewest", fewest, LINEAR),
        Row(subject, "the daemon's CPU", cost.cpu / cost.seconds * 100, "% of core"),
        Row(
            subject,
            "batches seen in a second",
            cost.batches / cost.seconds,
            "/s",
            "wanted",
            setting.size.count / seconds,
        ),
        Row(subject, "lateness of polls, 99th percentile", late(cost.gaps, seconds, 0.99), "s"),
        Row(subject, "restart, until /-/ready", scene.ready_after, "s"),
        Row(subject, "RSS", whole / 1024, "MiB"),
        Row(subject, "a scrape lasts, median", median(lasted) * 1e3, "ms"),
    ]
