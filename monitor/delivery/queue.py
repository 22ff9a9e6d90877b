"""One receiver's queue: what waits, how long it waits after a failure, when it is given up.

No sending, no storing and no clock here: the instant is an argument, as is chance.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from monitor.model import Labels, MessageKind, Notification, QueueStatus
from monitor.notify.channel import Channel, SendError, StateChannel, still_to_wait

logger = logging.getLogger(__name__)

FIRST_RETRY = timedelta(seconds=1)
"""Doubled with every failure. The wait is drawn from 0 up to it (full jitter)."""

RETRY_CAP = timedelta(minutes=5)
"""No wait is longer, unless the receiver asks for it. A refused message waits this long every time."""

GIVE_UP_AFTER = timedelta(hours=24)
"""A message that was not taken for so long is dropped, loudly. One that still holds true never is."""

Jitter = Callable[[float], float]
"""Given the longest wait in seconds, the wait. Tests pass one without chance."""


@dataclass(slots=True)
class Queue:
    """What one receiver is still to be told, and how it does."""

    name: str
    channel: Channel | None = None  # None: it is not configured (any more)
    rows: dict[str, Notification] = field(
        default_factory=dict
    )  # the oldest first; settled ones only if needed
    unheard: set[str] = field(default_factory=set)  # episodes of which every message so far was dropped
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    worker: asyncio.Task[None] | None = None
    failures: int = 0  # in a row, of the receiver and not of one message
    paused_until: datetime | None = None
    told_at: datetime | None = None  # when a StateChannel was last told all of it
    failing_since: datetime | None = None
    last_error: str | None = None
    broken: bool = False  # and it has been logged

    def pending(self) -> list[Notification]:
        """What is neither delivered nor dropped."""
        return [row for row in self.rows.values() if not row.settled]

    def status(self) -> QueueStatus:
        """What others may know of it."""
        pending = self.pending()
        oldest = min((row.created_at for row in pending), default=None)
        return QueueStatus(self.name, len(pending), oldest, self.failing_since, self.last_error)

    def lanes(self) -> list[list[Notification]]:
        """What waits, by alert: what is said of one alert is never reordered, episodes included.

        What has failed before lets the others go first: a poisonous message holds up its own alert only.
        """
        lanes: dict[Labels, list[Notification]] = defaultdict(list)
        for row in self.pending():
            lanes[row.alert.labels].append(row)
        return sorted(lanes.values(), key=lambda lane: (lane[0].attempts, lane[0].created_at))

    def next_due(self, now: datetime) -> timedelta | None:
        """How long until the first message may be tried; None: nothing waits."""
        return min((still_to_wait(lane[0].next_attempt_at, now) for lane in self.lanes()), default=None)

    # Receivers come and go

    def take_up(self, channel: Channel, still_firing: Collection[str]) -> None:
        """The receiver is configured (again): keep what this kind of channel has a use for."""
        if isinstance(channel, StateChannel):
            # An alert that ended while its receiver was not configured has left no message of its end.
            # Only a restart can tell whether it still fires; without, better it lapses than fires for ever.
            alive = {*still_firing, *self._ends()}
            self.rows = {r.id: r for r in self.rows.values() if r.one_shot or r.alert.fingerprint in alive}
        else:
            self.rows = {row.id: row for row in self.pending()}

    def use(self, channel: Channel) -> None:
        """Send through this from now on. Perhaps it was mended: what was refused is tried at once."""
        self.channel, self.paused_until, self.failures, self.told_at = channel, None, 0, None
        self.rows = {row.id: replace(row, next_attempt_at=None) for row in self.rows.values()}
        self.woken.set()

    def retire(self) -> None:
        """The receiver is not configured: keep what waits, in case it comes back."""
        self.channel, self.broken = None, False
        self.failing_since, self.last_error, self.paused_until = None, None, None
        self.rows = {row.id: row for row in self.pending()}
        if self.rows:
            logger.warning(
                "messages wait for a receiver that is not configured",
                extra={"receiver": self.name, "pending": len(self.rows)},
            )
        self.woken.set()

    # What comes of sending

    def settle(self, row: Notification) -> None:
        """It was delivered or dropped."""
        if row.delivered_at is not None or row.kind is MessageKind.RESOLVED:
            self.unheard.discard(row.alert.fingerprint)
        else:
            self.unheard.add(row.alert.fingerprint)
        if isinstance(self.channel, StateChannel):
            self.rows[row.id] = row
        else:
            self.rows.pop(row.id, None)

    def pause(self, error: SendError, cap: timedelta, now: datetime, jitter: Jitter) -> None:
        """Leave the receiver alone for a while: it is the receiver that fails, not a message."""
        self.failures += 1
        wait = _backoff(self.failures, cap, jitter)
        self.paused_until = now + max(wait, error.retry_after or wait)
        self.failing_since = self.failing_since or now
        self.last_error = str(error)
        if not self.broken:
            logger.warning(
                "receiver fails",
                extra={"receiver": self.name, "reason": error.reason.value, "error": str(error)},
            )
        self.broken = True

    def postpone(self, row: Notification, error: SendError, now: datetime, jitter: Jitter) -> None:
        """Try this message again later."""
        attempts = row.attempts + 1
        wait = _backoff(attempts, RETRY_CAP, jitter) if error.again_helps else RETRY_CAP
        wait = max(wait, error.retry_after or wait)
        self.rows[row.id] = replace(row, attempts=attempts, next_attempt_at=now + wait, last_error=str(error))
        if not error.again_helps and attempts == 1:
            self.failing_since = self.failing_since or now
            self.last_error = str(error)
            logger.error("receiver refuses a message", extra=log_fields(row) | {"error": str(error)})

    def works(self) -> None:
        """The receiver has taken something."""
        if self.broken:
            logger.info("receiver works again", extra={"receiver": self.name, "since": self.failing_since})
        self.broken, self.failures, self.paused_until = False, 0, None
        self.failing_since, self.last_error = None, None

    def to_drop(self, now: datetime) -> list[Notification]:
        """What has waited too long, and the end of what was never heard of."""
        ends, unheard = self._ends(), set(self.unheard)
        dropped = []
        for row in self.pending():
            episode, latest = row.alert.fingerprint, row
            if isinstance(self.channel, StateChannel) and not row.one_shot:
                if episode not in ends:
                    continue  # it still fires: as long as it is true it is worth telling
                latest = ends[episode]
            # After a long standstill of ours everything is old: it has its chance before it goes.
            tried = row.attempts > 0 or self.failing_since is not None or self.channel is None
            if row.kind is MessageKind.RESOLVED and episode in unheard:
                dropped.append(row)
            elif tried and now - latest.created_at >= GIVE_UP_AFTER:
                dropped.append(row)
                unheard.add(episode)
            else:
                unheard.discard(episode)  # this one may still be heard
        return dropped

    def _ends(self) -> dict[str, Notification]:
        rows: Iterable[Notification] = self.rows.values()
        return {row.alert.fingerprint: row for row in rows if row.kind is MessageKind.RESOLVED}


def log_fields(row: Notification) -> dict[str, str]:
    """What a log line says of a message."""
    return {
        "receiver": row.receiver,
        "kind": row.kind.value,
        "alert": dict(row.alert.labels).get("alertname", ""),
        "notification": row.id,
    }


def _backoff(failures: int, cap: timedelta, jitter: Jitter) -> timedelta:
    top = min(cap, FIRST_RETRY * 2 ** min(failures - 1, 30))
    return timedelta(seconds=jitter(top.total_seconds()))
