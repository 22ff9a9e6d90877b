"""What is kept of a curve that grows for ever, and what is read from it.

Two ways of sparing points: `spared` keeps the recent ones (forecasts look back as far as they look ahead),
`traced` keeps the shape (people look at all of it).
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence

from monitor.model import Curve


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
    if size:
        latest = curve[-1]
        if latest.at >= at:
            return Curve.of([point for point in curve if point.at < at]).then(at, completed)
        if latest.completed == completed and size > 1 and curve[-2].completed == completed:
            return curve.first(size - 1).then(at, completed)
    curve = curve.then(at, completed)
    return curve if size < MOST_POINTS else _shaped(curve)


def _shaped(curve: Curve) -> Curve:
    """As few points as are to be kept, without those where the curve bends least (Visvalingam's measure).

    Several go in one round, never two neighbours: how far the one bends the curve depends on the other.
    """
    while (spare := len(curve) - FEWEST_POINTS) > 0:
        ats, counts = curve.columns()
        bends = [
            # Twice the area between the curve with and without the point in the middle.
            abs((at - at_before) * (after - before) - (at_after - at_before) * (count - before))
            for at_before, before, at, count, at_after, after in zip(
                ats, counts, ats[1:], counts[1:], ats[2:], counts[2:], strict=False
            )
        ]
        least = sorted(bends)[spare - 1]
        kept, went = [0], False
        for index, bend in enumerate(bends, start=1):
            went = spare > 0 and not went and bend <= least
            if went:
                spare -= 1
            else:
                kept.append(index)
        kept.append(len(ats) - 1)
        curve = curve.kept(kept)
    return curve


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
