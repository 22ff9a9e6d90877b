"""Why an alert fires or does not: in words, and with the instant at which it really would."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import KEY, NOW, account, observation, status

from monitor import decisions, evaluate
from monitor.alerts import KINDS, Policy, default_rule
from monitor.decisions import Voice
from monitor.evaluate import Rules
from monitor.explain import explain
from monitor.model import (
    AlertName,
    AlertState,
    Circumstances,
    FailureReason,
    Outcomes,
    Phase,
    Severity,
    State,
    Status,
    Target,
)

SEC, MIN, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STALLED, OVERDUE = AlertName.BATCH_STALLED, AlertName.BATCH_OVERDUE
PAUSED, UNREACHABLE = AlertName.BATCH_PAUSED_TOO_LONG, AlertName.BATCH_UNREACHABLE
OF_BATCHES = [name for name, kind in KINDS.items() if not kind.about_account]
RULES = Rules()


def policy(without=(), **holds):
    rules = {name: default_rule(name) for name in KINDS if name not in without}
    for key, hold in holds.items():
        name = next(name for name, kind in KINDS.items() if kind.key == key)
        rules[name] = replace(rules[name], hold=hold)
    return Policy(rules=rules)


class Life:
    """One batch, seen when the test says so; all instants are by our clock, `skew` is the API's less ours."""

    def __init__(self, skew=0 * SEC, policy=None, around=None, **account_changes):
        self.skew, self.policy, self.around = skew, policy or Policy(), around or Circumstances()
        self.account = account(clock_skew=skew, **account_changes)
        self.now = NOW
        unknown = evaluate.assess(None, None, RULES)
        self.status = Status(Target("main", KEY), "spring-renewals", "renewals", unknown)

    def see(self, at, **changes):
        """A good poll. Says what began firing."""
        changes = {"window_start": None, "window_end": None, "created": NOW - DAY} | changes
        dated = {
            key: value + self.skew if hasattr(value, "tzinfo") else value for key, value in changes.items()
        }
        seen = observation(at=NOW + at + self.skew, **dated)
        progress = evaluate.observe(self.status.progress, seen, RULES, self.around)
        return self._judge(at, news=True, progress=progress, failing=None, last_success_at=NOW + at)

    def miss(self, at, reason=FailureReason.TIMEOUT):
        """A failed poll."""
        failing = evaluate.failed(self.status.failing, reason, "no answer", NOW + at)
        return self._judge(at, news=False, failing=failing)

    def _judge(self, at, *, news, **changes):
        self.now = NOW + at
        after = replace(self.status, around=self.around, **changes)
        assessment = evaluate.assess(after.progress, after.failing, RULES, self.around)
        after = replace(after, assessment=assessment)
        voice = Voice(self.policy)
        told = decisions.decide_batch(after, self.account, voice, self.now, news=news)
        self.status = replace(after, alerts=told.alerts)
        return {dict(said.alert.labels)["alertname"] for said in told.said if said.kind.value == "firing"}

    def explain(self, name=None):
        found = explain(self.status, self.account, self.policy, self.now)
        assert [one.alert for one in found] == OF_BATCHES
        return found if name is None else next(one for one in found if one.alert is name)

    def fires_at(self, name, until, **changes):
        """Go on from now, each 30 s, and see nothing new: when it fires. Meanwhile it is explained the same."""
        foretold = self.explain(name).fires_at
        at = self.now - NOW
        while at < until:
            at += 30 * SEC
            if name.value in self.see(at, **changes):
                assert self.explain(name).standing == "firing"
                return NOW + at
            assert self.explain(name).standing != "firing"
            if foretold is not None and self.now < foretold:
                assert self.explain(name).fires_at == foretold, "nothing has changed, but the forecast"
        return None


