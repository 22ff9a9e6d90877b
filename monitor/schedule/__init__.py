"""When things run: APScheduler jobs, spread out, on time, never piled up. Turns of many small things share one.

Nothing here knows of batches; a job is an id and a coroutine function. Jobs await their work,
so a job that is still running when it is due again is skipped and counted, never started twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger

from monitor.clock import Clock
from monitor.schedule.grid import SpreadTrigger, spread
from monitor.schedule.turns import TICK, Key, Turns

__all__ = ["Schedule", "SpreadTrigger", "Turns", "spread"]

logger = logging.getLogger(__name__)

CLOCK_CHECK = 1.0
"""Seconds between two looks at whether the wall clock still runs with the loop's."""

CLOCK_JUMP = timedelta(seconds=2)
"""A difference that no slow turn of the loop explains: the wall clock was set."""

_TICK = "tick"
_CANARY = "canary"
CANARY_EVERY = timedelta(seconds=5)
CANARY_DEAD_AFTER = 30.0
"""Seconds without a canary after which the scheduler is not believed to live."""


class Schedule:
    """The jobs, and the turns."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._running: set[asyncio.Task[Any]] = set()
        self._turns: list[Turns[Any]] = []
        self._guard: asyncio.Task[None] | None = None
        self._canary_at: float | None = None
        self._stopping = False
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            # The default grace of one second silently drops what is due while the loop is busy.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )

    def start(self) -> None:
        """Start running jobs, in the running loop."""
        self._scheduler.start()
        self.every(_CANARY, CANARY_EVERY, self._canary)
        self._canary_at = asyncio.get_running_loop().time()
        self._guard = asyncio.create_task(self._watch_clock())

    def every(
        self,
        job_id: str,
        interval: timedelta,
        job: Callable[[], Awaitable[None]],
        *,
        first_after: timedelta | None = None,
        first_not_after: timedelta | None = None,
    ) -> None:
        """Run `job` every `interval` at its own place in it, replacing a job of the same id.

        `first_after`: run it for the first time so long from now, instead of at its first place.
        `first_not_after`: the same, unless its first place comes sooner.
        """
        trigger = SpreadTrigger(job_id, interval)
        options: dict[str, Any] = {}
        if first_after is not None:
            options["next_run_time"] = self._clock() + first_after
        elif first_not_after is not None:
            now = self._clock()
            options["next_run_time"] = min(trigger.get_next_fire_time(None, now), now + first_not_after)
        self._add(job_id, job, trigger, options)

    def once(self, job_id: str, at: datetime, job: Callable[[], Awaitable[None]]) -> None:
        """Run `job` once, at this instant, replacing a job of the same id."""
        self._add(job_id, job, DateTrigger(at, timezone=UTC), {})

    def _add(
        self, job_id: str, job: Callable[[], Awaitable[None]], trigger: BaseTrigger, options: dict[str, Any]
    ) -> None:

        async def run() -> None:
            task = asyncio.current_task()
            if task is not None:
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            try:
                await job()
            except asyncio.CancelledError:
                if not self._stopping:  # else it is meant, and APScheduler would log it as an error
                    raise

        self._scheduler.add_job(run, trigger, id=job_id, replace_existing=True, **options)

    def turns(
        self, name: str, job: Callable[[Key], Awaitable[None]], *, on_skipped: Callable[[Key], None]
    ) -> Turns[Key]:
        """Turns of many small things of this name, all on one job."""
        made = Turns(name, job, clock=self._clock, on_skipped=on_skipped)
        self._turns.append(made)
        self.every(_TICK, TICK, self._tick)
        return made

    async def _tick(self) -> None:
        for turns in self._turns:
            turns.tick()

    def remove(self, job_id: str) -> None:
        """Run it no more; a run under way ends by itself."""
        if self._scheduler.get_job(job_id) is not None:
            self._scheduler.remove_job(job_id)

    def next_run(self, job_id: str) -> datetime | None:
        """When this job is due next."""
        job = self._scheduler.get_job(job_id)
        return None if job is None else job.next_run_time

    def alive(self) -> bool:
        """Whether jobs are being run. That this can be asked shows that the loop lives."""
        if self._canary_at is None:
            return False
        return asyncio.get_running_loop().time() - self._canary_at < CANARY_DEAD_AFTER

    async def stop(self, patience: timedelta) -> None:
        """Start nothing more, wait so long for what runs, then cancel it."""
        if self._guard is not None:
            self._guard.cancel()
            await asyncio.gather(self._guard, return_exceptions=True)
        if not self._scheduler.running:
            return
        self._stopping = True
        self._scheduler.pause()
        running = self._running.union(*(turns.running.values() for turns in self._turns))
        if running:
            _, late = await asyncio.wait(running, timeout=patience.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._scheduler.shutdown(wait=False)

    async def _canary(self) -> None:
        self._canary_at = asyncio.get_running_loop().time()

    async def _watch_clock(self) -> None:
        """APScheduler's due times are wall clock: after a jump, give every job a due time by the new clock."""
        loop = asyncio.get_running_loop()
        before = self._clock() - timedelta(seconds=loop.time())
        while True:
            await asyncio.sleep(CLOCK_CHECK)
            now = self._clock() - timedelta(seconds=loop.time())
            # Set forward and back between two looks, it shows no difference; but what ran meanwhile is due in a week.
            due = self.next_run(_CANARY)
            too_late = due is not None and due - self._clock() > CANARY_EVERY + CLOCK_JUMP
            if abs(now - before) > CLOCK_JUMP or too_late:
                self.clock_was_set(now - before)
            before = now

    def clock_was_set(self, by: timedelta) -> None:
        """Give every job its next place on the grid by the clock as it is now."""
        logger.warning("the wall clock was set; polling goes on by the new time", extra={"by": str(by)})
        now = self._clock()
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=job.trigger.get_next_fire_time(None, now) or now)
        for turns in self._turns:
            turns.clock_was_set()
