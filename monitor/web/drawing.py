"""Where the lines of a batch's pictures run: its sparkline, its progress against its window, its outcomes.

Pure geometry, in the units of an SVG's viewBox. Colours are page.css', words and labels the templates'.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from monitor import curves, glossary
from monitor.model import Observation, Outcomes, State, Status

SPARKLINE = (72, 18)
CHART = (960, 220)
"""Width and height of the pictures."""

_PARTS = 18  # of a sparkline
_SPARE = 1.25
"""How far beyond the window's end an estimated end is still drawn, as a share of the time shown until then."""

_TICK_STEPS = (5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2 * 1440, 7 * 1440)  # minutes
_MOST_TICKS = 6


def sparkline(status: Status) -> str:
    """The `points` of a polyline: the pace over the time that the batch has been watched. "" while there is none."""
    paces = curves.paces(status.progress.curve, _PARTS) if status.progress else ()
    top = max(paces, default=0.0)
    if top <= 0:
        return ""
    width, height = SPARKLINE
    return _points(
        (width * number / (len(paces) - 1), 1 + (height - 2) * (1 - pace / top))
        for number, pace in enumerate(paces)
    )


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of time in which a batch was in one state."""

    left: float
    width: float
    state: State


@dataclass(frozen=True, slots=True)
class Chart:
    """Progress against the window. Positions count from the left and from the top; None: there is no such line."""

    curve: str  # points of a polyline
    area: str  # the same, closed along the bottom
    now: float
    here: float  # the height of what is completed now
    window: tuple[float, float]  # left edge and width
    closes: float | None  # the window's end
    forecast: tuple[float, float] | None  # where the estimated end, or the edge of the picture, is met
    needed: float | None  # where all calls must be made
    bands: tuple[Band, ...]
    ticks: tuple[tuple[float, datetime], ...]
    by_days: bool  # the ticks are days apart


def chart(status: Status, now: datetime) -> Chart | None:
    """The curve of a batch against its window. None: it has never been seen, or has no calls.

    `now` is by our clock, what is drawn by the API's; they differ by less than a line's width, or `ultravox_account_clock_skew_seconds` says so.
    """
    if status.progress is None or status.progress.last.total <= 0:
        return None
    seen, curve = status.progress.last, status.progress.curve
    first = datetime.fromtimestamp(curve[0].at, UTC) if curve else seen.at
    start = min(first, max(seen.created, seen.window_start or seen.created))
    latest = seen.ended_at or max(now, seen.at)
    end = max(filter(None, (latest, seen.window_end, start + timedelta(minutes=1))))
    estimated = status.assessment.estimated_end
    if estimated is not None:
        with contextlib.suppress(OverflowError):  # a window for ever: the calendar ends first
            end = max(end, min(estimated, start + (end - start) * _SPARE))
    axes = _Axes(start, end, seen.total)
    points = [(datetime.fromtimestamp(point.at, UTC), point.completed) for point in curve]
    # An end may be seen long after it came; what was seen then stands where it ended.
    line = [(axes.x(at), axes.y(completed)) for at, completed in points if at <= latest]
    line.append((axes.x(latest), axes.y(seen.completed)))
    left, right = axes.x(seen.window_start or start), axes.x(seen.window_end or end)
    ticks = tuple(_ticks(start, end))
    goes_on = seen.ended_at is None and seen.remaining > 0
    bottom = float(CHART[1])
    return Chart(
        curve=_points(line),
        area=_points([(line[0][0], bottom), *line, (line[-1][0], bottom)]),
        now=axes.x(latest),
        here=axes.y(seen.completed),
        window=(left, max(0.0, right - left)),
        closes=None if seen.window_end is None else right,
        forecast=_forecast(seen, estimated, latest, axes) if goes_on and estimated is not None else None,
        needed=right if goes_on and seen.window_end is not None and seen.window_end > latest else None,
        bands=tuple(_bands(status, latest, axes)),
        ticks=tuple((axes.x(at), at) for at in ticks),
        by_days=len(ticks) > 1 and ticks[1] - ticks[0] >= timedelta(days=1),
    )


@dataclass(frozen=True, slots=True)
class _Axes:
    start: datetime
    end: datetime
    total: int

    def x(self, at: datetime) -> float:
        return CHART[0] * min(1.0, max(0.0, (at - self.start) / (self.end - self.start)))

    def y(self, calls: float) -> float:
        return CHART[1] * (1 - min(1.0, calls / self.total))


def _forecast(seen: Observation, estimated: datetime, now: datetime, axes: _Axes) -> tuple[float, float]:
    """Where the line from here to the estimated end leaves the picture: at its top, or at its right edge."""
    if estimated <= axes.end or estimated <= now:
        return axes.x(estimated), axes.y(seen.total)
    share = (axes.end - now) / (estimated - now)
    return axes.x(axes.end), axes.y(seen.completed + share * seen.remaining)


def _bands(status: Status, until: datetime, axes: _Axes) -> Iterable[Band]:
    changes = [*status.changes]
    edges = [*(change.at for change in changes[1:]), until]
    for change, over in zip(changes, edges, strict=False):  # without a change there is none to end
        left, right = axes.x(change.at), axes.x(over)
        if right > left:
            yield Band(left, right - left, change.state)


def _ticks(start: datetime, end: datetime) -> Iterable[datetime]:
    """Round instants, at most so many as there is room for."""
    minutes = (end - start) / timedelta(minutes=1)
    whole_days = 1440 * math.ceil(minutes / _MOST_TICKS / 1440)
    step = next((step for step in _TICK_STEPS if minutes / step <= _MOST_TICKS), whole_days) * 60
    at = -(-int(start.timestamp()) // step) * step
    while at <= end.timestamp():
        yield datetime.fromtimestamp(at, UTC)
        at += step


@dataclass(frozen=True, slots=True)
class Slice:
    """One kind of outcome: its part of the bar, from 0 to 100."""

    name: str
    words: str
    count: int
    left: float
    width: float


def slices(outcomes: Outcomes) -> tuple[Slice, ...]:
    """The outcomes of a batch's calls as parts of one bar; () while there are no calls."""
    counts = [(status, getattr(outcomes, status.name.lower())) for status in glossary.CALLS]
    whole, left, found = sum(count for _, count in counts), 0.0, []
    for status, count in counts:
        if whole and count:
            width = 100 * count / whole
            found.append(Slice(status.name.lower(), glossary.CALLS[status], count, left, width))
            left += width
    return tuple(found)


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
