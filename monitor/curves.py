"""What is kept of a curve that grows for ever: the older, the sparser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

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
