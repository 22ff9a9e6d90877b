"""Hedged requests: what is slow to be answered is asked for once more, beside the first; the first answer counts.

Pages of a list are a chain: who stands behind one that hangs cannot be asked for before it is given up. The way out
is that of "The Tail at Scale" (Dean and Barroso, 2013): ask again once an answer takes much longer than it usually does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

LEAST = 0.5
"""Seconds that every answer is waited for before it is asked for once more."""

TIMES_USUAL = 3
"""So many times as long as usual, where that is more: an API that is slow as a rule is not asked twice as a rule."""

MOST = 2
"""Questions that may be asked twice at the same time: an API that is down is asked few times more."""

_Found = TypeVar("_Found")


class Hedge:
    """What one account's answers usually take."""

    def __init__(self) -> None:
        self._usual = 0.0  # seconds
        self._twice = 0  # questions that are being asked twice

    async def first(
        self, ask: Coroutine[Any, Any, _Found], again: Callable[[], Coroutine[Any, Any, _Found]]
    ) -> _Found:
        """The first answer, of `ask` or of what `again` asks; the other is given up. A refusal is an answer, too."""
        loop = asyncio.get_running_loop()
        begin, asked = loop.time(), asyncio.create_task(ask)
        both = {asked}
        try:
            while True:
                patience = max(LEAST, TIMES_USUAL * self._usual) if len(both) == 1 else None
                done, _ = await asyncio.wait(both, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if asked in done and asked.exception() is None:
                    self._usual += (loop.time() - begin - self._usual) / 8
                if done:
                    return min(done, key=lambda task: task.exception() is not None).result()
                if self._twice < MOST:
                    self._twice += 1
                    both.add(asyncio.create_task(again()))
        finally:
            self._twice -= len(both) - 1
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
