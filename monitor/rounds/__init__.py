"""What is asked when: single polls, pages of an agent's batches, discovery, outcomes, probes.

It knows no alert and judges nothing: whatever is seen goes to the poller. Each batch is looked at by its
own request, or by a page of its agent's list where that costs fewer requests: then it has no job of its
own. How often is cadence.py's to say, which batches are wanted targets.py's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from monitor import cadence
from monitor.clock import Clock
from monitor.model import BatchKey, DiscoveryStatus, FailureReason, Urgency
from monitor.poller import Account, Poller, Seen
from monitor.rounds.discovery import Explorer
from monitor.rounds.listing import Reading
from monitor.rounds.looks import Looks
from monitor.rounds.plan import AccountRounds, AgentKey, AgentRounds, Plan
from monitor.schedule import Schedule, spread
from monitor.targets import Discovery, Watch
from monitor.ultravox import UltravoxError

__all__ = ["Plan", "Rounds"]

logger = logging.getLogger(__name__)

LIST_FAILURES = 3
"""Readings in a row that failed, after which each batch is asked for by its id until one succeeds."""

TRY_LISTING_EVERY = timedelta(minutes=10)
"""How often it is tried anew whether pages would spare single requests, after they did not."""

JUST_READ = timedelta(seconds=1)
"""A list that was read so recently need not be read at its turn; its batches are seen so much later for it."""

_MOMENT = timedelta(milliseconds=1)


class Rounds:
    """The jobs that ask."""

    def __init__(self, schedule: Schedule, poller: Poller, *, clock: Clock) -> None:
        self._schedule = schedule
        self._poller = poller
        self.book = poller.book
        self.clock = clock
        self.accounts: dict[str, AccountRounds] = {}
        self.agents: dict[tuple[str, str], AgentRounds] = {}
        self._readings = schedule.turns("round", self._round, on_skipped=self._skipped)
        # Of the lists that are being read, or are about to be: each goes with its last user.
        self._under_way = WeakValueDictionary[tuple[str, str], asyncio.Lock]()
        self._turnstile = asyncio.Lock()
        self.looks = Looks(
            schedule,
            poller,
            clock=clock,
            next_reading=self._next_reading,
            on_gone=self._forget,
        )
        self._discovery = Explorer(self)

    # What is watched

    def watch_account(self, name: str, plan: Plan) -> None:
        """Probe this account, find its batches and read their outcomes from now on, or by a new plan."""
        present = self.accounts.get(name)
        self.accounts[name] = account = present or AccountRounds(plan)
        before, account.plan = (present.plan if present else None), plan
        if before is not None and before.interval != plan.interval:
            for of in (AgentKey(*of) for of in self.agents if of[0] == name):
                if self._readings.next_run(of) is not None:
                    self._readings.every(of, plan.interval)
        every = self._schedule.every
        now_or_later = None if present and before == plan else timedelta(0)
        every(
            f"probe:{name}",
            plan.account_interval,
            lambda: self._poller.probe_account(name),
            first_after=None if present else timedelta(0),
        )
        every(
            f"outcomes:{name}",
            plan.outcomes_interval,
            lambda: self._poller.evidence.read_moved_outcomes(name),
        )
        if plan.discovery is None:
            account.wanted = None
            self._schedule.remove(f"discover:{name}")
            self.forget_idle_agents(name)
        else:
            every(
                f"discover:{name}",
                plan.discovery.interval,
                lambda: self._discovery.run(name),
                first_after=now_or_later,
            )
        if before != plan:
            self.replan_all(name)

    def unwatch_account(self, name: str) -> None:
        """Ask nothing of this account any more."""
        self.accounts.pop(name, None)
        for job in ("probe", "outcomes", "discover"):
            self._schedule.remove(f"{job}:{name}")
        self.forget_idle_agents(name)

    def found(self, discoveries: Mapping[str, Discovery | None]) -> dict[BatchKey, Watch]:
        """The batches watched now that are to be watched by these settings of their accounts, configured or not."""
        wanted: dict[BatchKey, Watch] = {}
        for key, watch in self.book.watches.items():
            name = watch.target.account
            discovery, known = discoveries.get(name), self.book.agent_names.get(key.agent_id)
            # A name that is not known yet decides nothing: the next discovery will.
            if discovery is not None and (known is None or discovery.wants_agent(key.agent_id, known)):
                wanted[key] = discovery.watch(name, key)
        return wanted

    def adopt(self, name: str, discovery: Discovery) -> dict[BatchKey, Watch]:
        """Found batches that were watched when the process ended: watched on until a discovery says otherwise."""
        return {key: discovery.watch(name, key) for key in self.book.remembered(name)}

    def watch(self, watch: Watch, *, found: bool, soon: bool = True) -> None:
        """Look at this batch from now on. `soon`: before its first turn comes; else discovery is about to look at it."""
        key, account = watch.key, self.accounts[watch.target.account]
        present = self.book.watches.get(key)
        if present is not None and present.target.account != watch.target.account:
            self._forget(key)
        (account.found.add if found else account.found.discard)(key)
        self.book.watch(watch)
        agent = self.agent_of(watch.target.account, key.agent_id)
        new = key not in agent.keys
        agent.keys.add(key)
        of = AgentKey(watch.target.account, key.agent_id)
        if len(agent.keys) > 1 and self._readings.next_run(of) is None:
            self._readings.every(of, account.plan.interval)
        if not new:
            self.looks.again(key)
        elif soon:
            self.look_soon(watch)
        else:
            self.looks.expect(key, account.plan.interval)

    def look_soon(self, watch: Watch) -> None:
        """Not after an interval, but not faster than the account may ask either."""
        plan = self.accounts[watch.target.account].plan
        crowd = timedelta(seconds=len(self.book.watches) / plan.requests_per_second)
        self.looks.begin(watch.key, spread(str(watch.key), max(min(watch.rules.interval, crowd), _MOMENT)))

    async def unwatch(self, keys: Iterable[BatchKey]) -> None:
        """Look at these no more, and close what fires of them."""
        gone = tuple(keys)
        for key in gone:
            self._forget(key)
        await self.book.unwatch(key for key in gone if key in self.book.watches)

    def discoveries(self) -> tuple[DiscoveryStatus, ...]:
        """How the finding of batches goes, for each account where they are found."""
        return tuple(
            self._discovery.status(name)
            for name, account in self.accounts.items()
            if account.plan.discovery is not None
        )

    def attempted_all(self) -> bool:
        """Whether every batch has been looked at once, and every account's batches looked for, or it was tried."""
        explored = {name for name, account in self.accounts.items() if account.plan.discovery is not None}
        return self.book.watches.keys() <= self.looks.attempted and explored <= self._discovery.tried

    def _forget(self, key: BatchKey) -> None:
        self.looks.forget(key)
        for account in self.accounts.values():
            account.found.discard(key)
        watch = self.book.watches.get(key)
        names = {*self.accounts, *([watch.target.account] if watch else [])}
        for name in names:
            agent = self.agents.get((name, key.agent_id))
            if agent is not None and key in agent.keys:
                agent.keys.discard(key)
                agent.page_of.pop(key, None)
                self._forget_if_idle(name, key.agent_id)

    def forget_idle_agents(self, name: str) -> None:
        """Drop the account's agents that have no watched batch and whose batches are not to be found."""
        for of, agent_id in list(self.agents):
            if of == name:
                self._forget_if_idle(of, agent_id)

    def _forget_if_idle(self, name: str, agent_id: str) -> None:
        account = self.accounts.get(name)
        wanted = (account.wanted if account else None) or frozenset()
        if not self.agents[name, agent_id].keys and agent_id not in wanted:
            del self.agents[name, agent_id]
            self._readings.remove(AgentKey(name, agent_id))

    # Pages

    def agent_of(self, name: str, agent_id: str) -> AgentRounds:
        agent = self.agents.get((name, agent_id))
        if agent is None:
            agent = self.agents[name, agent_id] = AgentRounds()
        return agent

    def _next_reading(self, name: str, agent_id: str) -> datetime | None:
        of = AgentKey(name, agent_id)
        return self._readings.next_run(of) or self._schedule.next_run(f"discover:{name}")

    def _skipped(self, of: AgentKey) -> None:
        if of.account in self.book.accounts:
            self.book.instruments.polls_skipped.labels(of.account).inc()

    async def _round(self, of: AgentKey) -> None:
        """Read as many pages of this agent's batches as spare more requests than they cost."""
        name, agent_id = of
        agent, now = self.agents.get(of), self.clock()
        if agent is None or name not in self.accounts:
            return
        if (under_way := self._under_way.get(of)) is not None and under_way.locked():
            return
        if agent.read_at is not None and timedelta(0) <= now - agent.read_at < JUST_READ:
            return  # by discovery, all of them
        pages = agent.pages
        if pages == 0 and len(agent.keys) < 2:
            self._readings.remove(
                of
            )  # a page of one batch spares no request; another one gives it its turn back
            return
        if pages == 0:
            due = self._due(agent)
            if len(due) < 2 or (agent.try_at is not None and now < agent.try_at):
                return
            agent.try_at = now + TRY_LISTING_EVERY
            pages = len(due) - 1
        await self.read(name, agent_id, pages)

    def _due(self, agent: AgentRounds) -> list[BatchKey]:
        """The agent's batches that are to be looked at once an interval."""
        watches, interval = self.book.watches, self.looks.interval
        return [
            key
            for key in agent.keys
            if (watch := watches.get(key)) is not None and interval(key) == watch.rules.interval
        ]

    async def read(self, name: str, agent_id: str, pages: int | None) -> Reading:
        """Read the agent's batches: so many pages, or all (None); judge them, and plan the next readings."""
        agent, reading = self.agent_of(name, agent_id), Reading(agent_id)
        under_way = self._under_way.get((name, agent_id)) or asyncio.Lock()
        self._under_way[name, agent_id] = under_way
        async with under_way:
            if (account := self.book.accounts.get(name)) is None:
                return reading  # dropped by a reload while this waited
            agent.read_at = self.clock()
            started = asyncio.get_running_loop().time()
            await self._read_pages(name, account, agent, reading, pages)
            covered = self.looks.covered(agent.keys)
            expected = {key for key in covered if pages is None or agent.page_of.get(key, 0) < pages}
            agent.failures = 0 if reading.failure is None else agent.failures + 1
            await self._look_for(name, expected - reading.seen.keys(), reading.failure, started)
            agent.page_of = reading.page_of | (
                {} if reading.to_the_end else {k: p for k, p in agent.page_of.items() if p >= reading.pages}
            )
            await self._discovery.take_up(name, agent, reading)
            if self.agents.get((name, agent_id)) is agent:
                self._replan(name, agent_id, agent)
        return reading

    async def _read_pages(
        self, name: str, account: Account, agent: AgentRounds, reading: Reading, pages: int | None
    ) -> None:
        """Read them, and judge what they show while the next one is read."""
        started, taking = asyncio.get_running_loop().time(), list[asyncio.Task[None]]()
        try:
            await reading.read(
                account.client,
                pages,
                self._urgency(agent),
                lambda seen: taking.append(asyncio.create_task(self.take(name, seen, started))),
            )
            await asyncio.gather(*taking)
        finally:  # at the end of the process, none of them outlives this
            for task in taking:
                task.cancel()  # those that are done take no notice

    async def _look_for(
        self, name: str, missed: set[BatchKey], failure: UltravoxError | None, started: float
    ) -> None:
        """What was to be seen on these pages and was not: the failure is theirs, or they are asked for by id."""
        if failure is not None:
            logger.debug("list of batches cannot be read", extra={"account": name, "error": str(failure)})
        if failure is not None and failure.again_helps and failure.reason is not FailureReason.BAD_RESPONSE:
            await self.take(name, dict.fromkeys(missed, failure), started)
        else:
            await asyncio.gather(*(self.looks.poll(key) for key in missed))

    async def take(self, name: str, seen: Mapping[BatchKey, Seen], started: float) -> None:
        """Judge what this account has seen of batches, of those that it still watches."""
        # A page takes some ten milliseconds. One for each turn of the loop: whoever asks us something comes between.
        async with self._turnstile:
            await asyncio.sleep(0)
        watches = self.book.watches
        own = {
            key: one
            for key, one in seen.items()
            if (watch := watches.get(key)) is not None and watch.target.account == name
        }
        await self.looks.take(own, started)

    def _urgency(self, agent: AgentRounds) -> Urgency:
        """That of the most urgent batch on the list."""
        watches, found = self.book.watches, Urgency.LATER
        for key in agent.keys & watches.keys():
            status, rules = self.book.statuses[key], watches[key].rules
            found = min(found, cadence.urgency_of(status, rules, self.looks.interval(key)))
            if found is Urgency.ALARM:
                break
        return found

    def _replan(self, name: str, agent_id: str, agent: AgentRounds) -> None:
        """Decide how many pages are worth reading each interval, and which batches need no job of their own."""
        account = self.accounts.get(name)
        if account is None:
            return  # dropped while its list was read
        if agent.read_at is None and not account.failing:
            return  # its list is about to be read for the first time
        due = self._due(agent)
        agent.pages = cadence.pages_worth_reading([agent.page_of.get(key) for key in due])
        if agent.failures >= LIST_FAILURES:  # single gets may work where the list does not
            agent.pages, agent.try_at = 0, self.clock() + TRY_LISTING_EVERY
            self.looks.cover({}, agent.keys)
            return
        interval = account.plan.interval
        covered = {key: interval for key in due if agent.page_of.get(key, agent.pages) < agent.pages}
        discovery, listed = account.plan.discovery, agent_id in (account.wanted or ()) and not account.failing
        if discovery is not None and listed and agent.complete_at is not None:
            # The whole list is read that often anyway.
            for key in agent.keys & agent.page_of.keys() & self.book.watches.keys():
                wanted = self.looks.interval(key)
                if wanted is None or wanted >= discovery.interval:
                    covered.setdefault(key, discovery.interval)
        self.looks.cover(covered, agent.keys)

    def replan_all(self, name: str) -> None:
        for (of, agent_id), agent in self.agents.items():
            if of == name:
                self._replan(name, agent_id, agent)
