"""`batch-monitor run` that says every few seconds how it does inside: a JSON line appended to the file SOAK_VITALS.

Run as a program of its own, with the arguments of batch-monitor. What is kept for days is kept for minutes, so that
an hour sees things come, age and go many times. Nothing in monitor/ knows of it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from monitor import alerts, app, cadence, conditions
from monitor.clock import utc_now
from monitor.delivery import queue
from monitor.notify import alertmanager
from monitor.poller import book
from monitor.rounds import discovery
from monitor.schedule import Turns
from monitor.schedule.grid import instant
from monitor.store import file

EVERY = 5.0
LOOK = 0.1  # seconds between two looks at how late the event loop is

SHORTENED = timedelta(seconds=float(os.environ["SOAK_SHORTENED"]))
"""For this long is kept what is settled, dropped or resolved; what has ended or is gone, twice as long; what fires, five
times. Whoever fails is tried again within a third of it.
"""


class Watch:
    """The latest of each vital sign."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._poll_late = 0.0
        self._loop_late = 0.0

    def time_polls(self) -> None:
        """The turn that has been due for longest when a tick comes: so late it is."""
        tick = Turns.tick

        def timed(turns: Turns) -> None:
            if turns._heap:
                late = (utc_now() - instant(turns._heap[0][0])).total_seconds()
                self._poll_late = max(self._poll_late, late)
            tick(turns)

        Turns.tick = timed

    async def report(self) -> None:
        said = 0.0
        while True:
            before = time.monotonic()
            await asyncio.sleep(LOOK)
            after = time.monotonic()
            self._loop_late = max(self._loop_late, after - before - LOOK)
            if after - said >= EVERY:
                said = after
                self._write()

    def _write(self) -> None:
        vitals = {
            "tasks": len(asyncio.all_tasks()),
            "blocks": sys.getallocatedblocks(),
            "collections": gc.get_stats()[2]["collections"],
            "uncollectable": len(gc.garbage) + sum(one["uncollectable"] for one in gc.get_stats()),
            "poll_late": self._poll_late,
            "loop_late": self._loop_late,
        }
        self._poll_late = self._loop_late = 0.0
        with self._path.open("a") as out:
            out.write(json.dumps(vitals) + "\n")


def install(watch: Watch) -> None:
    """Put it into this process."""
    book.KEEP_DROPPED = file.KEEP_SETTLED = file.KEEP_DROPPED = file.RECENT_SETTLED = SHORTENED
    file.KEEP_FIRING = 5 * SHORTENED
    app.PRUNE_EVERY = SHORTENED / 6
    alertmanager.RESEND_EVERY = SHORTENED / 4
    alertmanager.ENDS_AFTER = 4 * alertmanager.RESEND_EVERY
    alertmanager.RESOLVED_FOR = SHORTENED
    alertmanager.HOLD_FIRING = SHORTENED / 2
    for module in (alerts, cadence, alertmanager):
        module.ONE_SHOT_FOR = 2 * SHORTENED
    for module in (conditions, discovery):
        module.FORGET_GONE_AFTER = 2 * SHORTENED
    queue.RETRY_CAP = SHORTENED / 3
    watch.time_polls()
    start = app.App.start

    async def watched(daemon: app.App) -> None:
        await start(daemon)
        daemon._spawn(watch.report())

    app.App.start = watched


def _leave_with(parent: int) -> None:
    """It must not outlive who started it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    install(Watch(Path(os.environ["SOAK_VITALS"])))
    from monitor.cli import main

    main()
