"""The heartbeat, a dead man's switch: an address outside is pinged for as long as the monitor does its work.

A service that expects the pings (Healthchecks, Uptime Kuma, Cronitor) tells people when they stay away.
So a ping is a statement: what is watched is being looked at, and somebody would hear of it. It says
nothing of Ultravox: attempts count, not successes, and telling of an outage there is what alerts are for.
Nothing waits for a ping.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import aiohttp
from pydantic import SecretStr

from monitor import words
from monitor.clock import Clock
from monitor.metrics import HeartbeatSeries, Instruments
from monitor.model import QueueStatus
from monitor.notify.channel import DEFAULT_TIMEOUT, SendError, Wire, request
from monitor.resolver import Resolver

logger = logging.getLogger(__name__)

MISSED_PROBES = 3
NO_ATTEMPT_FOR = timedelta(minutes=3)
"""Without an attempt to ask Ultravox for so many probes' time, and for so long, nothing is being watched."""

RECEIVERS_FAIL_FOR = timedelta(minutes=10)
"""When every receiver has failed for so long, nobody would hear of an alert."""

AGAIN_WITHIN = timedelta(minutes=1)
"""A beat without a ping that was taken is followed by the next after this, however rare the pings are."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Whom to ping. `every` and `timeout` count from the start of a ping."""

    url: SecretStr
    every: timedelta = timedelta(minutes=1)
    timeout: timedelta = DEFAULT_TIMEOUT


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a ping vouches for."""

    scheduler_lives: bool
    store_writable: bool
    account_interval: timedelta  # between two probes of an account
    attempts: tuple[datetime, ...]  # when each account and batch was last asked for, with or without success
    since: datetime  # while there is no attempt: from when on there should have been one
    queues: tuple[QueueStatus, ...]  # of every configured receiver


def why_silent(vitals: Vitals, now: datetime) -> str | None:
    """Why nobody may believe that all is well; None: it is. As long as the reason stays, so does its text."""
    if not vitals.scheduler_lives:
        return "the scheduler runs no jobs"
    if not vitals.store_writable:
        return "the state file cannot be written"
    limit = max(MISSED_PROBES * vitals.account_interval, NO_ATTEMPT_FOR)
    # What is later than now was before the clock was set back, and tells nothing.
    newest = max((at for at in vitals.attempts if at <= now), default=vitals.since)
    if now - newest >= limit:
        return f"nothing has been asked of Ultravox for {words.duration(limit)}"
    failing = [
        queue.receiver
        for queue in vitals.queues
        if queue.failing_since is not None and now - queue.failing_since >= RECEIVERS_FAIL_FOR
    ]
    if failing and len(failing) == len(vitals.queues):
        return f"every receiver has failed for {words.duration(RECEIVERS_FAIL_FOR)}: {', '.join(failing)}"
    return None


class Heartbeat:
    """Pings by the settings that it is told to `use`, while `vitals` are well."""

    def __init__(self, vitals: Callable[[], Vitals], *, clock: Clock, instruments: Instruments) -> None:
        self._vitals = vitals
        self._clock = clock
        self._instruments = instruments
        self._settings: Settings | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._silent: str | None = None  # why, as it has been logged
        self._failing = False  # and it has been logged
        self.since = clock()  # when the settings were last said, changed or not

    def use(self, settings: Settings | None) -> None:
        """Ping by these from now on: at once, unless they are the same as before. None: no more.

        Call it from the event loop.
        """
        self.since = self._clock()
        if self._stopped or settings == self._settings:
            return
        if self._task is not None:
            self._task.cancel()
        self._settings, self._task = settings, None
        self._silent, self._failing = None, False
        if settings is None:
            self._instruments.remove_heartbeat()
            return
        series = self._instruments.add_heartbeat()
        self._task = asyncio.create_task(self._go_on(settings, series), name="heartbeat")

    async def stop(self) -> None:
        """Ping no more, whatever is said afterwards."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self, settings: Settings, series: HeartbeatSeries) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started, taken = loop.time(), False
            try:
                taken = await self.beat(settings, series)
            except Exception:  # an error of our own: no ping is right, to end for good would not be
                logger.exception("heartbeat stumbled")
            wait = settings.every if taken else min(settings.every, AGAIN_WITHIN)
            await asyncio.sleep(started + wait.total_seconds() - loop.time())

    async def beat(self, settings: Settings, series: HeartbeatSeries) -> bool:
        """Ping if all is well. Returns whether the ping was taken."""
        why = why_silent(self._vitals(), self._clock())
        if why is not None and why != self._silent:
            logger.warning("heartbeat withheld", extra={"why": why})
        if why is None and self._silent is not None:
            logger.info("heartbeat goes on")
        self._silent = why
        return why is None and await self._ping(settings, series)

    async def _ping(self, settings: Settings, series: HeartbeatSeries) -> bool:
        # A session for each: pings are rare, and a connection kept would mostly be found closed.
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, resolver=Resolver()),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            try:
                wire = Wire(session, "heartbeat", self._clock())
                await request(wire, "GET", settings.url, settings.timeout)
            except SendError as error:
                series.failed(error.reason.value)
                if not self._failing:
                    fields = {"reason": error.reason.value, "error": str(error)}
                    logger.warning("heartbeat fails", extra=fields)
                self._failing = True
                return False
        series.taken(self._clock())
        if self._failing:
            logger.info("heartbeat works again")
        self._failing = False
        return True
