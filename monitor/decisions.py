"""The round through all alerts of one batch or one account: what holds, what moves, who is told.

Pure. The facts come in as a Status or an AccountStatus, what is to be told comes out as
Notifications, one for each receiver, ready for the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from monitor import alerts, conditions, messages, outbox
from monitor.alerts import Condition, Policy, Reason
from monitor.messages import Links
from monitor.model import (
    AccountStatus,
    Alert,
    AlertName,
    AlertState,
    MessageKind,
    Notification,
    Phase,
    Resolution,
    Status,
)
from monitor.routing import Receiver

_ConditionOf = Callable[[AlertName], Condition]
_Fire = Callable[[AlertState], AlertState]
_Truth = Callable[[], str | None]

_OF_ACCOUNTS = tuple(name for name, kind in alerts.KINDS.items() if kind.about_account)
_OF_BATCHES = tuple(name for name, kind in alerts.KINDS.items() if not kind.about_account)


@dataclass(frozen=True, slots=True)
class Voice:
    """How one subject speaks: which alerts, with which links, to whom."""

    policy: Policy = field(default_factory=Policy)
    links: Links = field(default_factory=Links)
    receivers: tuple[Receiver, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that was said, whoever hears it: also without a receiver it is in the log."""

    kind: MessageKind
    alert: Alert


@dataclass(frozen=True, slots=True)
class Told:
    """What a round through the alerts came to."""

    alerts: tuple[AlertState, ...] = ()
    said: tuple[Said, ...] = ()
    notifications: tuple[Notification, ...] = ()  # the same, for each receiver that is to hear it
    moved: bool = True  # whether an alert stands otherwise than before, or something is said


QUIET = Told(moved=False)
"""Nothing stands, nothing is said."""


def decide_batch(
    status: Status,
    account: AccountStatus,
    voice: Voice,
    now: datetime,
    *,
    news: bool,
) -> Told:
    """Step every alert of a batch. `status` holds the new facts and the alerts as they stood before.

    `news`: whether this step comes from a good observation; without one only the alerts that are
    about failing polls move.
    """
    if conditions.quiet(voice.policy, status):
        return QUIET
    held_back = any(state.phase is Phase.FIRING for state in account.alerts)

    def condition(name: AlertName) -> Condition:
        return conditions.of_batch(name, voice.policy, status, account, now, news=news)

    def fire(state: AlertState) -> AlertState:
        labels = messages.batch_labels(state.name, state.severity, status)
        return replace(
            state,
            labels=labels,
            annotations=messages.batch_annotations(state.name, status, account, voice.links, labels),
        )

    def truth() -> str | None:
        return None if status.progress is None else messages.truth(status)

    return _round(_OF_BATCHES, status.alerts, voice, condition, fire, truth, now, held_back=held_back)


def decide_account(account: AccountStatus, voice: Voice, now: datetime) -> Told:
    """Step every alert of an account. `account` holds the new facts and the alerts as they stood before."""

    def condition(name: AlertName) -> Condition:
        return conditions.of_account(name, account)

    def fire(state: AlertState) -> AlertState:
        labels = messages.account_labels(state.name, state.severity, account)
        return replace(
            state,
            labels=labels,
            annotations=messages.account_annotations(state.name, account, voice.links, labels),
        )

    def truth() -> str | None:
        return f"Ultravox answers for account {account.name}" if account.failing is None else None

    return _round(_OF_ACCOUNTS, account.alerts, voice, condition, fire, truth, now, held_back=False)


def close(standing: Iterable[AlertState], receivers: Iterable[Receiver], now: datetime) -> Told:
    """Close what fires of a subject that is no longer watched.

    One-shots have told what they had to tell; they are kept, so that the same end is never told twice.
    """
    reason = Reason(MessageKind.RESOLVED, Resolution.NO_LONGER_WATCHED)
    present, kept = tuple(receivers), []
    spoken = _Spoken()
    for state in standing:
        if alerts.KINDS[state.name].one_shot:
            # No longer stepped, it may not stand in the way of the others as firing or pending.
            if state.occurrence is not None:
                kept.append(replace(state, phase=Phase.TOLD))
        elif state.phase is Phase.FIRING:
            spoken.add(state, reason, None, present, now)
    return Told(tuple(kept), tuple(spoken.said), tuple(spoken.notifications))


