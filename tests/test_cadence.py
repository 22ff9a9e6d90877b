"""How often each batch is looked at: seldom where nothing can happen, closely where something is about to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NOW, observation, status

from monitor import evaluate
from monitor.alerts import KINDS, ONE_SHOT_FOR
from monitor.cadence import ENDED, FORGET_ENDED_AFTER, WAITING, Look, look, pages_worth_reading, urgency
from monitor.evaluate import CONFIRMED, GONE_AFTER, Rules
from monitor.model import AlertName, AlertState, Failing, FailureReason, Phase, Severity, State, Urgency

SEC, MIN, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
INTERVAL = Rules().interval
RULES = Rules()
SKEWS = pytest.mark.parametrize("skew", [-2 * HOUR, -SEC, 0 * SEC, 45 * SEC, 3 * DAY])
"""The API's clock minus ours."""


def batch(skew=0 * SEC, times=1, failing=None, alerts=(), **changes):
    """A batch that was just seen like this, now by our clock; the instants in `changes` are by ours too."""
    ours = {"created": NOW - 2 * HOUR, "window_start": None, "window_end": None} | changes
    seen = observation(
        at=NOW + skew, **{key: at + skew if hasattr(at, "tzinfo") else at for key, at in ours.items()}
    )
    progress = None
    for _ in range(times):
        progress = evaluate.observe(progress, seen, RULES)
    return status(
        seen,
        progress=progress,
        failing=failing,
        assessment=evaluate.assess(progress, failing, RULES),
        last_success_at=NOW,
        alerts=alerts,
    )


def missing(count):
    return Failing(NOW, count, count, FailureReason.NOT_FOUND, "not found", NOW)


def alert(name, phase=Phase.FIRING, since=NOW):
    return AlertState(name, phase, since, Severity.INFO)


# Running, paused, stalled, overdue: each interval


@pytest.mark.parametrize("interval", [SEC, 30 * SEC, HOUR])
@pytest.mark.parametrize(
    ("state", "changes"),
    [
        (State.RUNNING, {}),
        (State.RUNNING, {"window_start": NOW - HOUR, "window_end": NOW + 20 * HOUR}),
        (State.PAUSED, {"paused": True}),
        (State.PAUSED, {"paused": True, "window_end": NOW + MIN}),
        (State.RUNNING, {"completed": 400, "window_end": NOW + MIN}),
        (State.OVERDUE, {"window_end": NOW - 20 * HOUR}),
        (State.RUNNING, {"window_start": NOW + HOUR, "completed": 3}),
    ],
)
def test_a_batch_in_which_things_can_happen_is_looked_at_each_interval(interval, state, changes):
    found = batch(**changes)
    assert found.assessment.state is state
    assert look(found, replace(RULES, interval=interval), NOW) == Look(interval)


def test_a_stalled_batch_is_looked_at_each_interval():
    progress = replace(batch().progress, clock_started_at=NOW - HOUR)
    stalled = replace(batch(), progress=progress, assessment=evaluate.assess(progress, None, RULES))
    assert stalled.assessment.state is State.STALLED
    assert look(stalled, RULES, NOW) == Look(INTERVAL)
    assert urgency(stalled, RULES, NOW) is Urgency.POLL
    told = replace(stalled, alerts=(alert(AlertName.BATCH_STALLED),))
    assert urgency(told, RULES, NOW) is Urgency.ALARM


def test_a_batch_that_was_never_seen_is_looked_at_each_interval():
    unknown = status(progress=None, assessment=evaluate.assess(None, None, RULES), last_success_at=None)
    assert unknown.assessment.state is State.UNKNOWN
    assert look(unknown, RULES, NOW) == Look(INTERVAL)
    assert look(replace(unknown, failing=missing(2)), RULES, NOW) == Look(INTERVAL)
    assert urgency(unknown, RULES, NOW) is Urgency.POLL


# Waiting


@SKEWS
def test_a_waiting_batch_is_looked_at_seldom_and_when_its_window_opens_by_our_clock(skew):
    waiting = batch(skew, window_start=NOW + HOUR, completed=0)
    assert waiting.assessment.state is State.WAITING
    assert look(waiting, RULES, NOW) == Look(WAITING, NOW + HOUR + SEC)
    assert look(waiting, RULES, NOW + HOUR) == Look(WAITING, NOW + HOUR + SEC)
    assert look(waiting, RULES, NOW + HOUR + SEC).wake_at is None, "that moment is over"
    assert urgency(waiting, RULES, NOW) is Urgency.LATER


