"""What is watched, and what is known of it: the latest Status of every batch, replaced whole, never changed.

A batch or an account comes alive here with what the store remembers of it, and is closed here. Nothing is
asked of Ultravox and nothing is judged.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from monitor import decisions, evaluate, words
from monitor.alerts import Policy
from monitor.clock import Clock
from monitor.decisions import Told, Voice
from monitor.messages import Links
from monitor.metrics import Instruments
from monitor.model import NO_CHANGES, AccountStatus, BatchKey, Notification, Progress, Status, Target
from monitor.poller.account import Account
from monitor.poller.names import AgentNames
from monitor.routing import Receiver
from monitor.store import KEEP_DROPPED, AccountRecord, BatchRecord, Change, Contents, Store
from monitor.targets import Watch
from monitor.ultravox import Client

logger = logging.getLogger(__name__)

_LOGGED_LABELS = ("alertname", "severity", "account", "batch", "batch_id")
# Not the configured ones: a log record has names of its own, and refuses to have them overwritten.


@dataclass(slots=True)
class _Commit:
    """What is handed over once it is on the disk, or has waited long enough for it."""

    notifications: tuple[Notification, ...]
    done: bool = False


@dataclass(slots=True)
class Book:
    """The watched batches and accounts. `deliver` is given notifications once they are committed."""

    store: Store
    instruments: Instruments
    clock: Clock
    deliver: Callable[[tuple[Notification, ...]], None]
    links: Links = field(default_factory=Links)
    receivers: tuple[Receiver, ...] = ()
    accounts: dict[str, Account] = field(default_factory=dict)
    watches: dict[BatchKey, Watch] = field(default_factory=dict)
    statuses: dict[BatchKey, Status] = field(default_factory=dict)
    agent_names: AgentNames = field(default_factory=AgentNames)
    next_look: Callable[[Status], datetime | None] = lambda status: (
        status.next_poll_at
    )  # who polls says when next
    _remembered: dict[BatchKey, BatchRecord] = field(default_factory=dict)
    _remembered_accounts: dict[str, AccountRecord] = field(default_factory=dict)
    _ends_since: datetime | None = None
    _hand_over: deque[_Commit] = field(default_factory=deque)

    def owner(self, key: BatchKey) -> Account | None:
        """The account of a watched batch; None: it is watched no longer, or its account is not."""
        watch = self.watches.get(key)
        return self.accounts.get(watch.target.account) if watch else None

    def voice(self, policy: Policy) -> Voice:
        """How a subject with these alerts speaks."""
        return Voice(policy, self.links, self.receivers)

    def restore(self, contents: Contents) -> None:
        """Take up what the store remembers; it comes alive when its batch or account is watched."""
        self._remembered = {record.key: record for record in contents.batches}
        for record in contents.batches:
            if record.dropped_at is None:
                self.agent_names.remember(record.key.agent_id, record.agent)
        self._remembered_accounts = {record.name: record for record in contents.accounts}
        self._ends_since = contents.ends_since

    async def watch_account(self, name: str, client: Client, policy: Policy) -> None:
        """Watch an account from now on, or go on with new settings."""
        present = self.accounts.get(name)
        if present is not None:
            present.client, present.policy = client, policy  # in place: what is being read for it goes on
            return
        record = self._remembered_accounts.pop(name, None)
        if record is None:
            # A state file that was lost has lost which ends were told: the last day's are told again.
            status = AccountStatus(name, watched_since=self._ends_since or self.clock())
        else:
            status = AccountStatus(
                name,
                record.watched_since,
                last_success_at=record.last_success_at,
                failing=record.failing,
                active_calls=record.active_calls,
                allowed_concurrent_calls=record.allowed_concurrent_calls,
                alerts=record.alerts,
            )
        self.accounts[name] = Account(client, policy, status)
        self.instruments.add_account(name)
        await self.store.commit(Change(accounts=(AccountRecord.of(status),)))

    async def unwatch_account(self, name: str) -> None:
        """Forget an account whose batches are no longer watched."""
        status = self.accounts.pop(name).status
        told = decisions.close(status.alerts, self.receivers, self.clock())
        record = AccountRecord.of(replace(status, alerts=told.alerts))
        self._remembered_accounts[name] = record
        self.instruments.remove_account(name)
        await self.commit(accounts=(record,), told=(told,))

    def watch(self, watch: Watch) -> None:
        """Watch a batch from now on, or go on with new settings."""
        key = watch.key
        self.watches[key] = watch
        present = self.statuses.get(key)
        if present is not None:
            before = self.accounts.get(present.target.account)
            if before is not None and before.status.name != watch.target.account:
                before.forget(key)
            self.statuses[key] = self.named(replace(present, target=watch.target))
            return
        record = self._remembered.pop(key, None)
        progress = record.progress if record else None
        failing = record.failing if record else None
        batch, agent = self.names(watch.target, progress)
        self.statuses[key] = Status(
            target=watch.target,
            batch=batch,
            agent=agent,
            # As it was last judged: with what was true around it, which nobody knows yet.
            assessment=(record and record.assessment) or evaluate.assess(progress, failing, watch.rules),
            progress=progress,
            failing=failing,
            last_success_at=record.last_success_at if record else None,
            outcomes=record.outcomes if record else None,
            alerts=record.alerts if record else (),
            changes=record.changes if record else NO_CHANGES,
        )
        if account := self.accounts.get(watch.target.account):
            account.note_throttle(self.statuses[key])

    def remembered(self, account: str) -> tuple[BatchKey, ...]:
        """Batches of this account that were watched when the process ended, and are not yet watched again."""
        return tuple(
            key
            for key, record in self._remembered.items()
            if record.account == account and record.dropped_at is None
        )

    async def unwatch(self, keys: Iterable[BatchKey]) -> None:
        """Watch these no longer: close their alerts, drop their series, keep their history a while."""
        dropped = []
        for key in keys:
            watch = self.watches.pop(key)
            if account := self.accounts.get(watch.target.account):
                account.forget(key)
            dropped.append(BatchRecord.of(self.statuses.pop(key)))
        await self._close(dropped)

    def prune(self) -> None:
        """Forget the history of batches that the store forgets by now, too."""
        long_ago = self.clock() - KEEP_DROPPED
        self._remembered = {
            key: record
            for key, record in self._remembered.items()
            if record.dropped_at is None or record.dropped_at >= long_ago
        }

    def remembered_account(self, name: str) -> tuple[AccountRecord, tuple[BatchRecord, ...]] | None:
        """What is remembered of an account that is not watched. None: nothing is."""
        record = self._remembered_accounts.get(name)
        batches = tuple(one for one in self._remembered.values() if one.account == name)
        return None if record is None else (record, batches)

    def remember(self, account: AccountRecord, batches: Iterable[BatchRecord]) -> None:
        """Take up what another process remembered; it comes alive when it is watched."""
        self._remembered_accounts[account.name] = account
        for record in batches:
            self._remembered[record.key] = record
            self.agent_names.remember(record.key.agent_id, record.agent)

    def forget_account(self, name: str) -> None:
        """Remember nothing of an account that is not watched: another process does."""
        self._remembered_accounts.pop(name, None)
        self._remembered = {key: one for key, one in self._remembered.items() if one.account != name}

    async def close_unwatched(self, moving: Container[str] = ()) -> None:
        """Close what fires of batches and accounts that left the configuration while we were not running.

        `moving`: accounts of which that is another process' to say, or not ours yet.
        """
        now = self.clock()
        told, accounts = [], []
        for account in self._remembered_accounts.values():
            if account.alerts and account.name not in moving:
                told.append(decisions.close(account.alerts, self.receivers, now))
                accounts.append(replace(account, alerts=told[-1].alerts))
        self._remembered_accounts |= {account.name: account for account in accounts}
        if accounts:
            await self.commit(accounts=tuple(accounts), told=tuple(told))
        await self._close(
            [
                record
                for record in self._remembered.values()
                if record.dropped_at is None and record.account not in moving
            ]
        )
        self._ends_since = None  # it was true of the accounts of the start

    async def _close(self, records: Iterable[BatchRecord]) -> None:
        now = self.clock()
        told, dropped = [], []
        for record in records:
            told.append(decisions.close(record.alerts, self.receivers, now))
            dropped.append(replace(record, alerts=told[-1].alerts, dropped_at=now))
        self._remembered |= {record.key: record for record in dropped}
        if dropped:
            await self.commit(batches=tuple(dropped), told=tuple(told))

    async def commit(
        self,
        *,
        batches: tuple[BatchRecord, ...] = (),
        accounts: tuple[AccountRecord, ...] = (),
        told: tuple[Told, ...],
    ) -> None:
        """Store it all in one transaction, then hand over what is to be sent.

        A store that fails keeps the change and says so itself; the messages leave all the same. They leave in
        the order in which they were decided, however long each had to wait for the disk: an end that came
        before its beginning would count as one that nobody wants to hear.
        """
        notifications = tuple(one for each in told for one in each.notifications)
        commit = _Commit(notifications)
        self._hand_over.append(commit)
        try:
            await self.store.commit(Change(batches, accounts, notifications))
        except asyncio.CancelledError:
            commit.notifications = ()  # the next process takes them up from the store
            raise
        finally:
            commit.done = True
            while self._hand_over and self._hand_over[0].done:
                self.deliver(self._hand_over.popleft().notifications)
        for said in (one for each in told for one in each.said):
            labels, annotations = dict(said.alert.labels), dict(said.alert.annotations)
            fields = {name: labels[name] for name in _LOGGED_LABELS if name in labels}
            logger.info("alert %s", said.kind.value, extra=fields | {"summary": annotations.get("summary")})

    def named(self, status: Status) -> Status:
        """The same under the name that people read."""
        batch, agent = self.names(status.target, status.progress)
        return replace(status, agent=agent, batch=batch)

    def names(
        self, target: Target, progress: Progress | None, before: Status | None = None
    ) -> tuple[str, str]:
        """What people call a batch, and its agent. `before`: what they called it, where that may still be true."""
        key = target.key
        agent = target.agent_name or self.agent_names.shown(key.agent_id)
        if target.name is not None:
            return target.name, agent
        if progress is None:
            return f"{agent} {key.batch_id[:8]}", agent
        began = progress.last.window_start or progress.last.created
        known = before.progress.last if before is not None and before.progress is not None else None
        unmoved = known is not None and began == (known.window_start or known.created)
        if before is not None and unmoved and agent == before.agent:
            return before.batch, agent  # all that it is made of is as it was
        return words.batch_name(agent, began, key.batch_id), agent
