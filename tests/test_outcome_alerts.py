"""What became of the calls decides which end it was and whether too many fail: each threshold at its edge."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NOW, account, observation, status

from monitor import conditions, evaluate
from monitor.alerts import KINDS, NO_NEWS, Policy
from monitor.decisions import Voice, decide_batch
from monitor.evaluate import Rules
from monitor.model import (
    AlertName,
    AlertState,
    MessageKind,
    Outcomes,
    Phase,
    Resolution,
    Severity,
    State,
)

SEC, MIN, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ENDED, INCOMPLETE = AlertName.BATCH_ENDED, AlertName.BATCH_ENDED_INCOMPLETE
FAILING = AlertName.BATCH_FAILURE_RATE_HIGH
ENDED_AT = NOW - MIN


def outcomes(success=0, error=0, at=NOW, **others):
    return Outcomes(
        **({"at": at, "future": 0, "pending": 0, "expired": 0} | others), success=success, error=error
    )


def ended(completed=400, known=None, times=2, total=400, alerts=(), ended_at=ENDED_AT):
    """A batch that has ended, seen so many times, and what is known of its calls."""
    progress, seen = None, observation(ended_at=ended_at, completed=completed, total=total)
    for _ in range(times):
        progress = evaluate.observe(progress, seen, Rules())
    assessment = evaluate.assess(progress, None, Rules())
    return status(seen, progress=progress, assessment=assessment, outcomes=known, alerts=alerts)


def holds(name, batch, of=None, *, news=True, **options):
    return conditions.of_batch(name, Policy(**options), batch, of or account(), NOW, news=news)


def end_of(batch, **options):
    """Which end it was, and how bad: exactly one of both is told."""
    found = {name: holds(name, batch, **options) for name in (ENDED, INCOMPLETE)}
    [(name, condition)] = [(name, one) for name, one in found.items() if one.holds]
    other = next(one for of, one in found.items() if of is not name)
    assert other.holds is False
    assert condition.occurrence == batch.progress.last.ended_at
    return name, condition.severity


GOOD, BAD, WORSE = (ENDED, None), (INCOMPLETE, None), (INCOMPLETE, Severity.CRITICAL)

# Ends


@pytest.mark.parametrize(
    ("known", "options", "end"),
    [
        (None, {}, GOOD),
        (outcomes(success=400), {}, GOOD),
        (outcomes(success=321, error=79), {}, GOOD),
        (outcomes(success=320, error=80), {}, WORSE),
        (outcomes(error=400), {}, WORSE),
        (outcomes(success=399, error=1), {"failed_ratio": 0.0025}, BAD),
        (outcomes(success=381, error=19), {"failed_ratio": 0.01}, BAD),
        (outcomes(success=380, error=20), {"failed_ratio": 0.01}, WORSE),
        (outcomes(success=284, error=116), {"failed_ratio": 0.29}, WORSE),
        (outcomes(success=285, error=115), {"failed_ratio": 0.29}, GOOD),
        (outcomes(error=400), {"failed_ratio": 1.0}, WORSE),
        (outcomes(success=1, error=399), {"failed_ratio": 1.0}, GOOD),
        (outcomes(success=8, error=1, pending=391), {}, GOOD),
        (outcomes(success=8, error=2, pending=390), {}, BAD),
        (outcomes(pending=400), {}, GOOD),
        (outcomes(), {}, GOOD),
    ],
)
def test_failed_calls_make_an_end_incomplete_though_all_were_made(known, options, end):
    assert end_of(ended(400, known), **options) == end


@pytest.mark.parametrize(
    ("completed", "known", "options", "end"),
    [
        (399, None, {}, BAD),
        (399, outcomes(success=399), {}, BAD),
        (381, None, {}, BAD),
        (380, None, {}, WORSE),
        (390, outcomes(success=381, error=9, expired=10), {}, BAD),
        (390, outcomes(success=380, error=10, expired=10), {}, WORSE),
        (380, outcomes(success=380, expired=20), {"unmade_over_count": 20}, GOOD),
        (380, outcomes(success=303, error=77, expired=20), {"unmade_over_count": 20}, WORSE),
        (380, outcomes(success=305, error=75, expired=20), {"unmade_over_count": 20}, GOOD),
        (0, outcomes(expired=400), {}, WORSE),
        (0, outcomes(expired=400), {"unmade_over_ratio": 1.0}, GOOD),
    ],
)
def test_unmade_and_failed_calls_add_up_to_how_bad_an_end_was(completed, known, options, end):
    assert end_of(ended(completed, known), **options) == end


@pytest.mark.parametrize(
    ("total", "unmade", "critical"),
    [(20, 1, True), (21, 1, False), (140, 7, True), (140, 6, False), (141, 7, False), (1, 1, True)],
)
def test_an_end_is_critical_from_a_twentieth_unreached(total, unmade, critical):
    assert end_of(ended(total - unmade, total=total)) == (WORSE if critical else BAD)


@pytest.mark.parametrize(("unmade", "end"), [(29, GOOD), (30, WORSE)])
def test_a_share_that_is_tolerated_is_tolerated_to_the_last_call(unmade, end):
    assert 0.29 * 100 < 29, "as a product it would not be"
    assert end_of(ended(100 - unmade, total=100), unmade_over_ratio=0.29) == end


@pytest.mark.parametrize("completed", [0, 5])
def test_an_empty_batch_ends_as_it_should(completed):
    assert end_of(ended(completed, total=0)) == GOOD
    assert end_of(ended(completed, outcomes(), total=0)) == GOOD


@pytest.mark.parametrize(
    ("read_at", "end"),
    [(ENDED_AT - SEC, GOOD), (ENDED_AT, WORSE), (ENDED_AT + DAY, WORSE)],
    ids=["before", "with", "after"],
)
def test_only_outcomes_read_since_the_end_decide_it(read_at, end):
    known = outcomes(error=400, at=read_at)
    batch = ended(400, known)
    assert batch.final_outcomes == (known if end is WORSE else None)
    assert end_of(batch) == end


def test_a_batch_that_goes_on_or_was_never_seen_has_no_final_outcomes():
    known = outcomes(success=1, at=NOW + DAY)
    assert status(outcomes=known).final_outcomes is None
    assert status(progress=None, outcomes=known).final_outcomes is None
    assert ended(known=None).final_outcomes is None


@given(
    total=st.integers(1, 1000),
    unmade=st.integers(0, 1000),
    failed=st.integers(0, 1000),
    read=st.booleans(),
    count=st.integers(0, 50),
    ratio=st.integers(0, 100),
    failed_percent=st.integers(1, 100),
)
def test_every_end_is_told_as_exactly_one_of_both_and_whole_numbers_agree(
    total, unmade, failed, read, count, ratio, failed_percent
):
    """Reckoned again in whole numbers, where nothing can be off by a rounding."""
    unmade = min(unmade, total)
    failed = min(failed, total - unmade)
    made = total - unmade
    known = outcomes(success=made - failed, error=failed, expired=unmade) if read else None
    options = {
        "unmade_over_count": count,
        "unmade_over_ratio": ratio / 100,
        "failed_ratio": failed_percent / 100,
    }
    left_out = unmade > count and 100 * unmade > ratio * total
    too_many_failed = read and made > 0 and 100 * failed >= failed_percent * made
    critical = 20 * (unmade + (failed if read else 0)) >= total
    expected = GOOD if not (left_out or too_many_failed) else WORSE if critical else BAD
    assert end_of(ended(made, known, total=total), **options) == expected


@pytest.mark.parametrize(("times", "ripe"), [(1, False), (2, True), (3, True)])
def test_an_end_is_ripe_when_it_was_seen_twice(times, ripe):
    for name, completed in ((ENDED, 400), (INCOMPLETE, 399)):
        assert holds(name, ended(completed, times=times)).ripe is ripe


@pytest.mark.parametrize("skew", [0 * SEC, HOUR, -HOUR])
def test_an_end_up_to_the_moment_we_began_to_watch_is_history(skew):
    for after, told in ((-SEC, False), (0 * SEC, False), (SEC, True)):
        of = account(watched_since=ENDED_AT - skew - after, clock_skew=skew)
        assert holds(ENDED, ended(), of).holds is told
    assert holds(ENDED, ended(), account(watched_since=ENDED_AT, clock_skew=None)).holds is False


@pytest.mark.parametrize(("told_of", "holds_now"), [(ENDED_AT, False), (ENDED_AT - HOUR, True)])
@pytest.mark.parametrize("phase", [Phase.FIRING, Phase.TOLD])
def test_outcomes_that_are_read_later_do_not_tell_an_end_again_under_the_other_name(
    told_of, holds_now, phase
):
    told = AlertState(ENDED, phase, NOW, Severity.INFO, occurrence=told_of)
    batch = ended(400, outcomes(error=400), alerts=(told,))
    assert holds(INCOMPLETE, batch).holds is holds_now


def test_what_goes_on_has_not_ended_and_no_news_is_none():
    for name in (ENDED, INCOMPLETE):
        assert holds(name, status(outcomes=outcomes(error=400))).holds is False
        assert holds(name, ended(), news=False) == NO_NEWS
        assert holds(name, status(progress=None)) == NO_NEWS


# Too many fail


@pytest.mark.parametrize(
    ("known", "options", "fires"),
    [
        (outcomes(success=16, error=4), {}, True),
        (outcomes(success=17, error=4), {}, False),
        (outcomes(success=16, error=3), {}, False),
        (outcomes(error=19), {}, False),
        (outcomes(error=20), {}, True),
        (outcomes(success=20), {}, False),
        (outcomes(), {}, False),
        (outcomes(), {"failure_min_calls": 0}, False),
        (outcomes(pending=300, future=90, error=4, success=6), {}, False),
        (outcomes(pending=300, expired=70, error=4, success=16), {}, True),
        (outcomes(success=71, error=29), {"failure_ratio": 0.29}, True),
        (outcomes(success=72, error=28), {"failure_ratio": 0.29}, False),
        (outcomes(error=1), {"failure_min_calls": 1, "failure_ratio": 1.0}, True),
        (outcomes(success=1, error=199), {"failure_ratio": 1.0}, False),
    ],
)
def test_too_many_calls_fail_from_a_share_of_enough_calls(known, options, fires):
    assert holds(FAILING, status(outcomes=known), **options).holds is fires


def test_outcomes_that_were_not_read_are_no_news():
    assert holds(FAILING, status()) == NO_NEWS
    assert holds(FAILING, status(outcomes=outcomes(error=400)), news=False) == NO_NEWS


@pytest.mark.parametrize(
    ("state", "fires", "resolution"),
    [
        (State.RUNNING, True, None),
        (State.STALLED, True, None),
        (State.WAITING, True, None),
        (State.PAUSED, True, None),
        (State.OVERDUE, True, None),
        (State.ENDED, False, Resolution.ENDED),
        (State.INCOMPLETE, False, Resolution.ENDED),
        (State.GONE, False, Resolution.RECOVERED),
        (State.UNKNOWN, False, Resolution.RECOVERED),
    ],
)
def test_too_many_calls_fail_until_the_end_which_tells_of_them_itself(state, fires, resolution):
    batch = status(outcomes=outcomes(error=400))
    batch = replace(batch, assessment=replace(batch.assessment, state=state))
    condition = holds(FAILING, batch)
    assert condition.holds is fires
    assert resolution is None or condition.resolution is resolution


def test_too_many_failures_fire_once_recover_when_fewer_fail_and_end_with_the_batch():
    voice, batch, heard = Voice(), status(), []
    for minute, known in enumerate(
        [
            None,
            outcomes(success=16, error=3),
            outcomes(success=16, error=4),
            outcomes(success=16, error=9),
            outcomes(success=90, error=9),
            outcomes(success=90, error=40),
        ]
    ):
        batch = replace(batch, outcomes=known)
        told = decide_batch(batch, account(), voice, NOW + minute * MIN, news=True)
        batch = replace(batch, alerts=told.alerts)
        heard += [(minute, one.kind, dict(one.alert.labels)["alertname"]) for one in told.said]
    assert heard == [
        (2, MessageKind.FIRING, FAILING.value),
        (4, MessageKind.RESOLVED, FAILING.value),
        (5, MessageKind.FIRING, FAILING.value),
    ]
    over = ended(400, outcomes(success=300, error=100), alerts=batch.alerts)
    told = decide_batch(over, account(), voice, NOW + HOUR, news=True)
    said = {dict(one.alert.labels)["alertname"]: one for one in told.said}
    assert said.keys() == {INCOMPLETE.value, FAILING.value}
    assert said[INCOMPLETE.value].kind is MessageKind.FIRING
    assert dict(said[INCOMPLETE.value].alert.labels)["severity"] == "critical"
    assert said[FAILING.value].kind is MessageKind.RESOLVED
    assert dict(said[FAILING.value].alert.annotations)["resolution"] == "superseded by BatchEndedIncomplete"
    assert [one.kind for one in told.notifications] == []  # and nobody is sent a green message


def test_the_alerts_of_outcomes_have_the_severities_that_are_promised():
    assert KINDS[FAILING].severity is Severity.WARNING
    assert KINDS[ENDED].severity is Severity.INFO
    assert KINDS[INCOMPLETE].severity is Severity.WARNING


@pytest.mark.parametrize(("phase", "holds"), [(None, False), (Phase.PENDING, False), (Phase.FIRING, None)])
def test_while_nothing_can_be_foreseen_no_risk_is_gathered_and_one_that_is_told_stays(phase, holds):
    standing = (
        () if phase is None else (AlertState(AlertName.BATCH_WINDOW_AT_RISK, phase, NOW, Severity.WARNING),)
    )
    paused = status(observation(paused=True), alerts=standing)
    assert paused.assessment.projected_missed is None
    found = conditions.of_batch(AlertName.BATCH_WINDOW_AT_RISK, Policy(), paused, account(), NOW, news=True)
    assert found.holds is holds