def next_poll(at, after=NOW):
    """The first poll at or after this instant, where one is made each 30 s."""
    return after + 30 * SEC * -((after - at) // (30 * SEC))


# When it will fire


@settings(max_examples=30, deadline=None)
@given(
    skew=st.sampled_from([0 * SEC, -2 * HOUR, 3 * DAY]),
    idle=st.integers(0, 40).map(lambda polls: polls * 30 * SEC),
    hold=st.sampled_from([0 * SEC, 45 * SEC, 10 * MIN]),
    closes=st.none() | st.integers(1, 80).map(lambda halves: halves * 37 * SEC),
    at_cap=st.booleans(),
)
def test_a_stall_fires_at_the_instant_that_was_foretold_or_never(skew, idle, hold, closes, at_cap):
    """The same silence, watched up to some moment and explained there; then it just goes on."""
    life = Life(skew, policy(stalled=hold), Circumstances(at_cap=at_cap))
    seen = {"window_end": None if closes is None else NOW + idle + closes}
    at = 0 * SEC
    while at <= idle:
        if STALLED.value in life.see(at, **seen):
            assert life.explain(STALLED).fires_at is None, "it does fire"
            return
        at += 30 * SEC
    told = life.explain(STALLED)
    fired = life.fires_at(STALLED, 75 * MIN, **seen)
    if told.fires_at is None:
        assert fired is None
        assert told.why.endswith("; its window closes before that")
    else:
        assert told.fires_at >= NOW + idle
        if closes is None or next_poll(told.fires_at) < seen["window_end"]:
            assert fired == next_poll(told.fires_at)


def test_a_stall_is_explained_with_the_time_that_has_passed_and_its_limit():
    life = Life()
    life.see(0 * MIN)
    life.see(4 * MIN)
    assert life.explain(STALLED).why == "no call for 4 min of 15 min"
    assert life.explain(STALLED).standing == "inactive"
    assert life.explain(STALLED).fires_at == NOW + 15 * MIN
    life.around = Circumstances(at_cap=True)
    life.see(5 * MIN)
    assert life.explain(STALLED).why == "no call for 5 min of 1 h (the account is at its cap)"
    assert life.explain(STALLED).fires_at == NOW + HOUR
    life.around = Circumstances()
    life.see(6 * MIN, completed=119)
    assert life.explain(STALLED).fires_at == NOW + 21 * MIN


def test_after_a_gap_the_fresh_silence_that_is_needed_is_foretold():
    life = Life()
    life.see(0 * MIN)
    life.see(50 * MIN)
    assert life.explain(STALLED).fires_at == NOW + 55 * MIN
    assert life.fires_at(STALLED, HOUR) == NOW + 55 * MIN


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"paused": True}, "no call is expected now: paused: 118 of 400 done"),
        (
            {"window_start": NOW + HOUR, "completed": 0},
            "no call is expected now: its window opens at 2026-11-23 13:00 UTC",
        ),
        (
            {"completed": 400},
            "no call is expected now: all calls are made, not ended yet: 400 of 400 done",
        ),
        (
            {"ended_at": NOW, "completed": 400},
            "no call is expected now: ended: 400 of 400 done",
        ),
    ],
)
def test_where_no_call_is_expected_no_stall_is_foretold(changes, why):
    life = Life()
    life.see(0 * MIN, **changes)
    told = life.explain(STALLED)
    assert (told.standing, told.why, told.fires_at) == ("inactive", why, None)


def test_a_spent_throttle_is_why_no_call_is_expected():
    life = Life(
        around=Circumstances(throttle_spent=True, throttle="its throttle is spent: 50 calls per 12 h")
    )
    life.see(0 * MIN)
    told = life.explain(STALLED)
    assert told.fires_at is None
    assert told.why == ("no call is expected now: its throttle is spent: 50 calls per 12 h: 118 of 400 done")


@pytest.mark.parametrize("skew", [0 * SEC, -2 * HOUR, 3 * DAY])
@pytest.mark.parametrize("hold", [0 * SEC, 5 * MIN, 7 * MIN])
@pytest.mark.parametrize("changes", [{}, {"paused": True}], ids=["running", "paused"])
def test_overdue_fires_when_it_was_foretold(skew, hold, changes):
    life = Life(skew, policy(overdue=hold))
    changes = changes | {"window_end": NOW + 10 * MIN}
    life.see(0 * MIN, **changes)
    life.see(MIN, **changes)
    told = life.explain(OVERDUE)
    assert told.standing == "inactive"
    assert told.fires_at == NOW + 10 * MIN + hold
    assert life.fires_at(OVERDUE, HOUR, **changes) == next_poll(told.fires_at)


