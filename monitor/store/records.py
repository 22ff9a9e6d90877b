"""What is remembered, as values, and as the JSON that stands for them in the state file.

No file is touched here.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from monitor.model import (
    NO_CHANGES,
    AccountStatus,
    AlertState,
    Assessment,
    BatchKey,
    Changes,
    Curve,
    Failing,
    Message,
    Mute,
    Notification,
    Outcomes,
    Progress,
    State,
    StateChange,
    Status,
)


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What is remembered of one batch."""

    key: BatchKey
    account: str
    batch: str  # the name people read
    progress: Progress | None = None
    failing: Failing | None = None
    last_success_at: datetime | None = None
    alerts: tuple[AlertState, ...] = ()
    dropped_at: datetime | None = None  # since when it is no longer watched
    outcomes: Outcomes | None = None
    changes: Changes = NO_CHANGES
    agent: str = ""  # the name people read
    assessment: Assessment | None = None  # as it was last judged

    @classmethod
    def of(cls, status: Status) -> Self:
        """What is to be remembered of a batch that stands like this."""
        return cls(
            status.key,
            status.target.account,
            status.batch,
            status.progress,
            status.failing,
            status.last_success_at,
            status.alerts,
            outcomes=status.outcomes,
            changes=status.changes,
            agent=status.agent,
            assessment=status.assessment,
        )


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """What is remembered of one account."""

    name: str
    watched_since: datetime
    last_success_at: datetime | None = None
    failing: Failing | None = None
    alerts: tuple[AlertState, ...] = ()
    active_calls: int | None = None
    allowed_concurrent_calls: int | None = None

    @classmethod
    def of(cls, status: AccountStatus) -> Self:
        """What is to be remembered of an account that stands like this."""
        return cls(
            status.name,
            status.watched_since,
            status.last_success_at,
            status.failing,
            status.alerts,
            status.active_calls,
            status.allowed_concurrent_calls,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """Records that belong together: all of them are on disk, or none."""

    batches: tuple[BatchRecord, ...] = ()
    accounts: tuple[AccountRecord, ...] = ()
    notifications: tuple[Notification, ...] = ()
    messages: tuple[Message, ...] = ()  # about to be sent
    done_messages: tuple[
        str, ...
    ] = ()  # ids of those that are so no longer: what is to tell is in the notifications
    mutes: tuple[Mute, ...] = ()  # of a batch, the latest counts; one that is over is forgotten


@dataclass(frozen=True, slots=True)
class Contents:
    """All that was remembered."""

    batches: tuple[BatchRecord, ...] = ()  # those no longer watched included, for a day
    accounts: tuple[AccountRecord, ...] = ()
    notifications: tuple[Notification, ...] = ()  # the oldest first
    messages: tuple[Message, ...] = ()  # these may have arrived
    mutes: tuple[Mute, ...] = ()
    ends_since: datetime | None = None  # the file was lost: ends after this are to be told (again)


@dataclass(frozen=True, slots=True)
class AccountState:
    """All that is remembered of one account, for another process that is to watch it from now on."""

    account: AccountRecord
    batches: tuple[BatchRecord, ...] = ()
    notifications: tuple[
        Notification, ...
    ] = ()  # the oldest first: what waits, and what later ends depend on
    mutes: tuple[Mute, ...] = ()


_Noun = TypeVar("_Noun")

BATCH = TypeAdapter(BatchRecord)
ACCOUNT = TypeAdapter(AccountRecord)
NOTIFICATION = TypeAdapter(Notification)
MESSAGE = TypeAdapter(Message)
ACCOUNT_STATE = TypeAdapter(AccountState)


def encode(adapter: TypeAdapter[Any], record: object) -> str:
    """The JSON of a record."""
    try:
        return adapter.dump_json(record).decode()
    except PydanticSerializationError:  # it refuses the lone surrogates that an API may put into a name
        return json.dumps(adapter.dump_python(record, mode="json"), separators=(",", ":"))


def decode(adapter: TypeAdapter[_Noun], text: str) -> _Noun:
    """The record again. ValueError when the text is not one."""
    try:
        return adapter.validate_json(text)
    except ValidationError:  # it refuses them here, too
        return adapter.validate_python(json.loads(text))


def packed(text: str) -> str:
    """The JSON of a batch as schema 3 has it, from that of schema 2: curves and changes were lists. ValueError."""
    record = json.loads(text)
    progress = record.get("progress") or {}
    samples = [(one["expected_seconds"], one["completed"]) for one in progress.get("samples") or ()]
    for name, points in (("samples", samples), ("curve", progress.get("curve") or ())):
        if points:
            progress[name] = {"packed": base64.urlsafe_b64encode(Curve.of(points).packed).decode()}
        else:
            progress.pop(name, None)
    if changes := record.pop("changes", None):
        known = [
            StateChange(datetime.fromisoformat(one["at"]), State(one["state"]), one["why"]) for one in changes
        ]
        record["changes"] = {"packed": Changes.of(known).packed}
    return json.dumps(record, separators=(",", ":"))
