"""Foresight: the pace that is shown, the estimated end, whom the window's end will leave uncalled, and how sure that is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import NOW, observation

from monitor import evaluate, pace
from monitor.evaluate import Rules
from monitor.model import Circumstances, Curve

RULES = Rules(interval=timedelta(minutes=1))
WINDOW = RULES.stall_after
MIN = timedelta(minutes=1)


def campaign(counts, *, total=400, window=240, around=evaluate.NO_CIRCUMSTANCES, **changes):
    """The progress of a batch that was looked at each minute from the opening of its window on."""
    progress = None
    for minute, count in enumerate(counts):
        seen = observation(
            at=NOW + minute * MIN,
            total=total,
            completed=count,
            window_start=NOW,
            window_end=None if window is None else NOW + window * MIN,
            **(changes if minute else {}),
        )
        progress = evaluate.observe(progress, seen, RULES, around)
    return progress


def steady(minutes, per_minute=1.0):
    return [int(minute * per_minute) for minute in range(minutes + 1)]


def foreseen(progress, **options):
    return pace.foresee(progress, WINDOW, **options)


def test_a_steady_batch_is_done_when_it_says_and_misses_what_it_says():
    found = foreseen(campaign(steady(60), total=400, window=240))
    assert found.calls_per_second == pytest.approx(1 / 60, rel=0.1)
    assert found.missed == 160
    assert found.missed_range[0] < 160 < found.missed_range[1]
    assert found.estimated_end == pytest.approx(NOW + 400 * MIN, abs=2 * MIN)
    assert found.needed_calls_per_second == pytest.approx(340 / (180 * 60))


def test_a_batch_that_will_make_it_misses_nobody():
    found = foreseen(campaign(steady(60, 4), total=400, window=240))
    assert (found.missed, found.missed_range[0]) == (0, 0)
    assert found.estimated_end < NOW + 240 * MIN


def test_it_looks_back_as_far_as_it_looks_ahead():
    """Ten quiet minutes after two good hours: with three hours to go they weigh little, with twenty minutes all."""
    counts = [*steady(120, 2), *[240] * 10]
    far = foreseen(campaign(counts, total=600, window=310))
    near = foreseen(campaign(counts, total=280, window=150))
    assert far.missed < 40
    assert near.missed == 20  # of forty, at ten in the last twenty minutes


def test_a_lunch_break_moves_the_likely_number_and_hardly_the_fewest():
    found = foreseen(campaign([*steady(120, 2), *[240] * 30], total=500, window=360))
    assert found.calls_per_second == 0
    assert (found.estimated_end, found.missed) == (None, 260)
    assert found.missed_range == (0, 260)


@pytest.mark.parametrize(
    ("counts", "told"),
    [([118], False), ([118] * 2, False), ([118] * 15, False), ([118] * 16, True)],
    ids=["seen once", "a minute", "just below the stall's time", "the stall's time"],
)
def test_before_its_first_call_a_batch_is_given_the_time_that_silence_is_given(counts, told):
    found = foreseen(campaign(counts))
    assert found.missed == (282 if told else None)
    assert found.estimated_end is None


def test_pauses_do_not_dilute_the_pace():
    progress = campaign(steady(60, 2))
    paused = replace(progress.last, at=progress.last.at + 60 * MIN, paused=True)
    stopped = evaluate.observe(progress, replace(paused, at=progress.last.at + MIN), RULES)
    stopped = evaluate.observe(stopped, paused, RULES)
    assert foreseen(stopped).missed is None
    resumed = evaluate.observe(stopped, replace(paused, at=paused.at + MIN, paused=False), RULES)
    assert foreseen(resumed).calls_per_second == pytest.approx(2 / 60, rel=0.1)


def test_calls_that_are_added_are_missed_calls_when_the_pace_stays():
    before = campaign(steady(60), total=200, window=240)
    after = evaluate.observe(before, replace(before.last, at=before.last.at + MIN, total=400), RULES)
    assert foreseen(before).missed == 0
    assert foreseen(after).missed == pytest.approx(160, abs=5)


def test_a_bound_keeps_the_likely_pace_down():
    progress = campaign(steady(60, 4), total=2000, window=240)
    free, bound = foreseen(progress), foreseen(progress, bound=1 / 60)
    assert free.missed == pytest.approx(2000 - 240 - 720, abs=10)
    assert bound.missed == 2000 - 240 - 180
    assert bound.estimated_end > free.estimated_end


def test_a_batch_that_waits_for_its_throttle_is_foreseen_all_the_same():
    progress = campaign(steady(30), total=400, window=240, throttle="gentle")
    spent = Circumstances(throttle_spent=True, most_calls_per_second=0.5 / 60)
    waiting = evaluate.observe(progress, replace(progress.last, at=progress.last.at + MIN), RULES, spent)
    assert waiting.clock_started_at is None
    found = evaluate.assess(waiting, None, RULES, spent)
    assert found.projected_missed == pytest.approx(400 - 30 - 209 / 2, abs=2)


@pytest.mark.parametrize(
    "changes", [{"ended_at": NOW + 200 * MIN}, {"window_start": NOW + 200 * MIN}, {"completed": 400}]
)
def test_where_nothing_goes_on_nothing_is_foretold(changes):
    progress = campaign(steady(60))
    over = evaluate.observe(progress, replace(progress.last, at=progress.last.at + MIN, **changes), RULES)
    found = foreseen(over)
    assert (found.estimated_end, found.missed, found.missed_range) == (None, None, None)


def test_after_the_window_what_is_left_is_missed():
    progress = campaign(steady(60), window=60)
    assert (foreseen(progress).missed, foreseen(progress).missed_range) == (340, (340, 340))


def test_without_an_end_there_is_an_estimated_end_and_nobody_is_missed():
    found = foreseen(campaign(steady(60), window=None))
    assert found.estimated_end is not None
    assert (found.missed, found.needed_calls_per_second) == (None, None)


def test_an_uneven_batch_has_a_wider_range_than_an_even_one():
    bursts = [20 * (minute // 20) for minute in range(121)]
    even, uneven = foreseen(campaign(steady(120))), foreseen(campaign(bursts))
    assert even.missed == pytest.approx(uneven.missed, abs=25)

    def width(found):
        return found.missed_range[1] - found.missed_range[0]

    assert width(uneven) > 1.2 * width(even)


def test_the_range_narrows_as_the_end_comes_near():
    early, late = (foreseen(campaign(steady(minutes), window=240)) for minutes in (30, 220))
    assert late.missed_range[1] - late.missed_range[0] < (early.missed_range[1] - early.missed_range[0]) / 4


counts_of_campaigns = st.lists(st.integers(0, 6), min_size=2, max_size=200).map(
    lambda made: [sum(made[:number]) for number in range(len(made))]
)


@settings(max_examples=60, deadline=None)
@given(counts=counts_of_campaigns, window=st.integers(1, 600), total=st.integers(1, 2000))
def test_numbers_stay_within_what_there_is(counts, window, total):
    progress = campaign([min(count, total) for count in counts], total=total, window=window)
    found = foreseen(progress)
    if found.missed is not None:
        fewest, most = found.missed_range
        assert 0 <= fewest <= found.missed <= most <= progress.last.remaining
    assert found.calls_per_second is None or found.calls_per_second >= 0
    assert found.estimated_end is None or found.estimated_end >= progress.last.at


@settings(max_examples=40, deadline=None)
@given(counts=counts_of_campaigns, bound=st.floats(0.0001, 1))
def test_a_bound_never_makes_the_likely_number_smaller(counts, bound):
    progress = campaign(counts, total=2000, window=400)
    free, held = foreseen(progress), foreseen(progress, bound=bound)
    if free.missed is not None:
        assert held.missed >= free.missed


@settings(max_examples=30, deadline=None)
@given(made=st.lists(st.integers(0, 5), min_size=30, max_size=600))
def test_the_curve_is_small_and_still_true(made):
    """Of any age that matters, the count is known to a sixth of that age."""
    window, samples, total, history = timedelta(minutes=15), Curve(), 0, []
    for number, calls in enumerate(made):
        total += calls
        history.append((60.0 * number, total))
        samples = pace.sampled(samples, 60.0 * number, total, window)
    assert len(samples) <= 60
    assert (samples[0].completed, samples[-1].completed) == (history[0][1], total)
    last = history[-1][0]
    for at, _ in history:
        kept = max(sample.at for sample in samples if sample.at <= at)
        assert at - kept <= (last - at) / pace.FINENESS + 60 * 2


@pytest.mark.parametrize(
    ("likely", "span", "already", "risk"),
    [
        (5, (1, 9), False, True),
        (5, (0, 9), False, False),
        (5, (0, 9), True, True),
        (0, (0, 9), True, False),
        (0, (0, 0), False, False),
        (None, None, True, False),
    ],
)
def test_a_risk_is_told_when_it_is_sure_and_is_over_when_it_is_unlikely(likely, span, already, risk):
    assessment = evaluate.assess(campaign([118]), None, RULES)
    found = replace(assessment, projected_missed=likely, projected_missed_range=span)
    assert pace.at_risk(found, already=already) is risk


@pytest.mark.parametrize("silent", range(15, 20))
def test_a_batch_that_has_stood_still_for_the_stall_s_time_has_pace_zero_to_the_last_digit(silent):
    for busy in range(90, 110):
        assert foreseen(campaign([*steady(busy), *[busy] * silent])).calls_per_second == 0


def test_far_ahead_of_what_was_seen_the_pace_itself_may_change():
    """An even half hour says little of the ten hours to come: 40 % either way, 1.28 times."""
    found = foreseen(campaign(steady(30, 10), total=20_000, window=600))
    expected = 20_000 - 300 - found.missed
    assert found.missed_range[1] - found.missed > 0.45 * expected
