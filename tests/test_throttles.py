"""Is the throttle of a batch spent? Counted from marks, and compared with a count over all that was ever seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import NOW, observation

from monitor.model import Mark, Throttle, ThrottleRule
from monitor.throttles import FINENESS, LONGEST_WINDOW, Usage, marked, standing, usage

SEC, MIN, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
LONG_AGO = NOW - timedelta(days=30)


def throttle(*rules):
    return Throttle("id", "evening", tuple(ThrottleRule(*rule) for rule in rules))


TEN_PER_TEN_MINUTES = throttle((10, 600))


def seen(at, completed, **changes):
    """One look at a throttled batch that was made long ago, `at` after NOW."""
    changes = {"created": LONG_AGO, "window_start": None, "throttle": "evening", "total": 10**6} | changes
    return observation(at=NOW + at, completed=completed, **changes)


def watched(*looks, **changes):
    """What a batch has called, after these looks: (how long after NOW, how many completed)."""
    marks, last = (), None
    for at, completed in looks:
        last = seen(at, completed, **changes)
        marks = marked(marks, last)
    return usage(last, marks)


def stands(throttle, *users, at):
    return standing(throttle, users, NOW + at)


# Spent, and free again


@pytest.mark.parametrize(("calls", "spent"), [(0, False), (9, False), (10, True), (11, True)])
def test_a_throttle_is_spent_by_exactly_so_many_calls_in_its_window(calls, spent):
    user = watched((-10 * MIN, 100), (-5 * MIN, 100 + calls), (0 * MIN, 100 + calls))
    found = stands(TEN_PER_TEN_MINUTES, user, at=0 * MIN)
    assert found.spent is spent
    assert found.why == ("its throttle is spent: 10 calls per 10 min" if spent else None)
    assert found.most_calls_per_second == pytest.approx(10 / 600)


@pytest.mark.parametrize(("after", "spent"), [(599 * SEC, True), (600 * SEC, False), (601 * SEC, False)])
def test_it_is_free_again_the_instant_the_oldest_calls_leave_the_window(after, spent):
    user = watched((-HOUR, 100), (0 * MIN, 104), (1 * MIN, 110), (5 * MIN, 110))
    assert stands(TEN_PER_TEN_MINUTES, user, at=after).spent is spent


def test_what_was_called_before_the_window_does_not_count():
    user = watched((-HOUR, 0), (-11 * MIN, 5000), (-MIN, 5009))
    assert stands(TEN_PER_TEN_MINUTES, user, at=0 * MIN).spent is False


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (((10, 600), (1000, 86400)), "10 calls per 10 min"),
        (((1000, 600), (15, 3600)), "15 calls per 1 h"),
        (((11, 600), (16, 3600)), None),
    ],
)
def test_one_spent_rule_is_enough(rules, said):
    user = watched((-26 * HOUR, 0), (-HOUR, 0), (-30 * MIN, 5), (-MIN, 15))
    found = stands(throttle(*rules), user, at=0 * MIN)
    assert found.spent is (said is not None)
    assert found.why == (said and f"its throttle is spent: {said}")


def test_the_slowest_rule_bounds_the_pace():
    rules = throttle((100, 60), (240, 86400), (10, 60))
    assert stands(rules, at=0 * MIN).most_calls_per_second == pytest.approx(240 / 86400)


def test_a_throttle_without_rules_stops_nobody_and_bounds_nothing():
    found = stands(throttle(), watched((0 * MIN, 10**6)), at=0 * MIN)
    assert (found.spent, found.why, found.most_calls_per_second) == (False, None, None)


def test_batches_that_share_a_throttle_spend_it_together():
    one = watched((-HOUR, 0), (-MIN, 4))
    other = watched((-HOUR, 50), (-2 * MIN, 56))
    assert stands(TEN_PER_TEN_MINUTES, one, other, at=0 * MIN).spent
    for alone in (one, other):
        assert not stands(TEN_PER_TEN_MINUTES, alone, at=0 * MIN).spent


# What was not watched


@pytest.mark.parametrize(
    "since",
    [{"created": NOW - 9 * MIN}, {"created": LONG_AGO, "window_start": NOW - 10 * MIN}],
    ids=["made", "opened"],
)
def test_of_a_batch_that_began_inside_the_window_all_is_known_at_first_sight(since):
    for calls, spent in ((9, False), (10, True)):
        found = stands(TEN_PER_TEN_MINUTES, watched((0 * MIN, calls), **since), at=0 * MIN)
        assert found.spent is spent
        assert found.why == ("its throttle is spent: 10 calls per 10 min" if spent else None)


def test_of_a_batch_that_began_earlier_the_most_counts_until_a_full_window_was_watched():
    looks = [(minute * MIN, 100) for minute in range(11)]
    for at, _ in looks[:-1]:
        found = stands(TEN_PER_TEN_MINUTES, watched(*[look for look in looks if look[0] <= at]), at=at)
        assert found.spent
        assert (
            found.why
            == "its throttle may be spent: 10 calls per 10 min, and it has not been watched for that long yet"
        )
    assert not stands(TEN_PER_TEN_MINUTES, watched(*looks), at=10 * MIN).spent


def test_it_is_not_spent_when_even_the_most_that_may_have_been_called_is_too_little():
    assert not stands(TEN_PER_TEN_MINUTES, watched((0 * MIN, 9)), at=0 * MIN).spent
    assert stands(TEN_PER_TEN_MINUTES, watched((0 * MIN, 9)), watched((0 * MIN, 1)), at=0 * MIN).spent


def test_what_surely_spends_it_is_not_called_a_maybe():
    found = stands(TEN_PER_TEN_MINUTES, watched((0 * MIN, 100), (MIN, 110)), at=MIN)
    assert found.why == "its throttle is spent: 10 calls per 10 min"


@pytest.mark.parametrize(
    ("watched_for", "spent"), [(0 * MIN, True), (LONGEST_WINDOW - SEC, True), (LONGEST_WINDOW, False)]
)
def test_a_throttle_of_unknown_rules_may_be_spent_for_the_longest_window_there_is(watched_for, spent):
    found = stands(None, watched((-watched_for, 5), (0 * MIN, 5)), at=0 * MIN)
    assert found.spent is spent
    assert found.why == ("its throttle may be spent: the rules of it are not known" if spent else None)
    assert found.most_calls_per_second is None
    assert stands(None, at=0 * MIN).spent, "nothing was watched at all"


def test_a_batch_that_left_no_marks_is_reckoned_by_its_count():
    user = Usage((), 10, LONG_AGO)
    assert stands(TEN_PER_TEN_MINUTES, user, at=0 * MIN).spent
    assert not stands(TEN_PER_TEN_MINUTES, replace(user, completed=9), at=0 * MIN).spent


# Marks


def test_only_growth_leaves_a_mark_and_the_first_look_does():
    user = watched((0 * MIN, 5), (MIN, 5), (2 * MIN, 7), (3 * MIN, 7))
    assert user.marks == (Mark(NOW, 5), Mark(NOW + 2 * MIN, 7))


def test_a_batch_without_a_throttle_leaves_no_marks_and_loses_those_it_left():
    marks = watched((0 * MIN, 5), (MIN, 6)).marks
    assert marked(marks, seen(2 * MIN, 7, throttle=None)) == ()
    assert marked((), seen(2 * MIN, 7, throttle=None)) == ()


def test_a_count_that_shrinks_leaves_no_mark_and_counts_as_no_call():
    user = watched((0 * MIN, 100), (MIN, 105), (2 * MIN, 90), (3 * MIN, 104))
    assert [mark.completed for mark in user.marks] == [100, 105]
    assert not stands(TEN_PER_TEN_MINUTES, user, at=20 * MIN).spent


def test_marks_of_a_clock_that_was_ahead_are_forgotten():
    user = watched((0 * MIN, 100), (3 * HOUR, 101), (MIN, 109), (2 * MIN, 110))
    assert [mark.at - NOW for mark in user.marks] == [0 * MIN, MIN, 2 * MIN]
    assert stands(TEN_PER_TEN_MINUTES, user, at=2 * MIN).spent
    assert not stands(TEN_PER_TEN_MINUTES, user, at=11 * MIN).spent


def test_two_looks_within_one_second_of_the_clock_leave_one_mark():
    assert watched((0 * MIN, 100), (0 * MIN, 103)).marks == (Mark(NOW, 103),)


# Compared with a count over everything that was seen


@dataclass(frozen=True)
class History:
    """All looks at one batch: seconds after NOW, and how many calls were completed by then."""

    looks: tuple[tuple[int, int], ...]

    def by(self, second):
        """Completed at this second, as far as was seen: before the first look, what that one saw."""
        return next((count for at, count in reversed(self.looks) if at <= second), self.looks[0][1])

    def within(self, second, window):
        return self.looks[-1][1] - self.by(second - window)


@st.composite
def histories(draw):
    """Looks at a steady interval, with silences and gaps."""
    interval = draw(st.integers(10, 300))
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([1, 1, 1, 1, 7, 100]), st.sampled_from([0, 0, 1, 1, 3]), st.integers(1, 40)
            ),
            min_size=1,
            max_size=12,
        )
    )
    looks = [(pause, grown) for pause, grown, times in steps for _ in range(times)]
    times = accumulate(interval * pause for pause, _ in looks)
    counts = accumulate(grown for _, grown in looks)
    return History(tuple(zip(times, counts, strict=True)))


@settings(max_examples=60)
@given(histories(), st.integers(60, 86400))
def test_what_marks_count_is_at_least_what_was_called_in_the_window_and_at_most_in_one_a_little_longer(
    history, window
):
    """Found by asking: the largest rule that is still spent tells how many calls are counted."""
    user = watched(*((at * SEC, completed) for at, completed in history.looks))
    now = history.looks[-1][0]
    if now - window < history.looks[0][0]:
        return  # not watched for a full window: the tests above

    def spent(calls):
        return calls == 0 or stands(throttle((calls, window)), user, at=now * SEC).spent

    exactly, loosely = history.within(now, window), history.within(now, window * (1 + 1 / FINENESS))
    assert spent(exactly), "a mark that the window needs was lost, or calls were not counted"
    assert not spent(loosely + 1), "calls are counted that left the window long ago"


@pytest.mark.parametrize(("interval", "grows_each"), [(30, 1), (30, 7), (1, 1)])
def test_marks_stay_few_and_know_every_window_through_days_of_polls(interval, grows_each):
    marks, most, looks = (), 0, []
    for number in range(2 * 86400 // interval if interval > 1 else 3_000):
        second = number * interval
        looks.append((second, number // grows_each))
        marks = marked(marks, seen(second * SEC, looks[-1][1]))
        most = max(most, len(marks))
    assert most <= 120
    assert [mark.at for mark in marks] == sorted({mark.at for mark in marks})
    user, history = usage(seen(second * SEC, looks[-1][1]), marks), History(tuple(looks))
    for window in (60, 600, 3600, 5 * 3600, 43_200, 86_400):
        if window > second:
            continue
        exactly, loosely = history.within(second, window), history.within(second, window * (1 + 1 / FINENESS))
        if exactly:
            assert stands(throttle((exactly, window)), user, at=second * SEC).spent
        assert not stands(throttle((loosely + 1, window)), user, at=second * SEC).spent


def test_what_no_window_needs_any_more_is_forgotten():
    user = watched(*((hour * HOUR, hour) for hour in range(100)))
    older = [mark for mark in user.marks if NOW + 99 * HOUR - mark.at > LONGEST_WINDOW]
    assert len(older) <= 1
    assert user.marks[0].at <= NOW + 99 * HOUR - LONGEST_WINDOW, "the longest window needs it"
