"""Drains the outbox: sends what is committed, marks what was taken, tries again what was not.

What is said was decided before and is not changed here; how it is posted is a channel's own file.
Send first, mark then: after a crash in between a message is sent twice, under the same
Idempotency-Key, never not at all. One queue and one worker a receiver: a dead one delays nobody else.

Two kinds of receivers: one is sent messages, each once; the other (Alertmanager) is told what holds,
again and again, and its messages are delivered when it was first told.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import aiohttp

from monitor.clock import Clock
from monitor.delivery.queue import RETRY_CAP, Jitter, Queue, log_fields
from monitor.metrics import Instruments
from monitor.model import Alert, AlertState, Notification, Phase, QueueStatus, Receiver
from monitor.notify.channel import Channel, MessageChannel, SendError, StateChannel, Wire, still_to_wait
from monitor.store import Change, Contents, Store

logger = logging.getLogger(__name__)

RECENT = 200
"""So many of the latest messages can be looked at."""

STOP_PATIENCE = timedelta(seconds=10)
"""How long what is being sent may take at the end."""

_STUMBLE = timedelta(minutes=1)  # pause of a worker after an error of our own making
_UNCONFIGURED = timedelta(
    hours=1
)  # how often the queue of a removed receiver is looked at, to give up in time


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
        self._external_url = external_url
        self._jitter = jitter
        self._queues: dict[str, Queue] = {}
        self._settled: deque[Notification] = deque(maxlen=RECENT)
        self._still_firing: frozenset[str] = frozenset()  # episodes, as restored
        self._session: aiohttp.ClientSession | None = None
        self._stopping = False

    def restore(self, contents: Contents) -> None:
        """Take up the outbox as it was left. Every message that waits is tried at once."""
        states: list[AlertState] = [state for batch in contents.batches for state in batch.alerts]
        states += [state for account in contents.accounts for state in account.alerts]
        self._still_firing = frozenset(
            Alert(state.labels, state.annotations, state.since).fingerprint
            for state in states
            if state.phase is Phase.FIRING
        )
        for row in contents.notifications:
            queue = self._queue(row.receiver)
            if row.settled:
                queue.settle(row)
                self._settled.append(row)
            queue.rows[row.id] = row

    def set_receivers(self, channels: Mapping[str, Channel]) -> tuple[Receiver, ...]:
        """Deliver to these from now on. What waits for one that is gone is kept until it is given up."""
        for name, channel in channels.items():
            queue = self._queue(name)
            if queue.channel is None:
                self._instruments.add_receiver(name)
                queue.take_up(channel, self._still_firing)
            if queue.channel != channel:
                queue.use(channel)
        for name, queue in self._queues.items():
            if name not in channels:
                if queue.channel is not None:
                    self._instruments.remove_receiver(name)
                queue.retire()
        self._still_firing = frozenset()  # it was true of the start
        return tuple(Receiver(name, isinstance(channel, StateChannel)) for name, channel in channels.items())

    def enqueue(self, notifications: Iterable[Notification]) -> None:
        """Send these, which are committed."""
        for row in notifications:
            queue = self._queue(row.receiver)
            queue.rows.setdefault(row.id, row)
            queue.woken.set()

    def start(self) -> None:
        """Begin to send. Call it from the event loop."""
        self._session = aiohttp.ClientSession(
            # Messages are rare: a connection kept would mostly be found closed by the other side.
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        for queue in self._queues.values():
            self._employ(queue)

    async def stop(self, patience: timedelta = STOP_PATIENCE) -> None:
        """Try once more what is due, for as long as `patience`; the rest waits in the store."""
        self._stopping = True
        workers = [queue.worker for queue in self._queues.values() if queue.worker is not None]
        for queue in self._queues.values():
            queue.woken.set()
        if workers:
            await asyncio.wait(workers, timeout=patience.total_seconds())
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def queues(self) -> tuple[QueueStatus, ...]:
        """How every receiver's queue stands; a removed receiver's too while something waits in it."""
        found = ((queue.channel, queue.status()) for queue in self._queues.values())
        return tuple(status for channel, status in found if channel is not None or status.pending)

    def recent(self) -> tuple[Notification, ...]:
        """The latest messages with what has become of them, the newest first."""
        known = {row.id: row for row in self._settled}
        for queue in self._queues.values():
            known |= queue.rows
        return tuple(heapq.nlargest(RECENT, known.values(), key=lambda row: row.created_at))

    # Workers

    def _queue(self, name: str) -> Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue(name)
            if self._session is not None:
                self._employ(queue)
        return queue

    def _employ(self, queue: Queue) -> None:
        queue.worker = asyncio.create_task(self._work(queue), name=f"delivery:{queue.name}")

    async def _work(self, queue: Queue) -> None:
        while True:
            queue.woken.clear()
            try:
                again = await self._turn(queue)
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

    async def _turn(self, queue: Queue) -> timedelta | None:
        """Send what is due. Returns when to look again; None: when something comes."""
        await self._drop(queue)
        if not queue.rows:
            return None
        if queue.channel is None:
            return _UNCONFIGURED
        if wait := still_to_wait(queue.paused_until, self._clock()):
            return wait
        if isinstance(queue.channel, StateChannel):
            return await self._tell(queue, queue.channel)
        return await self._send_due(queue, queue.channel)

    async def _send_due(self, queue: Queue, channel: MessageChannel) -> timedelta | None:
        for lane in queue.lanes():
            for row in lane:
                if still_to_wait(row.next_attempt_at, self._clock()):
                    break
                if not await self._send(queue, channel, row):
                    break
            if wait := still_to_wait(queue.paused_until, self._clock()):
                return wait
        return queue.next_due(self._clock())

    async def _send(self, queue: Queue, channel: MessageChannel, row: Notification) -> bool:
        """Send one message. False: what is behind it has to wait."""
        try:
            await channel.send(self._wire(queue), row)
        except SendError as error:
            self._count(queue, [error])
            queue.postpone(row, error, self._clock(), self._jitter)
            if error.again_helps:
                queue.pause(error, RETRY_CAP, self._clock(), self._jitter)
            return False
        queue.works()
        await self._settle(queue, [self._delivered(row)])
        return True

    async def _tell(self, queue: Queue, channel: StateChannel) -> timedelta | None:
        now, every = self._clock(), channel.resend_every
        if queue.told_at is not None and not timedelta(0) <= now - queue.told_at < every:
            queue.told_at = None
        known = dict(queue.rows)
        told = await channel.tell(self._wire(queue), known.values(), all_of_it=queue.told_at is None)
        self._count(queue, told.failures)
        if told.down is None and (told.accepted or not told.refused):
            queue.works()
        await self._settle(queue, [self._delivered(row) for row in known.values() if row.id in told.accepted])
        for row_id, error in told.refused.items():
            queue.postpone(known[row_id], error, self._clock(), self._jitter)
        for row in known.values():
            if row.settled and row.id not in told.needed:
                queue.rows.pop(row.id, None)
        if told.down is not None:
            for row in queue.pending():
                if row.id in told.needed:
                    queue.rows[row.id] = replace(row, attempts=row.attempts + 1, last_error=str(told.down))
            queue.pause(told.down, every, self._clock(), self._jitter)
            return still_to_wait(queue.paused_until, self._clock())
        queue.told_at = queue.told_at or now
        return max(queue.told_at + every - now, timedelta(0)) if queue.rows else None

    def _wire(self, queue: Queue) -> Wire:
        if self._session is None:
            raise RuntimeError("start() comes before the first turn")
        return Wire(self._session, queue.name, self._clock(), self._external_url)

    def _count(self, queue: Queue, errors: Iterable[SendError]) -> None:
        for error in errors:
            self._instruments.notification_failures.labels(queue.name, error.reason.value).inc()

    def _delivered(self, row: Notification) -> Notification:
        self._instruments.notifications.labels(row.receiver).inc()
        return replace(
            row, delivered_at=self._clock(), attempts=row.attempts + 1, next_attempt_at=None, last_error=None
        )

    async def _drop(self, queue: Queue) -> None:
        dropped = queue.to_drop(self._clock())
        for row in dropped:
            self._instruments.notifications_dropped.labels(queue.name).inc()
            logger.error(
                "MESSAGE DROPPED, its receiver has not taken it",
                extra=log_fields(row) | {"error": row.last_error},
            )
        await self._settle(
            queue, [replace(row, dropped_at=self._clock(), next_attempt_at=None) for row in dropped]
        )

    async def _settle(self, queue: Queue, rows: list[Notification]) -> None:
        """Mark what was delivered or dropped: in the queue first, so that nothing sends it again meanwhile."""
        for row in rows:
            queue.settle(row)
            self._settled.append(row)
        if rows:
            await self._store.commit(Change(notifications=tuple(rows)))
