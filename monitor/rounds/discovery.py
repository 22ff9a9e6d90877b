"""Discovery: which agents there are, and which of their batches are to be watched.

It reads the lists of its host, the rounds, and says what to watch and what to drop. Which batches that
are is targets.py's to say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from monitor import targets
from monitor.clock import Clock
from monitor.conditions import FORGET_GONE_AFTER
from monitor.model import BatchKey, DiscoveryStatus, Observation, State
from monitor.poller import Book
from monitor.rounds.listing import Reading
from monitor.rounds.lists import Lists
from monitor.rounds.looks import Looks
from monitor.rounds.plan import AccountRounds, AgentRounds
from monitor.targets import Discovery, Watch
from monitor.ultravox import UltravoxError

logger = logging.getLogger(__name__)


class Host(Protocol):
    """What discovery needs of the rounds."""

    accounts: dict[str, AccountRounds]
    book: Book
    clock: Clock
    looks: Looks
    lists: Lists

    def watch(self, watch: Watch, *, found: bool, soon: bool = True) -> None: ...
    async def unwatch(self, keys: Iterable[BatchKey]) -> None: ...
    def look_soon(self, watch: Watch) -> None: ...


class Explorer:
    """Finds the batches of every account that has a discovery. `tried`: the accounts where it was tried."""

    def __init__(self, host: Host) -> None:
        self.tried: set[str] = set()
        self._host = host

    def status(self, name: str) -> DiscoveryStatus:
        """How the finding of this account's batches goes."""
        return DiscoveryStatus(name, self._complete_at(name), self._over_limit(name))

    async def run(self, name: str) -> None:
        """Learn which agents there are, and read the batches of those that are wanted, to the last."""
        account, discovery, failure = self._host.accounts.get(name), None, None
        if account is not None:
            discovery = account.plan.discovery
        if account is None or discovery is None:
            return
        try:
            agents = await self._host.book.accounts[name].client.list_agents()
        except UltravoxError as error:
            agents, failure = (), error
        if self._host.accounts.get(name) is not account or account.plan.discovery != discovery:
            await self.run(name)  # a reload came first, whose own run found this one under way
            return
        if failure is not None:
            if not account.failing:
                logger.warning("discovery fails", extra={"account": name, "error": str(failure)})
            self._tried(name, account, failing=True)
            return
        account.listed_at = self._host.clock()
        for agent in agents:
            self._host.book.agent_names.learn(agent.agent_id, agent.name, self._host.clock())
        wanted = frozenset(
            agent.agent_id for agent in agents if discovery.wants_agent(agent.agent_id, agent.name)
        )
        unwanted = {agent.agent_id for agent in agents} - wanted
        if account.wanted is None or wanted != account.wanted:
            logger.info("agents found", extra={"account": name, "agents": len(wanted)})
        account.wanted = wanted
        await self._host.unwatch(
            [key for key in account.found if key.agent_id in unwanted or self._long_gone(key, discovery)]
        )
        self._host.lists.forget_idle(name)
        self._host.lists.replan_all(name)
        results = await asyncio.gather(*(self._explore(name, agent_id) for agent_id in wanted))
        if account.failing and all(results):
            logger.info("discovery succeeds again", extra={"account": name})
        if not all(results) and not account.failing:
            logger.warning("discovery is incomplete", extra={"account": name, "agents": results.count(False)})
        self._tried(name, account, failing=not all(results))

    def _tried(self, name: str, account: AccountRounds, *, failing: bool) -> None:
        """Discovery was tried. What it was expected to look at first, after a restart, and did not, is asked for."""
        changed, account.failing = account.failing != failing, failing
        if self._host.accounts.get(name) is not account:
            return
        self.tried.add(name)
        if changed:
            self._host.lists.replan_all(name)
        missed = (account.found & self._host.book.watches.keys()) - self._host.looks.attempted
        for key in missed:
            self._host.look_soon(self._host.book.watches[key])

    def _long_gone(self, key: BatchKey, discovery: Discovery) -> bool:
        """Whether Ultravox has not known this batch for as long as an ended one is kept."""
        status = self._host.book.statuses.get(key)
        failing = status.failing if status else None
        if status is None or failing is None or status.assessment.state is not State.GONE:
            return False
        since = failing.not_found_since or failing.since
        kept = max(discovery.keep_ended_for, FORGET_GONE_AFTER)  # its alert is told and resolved first
        return self._host.clock() - since > kept

    async def _explore(self, name: str, agent_id: str) -> bool:
        """Read all batches of an agent; once more when the list moved while it was read. False: it cannot be read."""
        for _ in range(2):
            if name not in self._host.accounts:
                return False
            reading = await self._host.lists.read(name, agent_id, None)
            if reading.failure is not None:
                return False
            if reading.quiet:
                break
        if (agent := self._host.lists.agents.get((name, agent_id))) is not None:
            agent.complete_at = self._host.clock()
        return True

    async def take_up(self, name: str, agent: AgentRounds, reading: Reading) -> None:
        """Watch what is new, drop what has been over for long."""
        account = self._host.accounts.get(name)
        discovery = account.plan.discovery if account else None
        if account is None or discovery is None or reading.agent_id not in (account.wanted or ()):
            return
        statuses = self._host.book.statuses
        listed = {
            key: seen
            for key, seen in reading.seen.items()
            if isinstance(seen, Observation) and (key in account.found or key not in self._host.book.watches)
        }
        watched = [
            (key, progress.last if (progress := statuses[key].progress) else None)
            for key in account.found & agent.keys & statuses.keys()
        ]
        room = discovery.max_batches - len(account.found)
        found = targets.found(discovery, listed, watched, room, met=reading.seen, complete=reading.quiet)
        started = asyncio.get_running_loop().time()
        # At once, before anything waits: another agent's reading must not take the same room.
        for key in found.added:
            self._host.watch(discovery.watch(name, key), found=True, soon=False)
        await self._host.unwatch(found.dropped)
        await self._host.lists.take(name, {key: listed[key] for key in found.added}, started)
        if found.added or found.dropped:
            fields = {"account": name, "agent": self._host.book.agent_names.get(reading.agent_id)}
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
        return sum(agent.over_limit for (of, _), agent in self._host.lists.agents.items() if of == name)

    def _complete_at(self, name: str) -> datetime | None:
        """When the least recently read of the account's agents was read to its end. None: one never was."""
        wanted = self._host.accounts[name].wanted
        if wanted is None:
            return None
        agents = (self._host.lists.agents.get((name, agent_id)) for agent_id in wanted)
        found = [agent.complete_at if agent else None for agent in agents]
        if any(at is None for at in found):
            return None
        return min((at for at in found if at is not None), default=self._host.accounts[name].listed_at)
