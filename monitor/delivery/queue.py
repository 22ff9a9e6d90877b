"""One receiver's queue: what waits, how long it waits after a failure, when it is given up.

No sending, no storing and no clock here: the instant is an argument, as is chance. What the next message
is, is outbox.py's to say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from monitor import outbox
from monitor.model import Alert, Labels, Message, MessageKind, Notification, QueueStatus
from monitor.notify.channel import Channel, SendError, StateChannel, still_to_wait
from monitor.routing import Pacing, Route

logger = logging.getLogger(__name__)

FIRST_RETRY = timedelta(seconds=1)
"""Doubled with every failure. The wait is drawn from 0 up to it (full jitter)."""

RETRY_CAP = timedelta(minutes=5)
"""No wait is longer, unless the receiver asks for it. What was refused waits this long every time."""

BURST = 10
"""So many messages may leave at once; after that `max_messages_per_minute` sets the pace."""

Jitter = Callable[[float], float]
"""Given the longest wait in seconds, the wait. Tests pass one without chance."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How one receiver is reached, what it wants to hear, and how fast."""

    channel: Channel
    route: Route = field(default_factory=Route)
    pacing: Pacing = field(default_factory=Pacing)


@dataclass(slots=True)
class _Lane:
    """What failures have taught of one group of a receiver's messages."""

    failed_at: int | None = (
        None  # how many messages the receiver had taken when one of this group last failed
    )
    most_entries: int = outbox.MOST_ENTRIES


