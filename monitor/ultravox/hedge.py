"""Hedged requests: what is slow to be answered is asked for again, beside the first; the first good answer counts.

Pages of a list are a chain: who stands behind one that hangs cannot be asked for before it is given up. The way out
is that of "The Tail at Scale" (Dean and Barroso, 2013): ask again once an answer takes much longer than it usually does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

LEAST = 0.5
"""Seconds that every answer is waited for before it is asked for again."""

TIMES_USUAL = 3
"""So many times as long as usual, where that is more: an API that is slow as a rule is not asked twice as a rule."""

MOST = 2
"""Requests made again that may be under way at once: no outage makes more of them."""

_Found = TypeVar("_Found")


class Hedge:
    """What one account's answers usually take."""

    def __init__(self) -> None:
        self._usual = 0.0  # seconds
        self._again = 0  # under way

    async def first(
        self, ask: Coroutine[Any, Any, _Found], again: Callable[[], Coroutine[Any, Any, _Found]]
    ) -> _Found:
        """The first good answer, of `ask` or of what `again` asks; where all fail, the first failure is raised.

        What fails is not asked again: only what is not answered. The others are given up.
        """
        loop = asyncio.get_running_loop()
        begin, mine, failure = loop.time(), 0, None
        running: set[asyncio.Task[_Found]] = {asyncio.create_task(ask)}
        try:
            while running:
                patience = max(LEAST, TIMES_USUAL * self._usual)
                done, running = await asyncio.wait(
                    running, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    if task.exception() is None:
                        self._usual += (loop.time() - begin - self._usual) / 8
                        return task.result()
                    failure = failure or task.exception()
                if not done and self._again < MOST:
                    self._again, mine = self._again + 1, mine + 1
                    running.add(asyncio.create_task(again()))
        finally:
            self._again -= mine
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        raise failure or AssertionError("nothing was asked")
