"""What we believe of a batch: every state at its boundary, the stall clock, the pace."""

from __future__ import annotations

from datetime import timedelta

import pytest
from samples import NOW, observation

from monitor import evaluate
from monitor.evaluate import Circumstances, Rules, assess, observe
from monitor.model import Failing, FailureReason, State

RULES = Rules()
MIN = timedelta(minutes=1)
SEC = timedelta(seconds=1)


def follow(*seen, rules=RULES, around=evaluate.NO_CIRCUMSTANCES):
    progress = None
    for one in seen:
        progress = observe(progress, one, rules, around)
    return progress


def at(minutes=0, seconds=0, **changes):
    """An observation so long after NOW, in a window that is open for a month."""
    changes = {"window_start": NOW - MIN, "window_end": NOW + timedelta(days=30)} | changes
    return observation(at=NOW + minutes * MIN + seconds * SEC, **changes)


def every(step, until, **changes):
    """Observations of a batch that stands still, each `step` minutes."""
    return [at(minute, **changes) for minute in range(0, until + 1, step)]


def state(*seen, not_found=0, **options):
    failing = Failing(NOW, not_found, not_found, FailureReason.NOT_FOUND, "404") if not_found else None
    return assess(follow(*seen, **options), failing, options.get("rules", RULES)).state


# States

ENDED = {"ended_at": NOW, "completed": 400}
CUT_SHORT = {"ended_at": NOW}
STATES = [
    ("never observed", [], 0, State.UNKNOWN),
    ("never observed, and the API does not know it", [], 3, State.UNKNOWN),
    ("in its window", [at()], 0, State.RUNNING),
    ("ended with all calls made", [at(**ENDED)], 0, State.ENDED),
    ("ended with all calls made, seen twice", [at(**ENDED), at(1, **ENDED)], 0, State.ENDED),
    ("ended with calls not made, seen once", [at(**CUT_SHORT)], 0, State.ENDED),
    ("ended with calls not made, seen twice", [at(**CUT_SHORT), at(1, **CUT_SHORT)], 0, State.INCOMPLETE),
    (
        "ended with calls not made, at two instants",
        [at(**CUT_SHORT), at(1, ended_at=NOW + SEC)],
        0,
        State.ENDED,
    ),
    ("ended without a call", [at(ended_at=NOW, total=0, completed=0)] * 2, 0, State.ENDED),
    ("ended with more calls than it has", [at(ended_at=NOW, completed=401)] * 2, 0, State.ENDED),
    ("ended, then calls were added", [at(**ENDED), at(1, total=500, completed=400)], 0, State.RUNNING),
    ("404 twice", [at()], 2, State.RUNNING),
    ("404 three times", [at()], 3, State.GONE),
    ("404 three times after its end", [at(**ENDED)], 3, State.ENDED),
    ("404 three times while paused", [at(paused=True)], 3, State.GONE),
    ("a second before its window's end", [at(window_end=NOW + SEC)], 0, State.RUNNING),
    ("at its window's end", [at(window_end=NOW)], 0, State.OVERDUE),
    ("at its window's end, all calls made", [at(window_end=NOW, completed=400)], 0, State.RUNNING),
    ("at its window's end, paused", [at(window_end=NOW, paused=True)], 0, State.OVERDUE),
    ("paused", [at(paused=True)], 0, State.PAUSED),
    ("paused before its window", [at(paused=True, window_start=NOW + MIN, completed=0)], 0, State.PAUSED),
    ("before its window", [at(window_start=NOW + SEC, completed=0)], 0, State.WAITING),
    ("at its window's start", [at(window_start=NOW, completed=0)], 0, State.RUNNING),
    ("before its window, with calls made", [at(window_start=NOW + SEC, completed=1)], 0, State.RUNNING),
    ("all calls made, not ended", [at(completed=400)], 0, State.RUNNING),
    ("no call for 15 minutes", every(1, 15), 0, State.STALLED),
    ("no call for just under 15 minutes", [*every(1, 14), at(14, 59)], 0, State.RUNNING),
    (
        "no call for 15 minutes, no window at all",
        every(1, 15, window_start=None, window_end=None),
        0,
        State.STALLED,
    ),
    ("no call for 15 minutes, none remain", every(1, 15, completed=400), 0, State.RUNNING),
]