def test_overdue_is_not_foretold_of_a_batch_that_will_be_done_or_has_nothing_left_to_do():
    soon = {"window_end": NOW + 10 * HOUR}
    life = Life()
    assert life.explain(OVERDUE).why == "it has never been observed"
    for minute in range(5):
        life.see(minute * MIN, completed=100 + 20 * minute, **soon)
    assert life.explain(OVERDUE).fires_at is None
    assert life.explain(OVERDUE).why.endswith("; it would be done before that")
    life.see(5 * MIN, completed=400, **soon)
    assert (life.explain(OVERDUE).why, life.explain(OVERDUE).fires_at) == ("all its calls are made", None)
    life.see(6 * MIN, completed=400, ended_at=NOW, **soon)
    assert (life.explain(OVERDUE).why, life.explain(OVERDUE).fires_at) == ("it has ended", None)
    endless = Life()
    endless.see(0 * MIN)
    assert endless.explain(OVERDUE).why == "its window has no end"


@pytest.mark.parametrize("skew", [0 * SEC, -2 * HOUR])
@pytest.mark.parametrize(
    ("closes", "fires"), [(None, True), (61 * MIN, True), (HOUR, False), (9 * MIN, False)]
)
def test_a_pause_that_lasts_is_told_when_it_was_foretold_unless_the_window_closes_first(skew, closes, fires):
    life = Life(skew)
    changes = {"paused": True, "window_end": None if closes is None else NOW + closes}
    life.see(0 * MIN, **changes)
    told = life.explain(PAUSED)
    assert told.standing == "pending"
    assert told.fires_at == (NOW + HOUR if fires else None)
    assert told.why.endswith("; it must hold for 1 h" if fires else "; its window closes before that")
    assert life.fires_at(PAUSED, 2 * HOUR, **changes) == told.fires_at


def test_a_pause_is_counted_from_when_it_was_first_seen_not_from_when_its_alert_was_switched_on():
    life = Life(policy=policy(without=[PAUSED]))
    for minute in range(40):
        life.see(minute * MIN, paused=True)
    life.policy = policy()
    assert life.explain(PAUSED).fires_at == NOW + HOUR
    assert life.fires_at(PAUSED, 2 * HOUR, paused=True) == NOW + HOUR


# Where it stands


def test_a_hold_time_is_said_and_counted_from_when_it_began():
    life = Life()
    for minute in (0, 1, 2, 3):
        life.see(minute * MIN, window_end=NOW + MIN)
    told = life.explain(OVERDUE)
    assert told.standing == "pending"
    assert told.fires_at == NOW + 6 * MIN
    assert told.why == (
        f"its window closed at {(NOW + MIN):%Y-%m-%d %H:%M} UTC, and it has not ended; it must hold for 5 min"
    )


def test_an_end_that_was_seen_once_must_be_seen_once_more():
    life = Life()
    ended = {"ended_at": NOW, "completed": 390}
    life.see(MIN, **ended)
    told = life.explain(AlertName.BATCH_ENDED_INCOMPLETE)
    assert told.standing == "pending"
    assert told.fires_at == NOW + MIN
    assert told.why == (
        "ended, seen once with 10 calls not made (0 tolerated) and outcomes unknown "
        "(20 % count as incomplete); it must be seen once more"
    )
    assert life.explain(AlertName.BATCH_ENDED).standing == "inactive"
    life.see(2 * MIN, **ended)
    assert life.explain(AlertName.BATCH_ENDED_INCOMPLETE).standing == "firing"
    assert "; firing since 2026-11-23 12:02 UTC" in life.explain(AlertName.BATCH_ENDED_INCOMPLETE).why
    life.see(63 * MIN, **ended)
    assert life.explain(AlertName.BATCH_ENDED_INCOMPLETE).standing == "told"


@pytest.mark.parametrize("skew", [0 * SEC, HOUR, -HOUR])
def test_an_end_from_before_we_watched_is_called_history_by_the_api_s_clock(skew):
    life = Life(skew, watched_since=NOW)
    for at, history in ((0 * SEC, True), (SEC, False)):
        life.see(MIN, ended_at=NOW + at, completed=400)
        said = life.explain(AlertName.BATCH_ENDED)
        assert said.why.endswith(": history") is history
        assert (said.standing == "pending") is not history


