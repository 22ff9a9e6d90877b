"""Drains the outbox: sends what is committed, marks what was taken, tries again what was not.

What is to be told was decided before; which of it makes the next message is outbox.py's; how that is posted
is a channel's own file. A message is committed before it is sent, and marked after it was taken: after a crash
in between it is sent again, the same under the same Idempotency-Key. One queue and one worker a receiver: a
dead one delays nobody else.

Two kinds of receivers: one is sent messages, each once; the other (Alertmanager) is told what holds,
again and again, and what it is told is delivered when it was first told.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import aiohttp

from monitor.clock import Clock
from monitor.delivery.queue import Jitter, Queue, Settings
from monitor.delivery.turns import RECENT, Turns
from monitor.delivery.views import record
from monitor.metrics import Instruments
from monitor.model import MessageKind, Mute, Notification, QueueStatus, Record, Tested
from monitor.notify.channel import StateChannel
from monitor.resolver import Resolver
from monitor.routing import Receiver
from monitor.store import Change, Contents, Store

__all__ = ["Delivery", "Settings"]

logger = logging.getLogger(__name__)

STOP_PATIENCE = timedelta(seconds=10)
"""How long what is being sent may take at the end."""

_STUMBLE = timedelta(minutes=1)  # pause of a worker after an error of our own making


class Delivery:
    """The outbox at work: `restore`, `set_receivers` and `start` it, then `enqueue` whatever is committed."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        instruments: Instruments,
        external_url: str | None = None,
        jitter: Jitter = lambda top: random.uniform(0, top),
    ) -> None:
        self._store = store
        self._clock = clock
        self._instruments = instruments
        self._queues: dict[str, Queue] = {}
        self._mutes: dict[str, Mute] = {}  # by batch
        self._turns = Turns(store, clock, instruments, jitter, external_url, self._queues, self._mutes)
        self._kept: dict[str, list[Notification]] = {}  # by account: another process is to tell these
        self._stopping = False

    def restore(self, contents: Contents, leaving: Container[str] = ()) -> None:
        """Take up the outbox as it was left. What waits of accounts that are `leaving` is kept for who is to tell it."""
        self._mutes |= {mute.batch_id: mute for mute in contents.mutes}
        flying = {name for message in contents.messages for name in message.settles}
        for row in contents.notifications:
            account = _account(row)
            if account in leaving and not row.settled and row.id not in flying:
                self._kept.setdefault(account, []).append(row)
                continue
            self._queue(row.receiver).rows[row.id] = row
            if row.settled:
                self._turns.settled.append(row)
        for message in contents.messages:
            self._queue(message.receiver).under_way[message.id] = message

    def set_receivers(self, receivers: Mapping[str, Settings]) -> tuple[Receiver, ...]:
        """Deliver to these from now on. What waits for one that is gone is kept until it is given up."""
        for name, settings in receivers.items():
            queue = self._queue(name)
            if queue.settings is None:
                self._instruments.add_receiver(name)
            if queue.settings != settings:
                queue.use(settings)
        for name, queue in self._queues.items():
            if name not in receivers:
                if queue.settings is not None:
                    self._instruments.remove_receiver(name)
                queue.retire()
        return tuple(
            Receiver(name, isinstance(settings.channel, StateChannel), settings.route)
            for name, settings in receivers.items()
        )

    def enqueue(self, notifications: Iterable[Notification]) -> None:
        """Send these, which are committed."""
        for row in notifications:
            queue = self._queue(row.receiver)
            queue.rows.setdefault(row.id, row)
            if row.settled:  # it was told by another process
                queue.settle(row)
            queue.woken.set()

    def of_account(self, account: str) -> tuple[Notification, ...]:
        """What whoever tells of this account from now on must know. What may have arrived counts as delivered."""
        rows, now = list(self._kept.get(account, ())), self._clock()
        for queue in self._queues.values():
            flying = queue.flying()
            rows += [
                replace(row, delivered_at=now) if row.id in flying else row
                for row in queue.rows.values()
                if _account(row) == account
            ]
        return tuple(sorted(rows, key=lambda row: row.created_at))

    def take_over(self, notifications: Iterable[Notification], mutes: Iterable[Mute]) -> None:
        """Go on telling of an account where another process has stopped. They are committed."""
        self._mutes |= {mute.batch_id: mute for mute in mutes}
        self.enqueue(notifications)

    async def let_go(self, account: str) -> tuple[Notification, ...]:
        """Tell no more of this account, and return what is another's to tell.

        Messages that may have arrived stay here until that is known; of these, too, the end is another's to tell.
        """
        gone, events = self._kept.pop(account, []), list[Notification]()
        for queue in self._queues.values():
            flying = [queue.rows[name] for name in queue.flying() if name in queue.rows]
            ended = {row.alert.fingerprint for row in flying if row.kind is MessageKind.RESOLVED}
            for row in [row for row in queue.rows.values() if _account(row) == account]:
                if row.alert.fingerprint in ended:
                    continue  # the end is told here, which needs to know of the beginning
                if row in flying:
                    queue.rows[row.id] = replace(row, one_shot=True)
                    events.append(queue.rows[row.id])
                else:
                    gone.append(queue.rows.pop(row.id))
        if events:
            await self._store.commit(Change(notifications=tuple(events)))
        return tuple(gone)

    def keep_on(self, account: str) -> None:
        """Tell after all what was kept for another process."""
        self.enqueue(self._kept.pop(account, ()))

    async def mute(self, mute: Mute) -> None:
        """Tell nobody anything of this batch until then; an instant that has passed ends a mute."""
        if mute.until > self._clock():
            self._mutes[mute.batch_id] = mute
        else:
            self._mutes.pop(mute.batch_id, None)
        for queue in self._queues.values():
            queue.woken.set()
        await self._store.commit(Change(mutes=(mute,)))

    def mutes(self) -> tuple[Mute, ...]:
        """Those that hold now, the first to end first."""
        now = self._clock()
        return tuple(
            sorted((one for one in self._mutes.values() if one.until > now), key=lambda mute: mute.until)
        )

    def start(self) -> None:
        """Begin to send. Call it from the event loop."""
        self._turns.session = aiohttp.ClientSession(
            # Messages are rare: a connection kept would mostly be found closed by the other side.
            connector=aiohttp.TCPConnector(force_close=True, resolver=Resolver()),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        for queue in self._queues.values():
            self._employ(queue)

    async def stop(self, patience: timedelta = STOP_PATIENCE) -> None:
        """Try once more what is due, for as long as `patience`; the rest waits in the store."""
        self._stopping = self._turns.stopping = True
        workers = [queue.worker for queue in self._queues.values() if queue.worker is not None]
        for queue in self._queues.values():
            queue.woken.set()
        if workers:
            await asyncio.wait(workers, timeout=patience.total_seconds())
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if self._turns.session is not None:
            await self._turns.session.close()

    def queues(self) -> tuple[QueueStatus, ...]:
        """How every receiver's queue stands; a removed receiver's too while something waits in it."""
        found = (queue.status() for queue in self._queues.values())
        return tuple(status for status in found if status.configured or status.pending)

    def records(self) -> tuple[Record, ...]:
        """What waits, and the latest of what was told, the newest first."""
        now, waiting = self._clock(), list[Notification]()
        for queue in self._queues.values():
            waiting += queue.pending()
        settled = heapq.nlargest(RECENT, self._turns.settled, key=lambda row: row.created_at)
        rows = sorted((*waiting, *settled), key=lambda row: row.created_at, reverse=True)
        return tuple(record(self._queues[row.receiver], row, now) for row in rows)

    async def test(self, receiver: str | None = None) -> tuple[Tested, ...]:
        """Send a marked test alert to every receiver, or to this one, past all queues, filters and mutes.

        `receiver`: a name; also the first part of one, before a slash.
        """
        chosen = [
            queue
            for name, queue in self._queues.items()
            if queue.settings is not None and receiver in {None, name, name.partition("/")[0]}
        ]
        return tuple(await asyncio.gather(*(self._turns.test(queue) for queue in chosen)))

    # Workers

    def _queue(self, name: str) -> Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue(name)
            if self._turns.session is not None:
                self._employ(queue)
        return queue

    def _employ(self, queue: Queue) -> None:
        queue.worker = asyncio.create_task(self._work(queue), name=f"delivery:{queue.name}")

    async def _work(self, queue: Queue) -> None:
        while True:
            queue.woken.clear()
            try:
                again = await self._turns.take(queue)
            except Exception:  # an error of our own must not end the worker: it is logged and tried again
                logger.exception("delivery stumbled", extra={"receiver": queue.name})
                again = _STUMBLE
            if self._stopping and not queue.woken.is_set():
                return
            try:
                async with asyncio.timeout(None if again is None else again.total_seconds()):
                    await queue.woken.wait()
            except TimeoutError:
                continue


def _account(row: Notification) -> str:
    """The account that a notification is about; "" if it is about the monitor itself."""
    return dict(row.alert.labels).get("account", "")
