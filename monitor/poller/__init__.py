"""What is seen of a batch: judge it, decide what to say, publish, commit, and hand over what is to be sent.

Here the pure core meets the world. What is read, decided and published is done without an await
between, so that two things that happen to one batch (a poll, a reload) never work on each other's
past. Messages leave only after the commit that holds them. When what is asked is rounds' to say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from monitor import cadence, decisions, evaluate
from monitor.decisions import Told
from monitor.model import BatchKey, Failing, Observation, State, Status
from monitor.poller.account import Account
from monitor.poller.book import Book
from monitor.poller.evidence import Evidence
from monitor.store import AccountRecord, BatchRecord
from monitor.ultravox import AccountAnswer, UltravoxError

__all__ = ["Account", "Book", "Poller", "Seen"]

logger = logging.getLogger(__name__)

Seen = Observation | UltravoxError


@dataclass(slots=True)
class Poller:
    """Asks about what is in the book, and writes there what comes of it."""

    book: Book
    _gathering: set[BatchKey] = field(default_factory=set)
    evidence: Evidence = field(init=False)

    def __post_init__(self) -> None:
        self.evidence = Evidence(self.book)

    async def poll_batch(self, key: BatchKey) -> bool:
        """Poll one batch. False: it is not to be polled again, an ended batch that has vanished."""
        account = self.book.owner(key)
        if account is None:
            return False
        watch, started = self.book.watches[key], asyncio.get_running_loop().time()
        seen: Seen
        try:
            urgency = cadence.urgency(self.book.statuses[key], watch.rules, self.book.clock())
            seen = await account.client.get_batch(key, urgency=urgency)
        except UltravoxError as error:
            seen = error
        else:
            names, now = self.book.agent_names, self.book.clock()
            if watch.target.agent_name is None and names.lacks(key.agent_id, now):
                await names.ask(key.agent_id, account.client, now)
        return not await self.take({key: seen}, started)

    async def take(self, seen: Mapping[BatchKey, Seen], started: float) -> set[BatchKey]:
        """Judge what was seen of batches, one by its own poll or many on a page, and commit it all at once.

        `started`: loop seconds at which it was asked for. Returns those that are watched no longer: dropped
        by a reload meanwhile or, ended ones, vanished.
        """
        gone: set[BatchKey] = set()
        seconds = asyncio.get_running_loop().time() - started
        taken: list[tuple[BatchRecord, Told]] = []
        waiting = []
        for key, one in seen.items():
            account = self.book.owner(key)
            if account is None:
                gone.add(key)
            elif key in self._gathering:
                pass
            elif self._lacks_throttles(account, one):
                waiting.append(self._take_later(key, one, started))
            else:
                after, said = self._judged(key, one)
                if self.evidence.lacks(after, said):
                    waiting.append(self._take_later(key, one, started))
                elif _has_vanished(after):
                    gone.add(key)
                    waiting.append(self._drop(key, one, started))
                else:
                    self._count(account, one, seconds)
                    taken.append((self._publish(after), said))
        moved = self._remember(taken)
        if moved:
            waiting.append(self._commit(moved))
        if waiting:
            gone.update(*await asyncio.gather(*waiting))
        return gone

    async def _take_later(self, key: BatchKey, seen: Seen, started: float) -> set[BatchKey]:
        """The same for one that cannot be judged before something else is known."""
        self._gathering.add(key)
        try:
            if (account := self.book.owner(key)) is not None and self._lacks_throttles(account, seen):
                await self.evidence.know_throttles(account)
            if self.book.owner(key) is not None:
                after, said = self._judged(key, seen)
                if self.evidence.lacks(after, said):
                    await self.evidence.gather(after, said)
        finally:
            self._gathering.discard(key)
        if (account := self.book.owner(key)) is None:
            return {key}
        after, said = self._judged(key, seen)
        if _has_vanished(after):
            return await self._drop(key, seen, started)
        self._count(account, seen, asyncio.get_running_loop().time() - started)
        moved = self._remember([(self._publish(after), said)])
        return await self._commit(moved) if moved else set()

    async def _drop(self, key: BatchKey, seen: Seen, started: float) -> set[BatchKey]:
        if (account := self.book.owner(key)) is not None:
            self._count(account, seen, asyncio.get_running_loop().time() - started)
            await self.book.unwatch([key])
        return {key}

    def _remember(self, taken: list[tuple[BatchRecord, Told]]) -> list[tuple[BatchRecord, Told]]:
        """Those whose alerts have moved, to be committed. The others are only noted: a restart would see them anew."""
        self.book.store.note([record for record, told in taken if not told.moved])
        return [(record, told) for record, told in taken if told.moved]

    async def _commit(self, moved: list[tuple[BatchRecord, Told]]) -> set[BatchKey]:
        records, told = zip(*moved, strict=True)
        await self.book.commit(batches=records, told=told)
        return set()

    def _count(self, account: Account, seen: Seen, seconds: float) -> None:
        """`seconds`: since it was asked for."""
        if account.polled is None:
            account.polled = self.book.instruments.polled(account.status.name)
        account.polled(seconds)
        if isinstance(seen, UltravoxError):
            name = account.status.name
            self.book.instruments.poll_failures.labels(name, seen.reason.value).inc()

    def _publish(self, after: Status) -> BatchRecord:
        """From now on this is what is known of the batch. What is to be remembered of it."""
        key = after.key
        _log_change(self.book.statuses[key], after)
        after = after.due(self.book.next_look(after))
        self.book.statuses[key] = after
        if account := self.book.accounts.get(after.target.account):
            account.note_throttle(after)
        return BatchRecord.of(after)

    def _judged(self, key: BatchKey, seen: Seen) -> tuple[Status, Told]:
        """What is believed of a batch after this, and what is to be said of it."""
        now, watch, before = self.book.clock(), self.book.watches[key], self.book.statuses[key]
        account = self.book.accounts[watch.target.account]
        progress, around, news = before.progress, before.around, isinstance(seen, Observation)
        failing: Failing | None = None
        succeeded: datetime | None = now
        if isinstance(seen, Observation):
            around = account.around(before, seen, self.book.statuses)
            progress = evaluate.observe(before.progress, seen, watch.rules, around)
        else:
            failing = evaluate.failed(before.failing, seen.reason, str(seen), now)
            succeeded = before.last_success_at
        assessment = evaluate.assess(progress, failing, watch.rules, around)
        batch, agent = self.book.names(before.target, progress, before)
        after = Status(
            before.target,
            batch,
            agent,
            assessment,
            progress,
            failing,
            succeeded,
            now,
            before.next_poll_at,
            around,
            before.outcomes,
            before.failed_calls,
            before.alerts,
            evaluate.changed(before.changes, assessment, now),
        )
        told = decisions.decide_batch(after, account.status, self.book.voice(watch.policy), now, news=news)
        return (replace(after, alerts=told.alerts) if told.moved else after), told

    def _lacks_throttles(self, account: Account, seen: Seen) -> bool:
        """Whether a throttled batch is to be judged before the rules of throttles were asked for."""
        throttled = isinstance(seen, Observation) and seen.throttle is not None
        return throttled and (account.first_reading is None or not account.first_reading.done())

    async def stop(self) -> None:
        """Ask nothing more that was still being asked."""
        await self.evidence.stop()

    # Accounts

    async def probe_account(self, name: str) -> None:
        """Ask whether the account answers, and how many calls it may make."""
        account = self.book.accounts.get(name)
        if account is None:
            return
        answer: AccountAnswer | UltravoxError
        try:
            answer = await account.client.get_account()
        except UltravoxError as error:
            answer = error
        account = self.book.accounts.get(name)
        if account is None:
            return
        now = self.book.clock()
        after = account.probed(answer, now)
        told = decisions.decide_account(after, self.book.voice(account.policy), now)
        account.status = after = replace(after, alerts=told.alerts)
        paces = [
            status.assessment.calls_per_second or 0.0
            for status in self.book.statuses.values()
            if status.target.account == name and status.assessment.state in {State.RUNNING, State.STALLED}
        ]
        account.calls_per_second = sum(paces) or None
        if any(account.throttled.values()):
            self.evidence.spawn(account.read_throttles(now))
        await self.book.commit(accounts=(AccountRecord.of(after),), told=(told,))


def _has_vanished(status: Status) -> bool:
    """An ended batch that the API no longer knows has nothing more to tell."""
    failing = status.failing
    ended = status.progress is not None and status.progress.last.ended_at is not None
    return ended and failing is not None and failing.not_found >= evaluate.GONE_AFTER


def _log_change(before: Status, after: Status) -> None:
    """One line when something changes, none while it stays."""
    fields = {"account": after.target.account, "batch": after.batch, "batch_id": after.key.batch_id}
    if after.failing is not None and before.failing is None:
        logger.warning("poll failed", extra=fields | {"error": after.failing.message})
    if after.failing is None and before.failing is not None:
        logger.info("polls succeed again", extra=fields)
    state = after.assessment.state
    if state is not before.assessment.state and state is not State.UNKNOWN:
        logger.info("state is %s", state.value, extra=fields | {"why": after.assessment.why})
