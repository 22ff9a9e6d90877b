"""What a message should say beside its numbers: the outcomes of a batch's calls, and why they failed.

It is asked for where an alert is about to be told, and waited for a little; and the outcomes of what is under way, now
and then. Whatever cannot be had stays as it was known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from monitor import causes
from monitor.decisions import Told
from monitor.model import AlertName, BatchKey, FailedCalls, MessageKind, State, Status, Urgency
from monitor.poller.account import Account
from monitor.poller.book import Book
from monitor.ultravox import UltravoxError

logger = logging.getLogger(__name__)

EVIDENCE_PATIENCE = 2.0
"""Seconds that an alert which is about to fire waits for its cause. What comes later is in the next message."""

EVIDENCE_FRESH = timedelta(minutes=5)
"""How long why calls failed is believed."""

OUTCOMES_PATIENCE = 10.0
"""Seconds that an end which is about to be told waits for the outcomes of its calls. Then its counts decide."""

_UNDER_WAY = frozenset({State.RUNNING, State.STALLED, State.PAUSED, State.OVERDUE})

_ENDS = frozenset({AlertName.BATCH_ENDED.value, AlertName.BATCH_ENDED_INCOMPLETE.value})
_EXPLAINED_BY_CALLS = frozenset(name.value for name in causes.EXPLAINED_BY_CALLS)


@dataclass(slots=True)
class Evidence:
    """Asks for it, and writes it into the book."""

    book: Book
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def know_throttles(self, account: Account) -> None:
        """Before a throttled batch is judged for the first time: the rules, if they can be had soon."""
        if account.first_reading is None:
            account.first_reading = self.spawn(account.read_throttles(self.book.clock()))
        if not account.first_reading.done():
            await asyncio.wait({account.first_reading}, timeout=EVIDENCE_PATIENCE)

    def lacks(self, after: Status, told: Told) -> bool:
        """Whether what is about to be said should wait for what is not known yet."""
        said = {dict(one.alert.labels)["alertname"] for one in told.said if one.kind is MessageKind.FIRING}
        return (bool(said & _ENDS) and after.final_outcomes is None) or (
            bool(said & _EXPLAINED_BY_CALLS) and not self._knows_failed_calls(after)
        )

    def _knows_failed_calls(self, status: Status) -> bool:
        if status.outcomes is not None and status.outcomes.error == 0:
            return True  # there are none
        known = status.failed_calls
        return known is not None and self.book.clock() - known.at < EVIDENCE_FRESH

    async def gather(self, after: Status, told: Told) -> None:
        """Ask what the messages that are about to be sent should say; wait for it a little."""
        said = {dict(one.alert.labels)["alertname"] for one in told.said}
        if said & _ENDS and after.final_outcomes is None:
            task = self.spawn(self.read_outcomes(after.key, urgency=Urgency.ALARM))
            await asyncio.wait({task}, timeout=OUTCOMES_PATIENCE)
        if not self._knows_failed_calls(self.book.statuses.get(after.key, after)):
            task = self.spawn(self._read_failed_calls(after.key))
            await asyncio.wait({task}, timeout=EVIDENCE_PATIENCE)

    async def read_outcomes(self, key: BatchKey, *, urgency: Urgency = Urgency.LATER) -> None:
        """Ask how many calls of a batch have which status. What cannot be had stays as it was known."""
        account = self.book.owner(key)
        if account is None:
            return
        try:
            outcomes = await account.client.get_outcomes(key, urgency=urgency)
        except UltravoxError as error:
            logger.info("outcomes cannot be read", extra={"batch_id": key.batch_id, "error": str(error)})
            return
        if key in self.book.statuses:
            self.book.statuses[key] = replace(self.book.statuses[key], outcomes=outcomes)

    async def read_moved_outcomes(self, name: str) -> None:
        """Read the outcomes of the account's batches that are under way and have moved since they were last read."""
        for key, status in list(self.book.statuses.items()):
            if status.target.account != name:
                continue
            final = status.final_outcomes
            if final is not None and final.pending:  # calls that were under way at the end come out later
                await self.read_outcomes(key)
            if status.assessment.state not in _UNDER_WAY:
                continue
            made, known = status.progress.last.completed if status.progress else 0, status.outcomes
            if made and (known is None or known.pending or made != known.made):
                await self.read_outcomes(key)

    async def _read_failed_calls(self, key: BatchKey) -> None:
        account = self.book.owner(key)
        if account is None:
            return
        try:
            found = await account.client.get_failed_calls(key)
        except UltravoxError as error:
            logger.info("why calls fail is not known", extra={"batch_id": key.batch_id, "error": str(error)})
            return
        if key in self.book.statuses:
            self.book.statuses[key] = replace(
                self.book.statuses[key], failed_calls=FailedCalls(self.book.clock(), found)
            )

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Ask beside what goes on; `stop` ends it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Ask nothing more that was still being asked."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
