"""How fast a batch goes, when it would be done, and whom that leaves uncalled.

Pure. The curve of a batch is kept in *expected* time, so that pauses, closed windows and spent throttles
do not dilute it. Two paces are read from it. The *present* pace is the mean over the time a batch is given
before it counts as stalled: what is shown, and 0 when it stalls. The *forecast* looks back as far as it
looks ahead, and its range is as wide as the batch has been uneven. docs/decisions/0004-foresight.md says
why, and how well it does.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from monitor.curves import spared
from monitor.model import Assessment, Curve, Observation, Progress

FINENESS = 6
"""Points of the curve are kept so close that any age is known to a sixth: some fifty for ten hours."""

FIRST_PACE = 1 / 15
"""Share of the window after which a pace is told: one poll without a call is no pace."""

BLOCKS = 8
"""Parts of the time looked back on, whose unevenness tells how uneven the rest may be."""

CHANGE = 0.4
"""How much the pace of a campaign is expected to change for reasons of its own, as a share of it, when one looks
ahead much further than one has looked back. Measured: docs/decisions/0004-foresight.md.
"""

LIKELY = 1.28
"""Standard deviations each way: four of five outcomes lie between (normal distribution)."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected if things go on as they do. None: there is no such number now."""

    calls_per_second: float | None = None  # the present pace
    estimated_end: datetime | None = None
    missed: int | None = None  # calls left unmade at windowEnd
    missed_range: tuple[int, int] | None = None  # the fewest and the most that are likely
    needed_calls_per_second: float | None = None  # the pace at which the last call is made at windowEnd


THIN_EVERY = 8
"""So many points come before the curve is thinned again: it costs more than all else that is done with a point."""


def sampled(samples: Curve, expected_seconds: float, completed: int, window: timedelta) -> Curve:
    """The curve with the latest point: the older, the sparser."""
    step = window.total_seconds() * FIRST_PACE
    if samples and expected_seconds - samples[-1].at < step:
        return samples
    samples = samples.then(expected_seconds, completed)
    if len(samples) % THIN_EVERY:
        return samples
    ats, _ = samples.columns()
    return samples.kept(spared([expected_seconds - at for at in ats], FINENESS))


def mean(progress: Progress, window: timedelta) -> float | None:
    """Mean pace over the latest expected time, calls per second. None until some such time was watched."""
    return _mean(progress, _Past.of(progress), window) if _is_told(progress) else None


def _is_told(progress: Progress) -> bool:
    return progress.last.ended_at is None and bool(progress.samples)


def _mean(progress: Progress, past: _Past, window: timedelta) -> float | None:
    span = min(window.total_seconds(), past.lived)
    if span < window.total_seconds() * FIRST_PACE:
        return None
    if _idle(progress) >= window:
        return 0.0  # what is read between two points would still be a little more
    return max(0.0, progress.best_completed - past.completed(span)) / span


def foresee(progress: Progress, window: timedelta, bound: float | None = None) -> Forecast:
    """When the last call would be made, and how many would be left at windowEnd.

    `window`: the span of the present pace. `bound`: calls per second that throttles and the account's
    free lines allow at most; None: not known.
    """
    seen = progress.last
    if not _is_told(progress):
        return _unmade(seen, None)
    past = _Past.of(progress)
    present = _mean(progress, past, window)
    left = None if seen.window_end is None else (seen.window_end - seen.at).total_seconds()
    if left is not None and left <= 0:
        return _unmade(seen, present)
    if present is None or not _goes_on(seen) or _unproven(progress, window):
        return Forecast(present)
    outlook = _outlook(progress, past, window, left, math.inf if bound is None else bound)
    end, remaining = None, seen.remaining
    if outlook.pace > 0 and present > 0:
        try:
            end = seen.at + timedelta(seconds=remaining / outlook.pace)
        except OverflowError:  # a pace so small that the calendar ends first
            end = None
    if left is None:
        return Forecast(present, end)
    expected, margin = outlook.calls(left)
    likely = _left_over(remaining, expected) if present > 0 else remaining
    fewest, most = _left_over(remaining, expected + margin), _left_over(remaining, expected - margin)
    return Forecast(present, end, likely, (fewest, max(likely, most)), remaining / left)


