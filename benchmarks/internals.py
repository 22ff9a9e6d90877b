"""The one place of the benchmarks that knows the inside of the monitor: a past for its state file, and a rendering."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.core import Metric

from benchmarks.api import DAY, PACES, TOTAL, Size, account_name, agent_id, batch_id, seconds_per_call
from monitor import evaluate, notify, ultravox
from monitor.clock import utc_now
from monitor.evaluate import Rules
from monitor.metrics import Instruments, families, pieces
from monitor.model import BatchKey, Changes, Observation, Outcomes, Progress, Snapshot, Status, Target
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
            agent=f"agent {number // size.batches}",
        )
        for number in range(size.count)
    ]
    for first in range(0, len(records), AT_ONCE):
        await store.commit(Change(batches=tuple(records[first : first + AT_ONCE])))
    await store.close()


def _past(created: float, kind: int) -> BatchRecord:
    """A day of one batch, looked at each five minutes, in the last half hour each thirty seconds."""
    progress: Progress | None = None
    changes = Changes()
    # A curve is thinned each sixteen looks. Not all of them in the same poll: each kind was found a look later.
    for seconds, step in itertools.islice(_looks(), kind, None):
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
        assessment = evaluate.assess(progress, None, rules)
        changes = evaluate.changed(changes, assessment, at)
    made = seen.completed
    return BatchRecord(
        BatchKey("", ""),
        "",
        f"agent {datetime.fromtimestamp(created, UTC):%Y-%m-%d %H:%M} {batch_id(kind)[:8]}",
        progress,
        last_success_at=at,
        outcomes=Outcomes(at, TOTAL - made, 0, made, 0, 0),
        changes=changes,
        assessment=assessment,
    )


def _looks() -> Iterator[tuple[int, int]]:
    yield from ((second, 300) for second in range(0, 84600, 300))
    yield from ((second, 30) for second in range(84600, 86400, 30))


class Rendering:
    """One scrape of so many batches, as it is rendered here and as the library renders the same families."""

    def __init__(self, size: Size) -> None:
        self._at = utc_now()
        pasts = [_past(self._at.timestamp() - DAY, kind) for kind in range(PACES)]
        self._statuses = [_status(pasts[number % PACES], number, size) for number in range(size.count)]
        self._instruments = Instruments(
            endpoints=ultravox.ENDPOINTS, send_failures=notify.FAILURES, now=self._at
        )
        self.move()

    def move(self) -> None:
        """Half a minute passes, and every batch is seen anew: nothing that was rendered before can be used again."""
        self._at += timedelta(seconds=30)
        statuses = tuple(
            replace(
                status,
                last_success_at=self._at + timedelta(milliseconds=3 * number),
                next_poll_at=self._at + timedelta(seconds=30, milliseconds=3 * number),
                assessment=replace(
                    status.assessment, idle_seconds=number / 1000, estimated_end=self._at + timedelta(number)
                ),
            )
            for number, status in enumerate(self._statuses)
        )
        self._snapshot = Snapshot(self._at, statuses)

    def ours(self) -> Iterator[bytes]:
        """The pieces of an answer to a scrape that takes gzip, made as they are asked for."""
        made, _ = pieces(self._snapshot, self._instruments, accept="", compressed=True)
        return made

    def families(self) -> list[Metric]:
        """What the library is to render."""
        return [*families(self._snapshot), *self._instruments.registry.collect()]

    def library(self, found: list[Metric]) -> bytes:
        """The library's text of these: neither their making nor gzip is in it."""
        return generate_latest(_Made(found))  # type: ignore[arg-type] # it asks for no more than `collect`


class _Made:
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def _status(past: BatchRecord, number: int, size: Size) -> Status:
    agent = number // size.batches
    key = BatchKey(agent_id(agent), batch_id(number))
    target = Target(account_name(agent // size.agents), key, agent_name=f"agent {agent}")
    return Status(
        target,
        past.batch,
        f"agent {agent}",
        evaluate.assess(past.progress, None, Rules()),
        past.progress,
        last_poll_at=past.last_success_at,
        outcomes=past.outcomes,
        changes=past.changes,
    )
