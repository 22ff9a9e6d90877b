"""How fast an account may ask, and who goes first: one limiter for everything it does.

GCRA: each request moves a theoretical arrival time on by 1/rate; nobody starts before it. The
arithmetic is a pure function of loop time. Among those that wait, the most urgent goes first, but
each step of urgency is worth HEAD_START of waiting: nobody starves.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from monitor.model import Urgency

HEAD_START = 5.0
"""Seconds of waiting that a step of urgency is worth."""


def admit(free_at: float, now: float, rate: float) -> tuple[float, float]:
    """When a request may start, and when the next one may: loop seconds.

    No burst: a second never sees more than `rate` starts, plus the one at its edge.
    """
    start = max(free_at, now)
    return start, start + 1 / rate


class Limiter:
    """`rate` requests a second; `on_paused` hears of the seconds in which a 429 let nobody start."""

    def __init__(self, rate: float, *, on_paused: Callable[[float], None] = lambda _: None) -> None:
        self._rate = rate
        self._on_paused = on_paused
        self._free_at = 0.0
        self._paused_until = 0.0
        self._held_since: float | None = None  # since when somebody waits for the end of a pause
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self, urgency: Urgency = Urgency.POLL) -> None:
        """Wait for a place. A waiter that is cancelled takes none."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._waiting and max(self._free_at, self._paused_until) <= now:
            # Nobody is there to stand in line with.
            _, self._free_at = admit(self._free_at, now, self._rate)
            return
        turn: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (loop.time() + urgency * HEAD_START, next(self._order), turn))
        self._hand_out()
        await turn

    @property
    def paused(self) -> bool:
        """Whether a pause is under way."""
        return self._paused_until > asyncio.get_running_loop().time()

    def pause(self, seconds: float) -> None:
        """Start nothing for so long; a pause under way is never made shorter."""
        until = asyncio.get_running_loop().time() + seconds
        self._paused_until = max(self._paused_until, until)

    def _hand_out(self) -> None:
        """Let start who may start now; come back when the next one may."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            now = loop.time()
            _, _, turn = self._waiting[0]
            if turn.done():  # its waiter was cancelled
                heapq.heappop(self._waiting)
                continue
            ready = max(self._free_at, now)
            opens = max(ready, self._paused_until)  # a pause may grow while it is waited for
            if opens > ready and self._held_since is None:
                self._held_since = ready
            if opens > now:
                self._timer = loop.call_at(opens, self._hand_out)
                return
            heapq.heappop(self._waiting)
            _, self._free_at = admit(self._free_at, now, self._rate)
            turn.set_result(None)
            self._tell()
        self._held_since = None  # of those whom a pause held back, nobody waited for its end

    def _tell(self) -> None:
        """Tell of a pause that is over: once, however many it held back."""
        if self._held_since is not None:
            lost, self._held_since = self._paused_until - self._held_since, None
            self._on_paused(lost)