def test_waiting_never_shortens_an_interval():
    waiting = batch(window_start=NOW + 3 * HOUR, completed=0)
    assert look(waiting, replace(RULES, interval=HOUR), NOW).interval == HOUR
    assert look(waiting, replace(RULES, interval=SEC), NOW).interval == WAITING


# The window closes


@SKEWS
@pytest.mark.parametrize(
    ("interval", "closing", "closely"),
    [
        (SEC, 5 * MIN, SEC),
        (3 * SEC, 5 * MIN, SEC),
        (30 * SEC, 5 * MIN, 10 * SEC),
        (MIN, 10 * MIN, 20 * SEC),
        (HOUR, 10 * HOUR, 20 * MIN),
    ],
)
def test_before_its_window_closes_a_batch_is_watched_three_times_as_closely(skew, interval, closing, closely):
    rules, closes = replace(RULES, interval=interval), NOW + 20 * HOUR
    running = batch(skew, window_end=closes)
    for now, expected in [
        (NOW, interval),
        (closes - closing - SEC, interval),
        (closes - closing, closely),
        (closes, closely),
        (closes + closing / 3, closely),
        (closes + closing / 3 + SEC, interval),
    ]:
        assert look(running, rules, now) == Look(expected), now - closes
    urgent = Urgency.ALARM if closely < interval else Urgency.POLL
    assert urgency(running, rules, closes) is urgent


# Ended


def test_an_end_is_looked_at_again_at_once_and_then_hardly_ever():
    ended = {"ended_at": NOW, "completed": 400}
    assert look(batch(**ended), RULES, NOW) == Look(INTERVAL)
    confirmed = batch(times=CONFIRMED, **ended)
    assert look(confirmed, RULES, NOW) == Look(ENDED)
    assert look(confirmed, replace(RULES, interval=SEC), NOW) == Look(ENDED)
    assert urgency(batch(**ended), RULES, NOW) is Urgency.POLL
    assert urgency(confirmed, RULES, NOW) is Urgency.LATER


@pytest.mark.parametrize("completed", [400, 118])
@SKEWS
def test_after_a_day_an_ended_batch_is_looked_at_no_more(skew, completed):
    ended = batch(skew, times=CONFIRMED, ended_at=NOW, completed=completed)
    assert look(ended, RULES, NOW + FORGET_ENDED_AFTER) == Look(ENDED)
    assert look(ended, RULES, NOW + FORGET_ENDED_AFTER + SEC) == Look(None)
    assert urgency(ended, RULES, NOW + 2 * FORGET_ENDED_AFTER) is Urgency.LATER


@pytest.mark.parametrize("ended_at", [NOW, NOW - 3 * DAY])
def test_while_an_end_is_still_to_be_told_it_is_looked_at_each_interval(ended_at):
    held_back = batch(
        times=CONFIRMED, ended_at=ended_at, alerts=(alert(AlertName.BATCH_ENDED, Phase.PENDING),)
    )
    assert look(held_back, RULES, NOW) == Look(INTERVAL)


@pytest.mark.parametrize(("ended_at", "interval"), [(NOW - MIN, ENDED), (NOW - 3 * DAY, None)])
@pytest.mark.parametrize("name", [AlertName.BATCH_ENDED, AlertName.BATCH_ENDED_INCOMPLETE])
def test_it_is_looked_at_when_the_hour_of_a_one_shot_is_over(name, ended_at, interval):
    told = batch(times=CONFIRMED, ended_at=ended_at, alerts=(alert(name),))
    assert look(told, RULES, NOW) == Look(interval, NOW + ONE_SHOT_FOR)
    assert look(told, RULES, NOW + ONE_SHOT_FOR).wake_at is None


def test_what_is_no_one_shot_or_was_told_wakes_nobody():
    alerts = (alert(AlertName.BATCH_ENDED, Phase.TOLD), alert(AlertName.BATCH_FAILURE_RATE_HIGH))
    assert look(batch(times=CONFIRMED, ended_at=NOW, alerts=alerts), RULES, NOW) == Look(ENDED)


# Gone, and failing


