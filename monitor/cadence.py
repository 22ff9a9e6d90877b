"""How often each batch is looked at, and by which requests: as rarely as is safe.

Pure. A batch that waits is looked at seldom, but at once when its window opens; one that runs, each
interval; one whose window closes soon, more often; one that has ended, once more and then hardly ever;
one that is gone, less and less. docs/decisions/0006-api-budget.md has what that saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from monitor.alerts import KINDS, ONE_SHOT_FOR
from monitor.evaluate import CONFIRMED, GONE_AFTER, Rules
from monitor.model import Phase, State, Status, Urgency

WAITING = timedelta(minutes=5)
"""Between two looks at a batch whose window has not opened: it may be moved, or deleted."""

ENDED = timedelta(hours=1)
"""Between two looks at a batch that has ended: it may be opened again by adding calls."""

FORGET_ENDED_AFTER = timedelta(days=1)
"""How long an ended batch is looked at at all."""

LONGEST_GONE = timedelta(hours=1)
"""The longest time between two looks at a batch that is gone."""

CLOSING_FOR = 10
"""So many intervals before the end of its window a batch is watched more closely, at least CLOSING_FOR_AT_LEAST."""

CLOSING_FOR_AT_LEAST = timedelta(minutes=5)

CLOSELY = 3
"""So many times as often."""

_MOMENT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Look:
    """When a batch is to be looked at: every `interval` (None: no more), and once at `wake_at` (our clock)."""

    interval: timedelta | None
    wake_at: datetime | None = None


def look(status: Status, rules: Rules, now: datetime) -> Look:
    """When to look at a batch that stands like this."""
    progress, state = status.progress, status.assessment.state
    if state is State.GONE and status.failing is not None:
        steps = min(status.failing.not_found - GONE_AFTER, 16)
        return Look(min(rules.interval * 2**steps, max(LONGEST_GONE, rules.interval)))
    if progress is None or status.failing is not None:
        return each(rules.interval)
    seen, ours = progress.last, (status.last_success_at or now) - progress.last.at
    if seen.ended_at is not None:
        return _after_the_end(status, rules, seen.ended_at + ours, now)
    if state is State.WAITING and seen.window_start is not None:
        opens = seen.window_start + ours + _MOMENT
        return Look(max(rules.interval, WAITING), opens if opens > now else None)
    if seen.window_end is not None and seen.remaining > 0 and not seen.paused:
        closes = seen.window_end + ours
        closing = _closing(rules.interval)
        if closes - closing <= now <= closes + closing / CLOSELY:
            return each(max(_MOMENT, rules.interval / CLOSELY))
    return each(rules.interval)


@lru_cache(maxsize=64)
def each(interval: timedelta) -> Look:
    """One for all batches: there are as many intervals as the configuration names."""
    return Look(interval)


@lru_cache(maxsize=64)
def _closing(interval: timedelta) -> timedelta:
    return max(CLOSING_FOR * interval, CLOSING_FOR_AT_LEAST)


def _after_the_end(status: Status, rules: Rules, ended_at: datetime, now: datetime) -> Look:
    untold = any(state.phase is Phase.PENDING for state in status.alerts)
    if status.progress is None or status.progress.end_seen < CONFIRMED or untold:
        return Look(rules.interval)
    over = [
        state.since + ONE_SHOT_FOR
        for state in status.alerts
        if state.phase is Phase.FIRING and KINDS[state.name].one_shot
    ]
    wake = min((at for at in over if at > now), default=None)
    if now - ended_at > max(FORGET_ENDED_AFTER, 2 * ENDED):
        return Look(None, wake)
    return Look(max(rules.interval, ENDED), wake)


def urgency(status: Status, rules: Rules, now: datetime) -> Urgency:
    """How soon this batch's next look should get its turn: those closest to trouble first."""
    return urgency_of(status, rules, look(status, rules, now).interval)


def urgency_of(status: Status, rules: Rules, interval: timedelta | None) -> Urgency:
    """The same of one that is known to be looked at each `interval`; None: no more."""
    if any(state.phase is not Phase.TOLD and not KINDS[state.name].one_shot for state in status.alerts):
        return Urgency.ALARM
    if interval is None or interval > rules.interval:
        return Urgency.LATER
    return Urgency.ALARM if interval < rules.interval else Urgency.POLL


def pages_worth_reading(pages: Sequence[int | None]) -> int:
    """How many pages of the agent's list to read, so that pages and single requests together are fewest.

    `pages`: for each batch that is due, on which page it was last seen (from 0); None: on none that was read.
    Pages can only be read from the first on, so k pages spare the requests of all batches on them.
    """
    known = sorted(page for page in pages if page is not None)
    best, fewest = 0, len(pages)
    for on_them, page in enumerate(known, start=1):
        requests = page + 1 + len(pages) - on_them
        if requests < fewest:
            best, fewest = page + 1, requests
    return best
