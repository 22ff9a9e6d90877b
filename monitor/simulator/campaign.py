"""What the campaigns of one account look like at a moment of scenario time.

Pure: no clock, no socket. What happens is worked out from event to event, on whole seconds of scenario
time, in their order, so that the history is a function of scenario and seed alone, whoever asks for what,
when and how often. A campaign's events are what its script says, the bounds of its window, and its next call:

    made by its pace ──▶ is a line free, has the throttle room? ──▶ made, or tried again when there is

so that a campaign with nothing to do costs nothing, and four hours of a thousand cost a few seconds.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.simulator.plan import Account, Action, Batch, Throttle

STEP = 1.0
"""Seconds of scenario time: the finest thing that can happen."""

SAVED_UP = 60.0
"""Seconds of its pace that a campaign makes up for when it had to wait for a line or for its throttle."""


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
    """One batch as it stands. People are called in the order of their index."""

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
    created: list[int] = field(default_factory=list)  # of those made
    failed: list[int] = field(default_factory=list)  # the others
    flowing: bool = True
    ended_at: float | None = None
    deleted: bool = False
    next_call: float | None = None  # when the pace wants it; None while no calls are made
    next_try: float = (
        -math.inf
    )  # when it can be made: later, where a line or the throttle has to be waited for
    luck: float = 0.0  # of the next call, drawn once: a call that waits does not try its luck again

    @property
    def remaining(self) -> int:
        return self.total - len(self.made)

    def calling(self, now: float) -> bool:
        """Whether its pace is kept now."""
        inside = (self.window_start is None or now > self.window_start) and (
            self.window_end is None or now <= self.window_end
        )
        return inside and not self.paused and self.flowing and self.remaining > 0

    def status(self, index: int, now: float, call_duration: float) -> CallStatus:
        """What has become of the call to the person of this index."""
        if index >= len(self.made):
            return CallStatus.FUTURE if self.ended_at is None else CallStatus.EXPIRED
        call = self.made[index]
        if call.error is not None:
            return CallStatus.ERROR
        return CallStatus.PENDING if now < call.at + call_duration else CallStatus.SUCCESS

    def indexes(self, status: CallStatus | None, now: float, call_duration: float) -> Sequence[int]:
        """Whose calls have this status, without looking at each; None: everyone's."""
        unmade = range(len(self.made), self.total)
        match status:
            case None:
                return range(self.total)
            case CallStatus.FUTURE:
                return unmade if self.ended_at is None else ()
            case CallStatus.EXPIRED:
                return () if self.ended_at is None else unmade
            case CallStatus.ERROR:
                return self.failed
            case _:
                over = bisect_right(self.created, now, key=lambda index: self.made[index].at + call_duration)
                return self.created[:over] if status is CallStatus.SUCCESS else self.created[over:]

    def draw(self) -> None:
        """Decide when the next call is due after this one, and how lucky it is."""
        gap = 1 / self.pace if self.pace else math.inf
        self.next_call = (self.next_call or 0.0) + gap * (1 + self.plan.jitter * self.chance.uniform(-1, 1))
        self.luck = self.chance.random()


