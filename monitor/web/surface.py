"""What the HTTP surface needs of the running daemon."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from monitor.explain import Explanation
from monitor.model import HandoverView, Record, Snapshot, Status, Tested


class ReloadRefusedError(Exception):
    """The configuration was not taken over; its text says why, a line for each mistake."""


class Surface(Protocol):
    """What the HTTP surface needs of the running daemon."""

    def snapshot(self) -> Snapshot:
        """What is known now."""

    def explain(self, batch_id: str) -> list[tuple[Status, tuple[Explanation, ...]]]:
        """The watched batches whose id begins like this, each with why its alerts fire or do not."""

    def healthy(self) -> bool:
        """Whether the scheduler lives. That this can be asked shows that the loop does."""

    def ready(self) -> bool:
        """Whether every batch has been polled once, or tried."""

    async def reload(self) -> None:
        """Load the configuration anew; ReloadRefusedError when it cannot be taken over."""

    def latest_records(self, count: int) -> tuple[Record, ...]:
        """Who was told what lately, the newest first, and what waits."""

    async def records(
        self, *, batch_id: str | None, receiver: str | None, before: datetime | None, count: int
    ) -> tuple[tuple[Record, ...], bool]:
        """Who was told what, the newest first, and what waits. False: of the past only the latest is known now."""

    def watched(self, batch_id: str) -> tuple[Status, ...]:
        """The watched batches whose id begins like this."""

    async def mute(self, batch_id: str, until: datetime) -> None:
        """Hold all messages of this batch until then; an instant that has passed ends that."""

    async def test_alert(self, receiver: str | None) -> tuple[Tested, ...]:
        """Send a test alert to every receiver, or to this one."""

    def handover(self) -> HandoverView:
        """What the other shards want to know."""

    def offer(self, account: str) -> Callable[[], Any] | None:
        """What is remembered of an account, for its shard: a function that makes JSON of it. None: it is not offered."""
