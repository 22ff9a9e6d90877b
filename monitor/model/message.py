"""What is told: one thing to tell one receiver, what is posted in one go, and how a receiver's queue stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from monitor.model.alert import Alert, AlertName, Labels, MessageKind


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing to tell one receiver: a row of the outbox, and later of the record of what was told.

    It is settled when it was delivered, dropped, or overtaken: when there was nothing left to tell.
    """

    id: str
    receiver: str
    kind: MessageKind
    alert: Alert
    created_at: datetime
    one_shot: bool = False
    superseded_by: AlertName | None = None  # an end that is told with the alert that says more
    attempts: int = 0
    next_attempt_at: datetime | None = None  # None: at once
    held_since: datetime | None = None  # when the latest mute began to hold it
    held_until: datetime | None = None  # a mute holds it, or held it, until then
    message_id: str | None = None  # of the message that delivered it: its Idempotency-Key
    delivered_at: datetime | None = None
    dropped_at: datetime | None = None
    overtaken_at: datetime | None = None
    overtaken: str | None = None  # why there was nothing left to tell
    last_error: str | None = None

    @property
    def settled_at(self) -> datetime | None:
        """When it was done with. None: it waits."""
        return self.delivered_at or self.dropped_at or self.overtaken_at

    @property
    def settled(self) -> bool:
        return self.settled_at is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """What a message says of one alert."""

    kind: MessageKind
    alert: Alert
    settles: tuple[str, ...]  # ids of the notifications that are delivered with it
    superseded_by: AlertName | None = None
    belated: bool = False  # it began and ended while its receiver could not be told: both are told at once


@dataclass(frozen=True, slots=True)
class Message:
    """What one receiver is told in one go. Under its id it says the same on every try."""

    id: str  # the Idempotency-Key
    receiver: str
    created_at: datetime
    group: Labels  # what its alerts have in common, as their receiver groups them
    entries: tuple[Entry, ...]  # what is new, the oldest first
    still: tuple[Alert, ...] = ()  # what was told before and fires on
    left_out: int = 0  # so many more fire on
    external_url: str | None = None
    attempts: int = 0
    next_attempt_at: datetime | None = None  # None: at once

    @property
    def fires(self) -> bool:
        """Whether anything that it tells of fires."""
        return bool(self.still) or any(entry.kind is not MessageKind.RESOLVED for entry in self.entries)

    @property
    def settles(self) -> tuple[str, ...]:
        """Ids of the notifications that are delivered with it."""
        return tuple(one for entry in self.entries for one in entry.settles)


@dataclass(frozen=True, slots=True)
class Mute:
    """A batch of which nobody is told anything until then."""

    batch_id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """One receiver's queue."""

    receiver: str
    pending: int = 0
    oldest_pending_at: datetime | None = None
    failing_since: datetime | None = None
    last_error: str | None = None
    configured: bool = True
