"""`make bench-delivery`: what a message costs: CPU beside a bare POST of the same bytes, and commits.

Alerts are committed as a poll commits them, then grouped, composed, committed, posted to a webhook in another
process, and marked. The bare side posts the same bodies with aiohttp and does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from monitor import notify, outbox
from monitor.clock import utc_now
from monitor.delivery import Delivery, Settings
from monitor.metrics import Instruments
from monitor.model import Alert, MessageKind, Notification
from monitor.notify import webhook
from monitor.routing import Pacing
from monitor.store import Change, Store
from monitor.store.file import StateFile

AT_ONCE = Pacing(group_wait=timedelta(0), max_messages_per_minute=1_000_000)


def alerts(count: int, *, one_group: bool) -> tuple[Notification, ...]:
    """As many stalled batches: of one account, or each of an account of its own."""
    now = utc_now()
    return tuple(
        _notification(number, now, "main" if one_group else f"account-{number}") for number in range(count)
    )


def _notification(number: int, now: datetime, account: str) -> Notification:
    labels = {
        "account": account,
        "agent_id": "7f6a0000-0000-4000-8000-000000000001",
        "alertname": "BatchStalled",
        "batch": f"spring-renewals-{number}",
        "batch_id": f"3c900000-0000-4000-8000-{number:012d}",
        "severity": "warning",
        "team": "growth",
    }
    said = {
        "cause": "the account is at its cap: 5 of 5 calls active",
        "description": "Calls should be going out now and none is. People in this batch are not being called.",
        "summary": f"spring-renewals-{number} has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min",
    }
    alert = Alert(tuple(sorted(labels.items())), tuple(sorted(said.items())), now)
    return Notification(
        outbox.notification_id("crm", alert, MessageKind.FIRING, now), "crm", MessageKind.FIRING, alert, now
    )


async def measured(count: int, *, one_group: bool, url: str, folder: Path) -> dict[str, float]:
    """One delivery of so many alerts, and the same bodies posted by hand. CPU in microseconds an alert."""
    store = Store(folder / f"{count}-{one_group}-{time.monotonic_ns()}.db", clock=utc_now)
    instruments = Instruments(endpoints=(), send_failures=notify.FAILURES, now=utc_now())
    delivery = Delivery(store, clock=utc_now, instruments=instruments)
    delivery.restore(await store.open())
    bodies: list[bytes] = []
    channel = webhook.Settings(SecretStr(url))
    delivery.set_receivers({"crm": Settings(channel, pacing=AT_ONCE)})
    delivery.start()
    commits = Counting(StateFile.write)
    rendered = Counting(webhook.render, keep=bodies)
    StateFile.write, webhook.render = commits.wrapped, rendered.wrapped  # type: ignore[method-assign, assignment] # counted, and put back below
    try:
        rows = alerts(count, one_group=one_group)
        started = time.process_time()
        await store.commit(Change(notifications=rows))
        delivery.enqueue(rows)
        await delivery.stop(timedelta(minutes=1))  # sends all that is due
        ours = time.process_time() - started
    finally:
        StateFile.write, webhook.render = commits.function, rendered.function  # type: ignore[method-assign] # put back
    await store.close()
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        started = time.process_time()
        for body in bodies:
            async with session.post(url, data=body) as answer:
                await answer.read()
        bare = time.process_time() - started
    return {
        "messages": len(bodies),
        "commits": commits.count,
        "ours": ours * 1e6 / count,
        "bare": bare * 1e6 / count,
    }


class Counting:
    """Counts the calls of a function, and keeps what it returned."""

    def __init__(self, function: Callable[..., Any], keep: list[Any] | None = None) -> None:
        self.function = function
        self.count = 0
        self._keep = keep

    @property
    def wrapped(self) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            came = self.function(*arguments, **options)
            if self._keep is not None:
                self._keep.append(came)
            return came

        return call


async def run(url: str, folder: Path, rounds: int, sizes: Iterable[tuple[int, bool]]) -> None:
    """Print a line for each size, the best of several rounds."""
    print(
        f"{'alerts':>7} {'groups':>7} {'messages':>9} {'commits':>8} {'µs/alert':>9} {'bare POST':>10} {'ratio':>6}"
    )
    for count, one_group in sizes:
        found = [await measured(count, one_group=one_group, url=url, folder=folder) for _ in range(rounds)]
        ours, bare = min(one["ours"] for one in found), min(one["bare"] for one in found)
        first = found[0]
        print(
            f"{count:>7,} {1 if one_group else count:>7,} {first['messages']:>9,.0f} {first['commits']:>8,.0f} "
            f"{ours:>9,.0f} {bare:>10,.0f} {ours / bare:>6.1f}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: does it run, and roughly")
    options = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receiver"], stdout=subprocess.PIPE, text=True
    )
    try:
        if server.stdout is None:
            raise RuntimeError("the receiver's port is told on its standard output")
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/hook"
        with tempfile.TemporaryDirectory() as folder:
            sizes = [(1, True), (50, False), (300, True)]
            asyncio.run(run(url, Path(folder), 2 if options.quick else 7, sizes))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
