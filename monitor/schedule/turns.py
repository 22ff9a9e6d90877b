"""The turns of thousands of batches, on one APScheduler job: a tick at which all that are due are started together.

A job each costs a turn of the event loop, a timer and two events each time it runs: with six thousand of them as much
as the request that it makes. docs/decisions/0009-ten-thousand-batches.md
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, Self, TypeVar

from monitor.clock import Clock
from monitor.schedule.grid import instant, microseconds, next_place, spread

logger = logging.getLogger(__name__)

TICK = timedelta(milliseconds=100)
"""How late a turn may be by itself."""


class _Ordered(Protocol):
    def __lt__(self, other: Self, /) -> bool: ...
    def __hash__(self) -> int: ...


Key = TypeVar("Key", bound=_Ordered)


@dataclass(slots=True)
class _Turn:
    """When a key is due next: microseconds since 1970, as all of it."""

    due: int
    interval: int  # 0: once
    offset: int


class Turns(Generic[Key]):
    """When each key is due. `job` is run for it then, unless it still runs: then `on_skipped` hears of it."""

    def __init__(
        self,
        name: str,
        job: Callable[[Key], Awaitable[None]],
        *,
        clock: Clock,
        on_skipped: Callable[[Key], None],
    ) -> None:
        self._name = name
        self._job = job
        self._clock = clock
        self._on_skipped = on_skipped
        self._turns: dict[Key, _Turn] = {}
        self._heap: list[tuple[int, Key]] = []  # what is out of date in it is passed over when its time comes
        self.running: dict[Key, asyncio.Task[None]] = {}

    def every(
        self,
        key: Key,
        interval: timedelta,
        *,
        first_after: timedelta | None = None,
        first_not_after: timedelta | None = None,
    ) -> None:
        """Give it a turn every `interval`, at its own place in it, instead of those that it has.

        `first_after`: the first so long from now, instead of at its first place.
        `first_not_after`: the same, unless its first place comes sooner.
        """
        now, step = microseconds(self._clock()), _micro(interval)
        offset = _micro(spread(f"{self._name}:{key}", interval))
        due = next_place(now, step, offset)
        if first_after is not None:
            due = now + _micro(first_after)
        elif first_not_after is not None:
            due = min(due, now + _micro(first_not_after))
        self._put(key, _Turn(due, step, offset))

    def once(self, key: Key, at: datetime) -> None:
        """Give it one turn, at this instant, instead of those that it has."""
        self._put(key, _Turn(microseconds(at), 0, 0))

    def remove(self, key: Key) -> None:
        """Give it no turn any more; one under way ends by itself."""
        self._turns.pop(key, None)

    def next_run(self, key: Key) -> datetime | None:
        """When it is due next."""
        turn = self._turns.get(key)
        return None if turn is None else instant(turn.due)

    def tick(self) -> None:
        """Start all that are due, and give them their next turn: strictly later than now, whatever was missed."""
        now = microseconds(self._clock())
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            turn = self._turns.get(key)
            if turn is None or turn.due != due:
                continue
            if turn.interval:
                turn.due = next_place(now, turn.interval, turn.offset)
                heapq.heappush(self._heap, (turn.due, key))
            else:
                del self._turns[key]
            if key in self.running:
                self._on_skipped(key)
            else:
                self.running[key] = asyncio.create_task(self._run(key))

    def clock_was_set(self) -> None:
        """Give every key its next place on the grid by the clock as it is now."""
        now = microseconds(self._clock())
        for turn in self._turns.values():
            if turn.interval:
                turn.due = next_place(now, turn.interval, turn.offset)
        self._heap = [(turn.due, key) for key, turn in self._turns.items()]
        heapq.heapify(self._heap)

    def _put(self, key: Key, turn: _Turn) -> None:
        self._turns[key] = turn
        heapq.heappush(self._heap, (turn.due, key))
        if (
            len(self._heap) > 2 * len(self._turns) + 1000
        ):  # turns that are moved for ever leave no heap of rubbish
            self._heap = [(turn.due, key) for key, turn in self._turns.items()]
            heapq.heapify(self._heap)

    async def _run(self, key: Key) -> None:
        try:
            await self._job(key)
        except Exception:
            logger.exception("a turn failed; this is an error of the monitor's own", extra={"turn": str(key)})
        finally:
            del self.running[key]


def _micro(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
