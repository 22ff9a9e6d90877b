"""When an alert moves, and what it says then: the table in the head of alerts.py, row by row."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import NOW

from monitor import alerts
from monitor.alerts import NO_NEWS, ONE_SHOT_FOR, Condition, Reason, Rule, Superseder, default_rule, step
from monitor.model import AlertName, AlertState, MessageKind, Phase, Resolution, Severity

SEC = timedelta(seconds=1)
MIN = timedelta(minutes=1)
STALLED = AlertName.BATCH_STALLED
ENDED = AlertName.BATCH_ENDED
HOLDS = Condition(holds=True)
CLEAR = Condition(holds=False)
RULE = Rule(Severity.WARNING, hold=5 * MIN, keep_firing_for=2 * MIN, repeat_every=timedelta(hours=4))
PENDING = AlertState(STALLED, Phase.PENDING, NOW, Severity.WARNING)
FIRING = AlertState(
    STALLED, Phase.FIRING, NOW, Severity.WARNING, notified_at=NOW, labels=(("a", "b"),), receivers=("x",)
)
FIRED = Reason(MessageKind.FIRING)


def resolved(why):
    return Reason(MessageKind.RESOLVED, why)


def over(phase):
    return Superseder(AlertName.BATCH_OVERDUE, phase)


def moved(before, condition, after_minutes=0.0, rule=RULE, name=STALLED, **options):
    after, reason = step(name, before, condition, rule, NOW + after_minutes * MIN, **options)
    return (after.phase if after else None), reason


ROWS = [
    ("inactive, holds: pending", None, HOLDS, 0, {}, Phase.PENDING, None),
    ("inactive, does not hold", None, CLEAR, 0, {}, None, None),
    ("inactive, no news", None, NO_NEWS, 0, {}, None, None),
    ("pending, a moment before its hold is over", PENDING, HOLDS, 4.999, {}, Phase.PENDING, None),
    ("pending, its hold is over", PENDING, HOLDS, 5, {}, Phase.FIRING, FIRED),
    ("pending, held back", PENDING, HOLDS, 60, {"held_back": True}, Phase.PENDING, None),
    ("pending, not ripe", PENDING, Condition(holds=True, ripe=False), 60, {}, Phase.PENDING, None),
    ("pending, what supersedes it fires", PENDING, HOLDS, 60, {"over": over(Phase.FIRING)}, Phase.PENDING, None),
    ("pending, what supersedes it is pending", PENDING, HOLDS, 60, {"over": over(Phase.PENDING)}, Phase.FIRING, FIRED),
    ("pending, does not hold any more", PENDING, CLEAR, 4, {}, None, None),
    ("pending, no news however long", PENDING, NO_NEWS, 600, {}, Phase.PENDING, None),
    ("inactive, held long already by its own record", None, Condition(holds=True, since=NOW - 5 * MIN), 0, {}, Phase.FIRING, FIRED),
    ("inactive, its own record lies in the future", None, Condition(holds=True, since=NOW + 5 * MIN), 0, {}, Phase.PENDING, None),
    ("firing, holds", FIRING, HOLDS, 60, {}, Phase.FIRING, None),
    ("firing, held back", FIRING, HOLDS, 60, {"held_back": True}, Phase.FIRING, None),
    ("firing, a moment before a reminder", FIRING, HOLDS, 239.9, {}, Phase.FIRING, None),
    ("firing, time for a reminder", FIRING, HOLDS, 240, {}, Phase.FIRING, Reason(MessageKind.REMINDER)),
    ("firing, no news, no reminder", FIRING, NO_NEWS, 600, {}, Phase.FIRING, None),
    ("firing, recovered just now", FIRING, CLEAR, 60, {}, Phase.FIRING, None),
    ("firing, paused", FIRING, Condition(holds=False, resolution=Resolution.PAUSED), 60, {}, None, resolved(Resolution.PAUSED)),
    ("firing, ended", FIRING, Condition(holds=False, resolution=Resolution.ENDED), 60, {}, None, resolved(Resolution.ENDED)),
    ("firing, does not hold, what supersedes it is pending", FIRING, Condition(holds=False, resolution=Resolution.WINDOW_CLOSED), 60, {"over": over(Phase.PENDING)}, Phase.FIRING, None),
    ("firing, holds, what supersedes it is pending", FIRING, HOLDS, 60, {"over": over(Phase.PENDING)}, Phase.FIRING, None),
    ("firing, what supersedes it fires", FIRING, HOLDS, 60, {"over": over(Phase.FIRING)}, None, Reason(MessageKind.RESOLVED, Resolution.SUPERSEDED, AlertName.BATCH_OVERDUE)),
    ("firing, no news, what supersedes it fires", FIRING, NO_NEWS, 60, {"over": over(Phase.FIRING)}, None, Reason(MessageKind.RESOLVED, Resolution.SUPERSEDED, AlertName.BATCH_OVERDUE)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("_", "before", "condition", "minutes", "options", "phase", "reason"), ROWS, ids=[row[0] for row in ROWS]
)
def test_the_table(_, before, condition, minutes, options, phase, reason):
    assert moved(before, condition, minutes, **options) == (phase, reason)


def test_without_a_hold_it_fires_at_once():
    assert moved(None, HOLDS, rule=Rule(None, 0 * SEC, 0 * SEC, None)) == (Phase.FIRING, FIRED)


def test_it_is_resolved_once_it_was_clear_for_long_enough():
    state, reason = step(STALLED, FIRING, CLEAR, RULE, NOW + 60 * MIN)
    assert (state.clear_since, reason) == (NOW + 60 * MIN, None)
    assert moved(state, CLEAR, 61.99) == (Phase.FIRING, None)
    assert moved(state, CLEAR, 62) == (None, resolved(Resolution.RECOVERED))


def test_what_holds_again_in_between_has_to_be_clear_anew():
    state, _ = step(STALLED, FIRING, CLEAR, RULE, NOW + 60 * MIN)
    state, _ = step(STALLED, state, HOLDS, RULE, NOW + 61 * MIN)
    assert state.clear_since is None
    assert moved(state, CLEAR, 62) == (Phase.FIRING, None)


def test_a_hold_that_began_before_a_clock_was_set_back_is_counted_anew_from_then():
    state, _ = step(STALLED, None, HOLDS, RULE, NOW)
    state, _ = step(STALLED, state, HOLDS, RULE, NOW - 60 * MIN)
    assert state.since == NOW - 60 * MIN
    assert moved(state, HOLDS, -55.001) == (Phase.PENDING, None)
    assert moved(state, HOLDS, -55) == (Phase.FIRING, FIRED)


def test_what_was_frozen_when_it_fired_stays():
    state, _ = step(STALLED, FIRING, HOLDS, RULE, NOW + 240 * MIN)
    assert (state.labels, state.receivers, state.since) == (FIRING.labels, FIRING.receivers, FIRING.since)
    assert state.notified_at == NOW + 240 * MIN


def test_it_never_reminds_when_told_not_to():
    assert moved(FIRING, HOLDS, 10_000, rule=Rule(None, MIN, MIN, None)) == (Phase.FIRING, None)


@pytest.mark.parametrize(
    ("configured", "by_facts", "expected"),
    [
        (None, None, Severity.WARNING),
        (None, Severity.CRITICAL, Severity.CRITICAL),
        (Severity.INFO, Severity.CRITICAL, Severity.INFO),
    ],
)
def test_the_configured_severity_wins_then_the_facts_then_the_kind(configured, by_facts, expected):
    rule = Rule(configured, 0 * SEC, 0 * SEC, None)
    state, _ = step(STALLED, None, Condition(holds=True, severity=by_facts), rule, NOW)
    assert state.severity is expected


# One-shots

EVENT = Condition(holds=True, occurrence=NOW)
RULE_OF_END = default_rule(ENDED)
TOLD = AlertState(ENDED, Phase.TOLD, NOW, Severity.INFO, occurrence=NOW)
SPOKEN = AlertState(ENDED, Phase.FIRING, NOW, Severity.INFO, occurrence=NOW, notified_at=NOW)
NEXT = Condition(holds=True, occurrence=NOW + MIN)
HOUR = ONE_SHOT_FOR / MIN

ONE_SHOTS = [
    ("an end seen once", None, Condition(holds=True, ripe=False, occurrence=NOW), 0, Phase.PENDING, None),
    ("an end", None, EVENT, 0, Phase.FIRING, FIRED),
    ("within its hour", SPOKEN, EVENT, HOUR - 0.01, Phase.FIRING, None),
    ("its hour is over", SPOKEN, EVENT, HOUR, Phase.TOLD, None),
    ("its hour is over while polls fail", SPOKEN, NO_NEWS, HOUR, Phase.TOLD, None),
    ("reopened", SPOKEN, CLEAR, 1, Phase.TOLD, None),
    ("told, the same end", TOLD, EVENT, 600, Phase.TOLD, None),
    ("told, reopened", TOLD, CLEAR, 600, Phase.TOLD, None),
    ("told, no news", TOLD, NO_NEWS, 600, Phase.TOLD, None),
    ("told, another end", TOLD, NEXT, 600, Phase.FIRING, FIRED),
    ("another end within the hour", SPOKEN, NEXT, 1, Phase.FIRING, FIRED),
    ("another end within the hour, seen once", SPOKEN, Condition(holds=True, ripe=False, occurrence=NOW + MIN), 1, Phase.FIRING, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("_", "before", "condition", "minutes", "phase", "reason"), ONE_SHOTS, ids=[row[0] for row in ONE_SHOTS]
)
def test_an_end_is_told_once(_, before, condition, minutes, phase, reason):
    assert moved(before, condition, minutes, rule=RULE_OF_END, name=ENDED) == (phase, reason)


def test_an_end_that_waits_for_its_account_is_told_when_the_account_is_back():
    state, reason = step(ENDED, None, EVENT, RULE_OF_END, NOW, held_back=True)
    assert (state.phase, reason) == (Phase.PENDING, None)
    assert moved(state, EVENT, 1, rule=RULE_OF_END, name=ENDED) == (Phase.FIRING, FIRED)


# The catalogue


def test_what_supersedes_comes_first():
    order = list(alerts.KINDS)
    for name, kind in alerts.KINDS.items():
        for other in kind.superseded_by:
            assert order.index(other) < order.index(name)


def test_every_alert_is_in_the_catalogue():
    assert set(alerts.KINDS) == set(AlertName)
    assert len({kind.key for kind in alerts.KINDS.values()}) == len(alerts.KINDS)


def test_the_one_that_fires_supersedes_before_the_one_that_is_pending():
    present = {
        AlertName.BATCH_ENDED_INCOMPLETE: AlertState(
            AlertName.BATCH_ENDED_INCOMPLETE, Phase.PENDING, NOW, Severity.WARNING
        ),
        AlertName.BATCH_OVERDUE: AlertState(AlertName.BATCH_OVERDUE, Phase.FIRING, NOW, Severity.CRITICAL),
    }
    assert alerts.superseder(STALLED, present) == Superseder(AlertName.BATCH_OVERDUE, Phase.FIRING)
    assert alerts.superseder(AlertName.BATCH_OVERDUE, present) == Superseder(
        AlertName.BATCH_ENDED_INCOMPLETE, Phase.PENDING
    )
    assert alerts.superseder(ENDED, present) is None


# Over any history

_CONDITION = st.sampled_from(
    [
        HOLDS,
        CLEAR,
        NO_NEWS,
        Condition(holds=False, resolution=Resolution.PAUSED),
        Condition(holds=True, ripe=False),
    ]
)
_STEP = st.tuples(
    _CONDITION,
    st.integers(-600, 20_000),  # seconds since the step before: clocks are set back, too
    st.booleans(),
    st.sampled_from([None, over(Phase.PENDING), over(Phase.FIRING)]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEP, max_size=30))
def test_messages_are_firing_then_reminders_then_one_resolve(history):
    state, now, open_episode = None, NOW, False
    for condition, seconds, held_back, superseding in history:
        now += seconds * SEC
        before = state
        state, reason = step(STALLED, before, condition, RULE, now, held_back=held_back, over=superseding)
        if condition.holds is None and superseding is None:
            assert (state, reason) == (before, None)
        match reason.kind if reason else None:
            case MessageKind.FIRING:
                assert not open_episode
                assert condition.holds
                assert condition.ripe
                assert not held_back
                open_episode = True
            case MessageKind.REMINDER:
                assert open_episode
            case MessageKind.RESOLVED:
                assert open_episode
                open_episode = False
        assert open_episode is (state is not None and state.phase is Phase.FIRING)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([None, 0, 1, 2]), st.booleans(), st.integers(0, 5000)), max_size=30)
)
def test_no_end_is_told_twice_in_a_row_and_none_is_ever_resolved(history):
    state, now, told = None, NOW, []
    for occurrence, ripe, seconds in history:
        now += seconds * SEC
        condition = (
            CLEAR
            if occurrence is None
            else Condition(holds=True, ripe=ripe, occurrence=NOW + occurrence * SEC)
        )
        state, reason = step(ENDED, state, condition, RULE_OF_END, now)
        if reason is not None:
            assert reason.kind is MessageKind.FIRING
            assert ripe
            told.append(condition.occurrence)
    assert all(one != other for one, other in itertools.pairwise(told))
