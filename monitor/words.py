"""Words for people: durations, counts and times as one would say them, the same in every view and message.

Pure text from plain values; nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Which of these was probably meant. None: none is like it."""
    from difflib import get_close_matches  # noqa: PLC0415 - 0.3 MB for those who mistype, not for each process

    return next(iter(get_close_matches(name, list(known), 1)), None)


def duration(seconds: float | timedelta) -> str:
    """`45 s`, `22 min`, `1 h 40 min`, `3 d 4 h`, `40 d`: two units at most, rounded down, never negative.

    From ten days on nobody counts the hours.
    """
    total = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    whole = max(0, int(total))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours and days < 10 else f"{days} d"


def ago(seconds: float | timedelta) -> str:
    """`just now`, `42 s ago`, `1 h 40 min ago`: how long something is past."""
    total = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    return "just now" if total < 2 else f"{duration(total)} ago"


def window(start: datetime | None, end: datetime | None, ended: datetime | None, now: datetime) -> str:
    """`opens in 4 min`, `closes in 1 h 40 min`, `closed 5 min ago`, `ended 3 h ago`, `no end`."""
    if ended is not None:
        return f"ended {ago(now - ended)}"
    if start is not None and start > now:
        return f"opens in {duration(start - now)}"
    if end is None:
        return "no end"
    return f"closes in {duration(end - now)}" if end > now else f"closed {ago(now - end)}"


def instant(at: datetime) -> str:
    """`2026-11-23 09:30 UTC`."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def calls(count: int) -> str:
    """`1 call`, `1,204 calls`."""
    return counted(count, "call")


def counted(count: int, noun: str) -> str:
    """`1 alert`, `1,204 alerts`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def remain(count: int) -> str:
    """`1 call remains`, `1,204 calls remain`."""
    return f"{calls(count)} {'remains' if count == 1 else 'remain'}"


def done(completed: int, total: int) -> str:
    """`118 of 400 done`."""
    return f"{completed:,} of {total:,} done"


def percent(ratio: float) -> str:
    """`29 %`. Rounded down, so that 100 % means all; a share above nothing says at least `<1 %`."""
    whole = int(round(ratio * 100, 9))  # 0.29 * 100 is 28.999999999999996
    return "<1 %" if whole == 0 and ratio > 0 else f"{whole} %"


def pace(calls_per_second: float) -> str:
    """`120 calls/h`, `0.5 calls/h`: per hour, the unit campaigns are planned in."""
    per_hour = calls_per_second * 3600
    return f"{per_hour:,.0f} calls/h" if per_hour >= 10 or per_hour == 0 else f"{per_hour:.1f} calls/h"


def batch_name(agent: str, start: datetime, batch_id: str) -> str:
    """The name of a batch that nobody has named: `renewals 2026-11-23 09:00 3c90c3cc`."""
    return f"{agent} {start.astimezone(UTC):%Y-%m-%d %H:%M} {batch_id[:8]}"
