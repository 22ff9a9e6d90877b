"""When we speak: which alert fires, which ends, why, and to whom each is told.

Pure: a step takes what stood before, what holds now and the instant, and returns what stands after
and the reason to speak, or none. It sends nothing and stores nothing.

How an alert moves. "Holds" is its condition; "no news" is a failed poll, which moves nothing.

| before  | now                                          | after    | says                    |
| ------- | -------------------------------------------- | -------- | ----------------------- |
| -       | holds                                        | pending  |                         |
| pending | holds since `for`, ripe, not held back       | firing   | firing                  |
| pending | does not hold                                | -        |                         |
| firing  | holds                                        | firing   | reminder, if it is time |
| firing  | an alert that supersedes it fires            | -        | resolved: superseded    |
| firing  | does not hold; what supersedes it is pending | firing   |                         |
| firing  | recovered since `keep_firing_for`            | -        | resolved: recovered     |
| firing  | does not hold, for any other cause           | -        | resolved, with its cause|
| firing  | a one-shot, after ONE_SHOT_FOR or reopened   | told     |                         |
| told    | a one-shot with another occurrence           | pending  |                         |
| pending | a one-shot: the old occurrence, after all     | told     |                         |
| any     | no news                                      | the same |                         |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from monitor.model import (
    AlertName,
    AlertState,
    MessageKind,
    Phase,
    Resolution,
    Severity,
)

ONE_SHOT_FOR = timedelta(hours=1)
"""How long an alert that tells of an event counts as firing."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is fixed about an alert: everything else is policy."""

    key: str  # its name in the configuration
    severity: Severity
    hold: timedelta  # default of `for`
    keep_firing_for: timedelta  # default
    fires_when: str
    one_shot: bool = False
    superseded_by: tuple[AlertName, ...] = ()
    about_account: bool = False


_ZERO = timedelta(0)
_MINUTE = timedelta(minutes=1)