class _Spent:
    """The calls a throttle has let through lately."""

    def __init__(self, throttle: Throttle) -> None:
        self._rules = throttle.rules
        self.calls: deque[float] = deque(maxlen=max((rule.max_calls for rule in throttle.rules), default=0))

    def free_at(self) -> float:
        """When the next call may pass: at most `max_calls` in any sliding window, by each rule."""
        return max(
            (
                self.calls[-rule.max_calls] + rule.window
                for rule in self._rules
                if len(self.calls) >= rule.max_calls
            ),
            default=-math.inf,
        )


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
        earliest = min((c.plan.created for c in self._listed), default=0.0)
        self.now = float(min(0, math.floor(earliest)))
        # A heap of: when; a lot, for what is free in a second goes to whoever comes first; whose event it is.
        self._events: list[tuple[float, float, int]] = []
        for index in range(len(self._listed)):
            self._await(index)

    def advance(self, to: float) -> None:
        """Let time pass until `to`, scenario seconds. Going back does nothing."""
        last = float(math.floor(to))
        while self._events and self._events[0][0] <= last:
            self.now, _, index = heapq.heappop(self._events)
            self._happen(self._listed[index])
            self._await(index)
        self.now = max(self.now, last)

    def active_calls(self) -> int:
        """Calls under way."""
        while self._active and self._active[0] <= self.now:
            self._active.popleft()
        return len(self._active)

    def exists(self, campaign: Campaign) -> bool:
        """Whether the API knows this batch now."""
        return campaign.plan.created <= self.now and not campaign.deleted

    def _await(self, index: int) -> None:
        campaign = self._listed[index]
        event = self._next_event(campaign)
        if event < math.inf:
            step = math.ceil(max(event, self.now + STEP))
            heapq.heappush(self._events, (float(step), self._chance.random(), index))

    def _next_event(self, campaign: Campaign) -> float:
        start, end = campaign.window_start, campaign.window_end
        events = [campaign.script[0].at] if campaign.script else []
        if campaign.deleted or campaign.ended_at is not None:
            pass
        elif campaign.plan.created > self.now:
            events.append(campaign.plan.created)
        else:
            if campaign.remaining <= 0:  # nobody was to be called
                events.append(self.now)
            elif campaign.calling(self.now):
                events.append(campaign.next_try)
            elif start is not None and self.now <= start:
                events.append(math.floor(start) + STEP)
            if end is not None:
                events.append(end + campaign.plan.ends_late)
        return min(events, default=math.inf)

    def _happen(self, campaign: Campaign) -> None:
        while campaign.script and campaign.script[0].at <= self.now:
            _act(campaign, campaign.script.popleft(), self.now)
        if self.exists(campaign) and campaign.ended_at is None:
            self._call(campaign)
            self._end(campaign)

    def _call(self, campaign: Campaign) -> None:
        """Make the calls that are due, as far as there is room for them."""
        if not campaign.calling(self.now):
            campaign.next_call = None
            return
        if campaign.next_call is None:
            campaign.next_call = self.now - STEP
            campaign.draw()
        campaign.next_call = max(campaign.next_call, self.now - SAVED_UP)
        spent = self._throttles.get(campaign.plan.throttle or "")
        while campaign.remaining > 0 and campaign.next_call <= self.now:
            fails = campaign.luck < campaign.fail_share
            free_at = max(
                spent.free_at() if spent else -math.inf,
                -math.inf if fails else self._line_free_at(),
            )
            if free_at > self.now:
                campaign.next_try = free_at
                return
            (campaign.failed if fails else campaign.created).append(len(campaign.made))
            campaign.made.append(Made(self.now, campaign.fail_error if fails else None))
            if spent is not None:
                spent.calls.append(self.now)
            if not fails:
                self._active.append(self.now + self.account.call_duration)
            campaign.draw()
        campaign.next_try = campaign.next_call

    def _line_free_at(self) -> float:
        """When a call under way ends and lets another begin; a call that fails needs no line."""
        cap = self.account.allowed_concurrent_calls
        if cap is None or self.active_calls() < cap:
            return -math.inf
        return self._active[-cap] if cap else math.inf

    def _end(self, campaign: Campaign) -> None:
        end = campaign.window_end
        over = end is not None and self.now >= end + campaign.plan.ends_late
        if campaign.remaining <= 0 or over:
            campaign.ended_at, campaign.next_call = self.now, None


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
            campaign.next_call = None
        case "fail":
            campaign.fail_share, campaign.fail_error = action.share or 0.0, action.error
        case "move_window":  # a bound that is not named stays where it is
            if "start" in action.model_fields_set:
                campaign.window_start = action.start
            if "end" in action.model_fields_set:
                campaign.window_end = action.end
        case "cancel":
            campaign.ended_at = now if campaign.ended_at is None else campaign.ended_at
        case "delete":
            campaign.deleted = True
