"""What it costs to keep an eye on a batch: by its own request, and on pages of its agent's list.

The whole daemon is measured, as users run it, on the state file of one that has run for a day; and so is each peer,
in a process of its own, over the same stretches of time.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import collectd
from benchmarks.api import Size
from benchmarks.processes import Running, Setting, api, started, watching
from benchmarks.report import Row

SELDOM = "1d"
"""An interval between two readings of outcomes in which none falls: they are other requests than polls."""

FOUND = Size(accounts=20, agents=1, batches=500)
SINGLE = Size(accounts=4, agents=1500, batches=1)
"""Each batch of an agent of its own: no page shows more than one."""

RATE = 200.0
"""Polls a second of 6,000 batches each half minute."""


@dataclass(frozen=True)
class Cost:
    """What a process used over one stretch. `api`: the share of a core that the API behind it used."""

    cpu: float  # seconds
    batches: int
    seconds: float
    api: float
    gaps: Mapping[str, int]  # between two questions about the same batch: how many of so many 10 ms

    @property
    def each(self) -> float:
        """Microseconds of CPU for each batch that was seen."""
        return self.cpu / self.batches * 1e6


def costs(sides: list[tuple[Running, Running]], seconds: float, stretches: int) -> list[list[Cost]]:
    """For each (process, the API that only this one asks): what it used in each stretch, all sides at the same time."""
    found: list[list[Cost]] = [[] for _ in sides]
    for _ in range(stretches):
        before = [process.cpu() for process, _ in sides]
        for _, asked in sides:
            asked.ask("/bench?reset")
        time.sleep(seconds)
        for side, (process, asked) in enumerate(sides):
            cpu, told = process.cpu() - before[side], asked.ask("/bench")
            seen, lasted = told["counts"].get("batches", 0), told["seconds"]
            found[side].append(Cost(cpu, seen, lasted, told["cpu"] / lasted, told["gaps"]))
    return found


def middle(stretches: list[Cost], of: Callable[[Cost], float]) -> float:
    """The median over the stretches."""
    return median(of(one) for one in stretches)


def late(gaps: Mapping[str, int], interval: float, share: float) -> float:
    """Seconds beyond the interval, of as many of the gaps as this share: 0.99 is the 99th percentile."""
    by_length = sorted((int(length), count) for length, count in gaps.items())
    wanted = share * sum(count for _, count in by_length)
    for length, count in by_length:
        wanted -= count
        if wanted <= 0:
            return max(0.0, length / 100 - interval)
    return 0.0


def settle(setting: Setting) -> None:
    """Wait until what a start brings with it is over; of single requests, that names of agents are asked, once."""
    interval = float(setting.interval.removesuffix("s"))
    time.sleep(1.3 * interval if setting.single else interval / 3)


def get_path(*, quick: bool) -> list[Row]:
    """Each batch by its own request, as often as in life: 200 a second."""
    size = Size(2, 300, 1) if quick else SINGLE
    setting = Setting(size, single=True, interval="3s" if quick else "30s", outcomes_interval=SELDOM)
    with (
        watching(setting) as scene,
        api(size) as other,
        _bare(other, RATE, size.count) as bare,
    ):
        settle(setting)
        ours, theirs = costs([(scene.daemon, scene.api), (bare, other)], *((3, 2) if quick else (30, 3)))
    subject = f"get path: {size.count:,} batches each {setting.interval}, one request for each"
    peer = "bare aiohttp loop, paced alike"
    return [
        Row(subject, "CPU per poll", middle(ours, _each), "µs", peer, middle(theirs, _each), 1.6),
        *_beside(subject, ours),
    ]


def page_path(*, quick: bool) -> list[Row]:
    """Pages of 100: almost all batches move between two looks, then none does, then outcomes are read as well."""
    size = Size(2, 1, 250) if quick else FOUND
    interval = "3s" if quick else "30s"
    rows = _pages(Setting(size, interval=interval, outcomes_interval=SELDOM), quick=quick, stretches=2)
    if not quick:
        still = _pages(Setting(size, interval=interval, outcomes_interval=SELDOM), "--still", quick=quick)
        rows += [Row(one.subject + "; nothing changes", *_rest(one)) for one in still]
        outcomes = _pages(Setting(size, interval=interval), quick=quick)
        rows += [Row(one.subject + "; outcomes each 5m", *_rest(one)) for one in outcomes]
    return rows


def _pages(setting: Setting, *api_options: str, quick: bool, stretches: int = 1) -> list[Row]:
    program = collectd.find()
    subject = f"page path: {setting.size.count:,} batches each {setting.interval}, on pages of 100"
    with contextlib.ExitStack() as stack:
        scene = stack.enter_context(watching(setting, *api_options))
        sides = [(scene.daemon, scene.api)]
        if program is not None:
            other = stack.enter_context(api(Size(1, collectd.URLS, 1)))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            sides.append((stack.enter_context(collectd.polling(program, other.url, folder)), other))
        lists, other = setting.size.accounts * setting.size.agents, stack.enter_context(api(setting.size))
        rate = lists / float(setting.interval.removesuffix("s"))
        sides.append((stack.enter_context(_bare(other, rate, lists, "--pages")), other))
        settle(setting)
        ours, *theirs, bottom = costs(sides, *((3, 2) if quick else (60, stretches)))
    peer, its = f"collectd: not installed ({collectd.INSTALL})", None
    if theirs and not all(one.batches for one in theirs[0]):
        peer = f"collectd: does not poll ({collectd.INSTALL})"
    elif theirs:
        peer, its = f"collectd curl_json, per poll of {collectd.URLS} a second", middle(theirs[0], _each)
    return [
        Row(subject, "CPU per observed batch", middle(ours, _each), "µs", peer, its, 0.5),
        Row(subject, "the same pages read by a bare loop: the floor", middle(bottom, _each), "µs", peer, its),
        *_beside(subject, ours),
    ]


@contextlib.contextmanager
def _bare(other: Running, rate: float, agents: int, *options: str) -> Iterator[Running]:
    pace = ("--rate", str(rate), "--agents", str(agents))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with started("-m", "benchmarks.bare", other.url, *pace, *options, log=log) as bare:
            yield bare


def _beside(subject: str, ours: list[Cost]) -> list[Row]:
    core = middle(ours, lambda one: one.cpu / one.seconds * 100)
    seen = middle(ours, lambda one: one.batches / one.seconds)
    return [
        Row(subject, "the daemon's CPU", core, "% of core"),
        Row(subject, "batches seen in a second", seen, "/s"),
        Row(
            subject,
            "the API's own CPU: it is not the bottleneck",
            middle(ours, lambda one: one.api) * 100,
            "% of core",
        ),
    ]


def _each(cost: Cost) -> float:
    return cost.each


def _rest(row: Row) -> tuple[str, float, str, str, float | None, float | None]:
    return row.what, row.figure, row.unit, row.against, row.against_figure, row.aim
