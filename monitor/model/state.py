"""The states of a batch, and the changes of state that are remembered of it, packed: thousands have a dozen each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Self


class State(StrEnum):
    """What a batch is doing: exactly one at a time, the first that matches (the table is in evaluate.py)."""

    UNKNOWN = "unknown"
    INCOMPLETE = "incomplete"
    ENDED = "ended"
    GONE = "gone"
    OVERDUE = "overdue"
    PAUSED = "paused"
    WAITING = "waiting"
    STALLED = "stalled"
    RUNNING = "running"


MOST_CHANGES = 40
"""Changes that are kept, the latest: what the page of a batch tells of its past."""


class StateChange(NamedTuple):
    """When a batch was seen to be in another state than before, and why."""

    at: datetime  # our clock
    state: State
    why: str


_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_LAST = 10**16 - 1  # of November 2286
_LINE = rf"[0-9]{{1,16}} (?:{'|'.join(State)}) [^\n]*"
_LINES = re.compile(rf"(?:{_LINE}(?:\n{_LINE})*)?")


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of state, the oldest first. It survives a restart.

    A line of text for each, where a change of its own, its instant and its words take three times as much. The latest
    stands first: it is asked for at every look.
    """

    packed: str = ""

    def __post_init__(self) -> None:
        if not _LINES.fullmatch(self.packed):
            raise ValueError("a change of state is its instant, the state and why")

    @classmethod
    def of(cls, changes: Iterable[StateChange]) -> Self:
        """These, or the latest of them if they are more than are kept."""
        kept = list(changes)[-MOST_CHANGES:]
        return cls("\n".join(_line(change) for change in reversed(kept)))

    def then(self, change: StateChange) -> Changes:
        """The same and one more; without the oldest where they would be too many."""
        return Changes.of([*self, change])

    @property
    def latest(self) -> StateChange | None:
        """The state it is in, since when and why. None: nothing was seen yet."""
        return _change(self.packed.partition("\n")[0]) if self.packed else None

    @property
    def state(self) -> State:
        """The state it is in: being unknown is where all begin."""
        return State(self.packed.split(" ", 2)[1]) if self.packed else State.UNKNOWN

    def __len__(self) -> int:
        return self.packed.count("\n") + 1 if self.packed else 0

    def __iter__(self) -> Iterator[StateChange]:
        lines = self.packed.split("\n") if self.packed else []
        return map(_change, reversed(lines))


def _line(change: StateChange) -> str:
    at = min(max((change.at - _EPOCH) // _MICROSECOND, 0), _LAST)  # what clocks beyond it say is wrong anyway
    why = change.why.replace("\n", " ")  # it may hold the name of a throttle, which is somebody else's
    return f"{at} {change.state.value} {why}"


def _change(line: str) -> StateChange:
    at, state, why = line.split(" ", 2)
    return StateChange(_EPOCH + int(at) * _MICROSECOND, State(state), why)


NO_CHANGES = Changes()
