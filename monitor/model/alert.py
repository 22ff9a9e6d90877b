"""Alerts: which there are, where one stands between two steps, and how receivers see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class AlertName(StrEnum):
    """The label `alertname`. Receivers match on these: never rename one."""

    BATCH_STALLED = "BatchStalled"
    BATCH_ENDED = "BatchEnded"
    BATCH_ENDED_INCOMPLETE = "BatchEndedIncomplete"
    BATCH_OVERDUE = "BatchOverdue"
    BATCH_WINDOW_AT_RISK = "BatchWindowAtRisk"
    BATCH_FAILURE_RATE_HIGH = "BatchFailureRateHigh"
    BATCH_PAUSED_TOO_LONG = "BatchPausedTooLong"
    BATCH_UNREACHABLE = "BatchUnreachable"
    BATCH_GONE = "BatchGone"
    ACCOUNT_UNREACHABLE = "AccountUnreachable"
    ACCOUNT_KEY_REJECTED = "AccountKeyRejected"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Phase(StrEnum):
    """Where an alert stands; an alert that is not there at all is inactive."""

    PENDING = "pending"
    FIRING = "firing"
    TOLD = "told"  # a one-shot whose hour is over: kept so that the same end is never told twice


class MessageKind(StrEnum):
    """Why a message is sent."""

    FIRING = "firing"
    REMINDER = "reminder"
    RESOLVED = "resolved"


class Resolution(StrEnum):
    """Why an alert stopped firing: the first word of its last message."""

    RECOVERED = "recovered"
    PAUSED = "paused"
    ENDED = "ended"
    WINDOW_CLOSED = "window closed"
    SUPERSEDED = "superseded"
    NO_LONGER_WATCHED = "no longer watched"


Labels = tuple[tuple[str, str], ...]
"""Label pairs, sorted by name: hashable, and equal when they mean the same."""


@dataclass(frozen=True, slots=True)
class AlertState:
    """One alert of one subject between two steps. It survives a restart."""

    name: AlertName
    phase: Phase
    since: datetime  # pending: when the condition began; firing: when it fired (`startsAt`)
    severity: Severity
    clear_since: datetime | None = None  # firing, but the condition has not held since
    notified_at: datetime | None = None  # when the latest message was queued, for reminders
    occurrence: datetime | None = None  # one-shots: the latest endedAt that was told
    labels: Labels = ()  # frozen when it fired: a rename must not close and reopen it
    annotations: Labels = ()
    receivers: tuple[str, ...] = ()  # who was told of the firing: exactly these hear of the end


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as receivers see it."""

    labels: Labels
    annotations: Labels
    starts_at: datetime
    ends_at: datetime | None = None  # None: it fires

    @property
    def fingerprint(self) -> str:
        """Stable name of this episode of this alert: the same for its firing, its reminders and its end."""
        pairs = ",".join(f"{name}={value!r}" for name, value in self.labels)
        return f"{pairs}@{self.starts_at.isoformat()}"
