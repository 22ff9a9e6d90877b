"""The one place of the benchmarks that knows the inside of the monitor: a past for its state file, and a scrape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.api import PACES, TOTAL, Size, account_name, agent_id, batch_id, seconds_per_call
from monitor import evaluate
from monitor.clock import utc_now
from monitor.evaluate import Rules
from monitor.model import BatchKey, Observation, Outcomes, Progress, StateChange
from monitor.store import BatchRecord, Change, Store

AT_ONCE = 1000
"""Records that are written in one transaction."""

PAUSES = (6 * 3600, 12 * 3600, 18 * 3600)
"""When, in seconds of its past, each batch was paused for twenty minutes: its curve has corners, its state changed."""


async def write_past(path: Path, created: float, size: Size) -> None:
    """The state file of a daemon that has watched all of these for a day, since `created` in Unix seconds.

    What is kept of a batch is as much as a day leaves: a full curve, samples of every age, seven changes of state.
    """
    store = Store(path, clock=utc_now)
    await store.open()
    pasts = [_past(created, kind) for kind in range(PACES)]
    records = [
        replace(
            pasts[number % PACES],
            key=BatchKey(agent_id(number // size.batches), batch_id(number)),
            account=account_name(number // size.batches // size.agents),
        )
        for number in range(size.count)
    ]
    for first in range(0, len(records), AT_ONCE):
        await store.commit(Change(batches=tuple(records[first : first + AT_ONCE])))
    await store.close()


def _past(created: float, kind: int) -> BatchRecord:
    """A day of one batch, looked at each two minutes, in the last half hour each thirty seconds."""
    progress: Progress | None = None
    changes: tuple[StateChange, ...] = ()
    for seconds, step in _looks():
        at = datetime.fromtimestamp(created + seconds, UTC)
        pause = next((begin for begin in PAUSES if begin <= seconds < begin + 1200), None)
        seen = Observation(
            at=at,
            created=datetime.fromtimestamp(created, UTC),
            total=TOTAL,
            completed=(seconds if pause is None else pause) // seconds_per_call(kind),
            ended_at=None,
            window_start=None,
            window_end=datetime(2099, 11, 23, 17, tzinfo=UTC),
            paused=pause is not None,
            throttle=None,
        )
        rules = Rules(interval=timedelta(seconds=step))
        progress = evaluate.observe(progress, seen, rules)
        changes = evaluate.changed(changes, evaluate.assess(progress, None, rules), at)
    made = seen.completed
    return BatchRecord(
        BatchKey("", ""),
        "",
        f"agent {datetime.fromtimestamp(created, UTC):%Y-%m-%d %H:%M} {batch_id(kind)[:8]}",
        progress,
        last_success_at=at,
        outcomes=Outcomes(at, TOTAL - made, 0, made, 0, 0),
        changes=changes,
    )


def _looks() -> Iterator[tuple[int, int]]:
    yield from ((second, 120) for second in range(0, 84600, 120))
    yield from ((second, 30) for second in range(84600, 86400, 30))
