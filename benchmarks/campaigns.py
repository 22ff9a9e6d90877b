"""Made-up campaigns with known endings: what is observed of each, minute by minute, and what came of it.

Deterministic by seed. Every kind comes in every margin, from hopeless to comfortable: `margin` is how many
calls would be made in the window, by those that are to be made.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from monitor.model import Observation, Throttle, ThrottleRule

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
STEP = timedelta(minutes=1)


@dataclass(frozen=True)
class Campaign:
    """One campaign. `seen` holds what each look finds; None where nothing could be observed."""

    kind: str
    index: int
    margin: float
    window: timedelta
    seen: tuple[Observation | None, ...]
    truth: tuple[Observation, ...]  # the same without a gap
    throttle: Throttle | None = None
    at_cap: bool = False

    @property
    def missed(self) -> int:
        """Calls left unmade at the end of the window."""
        return self.truth[-1].remaining

    @property
    def done_at(self) -> datetime | None:
        """When the last call was made."""
        last = self.truth[-1].total
        return next((one.at for one in self.truth if one.completed >= last), None)


@dataclass(frozen=True)
class _Plan:
    """How a kind of campaign goes: everything by minute of its window."""

    rate: Callable[[int], float]  # relative to its mean
    paused: range = range(0)
    added: tuple[int, float] | None = None  # when, and how many more, by the calls at the start
    unseen: tuple[range, ...] = ()
    throttle: Throttle | None = None
    at_cap: bool = False


def _steady(_: random.Random, __: int) -> _Plan:
    return _Plan(lambda _: 1.0)


def _bursty(chance: random.Random, _: int) -> _Plan:
    period, length = chance.randint(10, 25), chance.randint(2, 6)
    return _Plan(lambda minute: period / length if minute % period < length else 0.0)


def _ramping(chance: random.Random, minutes: int) -> _Plan:
    first = chance.uniform(0.4, 0.8)
    return _Plan(lambda minute: first + 2 * (1 - first) * minute / minutes)


def _slowing(chance: random.Random, minutes: int) -> _Plan:
    last = chance.uniform(0.4, 0.8)
    return _Plan(lambda minute: 2 - last - 2 * (1 - last) * minute / minutes)


def _lunch(chance: random.Random, minutes: int) -> _Plan:
    length = min(chance.randint(30, 60), minutes // 4)
    start = chance.randint(minutes // 4, minutes // 2)
    return _Plan(lambda minute: 0.0 if start <= minute < start + length else 1.0)


def _paused(chance: random.Random, minutes: int) -> _Plan:
    start = chance.randint(minutes // 5, minutes // 2)
    return _Plan(lambda _: 1.0, paused=range(start, start + max(5, minutes // chance.randint(4, 10))))


def _throttled(chance: random.Random, _: int) -> _Plan:
    return _Plan(
        lambda _: 1.0, throttle=Throttle("t", "gentle", (ThrottleRule(chance.randint(5, 100), 1800),))
    )


def _starved(chance: random.Random, minutes: int) -> _Plan:
    shares: list[float] = []
    while len(shares) < minutes:
        shares += [chance.uniform(0.4, 1.6)] * chance.randint(10, 45)
    return _Plan(lambda minute: shares[minute], at_cap=True)


def _added(chance: random.Random, minutes: int) -> _Plan:
    return _Plan(
        lambda _: 1.0, added=(chance.randint(minutes // 4, 2 * minutes // 3), chance.uniform(0.2, 0.8))
    )


def _outage(chance: random.Random, minutes: int) -> _Plan:
    start = chance.randint(minutes // 5, 2 * minutes // 3)
    return _Plan(lambda _: 1.0, unseen=(range(start, start + chance.randint(10, 60)),))


def _restarts(chance: random.Random, minutes: int) -> _Plan:
    starts = [chance.randint(5, minutes - 20) for _ in range(3)]
    return _Plan(lambda _: 1.0, unseen=tuple(range(start, start + chance.randint(2, 8)) for start in starts))


def _stopping(chance: random.Random, minutes: int) -> _Plan:
    end = chance.randint(3 * minutes // 10, 8 * minutes // 10)
    return _Plan(lambda minute: 1.0 if minute < end else 0.0)


def _late_fix(chance: random.Random, minutes: int) -> _Plan:
    fixed, slow = chance.randint(2 * minutes // 10, 5 * minutes // 10), chance.uniform(0.2, 0.5)
    return _Plan(lambda minute: slow if minute < fixed else 1.5)


KINDS: dict[str, Callable[[random.Random, int], _Plan]] = {
    "steady": _steady,
    "bursty": _bursty,
    "ramping": _ramping,
    "slowing": _slowing,
    "lunch break": _lunch,
    "paused": _paused,
    "throttled": _throttled,
    "starved": _starved,
    "calls added": _added,
    "api outage": _outage,
    "restarts": _restarts,
    "stops for good": _stopping,
    "late fix": _late_fix,
}


def campaigns(count: int, seed: int) -> Iterator[Campaign]:
    """So many campaigns, each kind in turn."""
    for index in range(count):
        kind = list(KINDS)[index % len(KINDS)]
        yield _campaign(kind, index // len(KINDS), random.Random(f"{seed}/{kind}/{index}"))


def _campaign(kind: str, index: int, chance: random.Random) -> Campaign:
    minutes = round(60 * math.exp(chance.uniform(0, math.log(10))))
    total = round(50 * math.exp(chance.uniform(0, math.log(100))))
    margin = chance.choice([chance.uniform(0.4, 0.85), chance.uniform(0.85, 1.15), chance.uniform(1.15, 2.0)])
    plan = KINDS[kind](chance, minutes)
    rule = plan.throttle.rules[0] if plan.throttle else None
    if rule is not None:  # the throttle decides how much can be made
        total = max(20, round(rule.max_calls * minutes * 60 / rule.window_seconds / margin))
    wanted = total * (1 + (plan.added[1] if plan.added else 0.0))
    weights = [0.0 if minute in plan.paused else plan.rate(minute) for minute in range(minutes)]
    if kind in {"stops for good", "late fix", "paused", "lunch break"}:
        weights = [1.0] * minutes  # the mishap comes on top of the margin
    scale = (3.0 if rule is not None else 1.0) * margin * wanted / sum(weights)

    made = 0.0
    completed = 0
    spent: deque[tuple[int, int]] = deque()
    truth: list[Observation] = []
    end = START + minutes * STEP
    for minute in range(minutes + 1):
        paused = minute in plan.paused
        calls = total
        if plan.added is not None and minute >= plan.added[0]:
            calls = round(total * (1 + plan.added[1]))
        if minute and not paused:
            mean = scale * plan.rate(minute - 1)
            lucky = _poisson(mean, chance)
            if rule is not None:
                while spent and spent[0][0] <= minute - rule.window_seconds // 60:
                    spent.popleft()
                lucky = min(lucky, rule.max_calls - sum(number for _, number in spent))
            lucky = max(0, min(lucky, calls - completed))
            spent.append((minute, lucky))
            completed += lucky
            made += lucky
        truth.append(
            Observation(
                at=START + minute * STEP,
                created=START - timedelta(minutes=5),
                total=calls,
                completed=completed,
                window_start=START,
                window_end=end,
                paused=paused,
                throttle=plan.throttle.name if plan.throttle else None,
            )
        )
    seen = tuple(
        None if any(minute in gap for gap in plan.unseen) else one for minute, one in enumerate(truth)
    )
    window = minutes * STEP
    return Campaign(kind, index, margin, window, seen, tuple(truth), plan.throttle, plan.at_cap)


def _poisson(mean: float, chance: random.Random) -> int:
    """How many calls fall into a minute."""
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def ended(campaign: Campaign) -> Observation:
    """What is seen right after its window: Ultravox ends it."""
    last = campaign.truth[-1]
    return replace(last, at=last.at + STEP, ended_at=last.at)