def test_what_is_superseded_says_by_what():
    life = Life()
    for minute in range(16):
        life.see(minute * MIN)
    overdue = AlertState(OVERDUE, Phase.FIRING, NOW, Severity.CRITICAL)
    life.status = replace(life.status, alerts=(overdue,))
    told = life.explain(STALLED)
    assert (told.standing, told.fires_at) == ("inactive", None)
    assert told.why == "no call for 15 min of 15 min; BatchOverdue fires and says more"
    life.status = replace(life.status, alerts=(replace(overdue, phase=Phase.PENDING),))
    assert life.explain(STALLED).fires_at == life.now


def test_what_is_held_back_says_by_what_and_foretells_nothing():
    trouble = AlertState(AlertName.ACCOUNT_UNREACHABLE, Phase.FIRING, NOW, Severity.CRITICAL)
    life = Life(alerts=(trouble,))
    life.see(0 * MIN)
    told = life.explain(STALLED)
    assert (told.standing, told.fires_at) == ("inactive", None)
    assert told.why == "no call for 0 s of 15 min; held back while AccountUnreachable fires"
    for minute in range(1, 20):
        life.see(minute * MIN)
    told = life.explain(STALLED)
    assert (told.standing, told.fires_at) == ("pending", None)
    assert told.why == "no call for 19 min of 15 min; held back while AccountUnreachable fires"
    life.account = replace(life.account, alerts=(replace(trouble, phase=Phase.PENDING),))
    assert life.explain(STALLED).fires_at == life.now


def test_what_is_switched_off_says_so_and_nothing_else():
    life = Life(policy=policy(without=[STALLED]))
    for minute in range(20):
        assert STALLED.value not in life.see(minute * MIN)
    told = life.explain(STALLED)
    assert (told.standing, told.why) == ("switched off", "it is switched off in the configuration")
    assert told.fires_at is None
    assert life.explain(OVERDUE).standing != "switched off"


def test_while_polls_fail_nothing_moves_and_nothing_is_foretold():
    life = Life()
    life.see(0 * MIN, window_end=NOW + 20 * MIN)
    life.miss(MIN)
    for name in (STALLED, OVERDUE):
        told = life.explain(name)
        assert (told.standing, told.fires_at) == ("inactive", None)
        assert told.why.endswith("; nothing was seen of it since, so nothing moves")
    life.see(21 * MIN, window_end=NOW + 20 * MIN)
    life.miss(22 * MIN)
    assert life.explain(OVERDUE).standing == "pending"
    assert life.explain(OVERDUE).fires_at is None


def test_an_unreachable_batch_is_explained_with_its_failures_and_the_account_s_answer():
    life = Life()
    life.see(0 * MIN)
    assert life.explain(UNREACHABLE).why == "its latest poll succeeded"
    life.miss(MIN)
    life.miss(2 * MIN)
    told = life.explain(UNREACHABLE)
    assert (told.standing, told.fires_at) == ("inactive", None)
    assert told.why == (
        "2 polls in a row failed since 2026-11-23 12:01 UTC, 3 are needed; the account has not answered after the first"
    )
    life.account = replace(life.account, last_success_at=NOW + MIN)
    assert "the account has not answered after the first" in life.explain(UNREACHABLE).why
    life.account = replace(life.account, last_success_at=NOW + 3 * MIN)
    life.miss(3 * MIN)
    told = life.explain(UNREACHABLE)
    assert (told.standing, told.fires_at) == ("pending", NOW + 6 * MIN)
    assert "3 polls in a row failed" in told.why
    assert "the account has answered after the first; it must hold for 5 min" in told.why
    assert UNREACHABLE.value in life.miss(6 * MIN)


def test_a_batch_that_is_gone_counts_the_answers_that_say_so():
    life = Life()
    life.see(0 * MIN)
    for missing in (1, 2):
        life.miss(missing * MIN, FailureReason.NOT_FOUND)
        told = life.explain(AlertName.BATCH_GONE)
        assert told.standing == "inactive"
        assert told.why.startswith(f"{missing} answers in a row that it is not found; 3 are needed")
    life.miss(3 * MIN, FailureReason.NOT_FOUND)
    assert life.explain(AlertName.BATCH_GONE).standing == "firing"


