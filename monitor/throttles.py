"""Whether a call throttle lets calls through now, as far as what was watched can tell.

Pure. A throttle allows so many calls in any sliding window, over all batches that name it. The API does
not tell how many of them are used up: they are counted here, from the marks that each throttled batch
leaves of when its count of completed calls was seen to grow. Where a window has not been watched in full,
the most that may have been used counts: a throttled batch can be idle for hours and be healthy, so we
would rather be late than cry wolf. docs/decisions/0005-throttles.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor import words
from monitor.curves import spared
from monitor.model import Mark, Observation, Throttle

LONGEST_WINDOW = timedelta(days=1)
"""The longest window that the API lets a throttle have."""

FINENESS = 8
"""Marks are kept so close that a window's edge is known to an eighth of its length."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a batch that shares the throttle has called: the marks it left, and how it stands."""

    marks: tuple[Mark, ...]
    completed: int
    began: datetime  # no call of it was made before


@dataclass(frozen=True, slots=True)
class Standing:
    """How a throttle stands. `why`: the clause that says so, where it is spent or may be."""

    spent: bool = False
    why: str | None = None
    most_calls_per_second: float | None = None


def usage(seen: Observation, marks: tuple[Mark, ...]) -> Usage:
    """What this batch has called, by its latest observation and its marks."""
    return Usage(marks, seen.completed, max(seen.created, seen.window_start or seen.created))


def marked(marks: tuple[Mark, ...], seen: Observation) -> tuple[Mark, ...]:
    """The marks with the latest observation: the older, the sparser, and none that no window needs."""
    if seen.throttle is None:
        return ()
    marks = tuple(mark for mark in marks if mark.at < seen.at)  # the API's clock may have been set back
    if not marks or seen.completed > marks[-1].completed:
        marks = (*marks, Mark(seen.at, seen.completed))
    over = [mark for mark in marks if seen.at - mark.at >= LONGEST_WINDOW]
    needed = marks[max(0, len(over) - 1) :]
    kept = spared([(seen.at - mark.at).total_seconds() for mark in needed], FINENESS)
    return tuple(needed[index] for index in kept)


def standing(throttle: Throttle | None, sharing: Iterable[Usage], at: datetime) -> Standing:
    """Whether the throttle is spent at this instant of the API's clock. None: its rules could not be read."""
    users = tuple(sharing)
    if throttle is None:
        watched = min((user.marks[0].at for user in users if user.marks), default=at)
        if at - watched >= LONGEST_WINDOW:
            return Standing()
        return Standing(spent=True, why="its throttle may be spent: the rules of it are not known")
    most = min((rule.max_calls / rule.window_seconds for rule in throttle.rules), default=None)
    for rule in throttle.rules:
        counts = [_within(user, at, timedelta(seconds=rule.window_seconds)) for user in users]
        surely, perhaps = sum(low for low, _ in counts), sum(high for _, high in counts)
        allowed = f"{words.calls(rule.max_calls)} per {words.duration(rule.window_seconds)}"
        if surely >= rule.max_calls:
            return Standing(spent=True, why=f"its throttle is spent: {allowed}", most_calls_per_second=most)
        if perhaps >= rule.max_calls:
            why = f"its throttle may be spent: {allowed}, and it has not been watched for that long yet"
            return Standing(spent=True, why=why, most_calls_per_second=most)
    return Standing(most_calls_per_second=most)


def _within(user: Usage, at: datetime, window: timedelta) -> tuple[int, int]:
    """Calls in the window that ends now: at least, and at most."""
    cutoff = at - window
    before = [mark.completed for mark in user.marks if mark.at <= cutoff]
    if before:
        made = max(0, user.completed - before[-1])
        return made, made
    if user.began >= cutoff:  # all that it ever called lies in the window
        return user.completed, user.completed
    first = user.marks[0].completed if user.marks else user.completed
    return max(0, user.completed - first), user.completed
