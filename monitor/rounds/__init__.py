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

from monitor import cadence, targets
from monitor.clock import Clock
from monitor.model import BatchKey, DiscoveryStatus, FailureReason, Observation, Urgency
from monitor.poller import Poller
from monitor.rounds.listing import Reading
from monitor.rounds.looks import Looks, Seen, round_job
from monitor.rounds.plan import AccountRounds, AgentRounds, Plan
from monitor.schedule import Schedule, spread
from monitor.targets import Discovery, Watch
from monitor.ultravox import UltravoxError

__all__ = ["Plan", "Rounds"]

logger = logging.getLogger(__name__)

LIST_FAILURES = 3
"""Readings in a row that failed, after which each batch is asked for by its id until one succeeds."""

TRY_LISTING_EVERY = timedelta(minutes=10)
"""How often it is tried anew whether pages would spare single requests, after they did not."""

_MOMENT = timedelta(milliseconds=1)


class Rounds:
    """The jobs that ask."""

    def __init__(self, schedule: Schedule, poller: Poller, *, clock: Clock) -> None:
        self._explored: set[str] = set()  # accounts
        self._schedule = schedule
        self._poller = poller
        self._book = poller.book
        self._clock = clock
        self._accounts: dict[str, AccountRounds] = {}
        self._agents: dict[tuple[str, str], AgentRounds] = {}
        self._looks = Looks(schedule, poller, clock=clock, on_gone=self._forget)

    # What is watched

    def watch_account(self, name: str, plan: Plan) -> None:
        """Probe this account, find its batches and read their outcomes from now on, or by a new plan."""
        present = self._accounts.get(name)
        self._accounts[name] = account = present or AccountRounds(plan)
        before, account.plan = (present.plan if present else None), plan
        if before is not None and before.interval != plan.interval:
            for of, agent_id in self._agents:
                if of == name:
                    self._arrange_round(name, agent_id)
        every = self._schedule.every
        now_or_later = None if present and before == plan else timedelta(0)
        every(
            f"probe:{name}",
            plan.account_interval,
            lambda: self._poller.probe_account(name),
            first_after=None if present else timedelta(0),
        )
        every(f"outcomes:{name}", plan.outcomes_interval, lambda: self._poller.read_moved_outcomes(name))
        if plan.discovery is None:
            account.wanted = None
            self._schedule.remove(f"discover:{name}")
            self._forget_idle_agents(name)
        else:
            every(
                f"discover:{name}",
                plan.discovery.interval,
                lambda: self._discover(name),
                first_after=now_or_later,
            )
        if before != plan:
            self._replan_all(name)

    def unwatch_account(self, name: str) -> None:
        """Ask nothing of this account any more."""
        self._accounts.pop(name, None)
        for job in ("probe", "outcomes", "discover"):
            self._schedule.remove(f"{job}:{name}")
        self._forget_idle_agents(name)

    def found(self, discoveries: Mapping[str, Discovery | None]) -> dict[BatchKey, Watch]:
        """The batches watched now that are to be watched by these settings of their accounts, configured or not."""
        wanted: dict[BatchKey, Watch] = {}
        for key, watch in self._book.watches.items():
            name = watch.target.account
            discovery, known = discoveries.get(name), self._book.agent_names.get(key.agent_id)
            # A name that is not known yet decides nothing: the next discovery will.
            if discovery is not None and (known is None or discovery.wants_agent(key.agent_id, known)):
                wanted[key] = discovery.watch(name, key)
        return wanted

    def adopt(self, name: str, discovery: Discovery) -> dict[BatchKey, Watch]:
        """Found batches that were watched when the process ended: watched on until a discovery says otherwise."""
        return {key: discovery.watch(name, key) for key in self._book.remembered(name)}

    def watch(self, watch: Watch, *, found: bool, soon: bool = True) -> None:
        """Look at this batch from now on. `soon`: look at it before its first turn comes."""
        key, account = watch.key, self._accounts[watch.target.account]
        present = self._book.watches.get(key)
        if present is not None and present.target.account != watch.target.account:
            self._forget(key)
        (account.found.add if found else account.found.discard)(key)
        self._book.watch(watch)
        agent = self._agent_of(watch.target.account, key.agent_id)
        new = key not in agent.keys
        agent.keys.add(key)
        if new and soon:
            self._look_soon(watch)
        else:
            self._looks.again(key)

    def _look_soon(self, watch: Watch) -> None:
        """Not after an interval, but not faster than the account may ask either."""
        plan = self._accounts[watch.target.account].plan
        crowd = timedelta(seconds=len(self._book.watches) / plan.requests_per_second)
        self._looks.begin(watch.key, spread(str(watch.key), max(min(watch.rules.interval, crowd), _MOMENT)))

    async def unwatch(self, keys: Iterable[BatchKey]) -> None:
        """Look at these no more, and close what fires of them."""
        gone = tuple(keys)
        for key in gone:
            self._forget(key)
        await self._book.unwatch(key for key in gone if key in self._book.watches)

    def discoveries(self) -> tuple[DiscoveryStatus, ...]:
        """How the finding of batches goes, for each account where they are found."""
        return tuple(
            DiscoveryStatus(name, self._complete_at(name), self._over_limit(name))
            for name, account in self._accounts.items()
            if account.plan.discovery is not None
        )

    def attempted_all(self) -> bool:
        """Whether every batch has been looked at once, and every account's batches looked for, or it was tried."""
        explored = {name for name, account in self._accounts.items() if account.plan.discovery is not None}
        return self._book.watches.keys() <= self._looks.attempted and explored <= self._explored

    def polls_for(self, job_id: str) -> str | None:
        """The account whose batches a job looks at; None: it looks at none."""
        rounds = (name for name, agent_id in self._agents if round_job(name, agent_id) == job_id)
        return next(rounds, None) or self._looks.account_of(job_id)

    def _forget(self, key: BatchKey) -> None:
        self._looks.forget(key)
        for account in self._accounts.values():
            account.found.discard(key)
        for (name, _), agent in list(self._agents.items()):
            if key in agent.keys:
                agent.keys.discard(key)
                agent.page_of.pop(key, None)
                self._forget_idle_agents(name)

    def _forget_idle_agents(self, name: str) -> None:
        """Drop the account's agents that have no watched batch and whose batches are not to be found."""
        account = self._accounts.get(name)
        wanted = (account.wanted if account else None) or frozenset()
        for (of, agent_id), agent in list(self._agents.items()):
            if of == name and not agent.keys and agent_id not in wanted:
                del self._agents[of, agent_id]
                self._schedule.remove(round_job(of, agent_id))

    # Pages

    def _agent_of(self, name: str, agent_id: str) -> AgentRounds:
        agent = self._agents.get((name, agent_id))
        if agent is None:
            agent = self._agents[name, agent_id] = AgentRounds()
            self._arrange_round(name, agent_id)
        return agent

    def _arrange_round(self, name: str, agent_id: str) -> None:
        interval = self._accounts[name].plan.interval
        self._schedule.every(round_job(name, agent_id), interval, lambda: self._round(name, agent_id))

    async def _round(self, name: str, agent_id: str) -> None:
        """Read as many pages of this agent's batches as spare more requests than they cost."""
        agent, now = self._agents.get((name, agent_id)), self._clock()
        if agent is None or name not in self._accounts or agent.reading.locked():
            return
        interval = self._accounts[name].plan.interval
        if agent.read_at is not None and timedelta(0) <= now - agent.read_at < interval / 2:
            return  # discovery has just read them all
        pages = agent.pages
        if pages == 0:
            due = self._due(agent)
            if len(due) < 2 or (agent.try_at is not None and now < agent.try_at):
                return
            agent.try_at = now + TRY_LISTING_EVERY
            pages = len(due) - 1
        await self._read(name, agent_id, pages)

    def _due(self, agent: AgentRounds) -> list[BatchKey]:
        """The agent's batches that are to be looked at once an interval."""
        watches, statuses, now = self._book.watches, self._book.statuses, self._clock()
        return [
            key
            for key in agent.keys
            if key in watches
            and cadence.look(statuses[key], watches[key].rules, now).interval == watches[key].rules.interval
        ]

    async def _read(self, name: str, agent_id: str, pages: int | None) -> Reading:
        """Read the agent's batches: so many pages, or all (None); judge them, and plan the next readings."""
        agent, reading = self._agent_of(name, agent_id), Reading(agent_id)
        async with agent.reading:
            if (account := self._book.accounts.get(name)) is None:
                return reading  # dropped by a reload while this waited
            agent.read_at = self._clock()
            started = asyncio.get_running_loop().time()
            taking: list[asyncio.Task[None]] = []
            await reading.read(
                account.client,
                pages,
                self._urgency(agent),
                lambda key, seen: taking.append(asyncio.create_task(self._take(name, key, seen, started))),
            )
            await asyncio.gather(*taking)
            covered = self._looks.covered(agent.keys)
            expected = {key for key in covered if pages is None or agent.page_of.get(key, 0) < pages}
            agent.failures = 0 if reading.failure is None else agent.failures + 1
            await self._look_for(name, expected - reading.seen.keys(), reading.failure, started)
            agent.page_of = reading.page_of | (
                {} if reading.to_the_end else {k: p for k, p in agent.page_of.items() if p >= reading.pages}
            )
            await self._found(name, agent, reading)
            if self._agents.get((name, agent_id)) is agent:
                self._replan(name, agent_id, agent)
        return reading

    async def _look_for(
        self, name: str, missed: set[BatchKey], failure: UltravoxError | None, started: float
    ) -> None:
        """What was to be seen on these pages and was not: the failure is theirs, or they are asked for by id."""
        if failure is not None:
            logger.debug("list of batches cannot be read", extra={"account": name, "error": str(failure)})
        if failure is not None and failure.again_helps and failure.reason is not FailureReason.BAD_RESPONSE:
            await asyncio.gather(*(self._take(name, key, failure, started) for key in missed))
        else:
            await asyncio.gather(*(self._looks.poll(key) for key in missed))

    async def _take(self, name: str, key: BatchKey, seen: Seen, started: float) -> None:
        watch = self._book.watches.get(key)
        if watch is not None and watch.target.account == name:
            await self._looks.take(key, seen, started)

    def _urgency(self, agent: AgentRounds) -> Urgency:
        watches, now = self._book.watches, self._clock()
        return min(
            (
                cadence.urgency(self._book.statuses[key], watches[key].rules, now)
                for key in agent.keys
                if key in watches
            ),
            default=Urgency.LATER,
        )

    def _replan(self, name: str, agent_id: str, agent: AgentRounds) -> None:
        """Decide how many pages are worth reading each interval, and which batches need no job of their own."""
        due = self._due(agent)
        agent.pages = cadence.pages_worth_reading([agent.page_of.get(key) for key in due])
        if agent.failures >= LIST_FAILURES:  # single gets may work where the list does not
            agent.pages, agent.try_at = 0, self._clock() + TRY_LISTING_EVERY
            self._looks.cover((), agent.keys)
            return
        covered = {key for key in due if agent.page_of.get(key, agent.pages) < agent.pages}
        account = self._accounts[name]
        discovery, listed = account.plan.discovery, agent_id in (account.wanted or ()) and not account.failing
        if discovery is not None and listed and agent.complete_at is not None:
            # The whole list is read that often anyway.
            watches, statuses, now = self._book.watches, self._book.statuses, self._clock()
            for key in agent.keys & agent.page_of.keys() & watches.keys():
                interval = cadence.look(statuses[key], watches[key].rules, now).interval
                if interval is None or interval >= discovery.interval:
                    covered.add(key)
        self._looks.cover(covered, agent.keys)

    def _replan_all(self, name: str) -> None:
        for (of, agent_id), agent in self._agents.items():
            if of == name:
                self._replan(name, agent_id, agent)

    # Discovery

    async def _discover(self, name: str) -> None:
        """Learn which agents there are, and read the batches of those that are wanted, to the last."""
        account, discovery = self._accounts.get(name), None
        if account is not None:
            discovery = account.plan.discovery
        if account is None or discovery is None:
            return
        try:
            agents = await self._book.accounts[name].client.list_agents()
        except UltravoxError as error:
            if not account.failing:
                logger.warning("discovery fails", extra={"account": name, "error": str(error)})
            self._tried(name, account, failing=True)
            return
        if self._accounts.get(name) is not account or account.plan.discovery is not discovery:
            return  # a reload came first; the new plan has a discovery of its own
        account.listed_at = self._clock()
        for agent in agents:
            self._book.agent_names.learn(agent.agent_id, agent.name, self._clock())
        wanted = frozenset(
            agent.agent_id for agent in agents if discovery.wants_agent(agent.agent_id, agent.name)
        )
        unwanted = {agent.agent_id for agent in agents} - wanted
        if account.wanted is None or wanted != account.wanted:
            logger.info("agents found", extra={"account": name, "agents": len(wanted)})
        account.wanted = wanted
        await self.unwatch([key for key in account.found if key.agent_id in unwanted])
        self._forget_idle_agents(name)
        self._replan_all(name)
        results = await asyncio.gather(*(self._explore(name, agent_id) for agent_id in wanted))
        if account.failing and all(results):
            logger.info("discovery succeeds again", extra={"account": name})
        if not all(results) and not account.failing:
            logger.warning("discovery is incomplete", extra={"account": name, "agents": results.count(False)})
        self._tried(name, account, failing=not all(results))

    def _tried(self, name: str, account: AccountRounds, *, failing: bool) -> None:
        """Discovery was tried. What it was expected to look at first, after a restart, and did not, is asked for."""
        changed, account.failing = account.failing != failing, failing
        if self._accounts.get(name) is not account:
            return
        self._explored.add(name)
        if changed:
            self._replan_all(name)
        for key in (account.found & self._book.watches.keys()) - self._looks.attempted:
            self._look_soon(self._book.watches[key])

    async def _explore(self, name: str, agent_id: str) -> bool:
        """Read all batches of an agent; once more when the list moved while it was read. False: it cannot be read."""
        for _ in range(2):
            if name not in self._accounts:
                return False
            reading = await self._read(name, agent_id, None)
            if reading.failure is not None:
                return False
            if reading.quiet:
                break
        if (agent := self._agents.get((name, agent_id))) is not None:
            agent.complete_at = self._clock()
        return True

    async def _found(self, name: str, agent: AgentRounds, reading: Reading) -> None:
        """Watch what is new, drop what has been over for long."""
        account = self._accounts.get(name)
        discovery = account.plan.discovery if account else None
        if account is None or discovery is None or reading.agent_id not in (account.wanted or ()):
            return
        statuses = self._book.statuses
        listed = {
            key: seen
            for key, seen in reading.seen.items()
            if isinstance(seen, Observation) and (key in account.found or key not in self._book.watches)
        }
        watched = [
            (key, progress.last if (progress := statuses[key].progress) else None)
            for key in account.found & agent.keys & statuses.keys()
        ]
        room = discovery.max_batches - len(account.found)
        found = targets.found(discovery, listed, watched, room, complete=reading.quiet)
        started = asyncio.get_running_loop().time()
        # At once, before anything waits: another agent's reading must not take the same room.
        for key in found.added:
            self.watch(discovery.watch(name, key), found=True, soon=False)
        await self.unwatch(found.dropped)
        await asyncio.gather(*(self._take(name, key, listed[key], started) for key in found.added))
        if found.added or found.dropped:
            fields = {"account": name, "agent": self._book.agent_names.get(reading.agent_id)}
            logger.info(
                "batches found", extra=fields | {"added": len(found.added), "dropped": len(found.dropped)}
            )
        if reading.to_the_end:
            agent.over_limit = found.over_limit
            self._tell_of_limit(name, account, discovery)

    def _tell_of_limit(self, name: str, account: AccountRounds, discovery: Discovery) -> None:
        over = self._over_limit(name)
        if over and not account.over_limit:
            logger.error(
                "MORE BATCHES THAN MAY BE WATCHED: some are not; raise discover.max_batches, or find fewer "
                "(discover.agents, discover.max_age)",
                extra={"account": name, "max_batches": discovery.max_batches, "not_watched": over},
            )
        account.over_limit = over > 0

    def _over_limit(self, name: str) -> int:
        return sum(agent.over_limit for (of, _), agent in self._agents.items() if of == name)

    def _complete_at(self, name: str) -> datetime | None:
        """When the least recently read of the account's agents was read to its end. None: one never was."""
        wanted = self._accounts[name].wanted
        if wanted is None:
            return None
        found = [self._agent_of(name, agent_id).complete_at for agent_id in wanted]
        if any(at is None for at in found):
            return None
        return min((at for at in found if at is not None), default=self._accounts[name].listed_at)
