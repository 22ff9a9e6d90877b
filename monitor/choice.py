"""Which batches a view shows, in which order, and which part of them.

Pure. Page, API and terminal share it: what is asked for in a URL means the same everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from monitor.model import AlertName, Phase, Severity, State, Status

AT_RISK = AlertName.BATCH_WINDOW_AT_RISK
"""The alert that is no state and yet worse than all of them: there is still time to help."""

ANY = "any"
"""`firing=any`: batches of which any alert fires."""

MOST_ROWS = 1000
"""Batches in one answer that asks for a part of them."""

WORST_FIRST: tuple[State, ...] = (
    State.STALLED,
    State.OVERDUE,
    State.GONE,
    State.INCOMPLETE,
    State.PAUSED,
    State.UNKNOWN,
    State.RUNNING,
    State.WAITING,
    State.ENDED,
)
"""The states, the worst first. A batch at risk of missing its window comes before all: it can still be helped."""

SEVERITIES: tuple[Severity, ...] = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)
"""The worst first."""

_UNDER_WAY = frozenset({State.RUNNING, State.STALLED, State.PAUSED, State.WAITING})

_RANKS = {state: rank for rank, state in enumerate(WORST_FIRST)}
_TROUBLE = _RANKS[State.INCOMPLETE] + 0.5
"""Where a batch stands that is in no bad state and of which something fires."""


class Sort(StrEnum):
    """By what batches are ordered."""

    WORST = "worst"
    NAME = "name"
    PROGRESS = "progress"
    PACE = "pace"
    WINDOW = "window"
    SEEN = "seen"


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked for. Empty fields choose everything."""

    states: tuple[State, ...] = ()
    account: str = ""
    firing: str = ""  # an alert's name, or ANY
    search: str = ""  # words, each in the batch's name, agent, account, ids, throttle or labels
    sort: Sort = Sort.WORST
    reverse: bool = False
    limit: int | None = None  # rows of one part; None: all
    page: int = 1  # which part


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a view shows, and what there is besides."""

    rows: tuple[Status, ...]
    matching: int  # all that were asked for, on whatever page
    page: int
    pages: int
    states: Mapping[State, int]  # of all that were asked for but for their state, the worst first; none at 0
    severities: Mapping[Severity, int]  # firing alerts of all that were asked for; none at 0
    at_risk: int  # batches, among those counted in `states`, that are at risk of missing their window


_KEYS = ("state", "account", "firing", "q", "sort", "limit", "page")


def asked(query: Mapping[str, str], *, limit: int | None = None) -> Choice:
    """What a URL's query asks for. ValueError says what is wrong with it. `limit`: where it names none."""
    sort, firing = query.get("sort", Sort.WORST.value), query.get("firing", "")
    states = tuple(part for part in query.get("state", "").split(",") if part)
    if unknown := [state for state in states if state not in _values(State)]:
        raise ValueError(f"state={unknown[0]}: there is no such state; there are {_listed(State)}")
    if sort.removeprefix("-") not in _values(Sort):
        raise ValueError(
            f"sort={sort}: order by {_listed(Sort)}; with a minus sign before it, the other way round"
        )
    if firing and firing not in {ANY, *_values(AlertName)}:
        raise ValueError(f"firing={firing}: give {ANY} or the name of an alert: {_listed(AlertName)}")
    return Choice(
        states=tuple(State(state) for state in states),
        account=query.get("account", ""),
        firing=firing,
        search=query.get("q", "").strip(),
        sort=Sort(sort.removeprefix("-")),
        reverse=sort.startswith("-"),
        limit=_number(query, "limit", MOST_ROWS) if query.get("limit") else limit,
        page=_number(query, "page", None) if query.get("page") else 1,
    )


def asked_alerts(query: Mapping[str, str]) -> tuple[Phase | None, int | None]:
    """Which alerts a URL's query asks for, and at most how many. ValueError says what is wrong with it."""
    state = query.get("state", "")
    if state not in {"", Phase.PENDING.value, Phase.FIRING.value}:
        raise ValueError(f"state={state}: alerts are {Phase.PENDING} or {Phase.FIRING}")
    limit = _number(query, "limit", MOST_ROWS) if query.get("limit") else None
    return Phase(state) if state else None, limit


