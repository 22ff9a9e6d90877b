"""Where in its interval each key has its place: spread over all keys, the same after a restart, without drift."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.base import BaseTrigger

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def spread(key: str, interval: timedelta) -> timedelta:
    """Where in the interval this key has its place: the same after a restart, even over all keys."""
    microseconds = interval // _MICROSECOND
    return (int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % microseconds) * _MICROSECOND


def microseconds(at: datetime) -> int:
    """An instant as whole microseconds since 1970: integers are exact, and a tenth as dear as datetimes."""
    return (at - _EPOCH) // _MICROSECOND


def instant(at: int) -> datetime:
    """The instant again."""
    return _EPOCH + timedelta(microseconds=at)


def next_place(after: int, interval: int, offset: int) -> int:
    """The first place on the grid that is strictly later, all in microseconds. No drift: places are counted, not added."""
    return offset + ((after - offset) // interval + 1) * interval


class SpreadTrigger(BaseTrigger):  # type: ignore[misc] # APScheduler ships no types
    """Fires on a grid: every `interval`, at the key's own place in it.

    The next instant is strictly later than both the previous one and now. So the machine that slept
    through a thousand of them runs one, and does not walk through the rest.
    """

    def __init__(self, key: str, interval: timedelta) -> None:
        self.interval = interval
        self.offset = spread(key, interval)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """APScheduler's question: the first instant of the grid after `previous` and `now`."""
        after = now if previous is None else max(previous, now)
        place = next_place(microseconds(after), self.interval // _MICROSECOND, self.offset // _MICROSECOND)
        return instant(place)

    def __str__(self) -> str:
        return f"every {self.interval} at +{self.offset}"
