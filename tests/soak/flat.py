"""Is it flat? Series of readings, how they stand in each third, how they lean, and the verdict.

Pure: no process, no clock. The first part of a series is not looked at: caches fill, and what ages has not aged.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from statistics import median

MOST_POINTS = 400
"""Theil–Sen looks at every pair of points; of more than this, every n-th is taken."""

LEANS_AFTER = 1200.0
"""Seconds of steady readings from which on a lean per hour says anything: below, an hour is guessed from minutes."""


@dataclass(frozen=True)
class Bound:
    """How much of a rise counts as none: the larger of a share and an amount; `lean` is the same for an hour.

    `lows`: what a third falls back to counts, not its median: of what piles up and goes in cycles that are long.
    `timed`: how long something takes, which depends on what else the machine does.
    """

    share: float
    amount: float
    lows: bool = False
    timed: bool = False

    def rise(self, start: float) -> float:
        return max(self.share * start, self.amount)


@dataclass(frozen=True)
class Series:
    """Readings of one thing: (seconds since the start, value)."""

    name: str
    bound: Bound
    points: tuple[tuple[float, float], ...]
    beside: tuple[tuple[float, float], ...] | None = None  # times, as they were beside a yardstick


@dataclass(frozen=True)
class Verdict:
    """How a series stands in each third of its steady part: least, median, most; and what is to be said of it."""

    name: str
    thirds: tuple[tuple[float, float, float], ...]
    lean: float  # per hour
    wrong: str | None


def lean(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes of all pairs (Theil–Sen), per hour: a third of the points may be nonsense."""
    step = -(-len(points) // MOST_POINTS) or 1
    slopes = [
        (later[1] - sooner[1]) / (later[0] - sooner[0])
        for sooner, later in combinations(points[::step], 2)
        if later[0] > sooner[0]
    ]
    return median(slopes) * 3600 if slopes else 0.0


def judge(series: Series, steady_from: float) -> Verdict:
    """Flat: neither does the last third lie higher than the first, nor does the whole lean upwards, by the bound.

    Times rise only if they do both by the clock and beside the yardstick, which is no exact one.
    """
    points = [point for point in series.points if point[0] >= steady_from]
    if len(points) < 9:
        return Verdict(series.name, (), 0.0, "too few readings")
    cuts = [len(points) * number // 3 for number in range(4)]
    parts = [[value for _, value in points[start:end]] for start, end in pairwise(cuts)]
    thirds = tuple((min(part), median(part), max(part)) for part in parts)
    looked_at = 0 if series.bound.lows else 1
    first, last = thirds[0][looked_at], thirds[2][looked_at]
    hours = (points[-1][0] - points[0][0]) * 2 / 3 / 3600
    leans = (last - first) / hours if series.bound.lows and hours else lean(points)
    allowed, wrong = series.bound.rise(first), None
    if last - first > allowed:
        wrong = f"rose by {last - first:,.1f}, more than {allowed:,.1f}"
    elif points[-1][0] - points[0][0] >= LEANS_AFTER and leans > allowed:
        wrong = f"leans by {leans:,.1f} an hour, more than {allowed:,.1f}"
    if (
        wrong
        and series.beside is not None
        and not judge(replace(series, points=series.beside, beside=None), steady_from).wrong
    ):
        wrong = None
    return Verdict(series.name, thirds, leans, wrong)


def beside(
    points: Sequence[tuple[float, float]], yardstick: Sequence[tuple[float, float]], within: float = 30.0
) -> tuple[tuple[float, float], ...]:
    """Times as they would have been, had the machine always been as busy as it was in the middle.

    `yardstick`: how long always the same work took, read all the while. A time is divided by what that took `within`
    so many seconds of it, by its middle value over all.
    """
    if not yardstick:
        return tuple(points)
    usual, ats = median(value for _, value in yardstick), [at for at, _ in yardstick]
    found = []
    for at, value in points:
        near = yardstick[bisect_left(ats, at - within) : bisect_right(ats, at + within)]
        found.append((at, value * usual / median(took for _, took in near) if near else value))
    return tuple(found)


def table(verdicts: Sequence[Verdict]) -> str:
    """A line for each: least/median/most of each third, lean per hour, verdict."""
    head = f"{'':<28}{'first third':>30}{'second third':>30}{'last third':>30}{'an hour':>12}  verdict"
    lines = [head]
    for one in verdicts:
        cells = "".join(f"{'/'.join(map(_short, third)):>30}" for third in one.thirds)
        lines.append(f"{one.name:<28}{cells or ' ' * 90}{one.lean:>+12,.1f}  {one.wrong or 'flat'}")
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.1f}" if value < 10_000 else f"{value:,.0f}"