def _number(query: Mapping[str, str], name: str, most: int | None) -> int:
    text = query[name]
    # isdecimal is true of digits of every script; int takes those, but no more than so many of them
    if not text.isdecimal() or len(text) > 9 or int(text) < 1 or (most is not None and int(text) > most):
        raise ValueError(f"{name}={text}: give a number from 1" + (f" to {most}" if most else ""))
    return int(text)


def _values(names: type[StrEnum]) -> set[str]:
    return {one.value for one in names}


def _listed(names: type[StrEnum]) -> str:
    return ", ".join(one.value for one in names)


def choose(batches: Sequence[Status], choice: Choice) -> Chosen:
    """The batches that are asked for, in their order, and one part of them; counts tell of the rest.

    A page beyond the last is the last.
    """
    wanted = choice.search.casefold().split()
    found = [
        status
        for status in batches
        if (not choice.account or status.target.account == choice.account)
        and (not choice.firing or _asked_for(status, choice.firing))
        and (not wanted or _has(status, wanted))
    ]
    counts = Counter(status.assessment.state for status in found)
    risky = sum(at_risk(status) for status in found)
    if choice.states:
        found = [status for status in found if status.assessment.state in choice.states]
    severities = Counter(
        alert.severity for status in found for alert in status.alerts if alert.phase is Phase.FIRING
    )
    # Sorted by the name first: sorts are stable, so what is equal otherwise stays in the order of names.
    found.sort(key=lambda status: (status.batch, status.key))
    if choice.sort is Sort.NAME:
        found.reverse() if choice.reverse else None
    else:
        found.sort(key=_ORDERS[choice.sort], reverse=choice.reverse)
    pages = 1 if choice.limit is None else max(1, -(-len(found) // choice.limit))
    page = min(choice.page, pages)
    start = 0 if choice.limit is None else (page - 1) * choice.limit
    end = None if choice.limit is None else start + choice.limit
    return Chosen(
        rows=tuple(found[start:end]),
        matching=len(found),
        page=page,
        pages=pages,
        states={state: counts[state] for state in WORST_FIRST if counts[state]},
        severities={severity: severities[severity] for severity in SEVERITIES if severities[severity]},
        at_risk=risky,
    )


def _asked_for(status: Status, firing: str) -> bool:
    """What is at risk is asked for by its alert; where there is no more time to help, the alert says so a while longer."""
    return at_risk(status) if firing == AT_RISK else _fires(status, firing)


def _fires(status: Status, what: str) -> bool:
    return any(alert.phase is Phase.FIRING and what in {ANY, alert.name.value} for alert in status.alerts)


def at_risk(status: Status) -> bool:
    """Whether it is feared to miss its window, and there is still time to help it."""
    return status.assessment.state in _UNDER_WAY and _fires(status, AT_RISK.value)


def _has(status: Status, wanted: Sequence[str]) -> bool:
    throttle = (status.progress.last.throttle if status.progress else None) or ""
    labels = (f"{name}={value}" for name, value in status.target.labels)
    named = (status.batch, status.agent, status.target.account, status.key.batch_id, status.key.agent_id)
    text = "\n".join((*named, throttle, *labels)).casefold()
    return all(word in text for word in wanted)


def _badness(status: Status) -> tuple[float, int, float]:
    """At risk, then by state, then what fires, then what closes first."""
    firing = [alert.severity for alert in status.alerts if alert.phase is Phase.FIRING]
    rank: float = _RANKS[status.assessment.state]
    if firing and rank > _TROUBLE and status.assessment.state is not State.ENDED:
        rank = _TROUBLE
    worst = min((SEVERITIES.index(severity) for severity in firing), default=len(SEVERITIES))
    return (-1.0 if at_risk(status) else rank, worst, _window_end(status))


def _window_end(status: Status) -> float:
    end = status.progress.last.window_end if status.progress else None
    return end.timestamp() if end else float("inf")


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


_ORDERS: dict[Sort, Callable[[Status], tuple[float, ...]]] = {
    Sort.WORST: _badness,
    Sort.PROGRESS: lambda status: (_or(status.assessment.completion_ratio, -1.0),),
    Sort.PACE: lambda status: (_or(status.assessment.calls_per_second, -1.0),),
    Sort.WINDOW: lambda status: (_window_end(status),),
    Sort.SEEN: lambda status: (status.last_success_at.timestamp() if status.last_success_at else 0.0,),
}