KINDS: dict[AlertName, Kind] = {
    AlertName.ACCOUNT_KEY_REJECTED: Kind(
        "account_key_rejected",
        Severity.CRITICAL,
        _MINUTE,
        _ZERO,
        "the account's probe is answered 401 or 403",
        about_account=True,
    ),
    AlertName.ACCOUNT_UNREACHABLE: Kind(
        "account_unreachable",
        Severity.CRITICAL,
        5 * _MINUTE,
        _ZERO,
        "the account's probe has failed",
        superseded_by=(AlertName.ACCOUNT_KEY_REJECTED,),
        about_account=True,
    ),
    AlertName.BATCH_ENDED_INCOMPLETE: Kind(
        "ended_incomplete",
        Severity.WARNING,
        _ZERO,
        _ZERO,
        "the batch ended with calls not made, or with `failed_ratio` of them failed",
        one_shot=True,
    ),
    AlertName.BATCH_ENDED: Kind(
        "ended", Severity.INFO, _ZERO, _ZERO, "the batch ended and reached people as it should", one_shot=True
    ),
    AlertName.BATCH_GONE: Kind(
        "gone", Severity.WARNING, _ZERO, _ZERO, "state is gone: 404 on three polls in a row"
    ),
    AlertName.BATCH_OVERDUE: Kind(
        "overdue",
        Severity.CRITICAL,
        5 * _MINUTE,
        _ZERO,
        "state is overdue: windowEnd has passed, calls remain, the batch has not ended",
        superseded_by=(AlertName.BATCH_ENDED_INCOMPLETE, AlertName.BATCH_GONE),
    ),
    AlertName.BATCH_STALLED: Kind(
        "stalled",
        Severity.WARNING,
        _ZERO,
        _ZERO,
        "state is stalled: calls are expected and none has been made for `after`",
        superseded_by=(AlertName.BATCH_ENDED_INCOMPLETE, AlertName.BATCH_GONE, AlertName.BATCH_OVERDUE),
    ),
    AlertName.BATCH_WINDOW_AT_RISK: Kind(
        "window_at_risk",
        Severity.WARNING,
        10 * _MINUTE,
        10 * _MINUTE,
        "at the present pace calls will be left unmade at windowEnd",
        superseded_by=(
            AlertName.BATCH_ENDED_INCOMPLETE,
            AlertName.BATCH_GONE,
            AlertName.BATCH_OVERDUE,
            AlertName.BATCH_STALLED,
        ),
    ),
    AlertName.BATCH_PAUSED_TOO_LONG: Kind(
        "paused_too_long",
        Severity.WARNING,
        timedelta(hours=1),
        _ZERO,
        "the batch has been paused inside its window",
        superseded_by=(AlertName.BATCH_ENDED_INCOMPLETE, AlertName.BATCH_GONE, AlertName.BATCH_OVERDUE),
    ),
    AlertName.BATCH_FAILURE_RATE_HIGH: Kind(
        "failure_rate_high",
        Severity.WARNING,
        _ZERO,
        _ZERO,
        "`ratio` of the calls whose outcome is known failed, and they are at least `min_calls`",
        superseded_by=(AlertName.BATCH_ENDED_INCOMPLETE, AlertName.BATCH_GONE),
    ),
    AlertName.BATCH_UNREACHABLE: Kind(
        "unreachable",
        Severity.WARNING,
        5 * _MINUTE,
        _ZERO,
        "three or more polls in a row failed, while the account answered after the first of them",
        superseded_by=(AlertName.BATCH_GONE,),
    ),
}
"""Every alert, in the order in which they are stepped: what supersedes comes before what it supersedes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one alert of one subject behaves: the nearest of the configuration's `alerts` blocks, key by key."""

    severity: Severity | None  # None: by the facts, where the kind knows better than one word
    hold: timedelta  # `for`: how long the condition must hold before it fires
    keep_firing_for: timedelta  # how long it must be clear before it is resolved as recovered
    repeat_every: timedelta | None  # reminders to receivers other than Alertmanager; None: none


def default_rule(name: AlertName) -> Rule:
    kind = KINDS[name]
    severity = None if name is AlertName.BATCH_ENDED_INCOMPLETE else kind.severity
    repeat = None if kind.one_shot else timedelta(hours=4)
    return Rule(severity, kind.hold, kind.keep_firing_for, repeat)


@dataclass(frozen=True, slots=True)
class Policy:
    """The alerts that are switched on for one subject."""

    rules: Mapping[AlertName, Rule] = field(
        default_factory=lambda: {name: default_rule(name) for name in KINDS}
    )
    unmade_over_count: int = 0  # so many unmade calls at the end still count as complete,
    unmade_over_ratio: float = 0.0  # or this share of all calls, whichever is more
    failed_ratio: float = 0.2  # share of failed calls among those made, from which an end is incomplete
    failure_ratio: float = 0.2  # the same, from which BatchFailureRateHigh fires before the end
    failure_min_calls: int = 20  # and so many calls must have an outcome: one failure of one call is no rate


@dataclass(frozen=True, slots=True)
class Condition:
    """What holds of one alert now."""

    holds: bool | None  # None: no news
    ripe: bool = True  # False: it holds, but may not fire yet (an end seen once)
    since: datetime | None = None  # when it began, where the subject's own record knows better than we
    severity: Severity | None = None  # by the facts
    occurrence: datetime | None = None  # one-shots: the event's own instant
    resolution: Resolution = Resolution.RECOVERED  # why not, when it does not hold


