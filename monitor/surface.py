"""What may be asked of the running daemon, by its HTTP surface: how things stand, who was told what, and why.

It only looks, but for three things that people ask for: a reload, a mute, a test alert.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor.clock import Clock
from monitor.delivery import Delivery
from monitor.explain import Explanation, explain
from monitor.handover import Handover
from monitor.model import HandoverView, Mute, Record, Snapshot, Status, Tested
from monitor.poller import Book
from monitor.rounds import Rounds
from monitor.schedule import Schedule
from monitor.store import Store


@dataclass(slots=True)
class Surface:
    """The parts of the daemon that know the answers. `reload` raises web.ReloadRefusedError."""

    book: Book
    rounds: Rounds
    delivery: Delivery
    store: Store
    schedule: Schedule
    hand_over: Handover
    clock: Clock
    reload: Callable[[], Coroutine[Any, Any, None]]
    started_at: datetime
    reload_error: str | None = None
    _ready: bool = False

    def snapshot(self) -> Snapshot:
        """What is known now."""
        return Snapshot(
            at=self.clock(),
            batches=tuple(self.book.statuses.values()),
            accounts=tuple(account.status for account in self.book.accounts.values()),
            queues=self.delivery.queues(),
            discoveries=self.rounds.discoveries(),
            mutes=self.delivery.mutes(),
            store_writable=self.store.writable,
            started_at=self.started_at,
            reload_error=self.reload_error,
        )

    def explain(self, batch_id: str) -> list[tuple[Status, tuple[Explanation, ...]]]:
        """The watched batches whose id begins like this, each with why its alerts fire or do not."""
        now, found = self.clock(), []
        for key, watch in self.book.watches.items():
            account = self.book.owner(key)
            if key.batch_id.startswith(batch_id.lower()) and account is not None:
                status = self.book.statuses[key]
                found.append(
                    (status, explain(status, account.status, watch.policy, now, self.book.receivers))
                )
        return found

    def latest_records(self, count: int) -> tuple[Record, ...]:
        """Who was told what lately, the newest first, and what waits: without a look into the state file."""
        return self.delivery.records()[:count]

    async def records(
        self, *, batch_id: str | None, receiver: str | None, before: datetime | None, count: int
    ) -> tuple[tuple[Record, ...], bool]:
        """Who was told what, the newest first, and what waits. False: of the past only the latest is known now.

        `batch_id`: or the beginning of one.
        """
        known = {record.notification.id: record for record in self.delivery.records()}
        stored = await self.store.history(batch_id=batch_id, receiver=receiver, before=before, count=count)
        found = {row.id: Record(row) for row in stored or ()} | known
        wanted = [
            record
            for record in found.values()
            if (receiver is None or record.notification.receiver == receiver)
            and (before is None or record.notification.created_at < before)
            and dict(record.notification.alert.labels).get("batch_id", "").startswith(batch_id or "")
        ]
        wanted.sort(key=lambda record: record.notification.created_at, reverse=True)
        return tuple(wanted[:count]), stored is not None

    def watched(self, batch_id: str) -> tuple[Status, ...]:
        """The watched batches whose id begins like this."""
        return tuple(
            status for key, status in self.book.statuses.items() if key.batch_id.startswith(batch_id.lower())
        )

    async def mute(self, batch_id: str, until: datetime) -> None:
        """Hold all messages of this batch until then; an instant that has passed ends that."""
        await self.delivery.mute(Mute(batch_id, until))

    async def test_alert(self, receiver: str | None) -> tuple[Tested, ...]:
        """Send a test alert to every receiver, or to this one."""
        return await self.delivery.test(receiver)

    def handover(self) -> HandoverView:
        """What the other shards want to know."""
        return self.hand_over.view()

    def offer(self, account: str) -> Callable[[], Any] | None:
        """What is remembered of an account, for its shard: a function that makes JSON of it. None: it is not offered."""
        return self.hand_over.offer(account)

    def healthy(self) -> bool:
        """Whether jobs are being run."""
        return self.schedule.alive()

    def ready(self) -> bool:
        """Whether every batch has been looked at, and every account's batches looked for, or it was tried."""
        self._ready = self._ready or self.rounds.attempted_all()
        return self._ready
