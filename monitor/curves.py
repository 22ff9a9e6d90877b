"""What is kept of a curve that grows for ever, and what is read from it.

Two ways of sparing points: `spared` keeps the recent ones (forecasts look back as far as they look ahead),
`traced` keeps the shape (people look at all of it).
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence

from monitor.model import Curve, Point


def spared(ages: Sequence[float], fineness: int) -> list[int]:
    """Which points of a curve are kept when those that can be spared go: their places.

    `ages` of the points in seconds, the oldest first. Of any age, a point at most 1/fineness of that age older is
    kept. Asked anew as points come, it keeps some fineness * ln(oldest / step) of them.
    """
    kept: list[int] = []
    for index, age in enumerate(ages):
        # The one between may go only where those beside it are close: else the curve would lose its shape.
        while len(kept) > 1 and ages[kept[-2]] - age <= age / fineness:
            kept.pop()
        kept.append(index)
    return kept


MOST_POINTS = 48
FEWEST_POINTS = 32
"""A traced curve that has grown to the one is thinned to the other: a day with every pause and stall in it."""


def traced(curve: Curve, at: float, completed: int) -> Curve:
    """The curve with the latest point (Unix seconds); where it has too many, without those that change its shape least.

    A flat stretch is two points, however long it is. Points never go back in time: one that would replaces
    those that it contradicts.
    """
    size = len(curve)
    if size and curve[-1].at >= at:
        return Curve.of([point for point in curve if point.at < at]).then(at, completed)
    if size > 1 and curve[-1].completed == curve[-2].completed == completed:
        return curve.first(size - 1).then(at, completed)
    curve = curve.then(at, completed)
    return curve if size < MOST_POINTS else _shaped(curve)


def _shaped(curve: Curve) -> Curve:
    """As few points as are to be kept, those in which the curve bends most (Visvalingam)."""
    points = list(curve)
    bends = [_bend(*points[index - 1 : index + 2]) for index in range(1, len(points) - 1)]
    while len(points) > FEWEST_POINTS:
        index = bends.index(min(bends)) + 1
        del points[index], bends[index - 1]
        for beside in (index - 1, index):
            if 0 < beside < len(points) - 1:
                bends[beside - 1] = _bend(*points[beside - 1 : beside + 2])
    return Curve.of(points)


def _bend(before: Point, here: Point, after: Point) -> float:
    """Twice the area between the curve with and without the point in the middle (Visvalingam's measure)."""
    return abs(
        (here.at - before.at) * (after.completed - before.completed)
        - (after.at - before.at) * (here.completed - before.completed)
    )


def completed_at(curve: Curve, at: float) -> float:
    """Calls completed at an instant (Unix seconds), read between two points; before and after them, the nearest."""
    return _read(*curve.columns(), at)


def _read(ats: Sequence[float], counts: Sequence[float], at: float) -> float:
    index = bisect_right(ats, at) - 1
    if index < 0 or index == len(ats) - 1:
        return counts[max(index, 0)]
    share = (at - ats[index]) / (ats[index + 1] - ats[index])
    return counts[index] + share * (counts[index + 1] - counts[index])


def paces(curve: Curve, parts: int) -> tuple[float, ...]:
    """Calls a second in so many equal parts of the curve's time, the oldest first; () while it has no extent."""
    ats, counts = curve.columns()
    if len(ats) < 2 or ats[-1] <= ats[0]:
        return ()
    step = (ats[-1] - ats[0]) / parts
    edges = [_read(ats, counts, ats[0] + step * number) for number in range(parts + 1)]
    return tuple(max(0.0, after - before) / step for before, after in itertools.pairwise(edges))
