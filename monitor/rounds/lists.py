"""The agents' lists of batches: when each is read, how many of its pages, and which batches need no look of their own.

A page is an observation of every batch on it. Pages can only be read from the first on, and where on the list a batch is
tells nothing but the latest reading: so after each reading it is decided anew. What is seen goes to `looks`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from monitor import cadence
from monitor.clock import Clock
from monitor.model import BatchKey, FailureReason, Urgency
from monitor.poller import Account, Book, Seen
from monitor.rounds.listing import Reading
from monitor.rounds.looks import Looks
from monitor.rounds.plan import AccountRounds, AgentKey, AgentRounds
from monitor.schedule import Schedule
from monitor.ultravox import UltravoxError

logger = logging.getLogger(__name__)

LIST_FAILURES = 3
"""Readings in a row that failed, after which each batch is asked for by its id until one succeeds."""

TRY_LISTING_EVERY = timedelta(minutes=10)
"""How often it is tried anew whether pages would spare single requests, after they did not."""

JUST_READ = timedelta(seconds=1)
"""A list that was read so recently need not be read at its turn; its batches are seen so much later for it."""


class Lists:
    """The lists of all agents that have watched batches, or whose batches are to be found.

    `accounts`: those of the rounds, as they come and go. `on_read` hears of each reading, before it is planned anew.
    """

    def __init__(
        self,
        schedule: Schedule,
        book: Book,
        looks: Looks,
        accounts: Mapping[str, AccountRounds],
        *,
        clock: Clock,
        on_read: Callable[[str, AgentRounds, Reading], Awaitable[None]],
    ) -> None:
        self._schedule = schedule
        self._book = book
        self._looks = looks
        self._accounts = accounts
        self._clock = clock
        self._on_read = on_read
        self.agents: dict[tuple[str, str], AgentRounds] = {}
        self._turns = schedule.turns("round", self.turn, on_skipped=self._skipped)
        # Of the lists that are being read, or are about to be: each goes with its last user.
        self._under_way = WeakValueDictionary[tuple[str, str], asyncio.Lock]()
        self._turnstile = asyncio.Lock()

    def agent(self, name: str, agent_id: str) -> AgentRounds:
        """What is known of this agent's list."""
        agent = self.agents.get((name, agent_id))
        if agent is None:
            agent = self.agents[name, agent_id] = AgentRounds()
        return agent

    def add(self, name: str, key: BatchKey) -> bool:
        """A batch that is watched is on its agent's list. False: this was known."""
        agent, of = self.agent(name, key.agent_id), AgentKey(name, key.agent_id)
        new = key not in agent.keys
        agent.keys.add(key)
        if len(agent.keys) > 1 and self._turns.next_run(of) is None:
            self._turns.every(of, self._accounts[name].plan.interval)
        return new

    def discard(self, name: str, key: BatchKey) -> None:
        """It is watched no longer."""
        agent = self.agents.get((name, key.agent_id))
        if agent is not None and key in agent.keys:
            agent.keys.discard(key)
            agent.page_of.pop(key, None)
            self._forget_if_idle(name, key.agent_id)

    def forget_idle(self, name: str) -> None:
        """Drop the account's agents that have no watched batch and whose batches are not to be found."""
        for of, agent_id in list(self.agents):
            if of == name:
                self._forget_if_idle(of, agent_id)

    def _forget_if_idle(self, name: str, agent_id: str) -> None:
        account = self._accounts.get(name)
        wanted = (account.wanted if account else None) or frozenset()
        if not self.agents[name, agent_id].keys and agent_id not in wanted:
            del self.agents[name, agent_id]
            self._turns.remove(AgentKey(name, agent_id))

    def every(self, name: str, interval: timedelta) -> None:
        """Read the account's lists so often from now on."""
        for of in (AgentKey(*of) for of in self.agents if of[0] == name):
            if self._turns.next_run(of) is not None:
                self._turns.every(of, interval)

    def next_reading(self, name: str, agent_id: str) -> datetime | None:
        """When this list has its turn next; where it has none, when discovery has."""
        return self._turns.next_run(AgentKey(name, agent_id)) or self._schedule.next_run(f"discover:{name}")

    def _skipped(self, of: AgentKey) -> None:
        if of.account in self._book.accounts:
            self._book.instruments.polls_skipped.labels(of.account).inc()

    async def turn(self, of: AgentKey) -> None:
        """Read as many pages of this agent's batches as spare more requests than they cost."""
        name, agent_id = of
        agent, now = self.agents.get(of), self._clock()
        if agent is None or name not in self._accounts:
            return
        if (under_way := self._under_way.get(of)) is not None and under_way.locked():
            return
        if agent.read_at is not None and timedelta(0) <= now - agent.read_at < JUST_READ:
            return  # by discovery, all of them
        pages = agent.pages
        if pages == 0 and len(agent.keys) < 2:
            self._turns.remove(of)  # a page of one batch spares no request; another one brings its turn back
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
        watches, interval = self._book.watches, self._looks.interval
        return [
            key
            for key in agent.keys
            if (watch := watches.get(key)) is not None and interval(key) == watch.rules.interval
        ]

    async def read(self, name: str, agent_id: str, pages: int | None) -> Reading:
        """Read the agent's batches: so many pages, or all (None); judge them, and plan the next readings."""
        reading = Reading(agent_id)
        under_way = self._under_way.get((name, agent_id)) or asyncio.Lock()
        self._under_way[name, agent_id] = under_way
        async with under_way:
            if (account := self._book.accounts.get(name)) is None:
                return reading  # dropped by a reload while this waited
            agent = self.agent(name, agent_id)
            agent.read_at = self._clock()
            started = asyncio.get_running_loop().time()
            await self._read_pages(name, account, agent, reading, pages)
            covered = self._looks.covered(agent.keys)
            expected = {key for key in covered if pages is None or agent.page_of.get(key, 0) < pages}
            agent.failures = 0 if reading.failure is None else agent.failures + 1
            await self._look_for(name, expected - reading.seen.keys(), reading.failure, started)
            agent.page_of = reading.page_of | (
                {} if reading.to_the_end else {k: p for k, p in agent.page_of.items() if p >= reading.pages}
            )
            await self._on_read(name, agent, reading)
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
            await asyncio.gather(*(self._looks.poll(key) for key in missed))

    async def take(self, name: str, seen: Mapping[BatchKey, Seen], started: float) -> None:
        """Judge what this account has seen of batches, of those that it still watches."""
        # A page takes some ten milliseconds. One for each turn of the loop: whoever asks us something comes between.
        async with self._turnstile:
            await asyncio.sleep(0)
        watches = self._book.watches
        own = {
            key: one
            for key, one in seen.items()
            if (watch := watches.get(key)) is not None and watch.target.account == name
        }
        await self._looks.take(own, started)

    def _urgency(self, agent: AgentRounds) -> Urgency:
        """That of the most urgent batch on the list."""
        watches, found = self._book.watches, Urgency.LATER
        for key in agent.keys & watches.keys():
            status, rules = self._book.statuses[key], watches[key].rules
            found = min(found, cadence.urgency_of(status, rules, self._looks.interval(key)))
            if found is Urgency.ALARM:
                break
        return found

    def _replan(self, name: str, agent_id: str, agent: AgentRounds) -> None:
        """Decide how many pages are worth reading each interval, and which batches need no job of their own."""
        account = self._accounts.get(name)
        if account is None:
            return  # dropped while its list was read
        due = self._due(agent)
        agent.pages = cadence.pages_worth_reading([agent.page_of.get(key) for key in due])
        if agent.failures >= LIST_FAILURES:  # single gets may work where the list does not
            agent.pages, agent.try_at = 0, self._clock() + TRY_LISTING_EVERY
            self._looks.cover({}, agent.keys)
            return
        interval = account.plan.interval
        covered = {key: interval for key in due if agent.page_of.get(key, agent.pages) < agent.pages}
        discovery, listed = account.plan.discovery, agent_id in (account.wanted or ()) and not account.failing
        if discovery is not None and listed and agent.complete_at is not None:
            # The whole list is read that often anyway.
            for key in agent.keys & agent.page_of.keys() & self._book.watches.keys():
                wanted = self._looks.interval(key)
                if wanted is None or wanted >= discovery.interval:
                    covered.setdefault(key, discovery.interval)
        self._looks.cover(covered, agent.keys)

    def replan_all(self, name: str) -> None:
        """Decide it anew for all lists of the account."""
        for (of, agent_id), agent in self.agents.items():
            if of == name:
                self._replan(name, agent_id, agent)
