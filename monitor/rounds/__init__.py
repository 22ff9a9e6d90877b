"""What is asked when: single polls, pages of an agent's batches, discovery, outcomes, probes.

It knows no alert and judges nothing: whatever is seen goes to the poller. Each batch is looked at by its
own request, or by a page of its agent's list where that costs fewer requests: then it has no job of its
own. How often is cadence.py's to say, which batches are wanted targets.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from monitor.clock import Clock
from monitor.model import BatchKey, DiscoveryStatus
from monitor.poller import Poller
from monitor.rounds.discovery import Explorer
from monitor.rounds.lists import Lists
from monitor.rounds.looks import Looks
from monitor.rounds.plan import AccountRounds, Plan
from monitor.schedule import Schedule, spread
from monitor.targets import Discovery, Watch

__all__ = ["Plan", "Rounds"]

_MOMENT = timedelta(milliseconds=1)


class Rounds:
    """The jobs that ask."""

    def __init__(self, schedule: Schedule, poller: Poller, *, clock: Clock) -> None:
        self._schedule = schedule
        self._poller = poller
        self.book = poller.book
        self.clock = clock
        self.accounts: dict[str, AccountRounds] = {}
        self.looks = Looks(
            schedule,
            poller,
            clock=clock,
            next_reading=self._next_reading,
            on_gone=self._forget,
        )
        self._discovery = Explorer(self)
        self.lists = Lists(
            schedule, self.book, self.looks, self.accounts, clock=clock, on_read=self._discovery.take_up
        )

    def watch_account(self, name: str, plan: Plan) -> None:
        """Probe this account, find its batches and read their outcomes from now on, or by a new plan."""
        present = self.accounts.get(name)
        self.accounts[name] = account = present or AccountRounds(plan)
        before, account.plan = (present.plan if present else None), plan
        if before is not None and before.interval != plan.interval:
            self.lists.every(name, plan.interval)
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
            self.lists.forget_idle(name)
        else:
            every(
                f"discover:{name}",
                plan.discovery.interval,
                lambda: self._discovery.run(name),
                first_after=now_or_later,
            )
        if before != plan:
            self.lists.replan_all(name)

    def unwatch_account(self, name: str) -> None:
        """Ask nothing of this account any more."""
        self.accounts.pop(name, None)
        for job in ("probe", "outcomes", "discover"):
            self._schedule.remove(f"{job}:{name}")
        self.lists.forget_idle(name)

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
        """Look at this batch from now on.

        `soon`: within an interval. Else its own turn comes an interval later: a page that shows it is about to be read.
        """
        key, account = watch.key, self.accounts[watch.target.account]
        present = self.book.watches.get(key)
        if present is not None and present.target.account != watch.target.account:
            self._forget(key)
        (account.found.add if found else account.found.discard)(key)
        self.book.watch(watch)
        if not self.lists.add(watch.target.account, key):
            self.looks.again(key)
        elif soon:
            self.look_soon(watch)
        else:
            interval = watch.rules.interval
            self.looks.begin(key, interval + spread(str(key), interval))

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
            self.lists.discard(name, key)

    def _next_reading(self, name: str, agent_id: str) -> datetime | None:
        return self.lists.next_reading(name, agent_id)
