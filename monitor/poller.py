"""One poll: ask, judge, decide, commit, and hand over what is to be sent.

Here the pure core meets the world. The latest Status of every batch is kept here and replaced
whole. What is read, decided and published is done without an await between, so that two things
that happen to one batch (a poll, a reload) never work on each other's past. Messages leave only
after the commit that holds them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from monitor import decisions, evaluate, words
from monitor.alerts import Policy
from monitor.clock import Clock
from monitor.decisions import Told, Voice
from monitor.evaluate import Circumstances
from monitor.messages import Links
from monitor.metrics import Instruments
from monitor.model import AccountStatus, BatchKey, Notification, Observation, Receiver, State, Status
from monitor.store import AccountRecord, BatchRecord, Change, Contents, Store
from monitor.targets import Watch
from monitor.ultravox import AccountAnswer, Client, UltravoxError

logger = logging.getLogger(__name__)

NAME_RETRY = timedelta(minutes=10)
"""How long the name of an agent is not asked for again after it could not be had."""

_LOGGED_LABELS = ("alertname", "severity", "account", "batch", "batch_id")
# Not the configured ones: a log record has names of its own, and refuses to have them overwritten.

SKEW_WARNING = timedelta(seconds=30)
"""A difference between the API's clock and ours that is worth a line in the log."""


@dataclass(slots=True)
class Account:
    """What is running for one account."""

    client: Client
    policy: Policy
    status: AccountStatus
    skewed: bool = False


@dataclass(slots=True)
class _AgentName:
    name: str | None
    ask_again_at: datetime