def _unmade(seen: Observation, present: float | None) -> Forecast:
    """After the window all that remain are left unmade; an end, or a window still open, foretells nothing."""
    over = seen.ended_at is None and seen.window_end is not None and seen.window_end <= seen.at
    if not over:
        return Forecast(present)
    return Forecast(present, missed=seen.remaining, missed_range=(seen.remaining, seen.remaining))


def at_risk(assessment: Assessment, *, already: bool) -> bool:
    """Whether calls will be left unmade at windowEnd: surely enough to say so, or, once said, still likely."""
    if assessment.projected_missed is None or assessment.projected_missed_range is None:
        return False
    fewest, _ = assessment.projected_missed_range
    return assessment.projected_missed > 0 if already else fewest > 0


def _goes_on(seen: Observation) -> bool:
    """Whether there is something to foresee: calls remain, and they are being made or wait for their throttle."""
    return (
        seen.remaining > 0 and not seen.paused and (seen.window_start is None or seen.at >= seen.window_start)
    )


def _left_over(remaining: int, made: float) -> int:
    return min(remaining, max(0, round(remaining - made)))


def _unproven(progress: Progress, window: timedelta) -> bool:
    """A batch that has not made its first call is given the time that any silence is given."""
    return progress.last_progress_at is None and _idle(progress) < window


def _idle(progress: Progress) -> timedelta:
    started = progress.clock_started_at
    return timedelta(0) if started is None else progress.last.at - started


@dataclass(slots=True)
class _Outlook:
    """What the time looked back on says of the time ahead."""

    pace: float  # calls per second
    span: float  # seconds looked back on
    unevenness: float  # variance of the calls of a block by their mean; 1 is pure chance

    def calls(self, ahead: float) -> tuple[float, float]:
        """Calls to be made in so many seconds, and how far they are likely to be off either way."""
        expected = self.pace * ahead
        # The chance of the time ahead and of the pace, which was read from a finite span; at least that of one call.
        chance = self.unevenness * max(expected, ahead / self.span) * (1 + ahead / self.span)
        change = (CHANGE * expected * ahead / (ahead + self.span)) ** 2
        return expected, LIKELY * math.sqrt(chance + change)


def _outlook(
    progress: Progress, past: _Past, window: timedelta, left: float | None, bound: float
) -> _Outlook:
    made = progress.best_completed - past.counts[0]
    done_in = progress.last.remaining * past.lived / made if made else math.inf
    span = min(past.lived, max(window.total_seconds(), done_in if left is None else left))
    edges = past.edges(span)
    whole = edges[-1] - edges[0]
    average = whole / BLOCKS
    variance = sum([(after - before - average) ** 2 for before, after in itertools.pairwise(edges)]) / (
        BLOCKS - 1
    )
    unevenness = max(1.0, variance / average) if average > 0 else 1.0
    return _Outlook(min(bound, max(0.0, whole) / span), span, unevenness)


@dataclass(slots=True)
class _Past:
    """The curve, unpacked, up to the latest observation."""

    ats: tuple[float, ...]  # seconds of expected time
    counts: tuple[float, ...]

    @classmethod
    def of(cls, progress: Progress) -> Self:
        ats, counts = progress.samples.columns()
        return cls((*ats, progress.expected_seconds), (*counts, progress.best_completed))

    @property
    def lived(self) -> float:
        return self.ats[-1] - self.ats[0]

    def completed(self, ago: float) -> float:
        """Calls completed so many seconds of expected time ago, read between two points of the curve."""
        return self._at(self.ats[-1] - ago)

    def edges(self, ago: float) -> list[float]:
        """The same at the edges of the BLOCKS of that time, the oldest first."""
        now, step = self.ats[-1], ago / BLOCKS
        return [self._at(now - step * blocks) for blocks in range(BLOCKS, 0, -1)] + [self.counts[-1]]

    def _at(self, at: float) -> float:
        ats, counts = self.ats, self.counts
        index = bisect_right(ats, at, 0, len(ats) - 1) - 1  # the latest point is only ever a later one
        if index < 0:
            return counts[0]
        before, count = ats[index], counts[index]
        stretch = ats[index + 1] - before
        return count + (at - before) / stretch * (counts[index + 1] - count) if stretch > 0 else count
