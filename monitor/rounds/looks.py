"""Single looks at batches: each has a job of its own, at the pace that its state asks for, unless pages cover it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from monitor import cadence
from monitor.cadence import Look
from monitor.clock import Clock
from monitor.model import BatchKey, Observation
from monitor.poller import Poller
from monitor.schedule import Schedule
from monitor.ultravox import UltravoxError

Seen = Observation | UltravoxError

_KIND = "batch"


def round_job(account: str, agent_id: str) -> str:
    """The id of the job that reads pages of an agent's batches."""
    return f"round:{account}/{agent_id}"


class Looks:
    """`on_gone` hears of batches that are watched no longer because nothing is left to watch."""

    def __init__(
        self, schedule: Schedule, poller: Poller, *, clock: Clock, on_gone: Callable[[BatchKey], None]
    ) -> None:
        self.attempted: set[BatchKey] = set()
        self._schedule = schedule
        self._poller = poller
        self._book = poller.book
        self._clock = clock
        self._on_gone = on_gone
        self._covered: dict[BatchKey, timedelta] = {}  # seen by pages, so often
        self._looks: dict[BatchKey, Look] = {}

    def begin(self, key: BatchKey, first_after: timedelta) -> None:
        """Look for the first time so long from now, then as its state asks for."""
        interval = self._book.watches[key].rules.interval
        self._looks[key] = Look(interval)
        self._schedule.every(_job(key), interval, lambda: self.poll(key), first_after=first_after)

    def again(self, key: BatchKey) -> None:
        """Give the batch the job that its state asks for now."""
        watch, status, now = self._book.watches[key], self._book.statuses[key], self._clock()
        look = cadence.look(status, watch.rules, now)
        if key in self._covered and look.interval is not None and look.interval < self._covered[key]:
            del self._covered[key]  # its window has opened, or is about to close: pages come too seldom now
        if key in self._covered:
            look = Look(None, look.wake_at)
        due = self._schedule.next_run(_job(key))
        overslept = look.wake_at is not None and (due is None or due > look.wake_at)
        if look != self._looks.get(key) or overslept:
            self._looks[key] = look
            self._arrange(key, look, now)
        self._book.due(key, self._due(key))

    def cover(self, often: Mapping[BatchKey, timedelta], among: Iterable[BatchKey]) -> None:
        """Pages cover these from now on, so often, and no others `among` those of their agent."""
        before = {key: self._covered.pop(key) for key in among if key in self._covered}
        self._covered |= often
        changed = {key for key in before.keys() | often.keys() if before.get(key) != often.get(key)}
        for key in changed & self._book.watches.keys():
            self.again(key)

    def covered(self, among: Iterable[BatchKey]) -> set[BatchKey]:
        """Those that pages cover."""
        return {key for key in among if key in self._covered}

    async def poll(self, key: BatchKey) -> None:
        """Ask for this batch by its id."""
        goes_on = await self._poller.poll_batch(key)
        self._taken(key, goes_on=goes_on)

    async def take(self, key: BatchKey, seen: Seen, started: float) -> None:
        """Judge what was seen of it on a page."""
        goes_on = await self._poller.take(key, seen, started)
        self._taken(key, goes_on=goes_on)

    def forget(self, key: BatchKey) -> None:
        """Look no more."""
        self._schedule.remove(_job(key))
        self._looks.pop(key, None)
        self._covered.pop(key, None)
        self.attempted.discard(key)

    def account_of(self, job_id: str) -> str | None:
        """The account whose batch this job looks at; None: it is no such job."""
        kind, _, of = job_id.partition(":")
        watches = self._book.watches.values() if kind == _KIND else ()
        return next((watch.target.account for watch in watches if str(watch.key) == of), None)

    def _taken(self, key: BatchKey, *, goes_on: bool) -> None:
        self.attempted.add(key)
        if key in self._book.watches:  # a reload may have added it again meanwhile
            self.again(key)
        elif not goes_on:
            self._on_gone(key)

    def _arrange(self, key: BatchKey, look: Look, now: datetime) -> None:
        if look.interval is not None:
            wake = None if look.wake_at is None else max(look.wake_at - now, timedelta(0))
            self._schedule.every(_job(key), look.interval, lambda: self.poll(key), first_not_after=wake)
        elif look.wake_at is not None:
            self._schedule.once(_job(key), look.wake_at, lambda: self.poll(key))
        else:
            self._schedule.remove(_job(key))

    def _due(self, key: BatchKey) -> datetime | None:
        due = self._schedule.next_run(_job(key))
        if key not in self._covered:
            return due
        reading = self._schedule.next_run(round_job(self._book.watches[key].target.account, key.agent_id))
        return min((at for at in (due, reading) if at is not None), default=None)


def _job(key: BatchKey) -> str:
    return f"{_KIND}:{key}"