@pytest.mark.parametrize(("_", "seen", "not_found", "expected"), STATES, ids=[row[0] for row in STATES])
def test_the_state_is_the_first_that_matches(_, seen, not_found, expected):
    assert state(*seen, not_found=not_found) is expected


def test_every_state_is_in_the_table_once():
    assert sorted(row[0] for row in evaluate.STATES) == sorted(State)


@pytest.mark.parametrize("expected", list(State))
def test_every_state_says_why(expected):
    seen, not_found = next((row[1], row[2]) for row in STATES if row[3] is expected)
    failing = Failing(NOW, not_found, not_found, FailureReason.NOT_FOUND, "404") if not_found else None
    assert assess(follow(*seen), failing, RULES).why


# The stall clock


def idle(*seen, **options):
    found = assess(follow(*seen, **options), None, options.get("rules", RULES))
    return None if found.idle_seconds is None else found.idle_seconds / 60


CLOCKS = [
    ("starts at first sight", [at()], 0),
    ("runs", [at(), at(1), at(2)], 2),
    ("starts anew at progress", [at(), at(1), at(2, completed=119), at(3, completed=119)], 1),
    ("does not start anew when a count flaps", [at(), at(1, completed=100), at(2)], 2),
    ("stands while paused", [at(), at(1, paused=True)], None),
    ("starts anew when a pause is lifted", [at(), at(1, paused=True), at(2), at(3)], 1),
    ("starts when the window opens, not when that is seen", [at(window_start=NOW + MIN / 2), at(1, window_start=NOW + MIN / 2)], 0.5),
    (
        "starts when the pause is lifted, if that came after the window opened",
        [at(paused=True, window_start=NOW + MIN / 2), at(1, window_start=NOW + MIN / 2)],
        0,
    ),
    ("stands after the window", [at(window_end=NOW + MIN), at(1, window_end=NOW + MIN)], None),
    ("stands before the window", [at(window_start=NOW + MIN)], None),
    ("stands when all calls are made", [at(completed=400)], None),
    ("stands after the end", [at(ended_at=NOW)], None),
    ("starts when calls are added to a finished batch", [at(completed=400), at(1, completed=400, total=500), at(3, completed=400, total=500)], 2),
    ("starts when an ended batch is reopened", [at(**ENDED), at(1, completed=400, total=500), at(2, completed=400, total=500)], 1),
    ("goes on when calls are added to a running batch", [at(), at(1, total=500), at(2, total=500)], 2),
    ("goes on when the total shrinks", [at(), at(1, total=300), at(2)], 2),
]  # fmt: skip


@pytest.mark.parametrize(("_", "seen", "expected"), CLOCKS, ids=[row[0] for row in CLOCKS])
def test_the_stall_clock(_, seen, expected):
    assert idle(*seen) == expected


def test_a_spent_throttle_stops_the_clock_and_it_starts_anew_when_there_is_room():
    spent = Circumstances(throttle_spent=True)
    progress = observe(follow(at(), at(1)), at(2), RULES, spent)
    assert progress.clock_started_at is None
    assert assess(progress, None, RULES, spent).idle_seconds is None
    progress = observe(progress, at(3), RULES)
    assert assess(observe(progress, at(4), RULES), None, RULES).idle_seconds == 60


def test_at_the_account_s_cap_it_takes_an_hour():
    progress = follow(*every(1, 59))
    capped = Circumstances(at_cap=True)
    assert assess(progress, None, RULES, capped).state is State.RUNNING
    assert assess(observe(progress, at(60), RULES), None, RULES, capped).state is State.STALLED
    assert assess(progress, None, RULES).state is State.STALLED


def gap(minutes_of_gap, minutes_after, rules=RULES):
    """Two good observations, then none for a while, then some again each half minute."""
    start = 0.5 + minutes_of_gap
    seen = [at(), at(0.5)] + [at(start + step / 2) for step in range(int(minutes_after * 2) + 1)]
    return state(*seen, rules=rules)


@pytest.mark.parametrize(
    ("minutes_of_gap", "minutes_after", "expected"),
    [
        (1.5, 14, State.STALLED),  # three intervals are no gap
        (14.5, 0, State.RUNNING),
        (60, 0, State.RUNNING),
        (60, 4.5, State.RUNNING),
        (60, 5, State.STALLED),
        (7 * 24 * 60, 4.5, State.RUNNING),
        (5, 9, State.RUNNING),
        (5, 9.5, State.STALLED),  # the clock itself decides where fresh silence is long over
    ],
)
def test_after_a_gap_some_silence_must_be_fresh(minutes_of_gap, minutes_after, expected):
    assert gap(minutes_of_gap, minutes_after) is expected