def test_failing_calls_are_explained_with_their_share_and_what_would_be_needed():
    life = Life()
    life.see(0 * MIN)
    name = AlertName.BATCH_FAILURE_RATE_HIGH
    assert life.explain(name).why == "the outcomes of its calls have not been read yet"
    outcomes = Outcomes(NOW, future=381, pending=0, success=15, expired=0, error=4)
    life.status = replace(life.status, outcomes=outcomes)
    assert life.explain(name).why == ("4 of 19 calls failed (21 %); 20 % are needed, of at least 20 calls")
    assert life.explain(name).standing == "inactive"
    life.status = replace(life.status, outcomes=replace(outcomes, success=0, error=0))
    assert life.explain(name).why == "no call has come to an outcome yet"
    life.status = replace(life.status, outcomes=replace(outcomes, success=16))
    assert life.explain(name).standing == "pending"
    assert life.explain(name).fires_at == life.now


def test_what_recovers_is_said_to_be_clear():
    state = AlertState(STALLED, Phase.FIRING, NOW, Severity.WARNING, clear_since=NOW)
    life = Life()
    life.see(0 * MIN)
    life.status = replace(life.status, alerts=(state,))
    assert "; it is clear, and will be resolved when it stays so" in life.explain(STALLED).why
    life.status = replace(life.status, alerts=(replace(state, clear_since=None),))
    assert "clear" not in life.explain(STALLED).why


# Always

_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("see"),
            st.sampled_from([30, 600, 3600]),
            st.fixed_dictionaries(
                {},
                optional={
                    "completed": st.sampled_from([0, 118, 119, 399, 400, 500]),
                    "total": st.sampled_from([0, 400]),
                    "paused": st.booleans(),
                    "ended_at": st.none() | st.just(NOW + MIN) | st.just(NOW - 9 * DAY),
                    "window_start": st.none() | st.sampled_from([NOW - HOUR, NOW + HOUR]),
                    "window_end": st.none() | st.sampled_from([NOW - HOUR, NOW + HOUR, NOW + 2 * HOUR]),
                },
            ),
        ),
        st.tuples(
            st.just("miss"),
            st.sampled_from([30, 600]),
            st.sampled_from([FailureReason.TIMEOUT, FailureReason.NOT_FOUND, FailureReason.NOT_FOUND]),
        ),
        st.tuples(
            st.just("outcomes"),
            st.just(0),
            st.builds(
                Outcomes,
                st.sampled_from([NOW, NOW + HOUR]),
                *[st.sampled_from([0, 1, 4, 20, 400])] * 5,
            ),
        ),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(
    steps=_STEPS,
    skew=st.sampled_from([0 * SEC, HOUR]),
    account_fires=st.booleans(),
    without=st.sets(st.sampled_from(OF_BATCHES), max_size=2),
)
def test_whatever_happens_every_alert_has_a_true_word_on_where_it_stands(steps, skew, account_fires, without):
    held = AlertState(AlertName.ACCOUNT_KEY_REJECTED, Phase.FIRING, NOW, Severity.CRITICAL)
    life = Life(skew, policy(without=without), alerts=(held,) if account_fires else ())
    at = 0 * SEC
    _every_word_is_true(life)
    for kind, seconds, what in steps:
        at += seconds * SEC
        if kind == "see":
            life.see(at, **what)
        elif kind == "miss":
            life.miss(at, what)
        else:
            life.status = replace(life.status, outcomes=what)
        _every_word_is_true(life)


def _every_word_is_true(life):
    phases = {state.name: state.phase for state in life.status.alerts}
    for one in life.explain():
        assert one.why
        if one.alert not in life.policy.rules:
            assert one.standing == "switched off"
            continue
        assert (one.standing == "firing") is (phases.get(one.alert) is Phase.FIRING)
        assert (one.standing == "told") is (phases.get(one.alert) is Phase.TOLD)
        assert one.standing in {"firing", "told", "pending", "inactive"}
        if one.fires_at is not None:
            assert one.fires_at >= life.now
            assert one.standing in {"pending", "inactive"}
            assert not life.account.alerts, "nothing new fires while the account's own trouble is told"
            assert life.status.assessment.state is not State.UNKNOWN or one.alert is UNREACHABLE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"paused": True}, "nothing is foretold while it is paused"),
        ({}, "no pace is known yet"),
        ({"window_end": None}, "its window has no end"),
        ({"ended_at": NOW}, "it has ended"),
    ],
)
def test_where_nothing_is_foretold_it_says_why(changes, said):
    found = explain(status(observation(**changes)), account(), Policy(), NOW)
    assert next(one.why for one in found if one.alert is AlertName.BATCH_WINDOW_AT_RISK) == said
