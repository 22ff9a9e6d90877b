"""Single looks at batches: each has a job of its own, at the pace that its state asks for, unless pages cover it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from monitor import cadence
from monitor.cadence import Look
from monitor.clock import Clock
from monitor.model import BatchKey, Status
from monitor.poller import Poller, Seen
from monitor.schedule import Schedule


class Looks:
    """`on_gone` hears of batches that are watched no longer because nothing is left to watch.

    `next_reading` tells when pages of an account's agent are to be read next.
    """

    def __init__(
        self,
        schedule: Schedule,
        poller: Poller,
        *,
        clock: Clock,
        next_reading: Callable[[str, str], datetime | None],
        on_gone: Callable[[BatchKey], None],
    ) -> None:
        self.attempted: set[BatchKey] = set()
        self._schedule = schedule
        self._poller = poller
        self._book = poller.book
        self._clock = clock
        self._next_reading = next_reading
        self._on_gone = on_gone
        self._covered: dict[BatchKey, timedelta] = {}  # seen by pages, so often
        self._looks: dict[BatchKey, Look] = {}
        self._intervals: dict[
            BatchKey, timedelta | None
        ] = {}  # as each state asks for, whoever does the looking
        self._turns = schedule.turns("batch", self.poll, on_skipped=self._skipped)
        self._book.next_look = self.next_look

    def begin(self, key: BatchKey, first_after: timedelta) -> None:
        """Look for the first time so long from now, then as its state asks for."""
        interval = self._book.watches[key].rules.interval
        self._looks[key] = cadence.each(interval)
        self._intervals[key] = interval
        self._turns.every(key, interval, first_after=first_after)
        self._book.statuses[key] = self._book.statuses[key].due(self._turns.next_run(key))

    def again(self, key: BatchKey) -> None:
        """Give the batch the turns that its state asks for now."""
        status = self._book.statuses[key]
        self._book.statuses[key] = status.due(self.next_look(status))

    def next_look(self, status: Status) -> datetime | None:
        """Give a batch that stands like this the turns that it asks for; when it is looked at next. None: no more."""
        key, now = status.key, self._clock()
        look = cadence.look(status, self._book.watches[key].rules, now)
        self._intervals[key] = look.interval
        covered = self._covered.get(key)
        if covered is not None and look.interval is not None and look.interval < covered:
            del self._covered[key]  # its window has opened, or is about to close: pages come too seldom now
            covered = None
        if covered is not None:
            look = Look(None, look.wake_at)
        due = self._turns.next_run(key)
        overslept = look.wake_at is not None and (due is None or due > look.wake_at)
        if overslept or look != self._looks.get(key):
            self._looks[key] = look
            self._arrange(key, look, now)
            due = self._turns.next_run(key)
        if covered is None:
            return due
        reading = self._next_reading(status.target.account, key.agent_id)
        return min((at for at in (due, reading) if at is not None), default=None)

    def cover(self, often: Mapping[BatchKey, timedelta], among: Iterable[BatchKey]) -> None:
        """Pages cover these from now on, so often, and no others `among` those of their agent."""
        before = {key: self._covered.pop(key) for key in among if key in self._covered}
        self._covered |= often
        changed = {key for key in before.keys() | often.keys() if before.get(key) != often.get(key)}
        for key in changed & self._book.watches.keys():
            self.again(key)

    def interval(self, key: BatchKey) -> timedelta | None:
        """How often the batch was to be looked at when it was last judged. None: no more."""
        return self._intervals.get(key)

    def covered(self, among: Iterable[BatchKey]) -> set[BatchKey]:
        """Those that pages cover."""
        return {key for key in among if key in self._covered}

    async def poll(self, key: BatchKey) -> None:
        """Ask for this batch by its id."""
        goes_on = await self._poller.poll_batch(key)
        self._taken(key, goes_on=goes_on)

    async def take(self, seen: Mapping[BatchKey, Seen], started: float) -> None:
        """Judge what was seen of batches on a page."""
        gone = await self._poller.take(seen, started)
        for key in seen:
            self._taken(key, goes_on=key not in gone)

    def forget(self, key: BatchKey) -> None:
        """Look no more."""
        self._turns.remove(key)
        self._looks.pop(key, None)
        self._intervals.pop(key, None)
        self._covered.pop(key, None)
        self.attempted.discard(key)

    def _taken(self, key: BatchKey, *, goes_on: bool) -> None:
        self.attempted.add(key)
        if not goes_on and key not in self._book.watches:  # a reload may have added it again meanwhile
            self._on_gone(key)

    def _arrange(self, key: BatchKey, look: Look, now: datetime) -> None:
        if look.interval is not None:
            wake = None if look.wake_at is None else max(look.wake_at - now, timedelta(0))
            self._turns.every(key, look.interval, first_not_after=wake)
        elif look.wake_at is not None:
            self._turns.once(key, look.wake_at)
        else:
            self._turns.remove(key)

    def _skipped(self, key: BatchKey) -> None:
        watch = self._book.watches.get(key)
        if watch is not None:
            self._book.instruments.polls_skipped.labels(watch.target.account).inc()
