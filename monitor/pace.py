"""How fast a batch goes, when it would be done, and whom that leaves uncalled.

Pure. The curve of a batch is kept in *expected* time, so that pauses and closed windows do not
dilute it. Why the window is what it is: docs/decisions/0003-pace-window.md.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.model import Assessment, Progress, Sample

SAMPLES_PER_WINDOW = 15
"""Points kept of the pace curve: enough for a mean, few enough to store with every commit."""


def sampled(samples: tuple[Sample, ...], latest: Sample, window: timedelta) -> tuple[Sample, ...]:
    """The curve with the latest point: thinned to SAMPLES_PER_WINDOW, cut to one point beyond the window."""
    step = window.total_seconds() / SAMPLES_PER_WINDOW
    if not samples or latest.expected_seconds - samples[-1].expected_seconds >= step:
        samples = (*samples, latest)
    cutoff = latest.expected_seconds - window.total_seconds()
    first = 0
    while first + 1 < len(samples) and samples[first + 1].expected_seconds <= cutoff:
        first += 1
    return samples[first:]


def mean(progress: Progress, window: timedelta) -> float | None:
    """Mean pace over the recent expected time, calls per second. None until some such time was watched."""
    if progress.last.ended_at is not None or not progress.samples:
        return None
    oldest = progress.samples[0]
    span = progress.expected_seconds - oldest.expected_seconds
    if span < window.total_seconds() / SAMPLES_PER_WINDOW:  # one poll without a call is no pace
        return None
    made = progress.best_completed - oldest.completed
    if span > window.total_seconds() and len(progress.samples) > 1:
        # The oldest point lies before the window: take what fell into the window, in proportion.
        second = progress.samples[1]
        outside = span - window.total_seconds()
        stretch = second.expected_seconds - oldest.expected_seconds
        if stretch > 0:
            made_outside = (second.completed - oldest.completed) * min(1.0, outside / stretch)
            return max(0.0, (made - made_outside) / (span - min(outside, stretch)))
    return made / span


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected if things go on as they do. None: there is no such number now."""

    calls_per_second: float | None = None  # the pace it is reckoned with
    estimated_end: datetime | None = None
    missed: int | None = None  # calls left unmade at windowEnd
    missed_range: tuple[int, int] | None = None  # the fewest and the most that are likely
    needed_calls_per_second: float | None = None  # the pace at which the last call is made at windowEnd


def foresee(progress: Progress, window: timedelta, bound: float | None = None) -> Forecast:
    """When the last call would be made, and how many would be left at windowEnd.

    `bound`: calls per second that throttles and the account's free lines allow at most; None: not known.
    """
    seen = progress.last
    pace = mean(progress, window)
    if pace is not None and bound is not None:
        pace = min(pace, bound)
    if seen.ended_at is not None:
        return Forecast(pace)
    if seen.window_end is not None and seen.at >= seen.window_end:
        return Forecast(pace, missed=seen.remaining, missed_range=(seen.remaining, seen.remaining))
    if pace is None or progress.clock_started_at is None:
        return Forecast(pace)
    missed = needed = None
    if seen.window_end is not None:
        left = (seen.window_end - seen.at).total_seconds()
        needed = seen.remaining / left
        missed = max(0, round(seen.remaining - pace * left))
    end = None
    if pace > 0:
        with contextlib.suppress(OverflowError):  # a pace so small that the calendar ends first
            end = seen.at + timedelta(seconds=seen.remaining / pace)
    return Forecast(pace, end, missed, None if missed is None else (missed, missed), needed)


def at_risk(assessment: Assessment, *, already: bool) -> bool:
    """Whether calls will be left unmade at windowEnd. `already`: it was at risk before, and must recover clearly."""
    return (assessment.projected_missed or 0) > 0