@dataclass(slots=True)
class Queue:
    """What one receiver is still to be told, and how it does."""

    name: str
    settings: Settings | None = None  # None: it is not configured (any more)
    # The oldest first. Settled ones only if what is told later depends on them.
    rows: dict[str, Notification] = field(default_factory=dict)
    under_way: dict[str, Message] = field(default_factory=dict)  # may have arrived: sent until it is known
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    worker: asyncio.Task[None] | None = None
    taken: int = 0  # messages that the receiver has taken
    failures: int = 0  # in a row, of the receiver and not of one message
    paused_until: datetime | None = None
    told_at: datetime | None = None  # when a StateChannel was last told all of it
    failing_since: datetime | None = None
    last_error: str | None = None
    broken: bool = False  # and it has been logged
    _lanes: dict[Labels, _Lane] = field(default_factory=dict)
    _slot: datetime | None = None  # when the pace would allow a message after a long burst

    def pending(self) -> list[Notification]:
        """What is not settled."""
        return [row for row in self.rows.values() if not row.settled]

    def flying(self) -> set[str]:
        """Ids of the notifications that may have arrived with a message that is sent until it is known."""
        return {name for message in self.under_way.values() for name in message.settles}

    def status(self) -> QueueStatus:
        """What others may know of it."""
        pending = self.pending()
        due = (max(row.created_at, row.held_until or row.created_at) for row in pending)  # a mute is no delay
        oldest = min(due, default=None)
        return QueueStatus(
            self.name, len(pending), oldest, self.failing_since, self.last_error, self.settings is not None
        )

    def standing(self) -> outbox.Standing:
        """What the next message depends on."""
        flying = self.flying()
        waiting = tuple(row for row in self.pending() if row.id not in flying)
        return outbox.Standing(self.name, waiting, self.heard(), tuple(self.under_way.values()))

    def heard(self) -> dict[str, Alert]:
        """What it was told of and what, for all it knows, still fires; by episode, in the latest words."""
        return {
            row.alert.fingerprint: row.alert
            for row in self.rows.values()
            if row.delivered_at is not None and not row.one_shot and row.kind is not MessageKind.RESOLVED
        }

    def manner(self, group_by: tuple[str, ...], external_url: str | None) -> outbox.Manner:
        """How it is told."""
        pacing = self.settings.pacing if self.settings else Pacing()
        most = {group: lane.most_entries for group, lane in self._lanes.items()}
        return outbox.Manner(pacing.group_wait, group_by, external_url, most)

    def repeated(self, now: datetime) -> Message | None:
        """A message that may have arrived, and is sent again because it may not have."""
        due = (one for one in self.under_way.values() if not still_to_wait(one.next_attempt_at, now))
        return min(due, key=lambda message: (message.attempts, message.created_at), default=None)

    def again_at(self) -> datetime | None:
        """When the next of those is to be sent again."""
        waits = (one.next_attempt_at for one in self.under_way.values() if one.next_attempt_at is not None)
        return min(waits, default=None)

    def must_wait(self, now: datetime) -> timedelta:
        """How long the receiver is left alone, because it fails or because it was told much at once."""
        paused = still_to_wait(self.paused_until, now)
        if self.settings is None or self._slot is None:
            return paused
        spacing = timedelta(minutes=1) / self.settings.pacing.max_messages_per_minute
        return max(paused, still_to_wait(self._slot - (BURST - 1) * spacing, now))

    def take_slot(self, now: datetime) -> None:
        """A message leaves."""
        if self.settings is not None:
            spacing = timedelta(minutes=1) / self.settings.pacing.max_messages_per_minute
            self._slot = max(self._slot or now, now) + spacing

    # Receivers come and go

    def use(self, settings: Settings) -> None:
        """Tell it like this from now on. Where its channel changed it was perhaps mended: all is tried at once."""
        before, self.settings = self.settings, settings
        if before is None or before.channel != settings.channel:
            self.paused_until, self.failures, self.told_at, self._slot = None, 0, None, None
            self.rows = {row.id: replace(row, next_attempt_at=None) for row in self.rows.values()}
            self.under_way = {one.id: replace(one, next_attempt_at=None) for one in self.under_way.values()}
        if not isinstance(settings.channel, StateChannel):
            for row in [row for row in self.rows.values() if row.settled]:
                self.settle(row)
        self.woken.set()

    def retire(self) -> None:
        """The receiver is not configured: keep what waits, in case it comes back."""
        self.settings, self.broken = None, False
        self.failing_since, self.last_error, self.paused_until = None, None, None
        if pending := self.pending():
            logger.warning(
                "messages wait for a receiver that is not configured",
                extra={"receiver": self.name, "pending": len(pending)},
            )
        self.woken.set()

    # What comes of sending

    def settle(self, row: Notification) -> None:
        """It was delivered, dropped or overtaken. Keep it only if what is told later depends on it."""
        self.rows[row.id] = row
        if self.settings is not None and isinstance(self.settings.channel, StateChannel):
            return
        over = row.kind is MessageKind.RESOLVED
        if over or row.one_shot or row.delivered_at is None:
            self.rows.pop(row.id)
        if over:
            for other in [
                one for one in self.rows.values() if one.alert.fingerprint == row.alert.fingerprint
            ]:
                if other.settled:
                    self.rows.pop(other.id)

    def pause(self, error: SendError, cap: timedelta, now: datetime, jitter: Jitter) -> None:
        """Leave the receiver alone for a while: it is the receiver that fails, not a message."""
        self.failures += 1
        wait = _backoff(self.failures, cap, jitter) if error.again_helps else RETRY_CAP
        self.paused_until = now + max(wait, error.retry_after or wait)
        self._note(error, now)
        if not self.broken:
            logger.warning(
                "receiver fails",
                extra={"receiver": self.name, "reason": error.reason.value, "error": str(error)},
            )
        self.broken = True

    def failed(
        self, message: Message, error: SendError, now: datetime, jitter: Jitter, *, again: bool = False
    ) -> bool:
        """The message was not taken, as far as is known. False: it surely was not, and is one no more.

        What is to tell waits on, then, and may be told in other words. A message that may have arrived stays as
        it is. `again`: it may have arrived on an earlier try, of which this one says nothing, unless what it
        says is refused: then it was refused before.
        """
        content_refused = not error.again_helps and not error.unwelcome
        frozen = error.may_have_arrived or (again and not content_refused)
        lane = self._lanes.setdefault(message.group, _Lane())
        others_were_taken = lane.failed_at is not None and self.taken > lane.failed_at
        lane.failed_at = self.taken
        attempts, wait = message.attempts + 1, timedelta(0)
        rows = [self.rows[name] for name in message.settles if name in self.rows]
        news = any(row.next_attempt_at is None or row.last_error != str(error) for row in rows)
        several = len(message.entries) > 1
        too_much = error.too_much and (several or bool(message.still))  # also of what still fires
        if too_much or (several and others_were_taken and not frozen):
            lane.most_entries = max(1, len(message.entries) // 2)  # until it is found which of them it is
            self._note(error, now)
        elif error.unwelcome or (error.again_helps and not others_were_taken):
            self.pause(error, RETRY_CAP, now, jitter)
        else:
            wait = _backoff(attempts, RETRY_CAP, jitter) if error.again_helps else RETRY_CAP
            wait = max(wait, error.retry_after or wait)
            if news and not error.again_helps:
                logger.error(
                    "receiver refuses a message", extra=message_fields(message) | {"error": str(error)}
                )
            self._note(error, now)
        not_before = now + wait if wait else None
        for row in rows:
            if not row.settled:
                self.rows[row.id] = replace(
                    row, attempts=attempts, next_attempt_at=not_before, last_error=str(error)
                )
        if frozen:
            self.under_way[message.id] = replace(message, attempts=attempts, next_attempt_at=not_before)
            return True
        self.under_way.pop(message.id, None)
        return False

    def postpone(self, row: Notification, error: SendError, now: datetime) -> None:
        """A StateChannel refuses this one."""
        self.rows[row.id] = replace(
            row, attempts=row.attempts + 1, next_attempt_at=now + RETRY_CAP, last_error=str(error)
        )
        if row.attempts == 0:
            self._note(error, now)
            logger.error("receiver refuses a message", extra=log_fields(row) | {"error": str(error)})

    def took(self, message: Message) -> None:
        """The receiver has taken this message."""
        self.under_way.pop(message.id, None)
        self.taken += 1
        lane = self._lanes.get(message.group)
        if lane is not None:
            lane.most_entries = min(outbox.MOST_ENTRIES, 2 * lane.most_entries)
            if lane.most_entries == outbox.MOST_ENTRIES:
                del self._lanes[message.group]
        self.works()

    def works(self) -> None:
        """The receiver has taken something."""
        if self.broken:
            logger.info("receiver works again", extra={"receiver": self.name, "since": self.failing_since})
        self.broken, self.failures, self.paused_until = False, 0, None
        self.failing_since, self.last_error = None, None

    def _note(self, error: SendError, now: datetime) -> None:
        self.failing_since = self.failing_since or now
        self.last_error = str(error)

    def to_drop(self, now: datetime) -> list[Notification]:
        """What has waited too long. After a long standstill of ours everything is old: it has its chance first."""
        give_up_after = (self.settings.pacing if self.settings else Pacing()).give_up_after
        state = self.settings is not None and isinstance(self.settings.channel, StateChannel)
        ends = {row.alert.fingerprint: row for row in self.pending() if row.kind is MessageKind.RESOLVED}
        dropped = []
        for row in outbox.given_up(self.pending(), give_up_after, now):
            tried = row.attempts > 0 or self.failing_since is not None or self.settings is None
            # What is told together with its end is as old as that; what still holds is worth telling where
            # it is told as a state.
            end = ends.get(row.alert.fingerprint)
            told_with_it = end is not None and not outbox.given_up([end], give_up_after, now)
            holds = state and end is None and not row.one_shot
            if tried and not told_with_it and not holds:
                dropped.append(row)
        return dropped

    def thawed(self, dropped: Iterable[Notification]) -> tuple[str, ...]:
        """Messages that hold what is given up are ones no more; their ids."""
        given_up = {row.id for row in dropped}
        found = tuple(one.id for one in self.under_way.values() if given_up.intersection(one.settles))
        for name in found:
            del self.under_way[name]
        return found


def log_fields(row: Notification) -> dict[str, str]:
    """What a log line says of a notification."""
    return {
        "receiver": row.receiver,
        "kind": row.kind.value,
        "alert": dict(row.alert.labels).get("alertname", ""),
        "notification": row.id,
    }


def message_fields(message: Message) -> dict[str, object]:
    """What a log line says of a message."""
    names = {dict(entry.alert.labels).get("alertname", "") for entry in message.entries}
    return {
        "receiver": message.receiver,
        "message_id": message.id,
        "alerts": ",".join(sorted(names)),
        "count": len(message.entries),
    }


def _backoff(failures: int, cap: timedelta, jitter: Jitter) -> timedelta:
    top = min(cap, FIRST_RETRY * 2 ** min(failures - 1, 30))
    return timedelta(seconds=jitter(top.total_seconds()))
