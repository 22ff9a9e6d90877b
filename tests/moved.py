"""Loop time that is moved, not waited for."""

from __future__ import annotations

import asyncio
import heapq


class MovedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self):
        super().__init__()
        self.moved = 0.0

    def time(self):
        return self.moved

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.moved = max(self.moved, heapq.nsmallest(1, self._scheduled)[0].when())
        super()._run_once()


def run(work):
    loop = MovedLoop()
    try:
        return loop.run_until_complete(work(loop))
    finally:
        loop.close()
