"""Curves that are kept for people: their shape stays, their size does not grow."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.curves import MOST_POINTS, completed_at, paces, traced
from monitor.model import Curve, Point


def drawn(points):
    curve = Curve()
    for at, completed in points:
        curve = traced(curve, at, completed)
    return curve


def test_a_day_of_polls_keeps_every_pause_and_stall():
    """Eight hours, a poll each half minute; two hours in it pauses for forty minutes, later stalls for twenty."""

    def made(seconds):
        still = ((7200, 9600), (18000, 19200))
        moving = seconds - sum(max(0, min(seconds, end) - start) for start, end in still)
        return int(moving / 36)

    curve = drawn((seconds, made(seconds)) for seconds in range(0, 8 * 3600, 30))
    assert len(curve) <= MOST_POINTS
    off = max(abs(completed_at(curve, seconds) - made(seconds)) for seconds in range(0, 8 * 3600, 30))
    assert off <= 3  # of 633 calls
    for at in (7200, 9600, 18000, 19200):  # its corners
        assert min(abs(point.at - at) for point in curve) <= 60


def test_a_still_batch_costs_two_points_however_long_it_is_still():
    assert drawn((at, 7) for at in range(0, 100_000, 30)) == Curve.of([(0, 7), (99_990, 7)])


def test_a_clock_that_was_set_back_leaves_no_point_in_the_future():
    assert drawn([(100, 1), (200, 2), (300, 3), (150, 4)]) == Curve.of([(100, 1), (150, 4)])
    assert drawn([(100, 1), (100, 2)]) == Curve.of([(100, 2)])


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**5)), max_size=300))
def test_whatever_comes_the_curve_is_short_and_goes_forward_and_ends_with_the_latest(points):
    curve = drawn(points)
    assert len(curve) <= MOST_POINTS
    assert all(before.at < after.at for before, after in itertools.pairwise(curve))
    if points:
        assert curve[-1] == points[-1]


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ((), ()),
        ((Point(0, 5),), ()),
        ((Point(0, 0), Point(40, 40)), (1.0, 1.0, 1.0, 1.0)),
        ((Point(0, 0), Point(20, 40), Point(40, 40)), (2.0, 2.0, 0.0, 0.0)),
        ((Point(0, 9), Point(40, 5)), (0.0, 0.0, 0.0, 0.0)),  # counts that fall are no calls unmade
    ],
)
def test_paces_of_equal_parts(curve, expected):
    assert paces(Curve.of(curve), 4) == expected


def test_before_and_after_the_curve_stand_its_ends():
    curve = Curve.of([(10, 1), (20, 3)])
    assert [completed_at(curve, at) for at in (0, 10, 15, 20, 99)] == [1.0, 1.0, 2.0, 3.0, 3.0]
