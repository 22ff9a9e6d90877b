"""`batch-monitor run` that kills itself, with SIGKILL, when it passes a chosen point for the n-th time.

Run as a program of its own, with the arguments of batch-monitor and a Plan as JSON in the environment variable
CHAOS. It can also make the disk slow, or let it fail, for a while. Nothing in monitor/ knows of it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import threading
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum

from monitor.delivery import Delivery
from monitor.notify import alertmanager
from monitor.store import Store, disk, file


class Point(StrEnum):
    """Where it can be killed. The one that is not here is at the receivers: the request is read, not answered."""

    BEFORE_DECISION = "before a decision's commit"
    BEFORE_HAND_OVER = "after it, before the hand-over"
    BEFORE_MESSAGE = "before a message's commit"
    BEFORE_SEND = "after it, before the send"
    BEFORE_MARK = "answer read, before the mark's commit"
    AFTER_MARK = "after the mark's commit"
    BEFORE_SQLITE = "before SQLite's COMMIT"
    AFTER_SQLITE = "after SQLite's COMMIT"


@dataclass(frozen=True)
class Plan:
    """What happens to one process. Seconds count from its start."""

    point: str | None = None
    passing: int = 1  # it is killed when it passes the point for this time
    disk: str | None = None  # "slow" or "fails"
    disk_from: float = 0.0
    disk_to: float = 0.0
    write_takes: float = 0.0  # while it is slow

    def text(self) -> str:
        return json.dumps(asdict(self))


class _Kill:
    def __init__(self, plan: Plan) -> None:
        self._point, self._left = plan.point, plan.passing

    def at(self, point: Point) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def install(plan: Plan) -> None:
    """Put the points into this process."""
    kill = _Kill(plan)
    _watch_commits(kill)
    _watch_hand_over(kill)
    _watch_sqlite(kill)
    _spoil_disk(plan)
    # A round takes a minute, not an hour. What is posted as firing still lapses only after four minutes.
    alertmanager.RESEND_EVERY = timedelta(seconds=2)
    alertmanager.HOLD_FIRING = timedelta(seconds=3)


def _watch_commits(kill: _Kill) -> None:
    commit = Store.commit

    async def watched(store: Store, change):
        decides = any(not row.settled for row in change.notifications)
        marks = any(row.delivered_at is not None for row in change.notifications)
        if decides:
            kill.at(Point.BEFORE_DECISION)
        if change.messages:
            kill.at(Point.BEFORE_MESSAGE)
        if marks:
            kill.at(Point.BEFORE_MARK)
        written = await commit(store, change)
        if change.messages:
            kill.at(Point.BEFORE_SEND)
        if marks:
            kill.at(Point.AFTER_MARK)
        return written

    Store.commit = watched


def _watch_hand_over(kill: _Kill) -> None:
    enqueue = Delivery.enqueue

    def watched(delivery: Delivery, notifications):
        if notifications:
            kill.at(Point.BEFORE_HAND_OVER)
        enqueue(delivery, notifications)

    Delivery.enqueue = watched


def _watch_sqlite(kill: _Kill) -> None:
    """Only transactions that say something to somebody: of the others there is one for every poll."""

    class Connection(sqlite3.Connection):
        tells = False

        def executemany(self, sql, rows):
            rows = list(rows)
            self.tells = self.tells or (bool(rows) and "INTO notifications" in sql)
            return super().executemany(sql, rows)

        def execute(self, sql, *values):
            self.tells = self.tells or "INTO messages" in sql
            if sql != "COMMIT" or not self.tells:
                return super().execute(sql, *values)
            self.tells = False
            kill.at(Point.BEFORE_SQLITE)
            done = super().execute(sql, *values)
            kill.at(Point.AFTER_SQLITE)
            return done

    disk.connect = lambda path: sqlite3.connect(
        path, timeout=disk.BUSY_TIMEOUT, isolation_level=None, factory=Connection
    )


def _spoil_disk(plan: Plan) -> None:
    write, started = file.StateFile.write, time.monotonic()

    def spoilt(*args, **options):
        if plan.disk is not None and plan.disk_from <= time.monotonic() - started < plan.disk_to:
            if plan.disk == "fails":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            time.sleep(plan.write_takes)
        write(*args, **options)

    file.StateFile.write = spoilt


def _leave_with(parent: int) -> None:
    """Who is started to be killed must not outlive who was to do it."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    install(Plan(**json.loads(os.environ["CHAOS"])))
    from monitor.cli import main

    main()
