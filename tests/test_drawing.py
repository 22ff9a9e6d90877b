"""The geometry of a batch's pictures: every line where the numbers say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NOW, observation, status

from monitor.model import Changes, Curve, Outcomes, State, StateChange
from monitor.web import drawing

WIDTH, HEIGHT = drawing.CHART
HOUR = timedelta(hours=1)


def seen(*, curve=(), changes=(), end=None, **fields):
    """A batch in a window from an hour ago to two hours from now, created before; 100 of 400 done unless said."""
    fields = {
        "total": 400,
        "completed": 100,
        "window_start": NOW - HOUR,
        "window_end": NOW + 2 * HOUR,
    } | fields
    one = status(observation(created=NOW - 5 * HOUR, **fields))
    points = Curve.of((int((NOW + at).timestamp()), completed) for at, completed in curve)
    return replace(
        one,
        progress=replace(one.progress, curve=points),
        changes=Changes.of(changes),
        assessment=replace(one.assessment, estimated_end=end),
    )


def test_the_curve_runs_from_the_opening_of_the_window_to_now():
    chart = drawing.chart(seen(curve=[(-HOUR, 0), (-HOUR / 2, 40)]), NOW)
    assert (
        chart.curve
        == f"0.0,{HEIGHT:.1f} {WIDTH / 6:.1f},{HEIGHT * 0.9:.1f} {WIDTH / 3:.1f},{HEIGHT * 0.75:.1f}"
    )
    assert chart.area.startswith(f"0.0,{HEIGHT:.1f} ")
    assert chart.area.endswith(f" {WIDTH / 3:.1f},{HEIGHT:.1f}")
    assert (chart.now, chart.here) == (WIDTH / 3, HEIGHT * 0.75)
    assert chart.window == (0.0, WIDTH)
    assert chart.closes == WIDTH
    assert chart.needed == WIDTH


@pytest.mark.parametrize(
    ("end", "met"),
    [
        (None, None),
        (HOUR, (WIDTH * 2 / 3, 0.0)),  # before the window closes: at the top
        # Late: the picture grows by a quarter at most, and the line leaves it at its edge, 1.75 of 9 hours on.
        (9 * HOUR + 2 * HOUR, (WIDTH, HEIGHT * (1 - (100 + 300 * 2.75 / 11) / 400))),
    ],
)
def test_the_forecast_meets_the_top_or_the_edge(end, met):
    chart = drawing.chart(seen(end=None if end is None else NOW + end), NOW)
    assert chart.forecast == (None if met is None else pytest.approx(met))


def test_what_is_over_has_no_forecast_and_needs_no_pace():
    chart = drawing.chart(seen(ended_at=NOW, completed=300, end=NOW + HOUR), NOW + 9 * HOUR)
    assert (chart.forecast, chart.needed) == (None, None)
    assert chart.now == pytest.approx(WIDTH / 3)  # it stands where it ended


def test_each_state_is_a_band_until_the_next():
    changes = [
        StateChange(NOW - HOUR, State.RUNNING, ""),
        StateChange(NOW - HOUR / 2, State.STALLED, ""),
    ]
    bands = drawing.chart(seen(changes=changes), NOW).bands
    assert [(band.state, band.left, band.width) for band in bands] == [
        (State.RUNNING, 0.0, pytest.approx(WIDTH / 6)),
        (State.STALLED, pytest.approx(WIDTH / 6), pytest.approx(WIDTH / 6)),
    ]


def test_without_calls_or_sight_there_is_no_picture():
    assert drawing.chart(seen(total=0, completed=0), NOW) is None
    assert drawing.chart(replace(seen(), progress=None), NOW) is None
    assert drawing.sparkline(replace(seen(), progress=None)) == ""


@pytest.mark.parametrize(("hours", "expected"), [(1, 6), (3, 6), (8, 4), (24, 4), (24 * 6, 6), (24 * 400, 6)])
def test_ticks_are_round_and_few(hours, expected):
    chart = drawing.chart(seen(window_start=None, window_end=NOW + hours * HOUR - 5 * HOUR), NOW)
    assert 3 <= len(chart.ticks) <= 7
    assert all(at.minute % 5 == 0 and at.second == 0 for _, at in chart.ticks)
    steps = {after - before for (_, before), (_, after) in zip(chart.ticks, chart.ticks[1:], strict=False)}
    assert len(steps) == 1


def test_a_sparkline_is_the_pace():
    line = drawing.sparkline(seen(curve=[(-HOUR, 0), (-HOUR / 2, 90), (0 * HOUR, 90)]))
    heights = [float(pair.split(",")[1]) for pair in line.split()]
    assert len(heights) == 18
    assert heights[:8] == [1.0] * 8  # as high as it gets
    assert heights[-8:] == [drawing.SPARKLINE[1] - 1.0] * 8  # nothing
    assert drawing.sparkline(seen(curve=[(-HOUR, 5), (0 * HOUR, 5)])) == ""


def test_outcomes_share_the_bar():
    parts = drawing.slices(Outcomes(NOW, future=0, pending=10, success=60, expired=0, error=30))
    assert [(one.name, one.words, one.count, one.left, one.width) for one in parts] == [
        ("success", "succeeded", 60, 0.0, 60.0),
        ("error", "failed", 30, 60.0, 30.0),
        ("pending", "under way", 10, 90.0, 10.0),
    ]
    assert drawing.slices(Outcomes(NOW, 0, 0, 0, 0, 0)) == ()


def test_an_end_that_was_seen_late_stands_where_it_came():
    """The daemon was away from three hours ago, when the batch ended, until now."""
    one = seen(curve=[(-4 * HOUR, 0), (0 * HOUR, 400)], ended_at=NOW - 3 * HOUR, completed=400)
    chart = drawing.chart(replace(one, progress=replace(one.progress, curve=one.progress.curve)), NOW)
    xs = [float(pair.split(",")[0]) for pair in chart.curve.split()]
    assert xs == sorted(xs)
    assert chart.now == xs[-1]


def test_a_window_for_ever_is_drawn():
    ends = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    chart = drawing.chart(seen(window_end=ends, end=NOW + HOUR), NOW)
    assert chart.closes == WIDTH
    assert chart.by_days


def test_ticks_that_are_days_apart_are_days():
    assert not drawing.chart(seen(), NOW).by_days
    assert drawing.chart(seen(window_end=NOW + 7 * 24 * HOUR), NOW).by_days


@given(
    st.lists(st.tuples(st.integers(-(10**6), 10**5), st.integers(0, 10**6)), max_size=30),
    st.integers(1, 10**6),
    st.one_of(st.none(), st.integers(-(10**6), 10**7)),
    st.one_of(st.none(), st.integers(-(10**5), 10**8)),
    st.one_of(st.none(), st.integers(-(10**6), 10**6)),
    st.one_of(st.none(), st.integers(-(10**6), 0)),
)
def test_whatever_the_numbers_are_nothing_is_drawn_outside(points, total, closes, end, opens, ended):
    points = sorted(dict(points).items())
    second = timedelta(seconds=1)
    one = seen(
        curve=[(at * second, completed) for at, completed in points],
        total=total,
        completed=total // 2,
        window_start=None if opens is None else NOW + opens * second,
        window_end=None if closes is None else NOW + closes * second,
        ended_at=None if ended is None else NOW + ended * second,
        end=None if end is None else NOW + end * second,
    )
    chart = drawing.chart(one, NOW)
    pairs = [tuple(map(float, pair.split(","))) for pair in chart.curve.split()]
    pairs += [pair for pair in (chart.forecast,) if pair]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in pairs)
    assert [x for x, _ in pairs[: chart.curve.count(" ") + 1]] == sorted(
        x for x, _ in pairs[: chart.curve.count(" ") + 1]
    )
    assert min(chart.window) >= 0
    assert 0 <= chart.window[0] + chart.window[1] <= WIDTH + 0.001
    assert all(0 <= x <= WIDTH for x, _ in chart.ticks)
