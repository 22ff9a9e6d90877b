"""What survives a restart, and nothing else does: progress, alert states, the outbox. One SQLite file.

Nothing is decided here: it writes what it is given. Changes that arrive while it writes are merged
and go into the next transaction together, the latest record of each key winning, so a disk that is
slow or full holds up nobody and fills no memory.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from monitor.clock import Clock
from monitor.model import BatchKey, Message, Mute, Notification
from monitor.store.disk import StoreError
from monitor.store.file import KEEP_DROPPED, StateFile
from monitor.store.records import AccountRecord, AccountState, BatchRecord, Change, Contents
from monitor.store.worker import Worker

__all__ = [
    "KEEP_DROPPED",
    "AccountRecord",
    "AccountState",
    "BatchRecord",
    "Change",
    "Contents",
    "Store",
    "StoreError",
]

logger = logging.getLogger(__name__)

COMMIT_PATIENCE = 2.0
"""Seconds a commit waits for the disk. After that its change is still written, in order, but nobody waits."""

NOTED_WITHIN = 5.0
"""Seconds after which at the latest it is written what was noted: so much of what was seen a kill may undo."""

CLOSE_PATIENCE = timedelta(seconds=5)
"""How long closing waits for the disk."""


@dataclass(slots=True)
class _Pending:
    """What is still to be written: the latest record of each key."""

    batches: dict[BatchKey, BatchRecord] = field(default_factory=dict)
    accounts: dict[str, AccountRecord] = field(default_factory=dict)
    notifications: dict[str, Notification] = field(default_factory=dict)
    messages: dict[str, Message | None] = field(default_factory=dict)  # None: done with
    mutes: dict[str, Mute] = field(default_factory=dict)
    prune: bool = False

    def __bool__(self) -> bool:
        return bool(
            self.batches or self.accounts or self.notifications or self.messages or self.mutes or self.prune
        )

    def add(self, change: Change) -> None:
        self.batches.update((record.key, record) for record in change.batches)
        self.accounts.update((record.name, record) for record in change.accounts)
        self.notifications.update((record.id, record) for record in change.notifications)
        self.messages.update((message.id, message) for message in change.messages)
        self.messages.update(dict.fromkeys(change.done_messages))
        self.mutes.update((mute.batch_id, mute) for mute in change.mutes)

    def put_back(self, older: _Pending) -> None:
        """Take up what could not be written; what came since wins."""
        self.batches = older.batches | self.batches
        self.accounts = older.accounts | self.accounts
        self.notifications = older.notifications | self.notifications
        self.messages = older.messages | self.messages
        self.mutes = older.mutes | self.mutes
        self.prune = older.prune or self.prune


class Store:
    """The state file; with path None it lives in memory and nothing survives.

    Used from one event loop. `writable` is False from a write that failed, or that kept its caller
    waiting too long, to the next one that succeeds.
    """

    def __init__(self, path: Path | None, *, clock: Clock) -> None:
        self.writable = True
        self._path = path
        self._clock = clock
        self._file = StateFile(path)
        self._thread = Worker("store")  # the only one that touches the file
        self._pending = _Pending()
        self._ticket: asyncio.Future[bool] | None = None  # of the transaction that takes what is pending
        self._writer: asyncio.Task[None] | None = None
        self._noted: asyncio.TimerHandle | None = None
        self._late = False
        self._closed = False

    async def open(self) -> Contents:
        """Take the file for this process alone and read it. StoreError when that cannot be.

        A file that is damaged is set aside, not deleted, and a new one begun.
        """
        contents, damage = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._file.open, self._clock()
        )
        if damage is not None:
            logger.error(
                "STATE FILE IS DAMAGED, it was set aside and a new one begun; "
                "the last day's ends are told again",
                extra={"path": self._path, "set_aside": damage.set_aside, "error": damage.why},
            )
        return contents

    async def commit(self, change: Change) -> bool:
        """Write all of it in one transaction. True: it is on disk.

        Never raises for the disk's trouble and never waits longer than COMMIT_PATIENCE: what could
        not be written is kept, and written with the next commit.
        """
        self._pending.add(change)
        return await self._written()

    def note(self, batches: Iterable[BatchRecord]) -> None:
        """Have these written together with what comes next, within NOTED_WITHIN: nobody waits for them.

        For observations that change nothing but numbers: after a kill, the next one tells as much.
        """
        self._pending.batches.update((record.key, record) for record in batches)
        if self._noted is None and not self._closed:
            self._noted = asyncio.get_running_loop().call_later(NOTED_WITHIN, self._write_noted)

    async def forget(self, state: AccountState) -> bool:
        """Delete what another process keeps from now on. False: the disk did not take that; try it again later."""
        await self._written()  # nothing that is still to be written brings it back
        forget = partial(self._file.forget, state)
        try:
            async with asyncio.timeout(COMMIT_PATIENCE):
                await asyncio.get_running_loop().run_in_executor(self._thread, forget)
        except (sqlite3.Error, OSError) as error:  # TimeoutError is one
            logger.warning(
                "state cannot be deleted", extra={"path": self._path, "error": type(error).__name__}
            )
            return False
        return True

    async def prune(self) -> None:
        """Delete what has been kept long enough. Also another try for what could not be written."""
        self._pending.prune = True
        await self._written()

    async def history(
        self,
        *,
        batch_id: str | None = None,
        receiver: str | None = None,
        before: datetime | None = None,
        count: int,
    ) -> tuple[Notification, ...] | None:
        """What is on record of who was told what, the newest first; without what is still to be written.

        `batch_id`: or the beginning of one. None: the file cannot be read now, as the log says. Closed, it is empty.
        """
        if self._closed:
            return ()
        read = partial(self._file.history, batch_id, receiver, before, count)
        try:
            async with asyncio.timeout(COMMIT_PATIENCE):
                return await asyncio.get_running_loop().run_in_executor(self._thread, read)
        except (sqlite3.Error, ValueError, TimeoutError) as error:
            logger.warning(
                "the record cannot be read", extra={"path": self._path, "error": type(error).__name__}
            )
            return None

    async def close(self, patience: timedelta = CLOSE_PATIENCE) -> None:
        """Write what is left and let go of the file, both within `patience`. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._noted is not None:
            self._noted.cancel()
        loop = asyncio.get_running_loop()
        until = loop.time() + patience.total_seconds()
        if self._pending and (self._writer is None or self._writer.done()):
            self._writer = asyncio.create_task(self._write_pending())
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=until - loop.time())
        if self._pending or (self._writer is not None and not self._writer.done()):
            logger.error("the latest state was not written before the end", extra={"path": self._path})
        closing = loop.run_in_executor(self._thread, self._file.close)
        await asyncio.wait({closing}, timeout=max(0.0, until - loop.time()))
        self._thread.shutdown(wait=False)

    def _write_noted(self) -> None:
        self._noted = None
        if self._pending and (self._writer is None or self._writer.done()):
            self._writer = asyncio.create_task(self._write_pending())

    async def _written(self) -> bool:
        """Wait for the transaction that takes what is pending now, if there is one to wait for."""
        if not self._pending:
            return self.writable
        if self._ticket is None:
            self._ticket = asyncio.get_running_loop().create_future()
        ticket = self._ticket
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_pending())
        if self._late:  # somebody has waited long enough for this disk; one is enough
            return False
        # asyncio.wait leaves the ticket alone when it times out and when the caller is cancelled.
        done, _ = await asyncio.wait({ticket}, timeout=COMMIT_PATIENCE)
        if not done:
            self._late = True
            self._trouble("no answer from the disk")
        return ticket in done and ticket.result()

    async def _write_pending(self) -> None:
        while self._pending:
            work, self._pending = self._pending, _Pending()
            ticket, self._ticket = self._ticket, None
            try:
                await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._write, work, self._clock()
                )
            except Exception as error:  # noqa: BLE001 - whatever it is, monitoring goes on without the disk
                self._late = False
                self._trouble(str(error) if isinstance(error, sqlite3.Error | OSError) else repr(error))
                self._pending.put_back(work)
                # Who came during the write hears of its failure too: their change waits with the rest.
                _answer(ticket, written=False)
                _answer(self._ticket, written=False)
                self._ticket = None
                return
            self._late = False
            self._recovered()
            _answer(ticket, written=True)

    def _write(self, work: _Pending, now: datetime) -> None:
        self._file.write(
            work.batches.values(),
            work.accounts.values(),
            work.notifications.values(),
            messages=work.messages,
            mutes=work.mutes.values(),
            prune_at=now if work.prune else None,
        )

    def _trouble(self, why: str) -> None:
        if self.writable:
            logger.error(
                "state cannot be written; monitoring goes on, but a restart now would forget",
                extra={"path": self._path, "error": why},
            )
        self.writable = False

    def _recovered(self) -> None:
        if not self.writable:
            logger.info("state is written again", extra={"path": self._path})
        self.writable = True


def _answer(ticket: asyncio.Future[bool] | None, *, written: bool) -> None:
    if ticket is not None:
        ticket.set_result(written)
