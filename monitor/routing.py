"""Which receiver wants which alert, when it is not to be disturbed, and how fast it may be told.

Pure. Each receiver stands for itself: there is no tree of routes, and none goes without an alert because
another has it. The words are Alertmanager's. What is done with what a mute interval holds back is not
decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

from monitor.model import AlertName, Labels, Severity

LONGEST_MUTE = timedelta(days=366)
"""How far the end of a mute is looked for."""

_DAY = 24 * 60  # minutes on the clock's face, whatever the day: daylight saving is `covered_until`'s business
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class TimeInterval:
    """Times that come back each week, as the clocks at a place show them.

    `times`: from and to, in minutes after midnight; the end no longer belongs to it. An end that is not
    after its start is the next day's, and the whole belongs to the day on which it starts. An hour that the
    clocks skip is in no interval; one that they show twice is in it twice.
    """

    times: tuple[tuple[int, int], ...] = ()  # (): the whole day
    weekdays: frozenset[int] = frozenset()  # 0 is Monday; empty: every day
    location: tzinfo = UTC

    def covered_until(self, at: datetime) -> datetime | None:
        """An instant after `at` until which every minute is covered. Not always the last: ask again there.

        None: `at` is not covered.
        """
        minutes = max(self._minutes_left(at.astimezone(self.location)), default=0)
        if not minutes:
            return None
        start = at.replace(second=0, microsecond=0)
        # The clocks may be put forward or back meanwhile. That happens on a whole minute: one minute runs evenly.
        while minutes > 1 and self._offset(start + minutes * _MINUTE) != self._offset(start):
            minutes //= 2
        return start + minutes * _MINUTE

    def _minutes_left(self, local: datetime) -> Iterator[int]:
        """For each of the times that cover it: minutes from the start of this minute to the end, by the clock."""
        minute, weekday = local.hour * 60 + local.minute, local.weekday()
        for start, end in self.times or ((0, _DAY),):
            for days_ago in (0, 1):
                since_midnight = minute + days_ago * _DAY
                until = end if end > start else end + _DAY
                begun = not self.weekdays or (weekday - days_ago) % 7 in self.weekdays
                if begun and start <= since_midnight < until:
                    yield until - since_midnight

    def _offset(self, at: datetime) -> timedelta | None:
        return at.astimezone(self.location).utcoffset()


@dataclass(frozen=True, slots=True)
class Route:
    """What one receiver is told of. Whoever says nothing is told everything, at any time."""

    only: frozenset[AlertName] | None = None  # None: every alert
    severity_at_least: Severity = Severity.INFO
    match: tuple[
        tuple[str, frozenset[str]], ...
    ] = ()  # a label's name and the values it may have, all of them
    mute_time_intervals: tuple[TimeInterval, ...] = ()

    def why_not(self, labels: Labels) -> str | None:
        """Why the receiver does not want an alert with these labels, in one clause; None when it does.

        A label that the alert does not have counts as empty, as in Alertmanager. Alerts about accounts have
        no label of a batch's: who matches on one does not hear of them, unless "" is among the values.
        """
        found = dict(labels)
        name, severity = found.get("alertname", ""), found.get("severity", "")
        if self.only is not None and name not in self.only:
            return f"its `only` does not name {name}"
        severities = [one.value for one in Severity]
        if severity in severities[: severities.index(self.severity_at_least)]:
            return f"severity {severity} is below its `severity_at_least: {self.severity_at_least}`"
        for label, values in self.match:
            value = found.get(label, "")
            if value not in values:
                wanted = " or ".join(sorted(one or '""' for one in values))
                there = f"{label} is {value}" if value else f"there is no {label}"
                return f"its `match` asks for {label}={wanted}, and {there}"
        return None

    def muted_until(self, at: datetime) -> datetime | None:
        """When the receiver may be told again: the first instant that no mute interval covers. None: it may be now.

        `at` is UTC. At most LONGEST_MUTE ahead, where it may still be muted.
        """
        limit, free = at + LONGEST_MUTE, at
        while free < limit:
            ends = [
                end
                for interval in self.mute_time_intervals
                if (end := interval.covered_until(free)) is not None
            ]
            if not ends:
                return free if free > at else None
            free = max(ends)
        return limit


@dataclass(frozen=True, slots=True)
class Pacing:
    """How one receiver is told, whatever it is told."""

    group_wait: timedelta = timedelta(seconds=30)  # what falls due meanwhile goes into the same message
    give_up_after: timedelta = timedelta(hours=24)  # a message that is not taken for so long is dropped
    max_messages_per_minute: int = 60


@dataclass(frozen=True, slots=True)
class Receiver:
    """One place alerts go to, as far as the one who decides needs to know it."""

    name: str
    holds_state: bool = False  # Alertmanager: it is told what holds, again and again, and reminds by itself
    route: Route = field(default_factory=Route)
