"""How fast an account may ask: one limiter for everything it does.

GCRA: each request moves a theoretical arrival time on by 1/rate; nobody starts before it. Requests
are let through in the order in which they asked. The arithmetic is a pure function of loop time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def admit(free_at: float, now: float, rate: float) -> tuple[float, float]:
    """When a request may start, and when the next one may: loop seconds.

    No burst: a second never sees more than `rate` starts, plus the one at its edge.
    """
    start = max(free_at, now)
    return start, start + 1 / rate


class Limiter:
    """`rate` requests a second; `on_paused` hears the seconds that requests lost to a 429."""

    def __init__(self, rate: float, *, on_paused: Callable[[float], None] = lambda _: None) -> None:
        self._rate = rate
        self._on_paused = on_paused
        self._free_at = 0.0
        self._paused_until = 0.0
        self._turn = asyncio.Lock()

    async def acquire(self) -> None:
        """Wait for the next free place. A waiter that is cancelled takes none."""
        loop = asyncio.get_running_loop()
        async with self._turn:  # first come, first served
            asked = loop.time()
            # A pause may grow while it is waited for.
            while (wait := max(self._free_at, self._paused_until) - loop.time()) > 0:  # noqa: ASYNC110 - what is waited for is time
                await asyncio.sleep(wait)
            lost = min(self._paused_until, loop.time()) - asked
            if lost > 0:
                self._on_paused(lost)
            _, self._free_at = admit(self._free_at, loop.time(), self._rate)

    @property
    def paused(self) -> bool:
        """Whether a pause is under way."""
        return self._paused_until > asyncio.get_running_loop().time()

    def pause(self, seconds: float) -> None:
        """Start nothing for so long; a pause under way is never made shorter."""
        until = asyncio.get_running_loop().time() + seconds
        self._paused_until = max(self._paused_until, until)
