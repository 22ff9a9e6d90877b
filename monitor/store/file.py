"""The content of the state file: its tables, read, written, pruned, and begun anew when it is damaged.

Everything here blocks and is called from the store's one thread. It knows no event loop.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from monitor.model import Message, Mute, Notification
from monitor.store import disk, schema
from monitor.store.disk import StoreError
from monitor.store.records import (
    ACCOUNT,
    BATCH,
    MESSAGE,
    NOTIFICATION,
    AccountRecord,
    AccountState,
    BatchRecord,
    Contents,
    decode,
    encode,
    packed,
)

KEEP_DROPPED = timedelta(hours=24)
"""How long the history of a batch that left the configuration is kept, in case it comes back."""

KEEP_SETTLED = timedelta(days=7)
"""How long a message that was delivered or dropped is kept on record."""

KEEP_FIRING = timedelta(days=90)
"""The same for the firing message of an alert that has not ended: what Alertmanager is told depends on it."""

RECENT_SETTLED = timedelta(hours=2)
"""Notifications settled this recently are loaded: Alertmanager is still told of them, for up to an hour."""

RECENT_COUNT = 200
"""So many of the latest messages are loaded whatever became of them, for those who look."""

RETELL_ENDS = timedelta(hours=24)
"""When the file was lost, ends this recent are told again: twice is better than never."""


class _DamagedError(Exception):
    """The content of the file cannot be read."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What was wrong with the file that was found, and where it is now."""

    why: str
    set_aside: Path


class StateFile:
    """The open file, locked for this process. With path None it lives in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._lock: int | None = None

    def open(self, now: datetime) -> tuple[Contents, Damage | None]:
        """Lock and read it. StoreError when it cannot be used; what is damaged is set aside, never deleted."""
        if self._path is None:
            self._db = disk.connect(":memory:")
            return _load(self._db, now), None
        try:
            self._lock = disk.take(self._path)
            self._db = disk.connect(self._path)
            try:
                return _load(self._db, now), None
            except _DamagedError as error:
                why = str(error)
            self._db.close()
            damage = Damage(why, disk.set_aside(self._path, now))
            self._db = disk.connect(self._path)
            return replace(_load(self._db, now), ends_since=now - RETELL_ENDS), damage
        except StoreError as error:
            self.close()
            raise StoreError(f"state file {self._path}: {error}") from None
        except (sqlite3.Error, OSError) as error:
            self.close()
            said = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise StoreError(
                f"state file {self._path}: {said}; storage.path must name a file that this user may write, "
                "on a disk with room"
            ) from error

    def write(
        self,
        batches: Iterable[BatchRecord],
        accounts: Iterable[AccountRecord],
        notifications: Iterable[Notification],
        *,
        messages: Mapping[str, Message | None] = {},
        mutes: Iterable[Mute] = (),
        prune_at: datetime | None,
    ) -> None:
        """All of it in one transaction. sqlite3.Error or OSError: none of it is written.

        `messages`: by id; None is one that is done with.
        """
        if self._db is None:
            raise OSError("the state file is not open")
        with _Transaction(self._db) as db:
            db.executemany(schema.UPSERT_BATCH, map(_batch_row, batches))
            db.executemany(
                "REPLACE INTO accounts VALUES (?, ?)",
                ((account.name, encode(ACCOUNT, account)) for account in accounts),
            )
            db.executemany(
                "REPLACE INTO notifications VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                map(_notification_row, notifications),
            )
            for name, message in messages.items():
                if message is None:
                    db.execute("DELETE FROM messages WHERE id = ?", (name,))
                else:
                    db.execute("REPLACE INTO messages VALUES (?, ?)", (name, encode(MESSAGE, message)))
            db.executemany(
                "REPLACE INTO mutes VALUES (?, ?)", ((mute.batch_id, _seconds(mute.until)) for mute in mutes)
            )
            if prune_at is not None:
                _prune(db, prune_at)

    def forget(self, state: AccountState) -> None:
        """Delete these records of an account, its notifications too. sqlite3.Error or OSError: none is deleted."""
        if self._db is None:
            raise OSError("the state file is not open")
        keys = [(record.key.agent_id, record.key.batch_id) for record in state.batches]
        with _Transaction(self._db) as db:
            db.execute("DELETE FROM accounts WHERE name = ?", (state.account.name,))
            db.executemany("DELETE FROM batches WHERE agent_id = ? AND batch_id = ?", keys)
            db.executemany(
                "DELETE FROM notifications WHERE id = ?", [(row.id,) for row in state.notifications]
            )

    def history(
        self, batch_id: str | None, receiver: str | None, before: datetime | None, count: int
    ) -> tuple[Notification, ...]:
        """What is on record, the newest first. `batch_id`: or the beginning of one. sqlite3.Error."""
        if self._db is None:
            return ()
        wanted = {"batch_id": batch_id, "receiver": receiver, "before": _seconds(before), "count": count}
        return tuple(decode(NOTIFICATION, text) for (text,) in self._db.execute(schema.HISTORY, wanted))

    def close(self) -> None:
        """Let go of it. Closing twice does nothing."""
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class _Transaction:
    """BEGIN to COMMIT; whatever goes wrong, the connection is fit for the next one."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def _load(db: sqlite3.Connection, now: datetime) -> Contents:
    try:
        _prepare(db, now)
        notifications = db.execute(
            schema.LOAD_NOTIFICATIONS, {"recently": (now - RECENT_SETTLED).timestamp(), "count": RECENT_COUNT}
        )
        return Contents(
            notifications=tuple(decode(NOTIFICATION, text) for (text,) in notifications),
            batches=tuple(decode(BATCH, text) for (text,) in db.execute("SELECT record FROM batches")),
            accounts=tuple(decode(ACCOUNT, text) for (text,) in db.execute("SELECT record FROM accounts")),
            messages=tuple(decode(MESSAGE, text) for (text,) in db.execute("SELECT record FROM messages")),
            mutes=tuple(
                Mute(batch_id, _instant(until))
                for batch_id, until in db.execute("SELECT batch_id, until FROM mutes")
            ),
        )
    except sqlite3.Error as error:
        # SQLITE_ERROR: a table or a column that should be there is not. No code: Python's own, of text that
        # is not UTF-8. Anything else is the disk's trouble.
        bad = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in bad:
            raise _DamagedError(str(error)) from error
        raise
    except (ValueError, TypeError, OverflowError, RecursionError):
        # Of json, pydantic and datetime; some quote the content. A column may hold another type than it says.
        raise _DamagedError("a record cannot be read") from None


