"""What the campaigns of one account look like at a moment of scenario time.

Pure: no clock, no socket. Time is advanced in steps of one second of scenario time, in order, so that
the history is a function of scenario and seed alone, whoever asks for what, when and how often.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.simulator.scenario import Account, Action, Batch, Throttle

STEP = 1.0
"""Seconds of scenario time: the finest thing that can happen."""


class CallStatus(StrEnum):
    """Ultravox' own words for a scheduled call."""

    FUTURE = "FUTURE"
    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    EXPIRED = "EXPIRED"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Made:
    """A call that was created, or that failed to be."""

    at: float
    error: str | None = None


@dataclass(slots=True)
class Campaign:
    """One batch as it stands."""

    plan: Batch
    chance: random.Random
    total: int
    pace: float
    paused: bool
    window_start: float | None
    window_end: float | None
    fail_share: float
    fail_error: str
    script: deque[Action]
    made: list[Made] = field(default_factory=list)
    flowing: bool = True
    ended_at: float | None = None
    deleted: bool = False
    credit: float = 0.0  # calls that the pace allows and that have not been made yet

    @property
    def remaining(self) -> int:
        return self.total - len(self.made)

    def status(self, index: int, now: float, call_duration: float) -> CallStatus:
        """What has become of the call to the person of this index."""
        if index >= len(self.made):
            return CallStatus.FUTURE if self.ended_at is None else CallStatus.EXPIRED
        call = self.made[index]
        if call.error is not None:
            return CallStatus.ERROR
        return CallStatus.PENDING if now < call.at + call_duration else CallStatus.SUCCESS


@dataclass(slots=True)
class _Spent:
    """The calls a throttle has let through lately."""

    throttle: Throttle
    calls: deque[float] = field(default_factory=deque)

    def room(self, now: float) -> int:
        longest = max((rule.window for rule in self.throttle.rules), default=0.0)
        while self.calls and self.calls[0] <= now - longest:
            self.calls.popleft()
        free = 1_000_000
        for rule in self.throttle.rules:
            free = min(free, rule.max_calls - sum(at > now - rule.window for at in self.calls))
        return max(0, free)


class World:
    """All campaigns of one account, which compete for its concurrent calls and share its throttles."""

    def __init__(self, account: Account, seed: int) -> None:
        self.account = account
        self.campaigns: dict[str, Campaign] = {
            str(batch.batch_id): _begin(batch, f"{seed}/{account.name}/{batch.batch_id}")
            for agent in account.agents
            for batch in agent.batches
        }
        self._listed = list(self.campaigns.values())
        self._chance = random.Random(f"{seed}/{account.name}")
        self._throttles = {throttle.name: _Spent(throttle) for throttle in account.throttles}
        self._active: deque[float] = deque()  # when each call under way will be over
        earliest = min((c.plan.created for c in self.campaigns.values()), default=0.0)
        self.now = min(0.0, earliest)

    def advance(self, to: float) -> None:
        """Let time pass until `to`, scenario seconds. Going back does nothing."""
        while self.now + STEP <= to:
            self.now += STEP
            self._step()

    def active_calls(self) -> int:
        """Calls under way."""
        while self._active and self._active[0] <= self.now:
            self._active.popleft()
        return len(self._active)

    def exists(self, campaign: Campaign) -> bool:
        """Whether the API knows this batch now."""
        return campaign.plan.created <= self.now and not campaign.deleted

    def _step(self) -> None:
        for campaign in self._in_turn():
            while campaign.script and campaign.script[0].at <= self.now:
                _act(campaign, campaign.script.popleft(), self.now)
            if self.exists(campaign) and campaign.ended_at is None:
                self._call(campaign)
                self._end(campaign)

    def _in_turn(self) -> Iterable[Campaign]:
        """All campaigns, beginning with any of them: capacity goes to whoever comes first."""
        campaigns = self._listed
        first = self._chance.randrange(len(campaigns)) if campaigns else 0
        return campaigns[first:] + campaigns[:first]

    def _call(self, campaign: Campaign) -> None:
        start, end = campaign.window_start, campaign.window_end
        inside = (start is None or self.now > start) and (end is None or self.now <= end)
        if not inside or campaign.paused or not campaign.flowing or campaign.remaining <= 0:
            campaign.credit = 0.0
            return
        noise = 1 + campaign.plan.jitter * campaign.chance.uniform(-1, 1)
        campaign.credit = min(campaign.credit + campaign.pace * STEP * noise, max(1.0, campaign.pace * 60))
        wanted = min(int(campaign.credit), campaign.remaining)
        spent = self._throttles.get(campaign.plan.throttle or "")
        if spent is not None and wanted:
            wanted = min(wanted, spent.room(self.now))
        for _ in range(wanted):
            fails = campaign.chance.random() < campaign.fail_share
            if not fails and not self._free():
                break
            campaign.credit -= 1
            campaign.made.append(Made(self.now, campaign.fail_error if fails else None))
            if spent is not None:
                spent.calls.append(self.now)
            if not fails:
                self._active.append(self.now + self.account.call_duration)

    def _free(self) -> bool:
        cap = self.account.allowed_concurrent_calls
        return cap is None or self.active_calls() < cap

    def _end(self, campaign: Campaign) -> None:
        end = campaign.window_end
        over = end is not None and self.now >= end + campaign.plan.ends_late
        if campaign.remaining <= 0 or over:
            campaign.ended_at = self.now


def _begin(batch: Batch, seed: str) -> Campaign:
    return Campaign(
        plan=batch,
        chance=random.Random(seed),
        total=batch.calls,
        pace=batch.pace,
        paused=batch.paused,
        window_start=batch.window.start,
        window_end=batch.window.end,
        fail_share=batch.failing.share if batch.failing else 0.0,
        fail_error=batch.failing.error if batch.failing else "",
        script=deque(sorted(batch.script, key=lambda action: action.at)),
    )


def _act(campaign: Campaign, action: Action, now: float) -> None:
    match action.do:
        case "pause":
            campaign.paused = True
        case "resume":
            campaign.paused = False
        case "stall":
            campaign.flowing = False
        case "recover":
            campaign.flowing = True
        case "add_calls":
            campaign.total += action.calls or 0
            campaign.ended_at = None
        case "set_pace":
            campaign.pace = action.pace or 0.0
        case "fail":
            campaign.fail_share, campaign.fail_error = action.share or 0.0, action.error
        case "move_window":
            campaign.window_start, campaign.window_end = action.start, action.end
        case "cancel":
            campaign.ended_at = campaign.ended_at or now
        case "delete":
            campaign.deleted = True
