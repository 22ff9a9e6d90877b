"""What is kept of a curve that grows for ever, and what is read from it.

Two ways of sparing points: `thinned` keeps the recent ones (forecasts look back as far as they look ahead),
`traced` keeps the shape (people look at all of it).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

from monitor.model import Point

_Point = TypeVar("_Point")


def thinned(points: Sequence[_Point], age: Callable[[_Point], float], fineness: int) -> tuple[_Point, ...]:
    """The points, the oldest first, without those that can be spared.

    Of any age, a point at most 1/fineness of that age older is kept. `age` is in seconds. Called anew with
    each point that comes, it keeps some fineness * ln(oldest / step) of them.
    """
    kept: list[_Point] = []
    for point in points:
        # The one between may go only where those beside it are close: else the curve would lose its shape.
        while len(kept) > 1 and age(kept[-2]) - age(point) <= age(point) / fineness:
            kept.pop()
        kept.append(point)
    return tuple(kept)


MOST_POINTS = 48
FEWEST_POINTS = 32
"""A traced curve that has grown to the one is thinned to the other: a day with every pause and stall in it."""


def traced(curve: tuple[Point, ...], latest: Point) -> tuple[Point, ...]:
    """The curve with the latest point; where it has too many, without those that change its shape least.

    A flat stretch is two points, however long it is. Points never go back in time: one that would replaces
    those that it contradicts.
    """
    kept = (
        [point for point in curve if point.at < latest.at]
        if curve and curve[-1].at >= latest.at
        else [*curve]
    )
    if len(kept) > 1 and kept[-1].completed == kept[-2].completed == latest.completed:
        kept.pop()
    kept.append(latest)
    if len(kept) > MOST_POINTS:
        while len(kept) > FEWEST_POINTS:
            spared = min(range(1, len(kept) - 1), key=lambda at: _bend(*kept[at - 1 : at + 2]))
            del kept[spared]
    return tuple(kept)


def _bend(before: Point, here: Point, after: Point) -> float:
    """Twice the area between the curve with and without the point in the middle (Visvalingam's measure)."""
    return abs(
        (here.at - before.at) * (after.completed - before.completed)
        - (after.at - before.at) * (here.completed - before.completed)
    )


def completed_at(curve: Sequence[Point], at: float) -> float:
    """Calls completed at an instant (Unix seconds), read between two points; before and after them, the nearest."""
    for before, after in itertools.pairwise(curve):
        if before.at <= at <= after.at:
            share = (at - before.at) / (after.at - before.at)
            return before.completed + share * (after.completed - before.completed)
    return float(curve[0].completed if at < curve[0].at else curve[-1].completed)


def paces(curve: Sequence[Point], parts: int) -> tuple[float, ...]:
    """Calls a second in so many equal parts of the curve's time, the oldest first; () while it has no extent."""
    if len(curve) < 2 or curve[-1].at <= curve[0].at:
        return ()
    step = (curve[-1].at - curve[0].at) / parts
    edges = [completed_at(curve, curve[0].at + step * number) for number in range(parts + 1)]
    return tuple(max(0.0, after - before) / step for before, after in itertools.pairwise(edges))