def test_a_window_that_opened_while_nobody_looked_needs_fresh_silence_too():
    opened = {"window_start": NOW + 10 * MIN}
    seen = [at(0, **opened)] + [at(60 + step / 2, **opened) for step in range(11)]
    assert state(*seen[:2]) is State.RUNNING
    assert state(*seen[:-1]) is State.RUNNING
    assert state(*seen) is State.STALLED


@pytest.mark.parametrize("minutes_of_gap", [2, 60, 10_000])
def test_what_stood_still_before_a_gap_and_after_it_needs_no_new_proof(minutes_of_gap):
    before = every(1, 16)
    assert state(*before, at(16 + minutes_of_gap)) is State.STALLED
    assert state(*before, at(16 + minutes_of_gap, completed=119)) is State.RUNNING


def test_a_short_limit_asks_for_short_fresh_silence():
    rules = Rules(stall_after=2 * MIN)
    assert gap(60, 1.5, rules) is State.RUNNING
    assert gap(60, 2, rules) is State.STALLED


def test_progress_after_a_gap_needs_no_fresh_silence():
    seen = [at(), at(60, completed=200)] + [at(60 + step / 2, completed=200) for step in range(1, 31)]
    assert state(*seen[:-1]) is State.RUNNING
    assert state(*seen) is State.STALLED


def test_the_limit_that_is_shown_is_the_one_that_decides():
    progress = follow(at(), at(0.5), at(60))
    found = assess(progress, None, RULES)
    assert (found.idle_seconds, found.stall_after_seconds) == (3600, 3900)


def test_an_api_clock_that_is_set_back_makes_no_stall_and_the_clock_starts_anew():
    times = [*range(11), *range(-50, -35)]
    back = [at(minute, window_start=None) for minute in times]
    assert idle(*back[:12]) == 0
    assert state(*back) is State.RUNNING
    assert state(*back, at(-35, window_start=None)) is State.STALLED


def test_one_answer_from_an_api_clock_that_is_ahead_makes_no_stall():
    seen = [at(minute) for minute in range(5)] + [at(65)] + [at(minute) for minute in range(6, 15)]
    assert state(*seen) is State.RUNNING
    assert idle(*seen) == 14
    assert state(*seen, at(15)) is State.STALLED


def test_the_clock_runs_from_the_very_start_of_the_window():
    seen = [at(0, window_start=NOW + MIN), at(1, window_start=NOW + MIN)]
    assert idle(*seen) == 0
    assert state(*seen, *(at(m, window_start=NOW + MIN) for m in range(2, 17))) is State.STALLED


@pytest.mark.parametrize(("seconds", "expected"), [(90, None), (91, NOW + 91 * SEC)])
def test_three_intervals_are_no_gap_and_a_second_more_is_one(seconds, expected):
    assert follow(at(), at(0, seconds)).fresh_since == expected


@pytest.mark.parametrize(
    ("total", "completed", "ratio"), [(0, 0, None), (0, 5, None), (400, 401, 1), (400, 100, 0.25)]
)
def test_the_ratio_stays_within_one_and_is_absent_without_calls(total, completed, ratio):
    assert assess(follow(at(total=total, completed=completed)), None, RULES).completion_ratio == ratio


def test_no_clock_no_limit():
    found = assess(follow(at(paused=True)), None, RULES)
    assert (found.idle_seconds, found.stall_after_seconds) == (None, None)


# Pace, end, what will be missed


def steady(minutes, per_minute, **changes):
    return [at(minute, completed=100 + minute * per_minute, **changes) for minute in range(minutes + 1)]


def test_a_steady_pace_tells_the_end_and_what_will_be_missed():
    found = assess(follow(*steady(30, 2, window_end=NOW + 60 * MIN)), None, RULES)
    assert found.calls_per_second == pytest.approx(2 / 60)
    assert found.estimated_end == NOW + 30 * MIN + 120 * MIN
    assert found.projected_missed == 400 - 160 - 60


def test_a_pace_that_is_enough_misses_nobody():
    assert assess(follow(*steady(30, 6, window_end=NOW + 60 * MIN)), None, RULES).projected_missed == 0