def _round(
    names: Iterable[AlertName],
    standing: tuple[AlertState, ...],
    voice: Voice,
    condition_of: _ConditionOf,
    fire: _Fire,
    truth: _Truth,
    now: datetime,
    *,
    held_back: bool,
) -> Told:
    present = {state.name: state for state in standing}
    spoken = _Spoken()
    for name in names:
        before = present.pop(name, None)
        rule = voice.policy.rules.get(name)
        condition = condition_of(name)
        if before is None and not condition.holds:
            continue  # most of all alerts, most of the time
        if rule is None:  # switched off
            if before is not None:
                closed = close([before], voice.receivers, now)
                spoken.said += closed.said
                spoken.notifications += closed.notifications
                present |= {kept.name: kept for kept in closed.alerts}
            _pass_over(name, present, condition, now)
            continue
        after, reason = alerts.step(
            name,
            before,
            condition,
            rule,
            now,
            held_back=held_back,
            over=alerts.superseder(name, present),
        )
        speaking = after if after is not None else before
        if reason is not None and speaking is not None:
            if reason.kind is not MessageKind.RESOLVED:
                speaking = fire(speaking) if reason.kind is MessageKind.FIRING else _refreshed(speaking, fire)
            if reason.kind is MessageKind.FIRING:
                hearers = tuple(
                    one.name for one in voice.receivers if one.route.why_not(speaking.labels) is None
                )
                speaking = replace(speaking, receivers=hearers)
            over = present[reason.superseded_by].receivers if reason.superseded_by in present else ()
            spoken.add(speaking, reason, truth(), voice.receivers, now, hear_more=over)
            if after is not None:
                after = speaking
        if after is not None:
            present[name] = spoken.tell_newcomers(after, fire, voice.receivers, now)
    left = tuple(present.values())
    moved = bool(spoken.said) or left != standing
    return Told(left, tuple(spoken.said), tuple(spoken.notifications), moved)


def _pass_over(
    name: AlertName, present: dict[AlertName, AlertState], condition: Condition, now: datetime
) -> None:
    """An end that comes while its alert is switched off is not told later, when it is switched on."""
    if condition.holds and condition.ripe and condition.occurrence is not None:
        severity = alerts.KINDS[name].severity
        present[name] = AlertState(name, Phase.TOLD, now, severity, occurrence=condition.occurrence)


def _refreshed(state: AlertState, fire: _Fire) -> AlertState:
    """A reminder says today's numbers under the labels of the first message."""
    return replace(state, annotations=fire(state).annotations)


@dataclass(slots=True)
class _Spoken:
    """What a round says, as it comes together."""

    said: list[Said] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)

    def add(
        self,
        state: AlertState,
        reason: Reason,
        truth: str | None,
        receivers: tuple[Receiver, ...],
        now: datetime,
        hear_more: tuple[str, ...] = (),
    ) -> None:
        """`hear_more`: who hears of what supersedes it. The others are told of its end as of any other."""
        alert = Alert(state.labels, state.annotations, state.since)
        if reason.kind is MessageKind.RESOLVED:
            resolution = reason.resolution or Resolution.RECOVERED
            annotations = messages.resolved_annotations(state, resolution, reason.superseded_by, truth)
            alert = replace(alert, annotations=annotations, ends_at=max(now, state.since))
        self.said.append(Said(reason.kind, alert))
        hearers: Iterable[str] = state.receivers  # of its end: all who heard of it, configured or not
        if reason.kind is MessageKind.REMINDER:
            reminded = {receiver.name for receiver in receivers if not receiver.holds_state}
            hearers = (name for name in state.receivers if name in reminded)
        superseded_by = dict.fromkeys(hear_more, reason.superseded_by)
        self._tell(hearers, state, reason.kind, alert, now, superseded_by)

    def tell_newcomers(
        self, state: AlertState, fire: _Fire, receivers: tuple[Receiver, ...], now: datetime
    ) -> AlertState:
        """A receiver that is new, or wants more than before, hears of what fires. Events are not told again."""
        if state.phase is not Phase.FIRING or alerts.KINDS[state.name].one_shot:
            return state
        newcomers = tuple(
            receiver.name
            for receiver in receivers
            if receiver.name not in state.receivers and receiver.route.why_not(state.labels) is None
        )
        if not newcomers:
            return state
        alert = Alert(state.labels, fire(state).annotations, state.since)
        self._tell(newcomers, state, MessageKind.FIRING, alert, now)
        return replace(state, receivers=state.receivers + newcomers)

    def _tell(
        self,
        hearers: Iterable[str],
        state: AlertState,
        kind: MessageKind,
        alert: Alert,
        now: datetime,
        superseded_by: Mapping[str, AlertName | None] = {},
    ) -> None:
        self.notifications += [
            Notification(
                id=outbox.notification_id(name, alert, kind, now),
                receiver=name,
                kind=kind,
                alert=alert,
                created_at=now,
                one_shot=alerts.KINDS[state.name].one_shot,
                superseded_by=superseded_by.get(name),
            )
            for name in hearers
        ]
