"""What we believe of a batch: its progress, its stall clock, its state.

Pure: values in, values out. Nothing here speaks to anyone (alerts.py decides that) or reads a clock:
the instant is `Observation.at`, told by the API's own clock.

The stall clock is *expected* time without progress. Calls are expected while the batch is in its
window, not paused, has calls remaining and its throttle is not spent. The clock starts at first
sight, at progress (a new maximum of `completedCount`), and whenever expectation begins. It stands
on good observations alone: a failed poll neither starts nor advances it. After a gap in which we
saw nothing it takes some fresh silence before we say stalled, unless we had said so before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from monitor import curves, pace, throttles, words
from monitor.model import (
    Assessment,
    Changes,
    Circumstances,
    Curve,
    Failing,
    FailureReason,
    Observation,
    Progress,
    State,
    StateChange,
)

FRESH_SILENCE = timedelta(minutes=5)
"""Silence that must be watched after a gap; the stall limit itself where that is shorter."""

GAP_INTERVALS = 3
"""An observation later than this many poll intervals after the one before ends a gap."""

GONE_AFTER = 3
"""404 answers in a row before a batch is believed to be gone."""

CONFIRMED = 2
"""Observations of the same endedAt before an end is believed: the API may still correct itself."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How one batch is judged."""

    interval: timedelta = timedelta(seconds=30)  # between two polls: what makes a gap a gap
    stall_after: timedelta = timedelta(minutes=15)  # also the span of "recent" for the pace
    stall_after_at_cap: timedelta = timedelta(
        hours=1
    )  # while the account's concurrent calls are at their cap


NO_CIRCUMSTANCES = Circumstances()


def calls_expected(seen: Observation, around: Circumstances = NO_CIRCUMSTANCES) -> bool:
    """Whether Ultravox should be making calls of this batch at the moment of the observation."""
    return (
        seen.ended_at is None
        and seen.remaining > 0
        and not seen.paused
        and (seen.window_start is None or seen.at >= seen.window_start)
        and (seen.window_end is None or seen.at < seen.window_end)
        and not around.throttle_spent
    )


def observe(
    before: Progress | None, seen: Observation, rules: Rules, around: Circumstances = NO_CIRCUMSTANCES
) -> Progress:
    """What we know after one more good observation."""
    expected = calls_expected(seen, around)
    if before is None:
        return Progress(
            first_seen_at=seen.at,
            last=seen,
            best_completed=seen.completed,
            clock_started_at=seen.at if expected else None,
            paused_since=seen.at if seen.paused else None,
            end_seen=1 if seen.ended_at is not None else 0,
            samples=Curve.of([(0.0, seen.completed)]),
            marks=throttles.marked((), seen),
            curve=Curve.of([(_second(seen.at), seen.completed)]),
        )

    elapsed = seen.at - before.last.at
    if elapsed < timedelta(0):  # the API's clock was set back, or had been ahead for one answer
        before = _not_after(before, seen.at)
        elapsed = timedelta(0)
    progressed = seen.completed > before.best_completed

    started, fresh = before.clock_started_at, before.fresh_since
    gap = elapsed > GAP_INTERVALS * rules.interval
    if not expected:
        started, fresh = None, None
    elif progressed:
        started, fresh = seen.at, None
    elif started is None:
        started = _expectation_began(before.last, seen)
        fresh = seen.at if gap else None  # a window may have opened while nobody looked
    elif (
        gap
        and before.last.at - started < _stall_limit(before, rules, around)
        and (fresh is None or elapsed > min(rules.stall_after, FRESH_SILENCE))
    ):
        # What stood still before the gap needs no new proof. Nor is proof begun anew by each small gap:
        # else a batch whose polls are always late could never stall.
        fresh = seen.at

    expected_seconds = before.expected_seconds + _expected_between(before, seen, started).total_seconds()
    best = max(before.best_completed, seen.completed)
    over = seen.ended_at is not None and not progressed and before.last.ended_at is not None
    return Progress(
        first_seen_at=before.first_seen_at,
        last=seen,
        best_completed=best,
        last_progress_at=seen.at if progressed else before.last_progress_at,
        clock_started_at=started,
        fresh_since=fresh,
        paused_since=(before.paused_since or seen.at) if seen.paused else None,
        end_seen=_end_seen(before, seen),
        expected_seconds=expected_seconds,
        samples=pace.sampled(before.samples, expected_seconds, best, rules.stall_after),
        paused_seconds=before.paused_seconds
        + (elapsed.total_seconds() if seen.paused and before.last.paused else 0.0),
        marks=throttles.marked(before.marks if seen.throttle == before.last.throttle else (), seen),
        curve=before.curve if over else curves.traced(before.curve, _second(seen.at), best),
    )