def test_the_pace_is_of_the_recent_time_only():
    seen = [*steady(60, 4), *(at(60 + minute, completed=340 + minute) for minute in range(1, 21))]
    assert assess(follow(*seen), None, RULES).calls_per_second == pytest.approx(1 / 60)


def test_of_a_step_that_lies_half_before_the_window_half_counts():
    seen = [at(0, completed=100), at(10, completed=200), at(20, completed=210)]
    assert assess(follow(*seen), None, RULES).calls_per_second == pytest.approx((50 + 10) / (15 * 60))


def test_a_pause_does_not_dilute_the_pace():
    paused = [at(10 + minute, completed=120, paused=True) for minute in range(1, 60)]
    seen = [*steady(10, 2), *paused, *(at(70 + minute, completed=120 + 2 * minute) for minute in range(6))]
    assert assess(follow(*seen), None, RULES).calls_per_second == pytest.approx(2 / 60, rel=0.1)


def test_a_stalled_batch_has_pace_zero_no_end_and_misses_all_that_remain():
    found = assess(follow(*every(1, 16)), None, RULES)
    assert found.state is State.STALLED
    assert (found.calls_per_second, found.estimated_end, found.projected_missed) == (0, None, 282)


@pytest.mark.parametrize("seen", [[at()], [at(), at(0.5)]], ids=["seen once", "seen twice, without a call"])
def test_nothing_is_foretold_before_there_is_a_pace(seen):
    found = assess(follow(*seen), None, RULES)
    assert (found.calls_per_second, found.estimated_end, found.projected_missed) == (None, None, None)


def test_nothing_is_foretold_of_a_batch_that_has_ended():
    found = assess(follow(*steady(5, 2), at(6, **ENDED)), None, RULES)
    assert (found.calls_per_second, found.estimated_end, found.projected_missed) == (None, None, None)


def test_nothing_is_foretold_of_a_batch_that_is_paused_and_its_pace_is_kept():
    found = assess(follow(*steady(5, 2), at(6, completed=110, paused=True)), None, RULES)
    assert found.calls_per_second > 0
    assert (found.estimated_end, found.projected_missed) == (None, None)


def test_an_overdue_batch_misses_all_that_remain():
    found = assess(follow(*steady(5, 2, window_end=NOW + 5 * MIN)), None, RULES)
    assert (found.state, found.projected_missed, found.estimated_end) == (State.OVERDUE, 290, None)


def test_an_end_beyond_the_calendar_is_no_end():
    slow = [at(0, total=10_000_000, completed=0)]
    slow += [at(24 * 60 * day, total=10_000_000, completed=1, window_end=None) for day in range(1, 300)]
    rules = Rules(stall_after=timedelta(days=300), interval=timedelta(days=1))
    found = assess(follow(*slow, rules=rules), None, rules)
    assert found.calls_per_second > 0
    assert found.estimated_end is None


def test_the_curve_is_kept_small():
    progress = follow(*(at(0, 10 * step, completed=step) for step in range(2000)))
    assert len(progress.samples) <= 60


# Failing


def test_a_run_of_failures_is_counted_and_404s_in_a_row_besides():
    run = evaluate.failed(None, FailureReason.TIMEOUT, "slow", NOW)
    assert (run.since, run.count, run.not_found) == (NOW, 1, 0)
    for _ in range(2):
        run = evaluate.failed(run, FailureReason.NOT_FOUND, "404", NOW + MIN)
    assert (run.since, run.count, run.not_found, run.message) == (NOW, 3, 2, "404")
    run = evaluate.failed(run, FailureReason.SERVER_ERROR, "500", NOW + MIN)
    assert (run.count, run.not_found) == (4, 0)


def test_a_clock_that_is_set_back_does_not_make_a_run_younger():
    run = evaluate.failed(None, FailureReason.TIMEOUT, "slow", NOW)
    assert evaluate.failed(run, FailureReason.TIMEOUT, "slow", NOW - MIN).since == NOW - MIN


def test_polls_that_are_always_late_do_not_hide_a_stall():
    """Each comes after a gap; were proof begun anew by each, there would never be any."""
    progress = None
    for minute in range(0, 24, 2):
        progress = observe(progress, observation(at=NOW + timedelta(minutes=minute)), Rules())
    assert assess(progress, None, Rules()).state is State.STALLED
