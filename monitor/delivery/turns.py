"""One turn of a receiver's worker: hold what is muted, give up what is too old, send what is due, mark it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import aiohttp

from monitor import notices, outbox
from monitor.clock import Clock
from monitor.delivery.queue import Jitter, Queue, log_fields
from monitor.metrics import Instruments
from monitor.model import Message, MessageKind, Mute, Notification, Tested
from monitor.notify.channel import MessageChannel, SendError, StateChannel, Wire, still_to_wait
from monitor.routing import Pacing, Route
from monitor.store import Change, Store

logger = logging.getLogger(__name__)

RECENT = 200
"""So many of the latest notifications can be looked at without asking the state file."""

_UNCONFIGURED = timedelta(
    hours=1
)  # how often the queue of a removed receiver is looked at, to give up in time


@dataclass(slots=True)
class Turns:
    """What every worker works with. `queues` and `mutes` are those of the Delivery, by receiver and by batch."""

    store: Store
    clock: Clock
    instruments: Instruments
    jitter: Jitter
    external_url: str | None
    queues: Mapping[str, Queue]
    mutes: Mapping[str, Mute]
    session: aiohttp.ClientSession | None = None
    stopping: bool = False  # nothing waits for company any more
    settled: deque[Notification] = field(default_factory=lambda: deque(maxlen=RECENT))

    async def take(self, queue: Queue) -> timedelta | None:
        """Send what is due. Returns when to look again; None: when something comes."""
        await self._drop(queue)
        if not queue.rows:
            return None
        if queue.settings is None:
            await self._hold(queue)  # a mute that ends meanwhile has ended
            return _UNCONFIGURED
        if isinstance(queue.settings.channel, StateChannel):
            await self._hold(queue)
            if wait := still_to_wait(queue.paused_until, self.clock()):
                return wait
            if queue.under_way:  # of the time when it was sent messages: its notifications are told as states
                done = tuple(queue.under_way)
                queue.under_way.clear()
                await self.store.commit(Change(done_messages=done))
            return await self._tell(queue, queue.settings.channel)
        return await self._send_due(queue)

    async def _hold(self, queue: Queue) -> None:
        """Note which notifications a mute holds, and settle what a mute has outlived."""
        now = self.clock()
        route = queue.settings.route if queue.settings else Route()
        pacing = queue.settings.pacing if queue.settings else Pacing()
        of_receiver = route.muted_until(now)

        def muted(row: Notification) -> datetime | None:
            mute = self.mutes.get(dict(row.alert.labels).get("batch_id", ""))
            if mute is None or mute.until <= now:
                return of_receiver
            return route.muted_until(mute.until) or mute.until

        changed = outbox.held(queue.pending(), muted, now)
        for row in changed:
            queue.rows[row.id] = row
        flying = queue.flying()
        left = [row for row in queue.rows.values() if row.id not in flying]
        over = outbox.over_while_muted(left, pacing.group_wait, now)
        for row in over:
            queue.settle(row)
            self.settled.append(row)
        if changed or over:
            known = {row.id: row for row in (*changed, *over)}
            await self.store.commit(Change(notifications=tuple(known.values())))

    async def _send_due(self, queue: Queue) -> timedelta | None:
        while True:
            await self._hold(queue)  # also a mute that came while the message before was sent
            if queue.settings is None or isinstance(queue.settings.channel, StateChannel):
                return timedelta(0)  # a reload came in between
            channel, now = queue.settings.channel, self.clock()
            if wait := queue.must_wait(now):
                return wait
            manner = queue.manner(channel.group_by, self.external_url)
            if self.stopping:
                manner = replace(manner, group_wait=timedelta(0))
            plan = outbox.compose(queue.standing(), manner, now)
            await self._settle(queue, plan.overtaken)
            message, repeated = plan.message, queue.repeated(now)
            if repeated is not None and (message is None or repeated.attempts <= message.attempts):
                await self._send(queue, channel, repeated, again=True)
            elif message is not None:  # what has failed before lets the others go first
                queue.under_way[message.id] = message
                await self.store.commit(Change(messages=(message,)))
                await self._send(queue, channel, message, again=False)
            else:
                waits = [at for at in (plan.again_at, queue.again_at()) if at is not None]
                return max(min(waits) - now, timedelta(0)) if waits else None

    async def _send(self, queue: Queue, channel: MessageChannel, message: Message, *, again: bool) -> None:
        """Send one message, and mark what came of it. `again`: it may have arrived before."""
        queue.take_slot(self.clock())
        try:
            await channel.send(self._wire(queue), message)
        except SendError as error:
            self._count(queue, [error])
            if not queue.failed(message, error, self.clock(), self.jitter, again=again):
                await self.store.commit(Change(done_messages=(message.id,)))
            return
        queue.took(message)
        self.instruments.notifications.labels(queue.name).inc()
        now = self.clock()
        rows = [queue.rows[name] for name in message.settles if name in queue.rows]
        await self._settle(
            queue,
            [outbox.delivered(message, row, now) for row in rows if not row.settled],
            done=(message.id,),
        )

    async def test(self, queue: Queue) -> Tested:
        """Send a test alert to a receiver, past its queue, and put on record what came of it."""
        now = self.clock()
        alert = notices.test_alert(queue.name, now)
        row = Notification(
            outbox.notification_id(queue.name, alert, MessageKind.FIRING, now),
            queue.name,
            MessageKind.FIRING,
            alert,
            now,
            one_shot=True,
        )
        error: SendError | None = None
        if queue.settings is None:
            return Tested(queue.name, "it is not configured", 0)
        if isinstance(queue.settings.channel, StateChannel):
            told = await queue.settings.channel.tell(self._wire(queue), [row], all_of_it=True)
            error = None if told.accepted else next(iter(told.failures), None)
        else:
            manner = replace(
                queue.manner(queue.settings.channel.group_by, self.external_url), group_wait=timedelta(0)
            )
            message = outbox.compose(outbox.Standing(queue.name, (row,)), manner, now).message
            if message is None:
                raise RuntimeError("a test alert is always due")
            row = replace(row, message_id=message.id)
            try:
                await queue.settings.channel.send(self._wire(queue), message)
            except SendError as failed:
                error = failed
        done = self.clock()
        row = (
            replace(row, attempts=1, delivered_at=done)
            if error is None
            else replace(row, attempts=1, dropped_at=done, last_error=str(error))
        )
        self.settled.append(row)
        await self.store.commit(Change(notifications=(row,)))
        return Tested(queue.name, None if error is None else str(error), (done - now).total_seconds())

    async def _tell(self, queue: Queue, channel: StateChannel) -> timedelta | None:
        now, every = self.clock(), channel.resend_every
        if queue.told_at is not None and not timedelta(0) <= now - queue.told_at < every:
            queue.told_at = None
        held = {row.id: row.held_until for row in queue.pending() if row.held_until and row.held_until > now}
        known = {name: row for name, row in queue.rows.items() if name not in held}
        told = await channel.tell(self._wire(queue), known.values(), all_of_it=queue.told_at is None)
        self._count(queue, told.failures)
        if told.down is None and (told.accepted or not told.refused):
            queue.works()
        accepted = [row for row in known.values() if row.id in told.accepted]
        self.instruments.notifications.labels(queue.name).inc(len(accepted))
        await self._settle(queue, [self._delivered(row) for row in accepted])
        for row_id, error in told.refused.items():
            queue.postpone(known[row_id], error, self.clock())
        for row in known.values():
            if row.settled and row.id not in told.needed:
                queue.rows.pop(row.id, None)
        if told.down is not None:
            for row in queue.pending():
                if row.id in told.needed:
                    queue.rows[row.id] = replace(row, attempts=row.attempts + 1, last_error=str(told.down))
            queue.pause(told.down, every, self.clock(), self.jitter)
            return still_to_wait(queue.paused_until, self.clock())
        queue.told_at = queue.told_at or now
        again = [queue.told_at + every, *held.values()]
        return max(min(again) - now, timedelta(0)) if queue.rows else None

    def _wire(self, queue: Queue) -> Wire:
        if self.session is None:
            raise RuntimeError("start() comes before the first turn")
        return Wire(self.session, queue.name, self.clock(), self.external_url)

    def _count(self, queue: Queue, errors: Iterable[SendError]) -> None:
        for error in errors:
            self.instruments.notification_failures.labels(queue.name, error.reason.value).inc()

    def _delivered(self, row: Notification) -> Notification:
        return replace(
            row, delivered_at=self.clock(), attempts=row.attempts + 1, next_attempt_at=None, last_error=None
        )

    async def _drop(self, queue: Queue) -> None:
        """Give up what has waited too long: in the log, in a counter, on the page, and to the other receivers."""
        dropped = queue.to_drop(self.clock())
        if not dropped:
            return
        thawed = queue.thawed(dropped)
        for row in dropped:
            self.instruments.notifications_dropped.labels(queue.name).inc()
            logger.error(
                "MESSAGE DROPPED, its receiver has not taken it",
                extra=log_fields(row) | {"error": row.last_error},
            )
        now = self.clock()
        told = self._tell_of_dropped(queue, dropped, now)
        rows = [replace(row, dropped_at=now, next_attempt_at=None) for row in dropped]
        await self._settle(queue, rows, done=thawed, also=told)
        for row in told:
            self.queues[row.receiver].rows[row.id] = row
            self.queues[row.receiver].woken.set()

    def _tell_of_dropped(
        self, queue: Queue, dropped: list[Notification], now: datetime
    ) -> tuple[Notification, ...]:
        """A notification for each other receiver that wants it; of a dropped one of these nobody is told."""
        names = [dict(row.alert.labels).get("alertname", "") for row in dropped]
        names = [name for name in names if name != notices.DROPPED]
        if not names:
            return ()
        waited = max(now - row.created_at for row in dropped)
        alert = notices.dropped_alert(queue.name, names, dropped[-1].last_error, waited, now)
        return tuple(
            Notification(
                id=outbox.notification_id(other.name, alert, MessageKind.FIRING, now),
                receiver=other.name,
                kind=MessageKind.FIRING,
                alert=alert,
                created_at=now,
                one_shot=True,
            )
            for other in self.queues.values()
            if other is not queue and other.settings is not None and other.settings.route.only is None
        )

    async def _settle(
        self,
        queue: Queue,
        rows: Iterable[Notification],
        *,
        done: tuple[str, ...] = (),
        also: tuple[Notification, ...] = (),
    ) -> None:
        """Mark what is done with: in the queue first, so that nothing sends it again meanwhile."""
        rows = tuple(rows)
        for row in rows:
            queue.settle(row)
            self.settled.append(row)
        if rows or done or also:
            await self.store.commit(Change(notifications=(*rows, *also), done_messages=done))