def _second(at: datetime) -> int:
    return int(at.timestamp())


def _not_after(before: Progress, now: datetime) -> Progress:
    """Nothing began later than now. What was counted by a clock that was ahead is not counted."""

    def capped(at: datetime | None) -> datetime | None:
        return None if at is None else min(at, now)

    return replace(
        before,
        clock_started_at=capped(before.clock_started_at),
        fresh_since=capped(before.fresh_since),
        paused_since=capped(before.paused_since),
    )


def _expectation_began(last: Observation, seen: Observation) -> datetime:
    """A window opens at a known instant; a pause lifted or calls added are known when they are seen."""
    start = seen.window_start
    if start is not None and not last.paused and last.ended_at is None and last.at < start <= seen.at:
        return start
    return seen.at


def _expected_between(before: Progress, seen: Observation, started: datetime | None) -> timedelta:
    """Expected time that the latest observation adds. Off by one interval at most where it cannot be known."""
    if before.clock_started_at is not None:
        until = seen.at if seen.window_end is None else min(seen.at, seen.window_end)
        return max(timedelta(0), until - before.last.at)
    return timedelta(0) if started is None else seen.at - started


def _end_seen(before: Progress, seen: Observation) -> int:
    if seen.ended_at is None:
        return 0
    return min(before.end_seen + 1, CONFIRMED) if seen.ended_at == before.last.ended_at else 1


def failed(before: Failing | None, reason: FailureReason, message: str, now: datetime) -> Failing:
    """The run of failed polls or probes with one more. `message` must be safe to show."""
    not_found = reason is FailureReason.NOT_FOUND
    if before is None:
        return Failing(now, 1, int(not_found), reason, message, now if not_found else None)
    # What is gone stays gone through other failures: those are no news.
    kept = before.not_found if before.not_found >= GONE_AFTER else 0
    streak = before.not_found + 1 if not_found else kept
    since = before.not_found_since or now
    not_found_since = min(since, now) if streak else None
    return Failing(min(before.since, now), before.count + 1, streak, reason, message, not_found_since)


@dataclass(slots=True)
class _Facts:
    """What the table of states is asked about."""

    progress: Progress | None
    not_found: int
    idle: timedelta | None
    limit: timedelta

    @property
    def seen(self) -> Observation:
        if self.progress is None:
            raise LookupError("the first row of the table takes batches that were never observed")
        return self.progress.last

    @property
    def ended(self) -> bool:
        return self.seen.ended_at is not None