@pytest.mark.parametrize(
    ("interval", "more", "expected"),
    [
        (30 * SEC, 0, 30 * SEC),
        (30 * SEC, 1, MIN),
        (30 * SEC, 2, 2 * MIN),
        (30 * SEC, 6, 32 * MIN),
        (30 * SEC, 7, HOUR),
        (30 * SEC, 10**9, HOUR),
        (SEC, 11, 2048 * SEC),
        (SEC, 12, HOUR),
        (HOUR, 0, HOUR),
        (HOUR, 5, HOUR),
    ],
)
def test_what_is_gone_is_asked_for_less_and_less_but_each_hour(interval, more, expected):
    gone = batch(failing=missing(GONE_AFTER + more))
    assert gone.assessment.state is State.GONE
    assert look(gone, replace(RULES, interval=interval), NOW) == Look(expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"window_start": NOW + HOUR, "completed": 0},
        {"times": CONFIRMED, "ended_at": NOW - HOUR},
        {"times": CONFIRMED, "ended_at": NOW - 9 * DAY},
        {"window_end": NOW + MIN},
        {},
    ],
    ids=["waiting", "ended", "long ended", "closing", "running"],
)
def test_a_batch_whose_polls_fail_is_asked_for_each_interval_whatever_it_was(changes):
    """BatchUnreachable wants three failures in a row: at a look each hour it would be told too late."""
    for failing in (missing(1), Failing(NOW, 9, 0, FailureReason.TIMEOUT, "no answer")):
        assert look(batch(failing=failing, **changes), RULES, NOW) == Look(INTERVAL)


# Urgency


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.about_account])
@pytest.mark.parametrize("phase", list(Phase))
def test_a_batch_whose_trouble_is_told_or_about_to_be_goes_first(name, phase):
    waiting = batch(window_start=NOW + HOUR, completed=0, alerts=(alert(name, phase),))
    goes_first = phase is not Phase.TOLD and not KINDS[name].one_shot
    assert urgency(waiting, RULES, NOW) is (Urgency.ALARM if goes_first else Urgency.LATER)


# Always


_OFFSET = st.integers(-3 * 86400, 3 * 86400).map(lambda seconds: NOW + seconds * SEC)


@given(
    start=st.none() | _OFFSET,
    end=st.none() | _OFFSET,
    ended=st.none() | _OFFSET,
    now=_OFFSET,
    paused=st.booleans(),
    completed=st.sampled_from([0, 118, 400]),
    missed=st.integers(0, 40),
    interval=st.sampled_from([SEC, 30 * SEC, HOUR]),
)
def test_no_look_is_further_apart_than_an_hour_nor_closer_than_a_second_nor_in_the_past(
    start, end, ended, now, paused, completed, missed, interval
):
    failing = missing(missed) if missed else None
    seen = {"window_start": start, "window_end": end, "ended_at": ended}
    found = batch(times=2, failing=failing, paused=paused, completed=completed, **seen)
    planned = look(found, replace(RULES, interval=interval), now)
    if planned.interval is None:
        assert ended is not None
        assert failing is None
    else:
        assert SEC <= planned.interval <= HOUR
        assert planned.interval >= interval / 3 or planned.interval == SEC
    assert planned.wake_at is None or planned.wake_at > now


# Pages


@pytest.mark.parametrize(
    ("pages", "worth"),
    [
        ([], 0),
        ([None, None], 0),
        ([0], 0),
        ([0, 0], 1),
        ([0, 1], 0),
        ([0, 0, 1], 1),
        ([0, 0, 1, 1], 2),
        ([5] * 6, 0),
        ([5] * 7, 6),
        ([0, 0, None, 9], 1),
        ([3, 3, 3, 3, 0, 0], 4),
    ],
)
def test_pages_are_read_where_they_spare_more_requests_than_they_cost(pages, worth):
    assert pages_worth_reading(pages) == worth


@given(st.lists(st.none() | st.integers(0, 12), max_size=25))
def test_no_other_number_of_pages_takes_fewer_requests(pages):
    def requests(read):
        return read + sum(1 for page in pages if page is None or page >= read)

    chosen = pages_worth_reading(pages)
    every = range(max((page for page in pages if page is not None), default=0) + 2)
    fewest = min(requests(read) for read in every)
    assert requests(chosen) == fewest <= len(pages)
    assert chosen == min(read for read in every if requests(read) == fewest), "as few pages as will do"