NO_NEWS = Condition(None)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why we speak."""

    kind: MessageKind
    resolution: Resolution | None = None
    superseded_by: AlertName | None = None


@dataclass(frozen=True, slots=True)
class Superseder:
    """The alert that says more than this one does, and how far it is."""

    name: AlertName
    phase: Phase


def superseder(name: AlertName, present: Mapping[AlertName, AlertState]) -> Superseder | None:
    """The first alert that fires, else that is pending, among those that supersede this one."""
    standing = [present[other] for other in KINDS[name].superseded_by if other in present]
    for phase in (Phase.FIRING, Phase.PENDING):
        for state in standing:
            if state.phase is phase:
                return Superseder(state.name, phase)
    return None


def step(
    name: AlertName,
    before: AlertState | None,
    condition: Condition,
    rule: Rule,
    now: datetime,
    *,
    held_back: bool = False,
    over: Superseder | None = None,
) -> tuple[AlertState | None, Reason | None]:
    """One step of one alert of one subject.

    `held_back`: the account's own trouble is being told; nothing new of its batches starts firing.
    `over`: what supersedes this alert, if anything does.
    """
    if before is not None and before.phase is Phase.FIRING:
        if KINDS[name].one_shot:
            return _one_shot_firing(name, before, condition, rule, now, held_back=held_back)
        return _firing(before, condition, rule, now, over)
    return _starting(name, before, condition, rule, now, held_back=held_back, over=over)


def _starting(
    name: AlertName,
    before: AlertState | None,
    condition: Condition,
    rule: Rule,
    now: datetime,
    *,
    held_back: bool,
    over: Superseder | None = None,
) -> tuple[AlertState | None, Reason | None]:
    if condition.holds is None:
        return before, None
    told = before.occurrence if before is not None else None
    if before is not None and told is not None and (not condition.holds or condition.occurrence == told):
        return replace(before, phase=Phase.TOLD), None
    if not condition.holds:
        return None, None
    severity = rule.severity or condition.severity or KINDS[name].severity
    pending_since = before.since if before is not None and before.phase is Phase.PENDING else now
    began = condition.since or pending_since
    began = min(began, now)  # a clock that was set back does not make a condition younger than it is
    pending = AlertState(name, Phase.PENDING, began, severity, occurrence=told)
    overruled = over is not None and over.phase is Phase.FIRING
    if not condition.ripe or held_back or overruled or now - began < rule.hold:
        return pending, None
    fired = replace(pending, phase=Phase.FIRING, since=now, notified_at=now, occurrence=condition.occurrence)
    return fired, Reason(MessageKind.FIRING)


def _firing(
    before: AlertState, condition: Condition, rule: Rule, now: datetime, over: Superseder | None
) -> tuple[AlertState | None, Reason | None]:
    if over is not None and over.phase is Phase.FIRING:
        return None, Reason(MessageKind.RESOLVED, Resolution.SUPERSEDED, over.name)
    if condition.holds is None:
        return before, None
    if condition.holds:
        after = before if before.clear_since is None else replace(before, clear_since=None)
        told = before.notified_at or before.since
        if rule.repeat_every is not None and now - told >= rule.repeat_every:
            return replace(after, notified_at=now), Reason(MessageKind.REMINDER)
        return after, None
    if over is not None:
        return before, None  # what is about to fire says more than a resolve would
    clear = min(before.clear_since or now, now)
    if condition.resolution is Resolution.RECOVERED and now - clear < rule.keep_firing_for:
        return replace(before, clear_since=clear), None
    return None, Reason(MessageKind.RESOLVED, condition.resolution)


def _one_shot_firing(
    name: AlertName,
    before: AlertState,
    condition: Condition,
    rule: Rule,
    now: datetime,
    *,
    held_back: bool,
) -> tuple[AlertState | None, Reason | None]:
    """An event cannot be undone, so it has no resolve: it fires its hour, until it is no longer true
    (an ended batch was reopened), or until the next one.
    """
    if condition.holds and condition.ripe and condition.occurrence != before.occurrence:
        return _starting(name, before, condition, rule, now, held_back=held_back)
    if condition.holds is False or now - before.since >= ONE_SHOT_FOR:
        return replace(before, phase=Phase.TOLD), None
    return before, None