def _prepare(db: sqlite3.Connection, now: datetime) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    new = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not new and db.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
        raise StoreError("it is another program's database; storage.path must name a file of its own")
    if version > schema.VERSION:
        raise StoreError(
            f"a newer version of this monitor wrote it (schema {version}, this one knows {schema.VERSION}); "
            "run that version, or move the file away to start without it"
        )
    found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]  # the quick one looks into no index
    if found != "ok":
        raise _DamagedError(found)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # a commit that has returned survives a power cut
    if not new and version < schema.VERSION:
        disk.back_up(db, version)
    with _Transaction(db):
        older = (
            *(schema.FROM_1 if version == 1 else ()),
            *(schema.FROM_2 if version < schema.VERSION else ()),
        )
        db.create_function("packed", 1, packed, deterministic=True)
        for statement in schema.CREATE if new else older:
            db.execute(statement)
        _prune(db, now)


def _prune(db: sqlite3.Connection, now: datetime) -> None:
    db.execute("DELETE FROM batches WHERE dropped_at < ?", ((now - KEEP_DROPPED).timestamp(),))
    db.execute("DELETE FROM mutes WHERE until < ?", (now.timestamp(),))
    db.execute(
        schema.PRUNE_NOTIFICATIONS,
        {
            "long_ago": (now - KEEP_SETTLED).timestamp(),
            "very_long_ago": (now - KEEP_FIRING).timestamp(),
        },
    )


def _batch_row(batch: BatchRecord) -> tuple[object, ...]:
    return (batch.key.agent_id, batch.key.batch_id, _seconds(batch.dropped_at), encode(BATCH, batch))


def _notification_row(notification: Notification) -> tuple[object, ...]:
    return (
        notification.id,
        notification.receiver,
        notification.alert.fingerprint,
        notification.kind.value,
        int(notification.one_shot),
        _seconds(notification.created_at),
        _seconds(notification.settled_at),
        encode(NOTIFICATION, notification),
        dict(notification.alert.labels).get("batch_id"),
    )


def _instant(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except OSError as error:  # of the C library's calendar, not of the disk
        raise ValueError("no instant") from error


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
