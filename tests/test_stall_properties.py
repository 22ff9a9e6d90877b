"""What must hold of the judgement for every history, not only for the ones we thought of.

A small ground truth (when calls are made, when it is paused, when the window is open, when calls are
added) is looked at in different ways: at different intervals, through outages, with counts that flap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from samples import NOW

from monitor.evaluate import FRESH_SILENCE, Rules, assess, calls_expected, observe
from monitor.model import Failing, FailureReason, Observation, State

SEC = timedelta(seconds=1)
AFTER = 900
HORIZON = 2 * 3600


@dataclass(frozen=True)
class Truth:
    """A campaign, in seconds from NOW."""

    calls: tuple[int, ...]  # when each call is made, sorted
    total: int
    pauses: tuple[tuple[int, int], ...]
    window: tuple[int | None, int | None]
    added: tuple[int, int]  # when, how many
    ended: int | None

    def seen(self, at: int) -> Observation:
        """What the API answers at this second."""
        start, end = self.window
        ended = self.ended is not None and at >= self.ended
        return Observation(
            at=NOW + at * SEC,
            created=NOW,
            total=self.total + (self.added[1] if at >= self.added[0] else 0),
            completed=sum(1 for call in self.calls if call <= at),
            ended_at=NOW + self.ended * SEC if ended and self.ended is not None else None,
            window_start=None if start is None else NOW + start * SEC,
            window_end=None if end is None else NOW + end * SEC,
            paused=any(begin <= at < over for begin, over in self.pauses),
        )


_SECOND = st.integers(0, HORIZON)


@st.composite
def truths(draw):
    calls = tuple(sorted(draw(st.lists(_SECOND, max_size=25))))
    pauses = draw(st.lists(st.tuples(_SECOND, st.integers(60, 3600)), max_size=2))
    start, length = draw(_SECOND), draw(st.integers(60, HORIZON))
    window = draw(
        st.sampled_from([(None, None), (start, None), (None, start + length), (start, start + length)])
    )
    return Truth(
        calls=calls,
        total=len(calls) + draw(st.integers(0, 30)),
        pauses=tuple((begin, begin + length) for begin, length in pauses),
        window=window,
        added=(draw(_SECOND), draw(st.integers(0, 20))),
        ended=draw(st.none() | _SECOND),
    )


@st.composite
def polls(draw):
    """Instants at which the batch is seen: an interval, and outages in which nothing is."""
    interval = draw(st.sampled_from([20, 30, 60]))
    outages = draw(st.lists(st.tuples(_SECOND, st.integers(60, 5400)), max_size=3))
    times = [
        at
        for at in range(0, HORIZON, interval)
        if not any(begin <= at < begin + length for begin, length in outages)
    ]
    return interval, times


def judged(truth, interval, times):
    """Every (second, progress, assessment) on the way."""
    rules, progress = Rules(interval=interval * SEC), None
    for at in times:
        progress = observe(progress, truth.seen(at), rules)
        yield at, progress, assess(progress, None, rules)


_MANY = settings(max_examples=100, deadline=None)


@_MANY
@given(truth=truths(), polled=polls())
def test_a_stall_is_only_ever_told_of_a_batch_of_which_calls_are_expected(truth, polled):
    for at, progress, found in judged(truth, *polled):
        if found.state is State.STALLED:
            seen = truth.seen(at)
            assert calls_expected(seen)
            assert not seen.paused
            assert seen.remaining > 0
            assert seen.ended_at is None
            assert seen.window_start is None or seen.at >= seen.window_start
            assert seen.window_end is None or seen.at < seen.window_end
            made_lately = [call for call in truth.calls if at - AFTER < call <= at]
            last_seen_before = max((t for t in polled[1] if t <= at - AFTER), default=0)
            assert not [call for call in made_lately if call > last_seen_before + 3 * polled[0]]
            assert progress.last.at == seen.at


@_MANY
@given(truth=truths(), polled=polls())
def test_the_numbers_decide_and_the_state_says_so(truth, polled):
    for _, progress, found in judged(truth, *polled):
        over = found.idle_seconds is not None and found.idle_seconds >= found.stall_after_seconds
        assert over is (found.state is State.STALLED)
        assert (found.idle_seconds is None) is (not calls_expected(progress.last))
        assert found.completion_ratio is None or 0 <= found.completion_ratio <= 1
        assert found.calls_per_second is None or found.calls_per_second >= 0
        assert found.projected_missed is None or 0 <= found.projected_missed <= progress.last.remaining
        assert found.estimated_end is None or found.estimated_end >= progress.last.at


@_MANY
@given(truth=truths(), polled=polls())
def test_an_outage_makes_no_stall_until_some_silence_was_watched_after_it(truth, polled):
    """Every long one, and the first short one: polls that are always late must not put a stall off for ever."""
    interval, times = polled
    before, watched_since, stood_still, gaps = None, times[0] if times else 0, False, 0
    for at, _, found in judged(truth, interval, times):
        if before is not None and at - before > 3 * interval:
            gaps += 1
            if gaps == 1 or at - before > FRESH_SILENCE.total_seconds():
                watched_since = at
        stalled = found.state is State.STALLED
        if stalled and not stood_still:
            assert at - watched_since >= FRESH_SILENCE.total_seconds()
        before, stood_still = at, stalled


@_MANY
@given(truth=truths(), dips=st.lists(st.integers(1, HORIZON), max_size=8), depth=st.integers(1, 20))
def test_a_count_that_flaps_down_and_up_is_no_progress(truth, dips, depth):
    """Down for one poll in which no call was made, then back: the stall clock is that of the steady count."""
    rules = Rules()
    dipped = {dip // 30 * 30 for dip in dips}
    steady = flapping = None
    for at in range(0, HORIZON, 30):
        seen = truth.seen(at)
        steady = observe(steady, seen, rules)
        quiet = steady.last_progress_at != seen.at and at > 0
        if at in dipped and quiet and seen.remaining > 0:
            seen = replace(seen, completed=max(0, seen.completed - depth))
        flapping = observe(flapping, seen, rules)
        assert flapping.clock_started_at == steady.clock_started_at
        assert flapping.last_progress_at == steady.last_progress_at


@_MANY
@given(truth=truths(), fine=st.sampled_from([10, 15]), coarse=st.sampled_from([30, 60]))
def test_another_poll_interval_gives_the_same_verdicts_up_to_one_interval(truth, fine, coarse):
    """What the fine view says throughout a stretch of two coarse intervals, the coarse view says at its end."""
    # A pause or a window shorter than an interval can fall between two looks: nobody can see it.
    edges = [edge for pause in truth.pauses for edge in pause] + [
        edge for edge in truth.window if edge is not None
    ]
    edges += [truth.added[0], truth.ended or 0]
    assume(all(abs(one - other) > 2 * coarse for n, one in enumerate(edges) for other in edges[n + 1 :]))
    seen_finely = [
        (at, found.state is State.STALLED) for at, _, found in judged(truth, fine, range(0, HORIZON, fine))
    ]
    for at, _, found in judged(truth, coarse, range(0, HORIZON, coarse)):
        lately = {stalled for moment, stalled in seen_finely if at - 2 * coarse <= moment <= at}
        if len(lately) == 1 and at >= 2 * coarse:
            assert (found.state is State.STALLED) in lately


_INSTANT = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda at: at.replace(tzinfo=UTC))
_COUNT = st.integers(0, 10_000_000)
_OBSERVATION = st.builds(
    Observation,
    at=_INSTANT,
    created=_INSTANT,
    total=_COUNT,
    completed=_COUNT,
    ended_at=st.none() | _INSTANT,
    window_start=st.none() | _INSTANT,
    window_end=st.none() | _INSTANT,
    paused=st.booleans(),
    throttle=st.none() | st.text(max_size=5),
)


@settings(max_examples=150, deadline=None)
@given(
    history=st.lists(_OBSERVATION, max_size=6),
    failing=st.none()
    | st.builds(
        Failing,
        _INSTANT,
        st.integers(1, 9),
        st.integers(0, 9),
        st.sampled_from(FailureReason),
        st.text(max_size=5),
    ),
)
def test_whatever_the_api_says_there_is_exactly_one_state_and_no_crash(history, failing):
    progress = None
    for seen in history:
        progress = observe(progress, seen, Rules())
        found = assess(progress, failing, Rules())
        assert found.state in State
        assert found.why
        assert found.projected_missed is None or 0 <= found.projected_missed <= seen.remaining
    if not history:
        assert assess(None, failing, Rules()).state is State.UNKNOWN