@dataclass(slots=True)
class Poller:
    """The watched batches and accounts, and what is known of each.

    `deliver` is given notifications once they are committed; `next_run` tells when a batch is due.
    """

    store: Store
    instruments: Instruments
    clock: Clock
    deliver: Callable[[tuple[Notification, ...]], None]
    next_run: Callable[[BatchKey], datetime | None]
    links: Links = field(default_factory=Links)
    receivers: tuple[Receiver, ...] = ()
    accounts: dict[str, Account] = field(default_factory=dict)
    watches: dict[BatchKey, Watch] = field(default_factory=dict)
    statuses: dict[BatchKey, Status] = field(default_factory=dict)
    _agent_names: dict[str, _AgentName] = field(default_factory=dict)
    _remembered: dict[BatchKey, BatchRecord] = field(default_factory=dict)
    _remembered_accounts: dict[str, AccountRecord] = field(default_factory=dict)
    _ends_since: datetime | None = None

    def restore(self, contents: Contents) -> None:
        """Take up what the store remembers; it comes alive when its batch or account is watched."""
        self._remembered = {record.key: record for record in contents.batches}
        self._remembered_accounts = {record.name: record for record in contents.accounts}
        self._ends_since = contents.ends_since

    # Watching

    async def watch_account(self, name: str, client: Client, policy: Policy) -> None:
        """Watch an account from now on, or go on with new settings."""
        present = self.accounts.get(name)
        if present is not None:
            self.accounts[name] = replace(present, client=client, policy=policy)
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
        await self._commit(accounts=(record,), told=(told,))

    def watch(self, watch: Watch) -> None:
        """Watch a batch from now on, or go on with new settings."""
        key = watch.key
        self.watches[key] = watch
        present = self.statuses.get(key)
        if present is not None:
            self.statuses[key] = self._named(replace(present, target=watch.target))
            return
        record = self._remembered.pop(key, None)
        progress = record.progress if record else None
        failing = record.failing if record else None
        self.statuses[key] = self._named(
            Status(
                target=watch.target,
                batch=watch.target.name or key.batch_id[:8],
                agent=watch.target.agent_name or key.agent_id[:8],
                assessment=evaluate.assess(progress, failing, watch.rules),
                progress=progress,
                failing=failing,
                last_success_at=record.last_success_at if record else None,
                alerts=record.alerts if record else (),
            )
        )

    async def unwatch(self, keys: Iterable[BatchKey]) -> None:
        """Watch these no longer: close their alerts, drop their series, keep their history a while."""
        dropped = []
        for key in keys:
            self.watches.pop(key)
            dropped.append(BatchRecord.of(self.statuses.pop(key)))
        await self._close(dropped)

    async def close_unwatched(self) -> None:
        """Close what fires of batches and accounts that left the configuration while we were not running."""
        now = self.clock()
        told, accounts = [], []
        for account in self._remembered_accounts.values():
            if account.alerts:
                told.append(decisions.close(account.alerts, self.receivers, now))
                accounts.append(replace(account, alerts=told[-1].alerts))
        self._remembered_accounts |= {account.name: account for account in accounts}
        if accounts:
            await self._commit(accounts=tuple(accounts), told=tuple(told))
        await self._close([record for record in self._remembered.values() if record.dropped_at is None])
        self._ends_since = None  # it was true of the accounts of the start

    async def _close(self, records: Iterable[BatchRecord]) -> None:
        now = self.clock()
        told, dropped = [], []
        for record in records:
            told.append(decisions.close(record.alerts, self.receivers, now))
            dropped.append(replace(record, alerts=told[-1].alerts, dropped_at=now))
        self._remembered |= {record.key: record for record in dropped}
        if dropped:
            await self._commit(batches=tuple(dropped), told=tuple(told))

    # Polling

    async def poll_batch(self, key: BatchKey) -> bool:
        """Poll one batch. False: it is not to be polled again, an ended batch that has vanished."""
        watch = self.watches.get(key)
        account = self.accounts.get(watch.target.account) if watch else None
        if watch is None or account is None:
            return False
        started = asyncio.get_running_loop().time()
        seen: Observation | UltravoxError
        try:
            seen = await account.client.get_batch(key)
        except UltravoxError as error:
            seen = error
        else:
            await self._learn_agent_name(watch, account)
        # While we waited, a reload may have changed or dropped it: what is gone is not counted either.
        watch = self.watches.get(key)
        account = self.accounts.get(watch.target.account) if watch else None
        if watch is None or account is None:
            return False
        name = watch.target.account
        self.instruments.polls.labels(name).inc()
        if isinstance(seen, UltravoxError):
            self.instruments.poll_failures.labels(name, seen.reason.value).inc()
        goes_on = await self._judge(watch, account, seen)
        if name in self.accounts:
            self.instruments.poll_duration.labels(name).observe(asyncio.get_running_loop().time() - started)
        return goes_on

    async def _judge(self, watch: Watch, account: Account, seen: Observation | UltravoxError) -> bool:
        now = self.clock()
        key, before = watch.key, self.statuses[watch.key]
        around = Circumstances(at_cap=account.status.at_cap)
        after = replace(before, last_poll_at=now, next_poll_at=self.next_run(key))
        if isinstance(seen, Observation):
            progress = evaluate.observe(before.progress, seen, watch.rules, around)
            after = replace(after, progress=progress, failing=None, last_success_at=now)
        else:
            failing = evaluate.failed(before.failing, seen.reason, str(seen), now)
            after = replace(after, failing=failing)
        after = self._named(
            replace(after, assessment=evaluate.assess(after.progress, after.failing, watch.rules, around))
        )
        _log_change(before, after)
        if _has_vanished(after):
            await self.unwatch([key])
            return False
        told = decisions.decide_batch(
            after,
            account.status,
            Voice(watch.policy, self.links, self.receivers),
            now,
            news=isinstance(seen, Observation),
        )
        after = replace(after, alerts=told.alerts)
        self.statuses[key] = after
        await self._commit(batches=(BatchRecord.of(after),), told=(told,))
        return True

    async def probe_account(self, name: str) -> None:
        """Ask whether the account answers, and how many calls it may make."""
        account = self.accounts.get(name)
        if account is None:
            return
        answer: AccountAnswer | UltravoxError
        try:
            answer = await account.client.get_account()
        except UltravoxError as error:
            answer = error
        account = self.accounts.get(name)
        if account is None:
            return
        now = self.clock()
        before = account.status
        if isinstance(answer, UltravoxError):
            failing = evaluate.failed(before.failing, answer.reason, str(answer), now)
            after = replace(before, last_probe_at=now, failing=failing)
        else:
            after = replace(
                before,
                last_probe_at=now,
                last_success_at=now,
                failing=None,
                active_calls=answer.active_calls,
                allowed_concurrent_calls=answer.allowed_concurrent_calls,
                clock_skew=answer.clock_skew,
            )
        self._log_account_change(account, after)
        told = decisions.decide_account(after, Voice(account.policy, self.links, self.receivers), now)
        after = replace(after, alerts=told.alerts)
        account.status = after
        await self._commit(accounts=(AccountRecord.of(after),), told=(told,))

    async def _commit(
        self,
        *,
        batches: tuple[BatchRecord, ...] = (),
        accounts: tuple[AccountRecord, ...] = (),
        told: tuple[Told, ...],
    ) -> None:
        """Store it all in one transaction, then hand over what is to be sent.

        A store that fails keeps the change and says so itself; the messages leave all the same.
        """
        notifications = tuple(one for each in told for one in each.notifications)
        await self.store.commit(Change(batches, accounts, notifications))
        self.deliver(notifications)
        for said in (one for each in told for one in each.said):
            labels, annotations = dict(said.alert.labels), dict(said.alert.annotations)
            fields = {name: labels[name] for name in _LOGGED_LABELS if name in labels}
            logger.info("alert %s", said.kind.value, extra=fields | {"summary": annotations.get("summary")})

    async def _learn_agent_name(self, watch: Watch, account: Account) -> None:
        """Ask once for the name of an agent that the configuration does not name."""
        agent_id, now = watch.key.agent_id, self.clock()
        known = self._agent_names.get(agent_id)
        if watch.target.agent_name or (known and (known.name or now < known.ask_again_at)):
            return
        self._agent_names[agent_id] = _AgentName(None, now + NAME_RETRY)  # nobody else asks meanwhile
        try:
            self._agent_names[agent_id].name = await account.client.get_agent_name(agent_id)
        except UltravoxError as error:
            logger.info("the agent's name is not known", extra={"agent_id": agent_id, "error": str(error)})

    def _named(self, status: Status) -> Status:
        key, target = status.key, status.target
        learnt = self._agent_names.get(key.agent_id)
        agent = target.agent_name or (learnt.name if learnt else None) or key.agent_id[:8]
        seen = status.progress.last if status.progress else None
        batch = target.name
        if batch is None and seen is not None:
            batch = words.batch_name(agent, seen.window_start or seen.created, key.batch_id)
        return replace(status, agent=agent, batch=batch or f"{agent} {key.batch_id[:8]}")

    def _log_account_change(self, account: Account, after: AccountStatus) -> None:
        fields = {"account": after.name}
        if after.failing is not None and account.status.failing is None:
            logger.warning("account does not answer", extra=fields | {"error": after.failing.message})
        if after.failing is None and account.status.failing is not None:
            logger.info("account answers again", extra=fields)
        skewed = after.clock_skew is not None and abs(after.clock_skew) > SKEW_WARNING
        if skewed and not account.skewed:
            logger.warning(
                "the API's clock differs from ours; batches are judged by the API's",
                extra=fields | {"skew": str(after.clock_skew)},
            )
        account.skewed = skewed


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


async def close_clients(accounts: Iterable[Account]) -> None:
    """Close the connections of accounts that are done with."""
    await asyncio.gather(*(account.client.close() for account in accounts))