STATES: tuple[tuple[State, str, Callable[[_Facts], bool]], ...] = (
    (State.UNKNOWN, "never observed", lambda f: f.progress is None),
    (
        State.INCOMPLETE,
        "endedAt set and completed < total, on two observations: people were not called",
        lambda f: (
            f.ended and f.seen.remaining > 0 and f.progress is not None and f.progress.end_seen >= CONFIRMED
        ),
    ),
    (State.ENDED, "endedAt set", lambda f: f.ended),
    (State.GONE, "404 on three polls in a row, not ended before", lambda f: f.not_found >= GONE_AFTER),
    (
        State.OVERDUE,
        "observed after windowEnd, calls remain, endedAt not set",
        lambda f: f.seen.window_end is not None and f.seen.at >= f.seen.window_end and f.seen.remaining > 0,
    ),
    (State.PAUSED, "paused", lambda f: f.seen.paused),
    (
        State.WAITING,
        "before windowStart, and no call made yet",
        lambda f: (
            f.seen.window_start is not None and f.seen.at < f.seen.window_start and f.seen.completed == 0
        ),
    ),
    (
        State.STALLED,
        "calls remain and the stall clock has reached its limit",
        lambda f: f.idle is not None and f.idle >= f.limit,
    ),
    (State.RUNNING, "otherwise", lambda _: True),
)
"""The states in the order in which they are asked for: the first that matches is the state."""


def assess(
    progress: Progress | None,
    failing: Failing | None,
    rules: Rules,
    around: Circumstances = NO_CIRCUMSTANCES,
) -> Assessment:
    """State and numbers of a batch, as of its last good observation."""
    idle = None
    if progress is not None and progress.clock_started_at is not None:
        idle = progress.last.at - progress.clock_started_at
    limit = _stall_limit(progress, rules, around)
    facts = _Facts(progress, failing.not_found if failing else 0, idle, limit)
    state = next(state for state, _, holds in STATES if holds(facts))
    if progress is None:
        return Assessment(
            State.UNKNOWN, "never observed" if failing is None else f"never observed: {failing.message}"
        )

    seen = progress.last
    foreseen = pace.foresee(progress, rules.stall_after, around.most_calls_per_second)
    return Assessment(
        state=state,
        why=_why(state, facts, around),
        completion_ratio=min(1.0, max(0, seen.completed) / seen.total) if seen.total > 0 else None,
        idle_seconds=None if idle is None else idle.total_seconds(),
        stall_after_seconds=None if idle is None else limit.total_seconds(),
        calls_per_second=foreseen.calls_per_second,
        estimated_end=foreseen.estimated_end,
        projected_missed=foreseen.missed,
        projected_missed_range=foreseen.missed_range,
        needed_calls_per_second=foreseen.needed_calls_per_second,
    )


def changed(before: Changes, assessment: Assessment, now: datetime) -> Changes:
    """The changes of state with the one that this assessment is, if it is one. Being unknown is where all begin."""
    if assessment.state is before.state:
        return before
    return before.then(StateChange(now, assessment.state, assessment.why))


def _stall_limit(progress: Progress | None, rules: Rules, around: Circumstances) -> timedelta:
    after = rules.stall_after_at_cap if around.at_cap else rules.stall_after
    if progress is None or progress.fresh_since is None or progress.clock_started_at is None:
        return after
    # The gap counts as silence, but some silence must have been watched since.
    return max(after, progress.fresh_since - progress.clock_started_at + min(after, FRESH_SILENCE))


def _why(state: State, facts: _Facts, around: Circumstances) -> str:
    """One clause that gives the state its numbers."""
    seen = facts.seen
    progress = words.done(seen.completed, seen.total)
    match state:
        case State.INCOMPLETE:
            return f"ended with {words.calls(seen.remaining)} not made: {progress}"
        case State.ENDED:
            return f"ended: {progress}"
        case State.GONE:
            return "the API answers 404 for it"
        case State.OVERDUE:
            return f"its window is over and {words.remain(seen.remaining)}: {progress}"
        case State.PAUSED:
            return f"paused: {progress}"
        case State.WAITING:
            return f"its window opens at {words.instant(seen.window_start or seen.at)}"
        case State.STALLED:
            cap = ", with the account at its cap" if around.at_cap else ""
            return f"no call for {words.duration(facts.idle or 0)}{cap}: {progress}"
        case _:
            if around.throttle_spent:
                return f"{around.throttle or 'its throttle is spent'}: {progress}"
            if seen.remaining == 0:
                return f"all calls are made, not ended yet: {progress}"
            return progress
