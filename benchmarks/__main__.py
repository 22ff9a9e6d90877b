"""`make bench`: what a poll and a scrape cost beside what any Python program must pay for the same.

CPU time of this process, both sides in turn in the same run, the best of several rounds: these
machines are shared, and only ratios mean anything. One table for people, `--json` for machines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from pydantic import SecretStr

from benchmarks.api import AGENT, batch_id
from monitor import notify, ultravox
from monitor.alerts import Policy
from monitor.clock import utc_now
from monitor.metrics import Instruments, families, render
from monitor.model import BatchKey, Snapshot, Target
from monitor.poller import Book, Poller
from monitor.store import Store
from monitor.targets import Watch
from monitor.ultravox import ApiSettings, Client

EVERYTHING_A_SECOND = 1_000_000.0
"""A rate at which the limiter does not count."""


@dataclass(frozen=True)
class Row:
    """One line of the table. Costs in microseconds of CPU for each `unit`."""

    what: str
    unit: str
    cost: float
    peer: str
    peer_cost: float

    @property
    def ratio(self) -> float:
        return self.cost / self.peer_cost


class Bench:
    """A poller on a real state file, and the API that it asks."""

    def __init__(self, batches: int, rounds: int) -> None:
        self.keys = [BatchKey(AGENT, batch_id(number)) for number in range(batches)]
        self.rounds = rounds
        self.instruments = Instruments(
            endpoints=ultravox.ENDPOINTS, send_failures=notify.FAILURES, now=utc_now()
        )

    async def run(self, base_url: str, folder: Path) -> list[Row]:
        """Every row."""
        store = Store(folder / "monitor.db", clock=utc_now)
        book = Book(store=store, instruments=self.instruments, clock=utc_now, deliver=lambda _: None)
        poller = Poller(book)
        book.restore(await store.open())
        settings = ApiSettings(
            "bench", SecretStr("k" * 41), base_url, max_requests_per_second=EVERYTHING_A_SECOND
        )
        client = Client(settings, clock=utc_now)
        await book.watch_account("bench", client, Policy())
        for key in self.keys:
            book.watch(Watch(Target("bench", key, name=key.batch_id, agent_name="agent")))
        async with aiohttp.ClientSession(base_url) as session:
            rows = [await self._polls(poller, session)]
        rows.append(self._scrapes(Snapshot(utc_now(), tuple(book.statuses.values()))))
        await client.close()
        await store.close()
        return rows

    async def _polls(self, poller: Poller, session: aiohttp.ClientSession) -> Row:
        async def ours() -> None:
            for key in self.keys:
                await poller.poll_batch(key)

        async def bare() -> None:
            for key in self.keys:
                path = f"/api/agents/{key.agent_id}/scheduled_batches/{key.batch_id}"
                async with session.get(path, headers={"X-API-Key": "k" * 41}) as answer:
                    json.loads(await answer.read())

        await ours()
        await bare()
        ours_best, bare_best = [float("inf")], [float("inf")]
        for _ in range(self.rounds):  # in turn, so that a noisy moment hits both
            ours_best.append(await _cpu(ours))
            bare_best.append(await _cpu(bare))
        per = 1e6 / len(self.keys)
        return Row(
            "poll: ask, read strictly, judge, decide, commit (fsync)",
            "poll",
            min(ours_best) * per,
            "aiohttp GET and json.loads, nothing else",
            min(bare_best) * per,
        )

    def _scrapes(self, snapshot: Snapshot) -> Row:
        """Our families, built and rendered, against the library's rendering of Gauges that hold the same samples."""
        registry = CollectorRegistry()
        for family in families(snapshot):
            names = list(family.samples[0].labels) if family.samples else []
            gauge = Gauge(family.name, family.documentation, names, registry=registry)
            for sample in family.samples:
                child = gauge.labels(*(sample.labels[name] for name in names)) if names else gauge
                child.set(sample.value)
        ours, library = float("inf"), float("inf")
        for _ in range(self.rounds):
            started = time.process_time()
            render(snapshot, self.instruments, accept="", compressed=False)
            ours = min(ours, time.process_time() - started)
            started = time.process_time()
            generate_latest(registry)
            library = min(library, time.process_time() - started)
        per = 1e6 / len(self.keys)
        return Row(
            "scrape: families from the snapshot, rendered",
            "batch",
            ours * per,
            "generate_latest over Gauges with the same samples",
            library * per,
        )


async def _cpu(work: Callable[[], Awaitable[None]]) -> float:
    started = time.process_time()
    await work()
    return time.process_time() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer batches and rounds: does it run, and roughly"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    options = parser.parse_args()
    batches, rounds = (200, 2) if options.quick else (1000, 5)
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.api"], stdout=subprocess.PIPE, text=True)
    try:
        if server.stdout is None:
            raise RuntimeError("the API's port is told on its standard output")
        base_url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        with tempfile.TemporaryDirectory() as folder:
            rows = asyncio.run(Bench(batches, rounds).run(base_url, Path(folder)))
    finally:
        server.terminate()
        server.wait()
    print(f"{batches:,} batches, best of {rounds} rounds, Python {platform.python_version()}, µs of CPU\n")
    for row in rows:
        print(f"{row.what:<58} {row.cost:>7.0f} / {row.unit}")
        print(f"  against {row.peer:<48} {row.peer_cost:>7.0f}   = {row.ratio:.2f} times\n")
    if options.json:
        found = {
            "at": utc_now().isoformat(),
            "rows": [asdict(row) | {"ratio": row.ratio} for row in rows],
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
