"""A batch lives, an account breaks: which alerts fire, in which order they give way, and who hears what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from samples import NOW, account, observation, status

from monitor import conditions, decisions, evaluate
from monitor.alerts import Policy, default_rule
from monitor.decisions import Voice, decide_account, decide_batch
from monitor.evaluate import Rules
from monitor.messages import Links
from monitor.model import (
    AlertName,
    Failing,
    FailureReason,
    MessageKind,
    Observation,
    Outcomes,
    Phase,
    Severity,
    State,
)
from monitor.routing import Receiver

MIN = timedelta(minutes=1)
AM = Receiver("oncall", holds_state=True)
CHAT = Receiver("chat")
LINKS = Links("https://grafana.example/d/x?batch={batch_id}", "https://wiki.example/{alertname}")


class Life:
    """One batch and its account, minute by minute; time is whatever the test says."""

    def __init__(self, **policy):
        self.voice = Voice(Policy(**policy), LINKS, (AM, CHAT))
        self.account = account(last_success_at=NOW)
        self.status = status(
            progress=None, assessment=evaluate.assess(None, None, Rules()), last_success_at=None
        )
        self.heard = []

    def see(self, minutes, **changes):
        """A good poll."""
        seen = observation(**({"at": NOW + minutes * MIN, "window_end": NOW + timedelta(days=1)} | changes))
        progress = evaluate.observe(self.status.progress, seen, Rules())
        return self._judge(minutes, news=True, progress=progress, failing=None, last_success_at=seen.at)

    def miss(self, minutes, reason=FailureReason.TIMEOUT, message="no answer"):
        """A failed poll."""
        failing = evaluate.failed(self.status.failing, reason, message, NOW + minutes * MIN)
        return self._judge(minutes, news=False, failing=failing)

    def _judge(self, minutes, *, news, **changes):
        after = replace(self.status, **changes)
        after = replace(after, assessment=evaluate.assess(after.progress, after.failing, Rules()))
        told = decide_batch(after, self.account, self.voice, NOW + minutes * MIN, news=news)
        self.status = replace(after, alerts=told.alerts)
        self.heard += told.notifications
        return [(said.kind.value, dict(said.alert.labels)["alertname"]) for said in told.said]

    def probe(self, minutes, reason=None):
        now = NOW + minutes * MIN
        failing = evaluate.failed(self.account.failing, reason, "broken", now) if reason else None
        after = replace(
            self.account, failing=failing, last_success_at=self.account.last_success_at if reason else now
        )
        told = decide_account(after, self.voice, now)
        self.account = replace(after, alerts=told.alerts)
        return [(said.kind.value, dict(said.alert.labels)["alertname"]) for said in told.said]

    def firing(self):
        return {alert.name.value for alert in self.status.alerts if alert.phase is Phase.FIRING}

    def told(self, receiver):
        return [
            (one.kind.value, dict(one.alert.labels)["alertname"])
            for one in self.heard
            if one.receiver == receiver
        ]


def say(kind, name):
    return [(kind, name)]


@pytest.fixture
def life():
    return Life()


@pytest.fixture
def stalled(life):
    """A batch that stands still; BatchStalled fires since minute 15."""
    for minute in range(16):
        said = life.see(minute)
    assert said == say("firing", "BatchStalled")
    return life


# Stalled, and how it ends


def test_a_stall_fires_once_and_resolves_when_calls_go_out_again(stalled):
    assert stalled.see(16) == []
    assert stalled.see(17, completed=119) == say("resolved", "BatchStalled")
    [said] = {
        dict(one.alert.annotations)["summary"] for one in stalled.heard if one.kind is MessageKind.RESOLVED
    }
    assert said == "recovered: spring-renewals is running, 119 of 400 done"


@pytest.mark.parametrize(
    ("changes", "resolution"),
    [
        ({"completed": 119}, "recovered"),
        ({"paused": True}, "paused"),
        ({"ended_at": NOW + 17 * MIN, "completed": 400}, "ended"),
    ],
)
def test_the_resolution_comes_first_in_the_last_message(stalled, changes, resolution):
    stalled.see(17, **changes)
    last = stalled.heard[-1].alert
    assert dict(last.annotations)["resolution"] == resolution
    assert dict(last.annotations)["summary"].startswith(f"{resolution}: ")
    assert last.ends_at == NOW + 17 * MIN


def superseded(life, receiver="chat"):
    """Of the ends that this receiver may be told: which alert, and what says more than it."""
    return [
        (dict(one.alert.labels)["alertname"], one.superseded_by)
        for one in life.heard
        if one.receiver == receiver and one.kind is MessageKind.RESOLVED
    ]


def test_every_end_of_a_stall_that_becomes_overdue_and_ends_incomplete_says_what_superseded_it(stalled):
    """So that nobody is sent a green message of its own for it: see outbox.py."""
    over = {"window_end": NOW + 16 * MIN}
    assert stalled.see(16, **over) == []
    assert stalled.status.assessment.state is State.OVERDUE
    for minute in range(17, 21):
        assert stalled.see(minute, **over) == []
        assert stalled.firing() == {"BatchStalled"}
    assert stalled.see(21, **over) == [("firing", "BatchOverdue"), ("resolved", "BatchStalled")]
    ended = over | {"ended_at": NOW + 22 * MIN}
    assert stalled.see(22, **ended) == []
    assert stalled.firing() == {"BatchOverdue"}
    assert stalled.see(23, **ended) == [("firing", "BatchEndedIncomplete"), ("resolved", "BatchOverdue")]
    assert stalled.told("chat") == [
        ("firing", "BatchStalled"),
        ("firing", "BatchOverdue"),
        ("resolved", "BatchStalled"),
        ("firing", "BatchEndedIncomplete"),
        ("resolved", "BatchOverdue"),
    ]
    for receiver in ("chat", "oncall"):
        assert superseded(stalled, receiver) == [
            ("BatchStalled", AlertName.BATCH_OVERDUE),
            ("BatchOverdue", AlertName.BATCH_ENDED_INCOMPLETE),
        ]
    silent = next(one for one in stalled.heard if one.kind is MessageKind.RESOLVED)
    assert dict(silent.alert.annotations)["resolution"] == "superseded by BatchOverdue"


def test_where_overdue_is_switched_off_a_stall_ends_with_its_window():
    rules = {name: default_rule(name) for name in AlertName if name is not AlertName.BATCH_OVERDUE}
    life = Life(rules=rules)
    for minute in range(16):
        life.see(minute)
    assert life.see(16, window_end=NOW + 16 * MIN) == say("resolved", "BatchStalled")
    assert dict(life.heard[-1].alert.annotations)["resolution"] == "window closed"


# Ends


def test_an_end_is_told_when_it_was_seen_twice(life):
    life.see(0)
    ended = {"ended_at": NOW + 1 * MIN, "completed": 400}
    assert life.see(1, **ended) == []
    assert life.see(2, **ended) == say("firing", "BatchEnded")
    assert life.see(3, **ended) == []
    assert life.heard[-1].one_shot
    for minute in (61, 62, 63, 1000):
        assert life.see(minute, **ended) == []
    assert life.firing() == set()


def test_an_end_that_the_api_corrects_is_not_told(life):
    life.see(0)
    assert life.see(1, ended_at=NOW, completed=118) == []
    assert life.see(2) == []
    assert life.status.alerts == ()


@pytest.mark.parametrize(
    ("unmade", "options", "name", "severity"),
    [
        (0, {}, "BatchEnded", Severity.INFO),
        (1, {}, "BatchEndedIncomplete", Severity.WARNING),
        (19, {}, "BatchEndedIncomplete", Severity.WARNING),
        (20, {}, "BatchEndedIncomplete", Severity.CRITICAL),
        (3, {"unmade_over_count": 3}, "BatchEnded", Severity.INFO),
        (4, {"unmade_over_count": 3}, "BatchEndedIncomplete", Severity.WARNING),
        (8, {"unmade_over_ratio": 0.02}, "BatchEnded", Severity.INFO),
        (9, {"unmade_over_ratio": 0.02, "unmade_over_count": 5}, "BatchEndedIncomplete", Severity.WARNING),
        (40, {"unmade_over_ratio": 0.2}, "BatchEnded", Severity.INFO),
        (116, {"unmade_over_ratio": 0.29}, "BatchEnded", Severity.INFO),
        (117, {"unmade_over_ratio": 0.29}, "BatchEndedIncomplete", Severity.CRITICAL),
    ],
)
def test_what_is_unmade_decides_which_end_it_was(unmade, options, name, severity):
    life = Life(**options)
    ended = {"ended_at": NOW, "completed": 400 - unmade}
    life.see(0, **ended)
    assert life.see(1, **ended) == say("firing", name)
    [state] = life.status.alerts
    assert state.severity is severity


@pytest.mark.parametrize(("first", "later"), [(390, 400), (400, 390)])
def test_an_end_that_was_told_is_not_told_under_the_other_name_when_its_counts_are_corrected(
    life, first, later
):
    life.see(0, ended_at=NOW, completed=first)
    assert len(life.see(1, ended_at=NOW, completed=first)) == 1
    for minute in (2, 3, 100, 101):
        assert life.see(minute, ended_at=NOW, completed=later) == []


def test_an_end_that_came_while_its_alert_was_switched_off_is_not_told_later():
    rules = {name: default_rule(name) for name in AlertName if name is not AlertName.BATCH_ENDED}
    life = Life(rules=rules)
    ended = {"ended_at": NOW, "completed": 400}
    life.see(0, **ended)
    assert life.see(1, **ended) == []
    life.voice = replace(life.voice, policy=Policy())
    assert life.see(2, **ended) == []
    later = ended | {"ended_at": NOW + 5 * MIN}
    life.see(6, **later)
    assert life.see(7, **later) == say("firing", "BatchEnded")


@pytest.mark.parametrize("skew", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_wrong_clock_of_ours_neither_hides_an_end_nor_hurries_an_alert(skew):
    """The API's clock is `skew` ahead of ours: what it dates is compared with what it dates."""
    life = Life()
    life.account = replace(life.account, watched_since=NOW, clock_skew=skew)
    seen = {"at": NOW + skew, "window_end": NOW + timedelta(days=9)}
    for minute in range(60):
        assert life.see(minute, **(seen | {"at": NOW + skew + minute * MIN, "paused": True})) == []
    assert life.see(60, **(seen | {"at": NOW + skew + 60 * MIN, "paused": True})) == say(
        "firing", "BatchPausedTooLong"
    )
    ended = seen | {"ended_at": NOW + skew + MIN, "completed": 400, "at": NOW + skew + 61 * MIN}
    life.see(61, **ended)
    assert ("firing", "BatchEnded") in life.see(62, **ended)
    history = Life()
    history.account = life.account
    old = seen | {"ended_at": NOW + skew - MIN, "completed": 400}
    history.see(0, **old)
    assert history.see(1, **old) == []


def test_history_is_not_told(life):
    life.account = replace(life.account, watched_since=NOW)
    before, after = {"ended_at": NOW, "completed": 400}, {"ended_at": NOW + MIN, "completed": 400}
    life.see(0, **before)
    assert life.see(1, **before) == []
    life.see(2, **after)
    assert life.see(3, **after) == say("firing", "BatchEnded")


def test_a_batch_that_is_reopened_can_stall_and_end_again(life):
    life.see(0, completed=399)
    first = {"ended_at": NOW + MIN, "completed": 390}
    life.see(1, **first)
    assert life.see(2, **first) == say("firing", "BatchEndedIncomplete")
    reopened = {"total": 500, "completed": 399}
    for minute in range(3, 18):
        assert life.see(minute, **reopened) == []
        assert life.firing() == set()
    assert life.see(18, **reopened) == say("firing", "BatchStalled")
    second = {"ended_at": NOW + 19 * MIN, "total": 500, "completed": 500}
    assert life.see(19, **second) == say("resolved", "BatchStalled")
    assert life.see(20, **second) == say("firing", "BatchEnded")


# Overdue, paused


def test_overdue_takes_five_minutes_and_an_extended_window_is_a_recovery(life):
    over = {"window_end": NOW}
    for minute in range(5):
        assert life.see(minute, **over) == []
    assert life.see(5, **over) == say("firing", "BatchOverdue")
    assert life.see(6, completed=119) == say("resolved", "BatchOverdue")


def test_a_pause_inside_its_window_takes_an_hour(life):
    for minute in range(60):
        assert life.see(minute, paused=True) == []
    assert life.see(60, paused=True) == say("firing", "BatchPausedTooLong")
    assert dict(life.heard[-1].alert.annotations)["cause"] == "seen paused since 2026-11-23 12:00 UTC"
    assert life.see(61) == say("resolved", "BatchPausedTooLong")


def test_a_pause_before_the_window_counts_from_when_it_opens(life):
    waiting = {"paused": True, "window_start": NOW + 30 * MIN}
    for minute in (0, 30, 60, 89):
        assert life.see(minute, **waiting) == []
    assert life.see(90, **waiting) == say("firing", "BatchPausedTooLong")


def test_a_pause_with_nothing_left_to_call_is_no_trouble(life):
    for minute in (0, 60, 120):
        assert life.see(minute, paused=True, completed=400) == []


# Failing polls


def test_a_batch_that_fails_while_its_account_answers_is_unreachable_after_five_minutes(life):
    life.see(0)
    life.account = replace(life.account, last_success_at=NOW + 2 * MIN)
    for minute in (1, 2, 3, 4, 5.9):
        assert life.miss(minute) == []
    assert life.miss(6) == say("firing", "BatchUnreachable")
    assert dict(life.heard[-1].alert.annotations)["cause"] == "no answer"
    assert life.see(7) == say("resolved", "BatchUnreachable")


def test_a_batch_that_fails_with_its_account_is_not_unreachable(life):
    life.see(0)
    life.account = replace(life.account, last_success_at=NOW + 1 * MIN)  # no later than the first failure
    for minute in range(1, 120):
        assert life.miss(minute) == []


def test_two_failures_are_not_three(life):
    life.see(0)
    life.account = replace(life.account, last_success_at=NOW + 500 * MIN)
    assert life.miss(1) == []
    assert life.miss(100) == []
    assert life.miss(101) == say("firing", "BatchUnreachable")


def test_failed_polls_move_nothing_else(stalled):
    before = stalled.status.alerts
    for minute in range(16, 300):
        assert stalled.miss(minute) == []
    assert stalled.status.alerts == before


def test_a_failed_poll_does_not_confirm_an_end(life):
    life.see(0)
    life.see(1, ended_at=NOW, completed=400)
    assert life.miss(2) == []
    assert life.see(3, ended_at=NOW, completed=400) == say("firing", "BatchEnded")


def gone(life, start):
    return [life.miss(start + step, FailureReason.NOT_FOUND, "not found") for step in range(3)][-1]


def test_a_batch_that_is_gone_is_told_and_its_stall_with_it(stalled):
    assert gone(stalled, 16) == [("firing", "BatchGone"), ("resolved", "BatchStalled")]
    assert superseded(stalled) == [("BatchStalled", AlertName.BATCH_GONE)]
    assert ("resolved", "BatchGone") in stalled.see(30, completed=119)


def test_a_batch_that_is_gone_stays_gone_through_other_failures(life):
    life.see(0)
    gone(life, 1)
    assert life.miss(4, FailureReason.TIMEOUT) == []
    assert life.status.assessment.state is State.GONE
    assert life.see(5) == say("resolved", "BatchGone")


def test_a_batch_that_is_gone_is_forgotten_after_a_day(life):
    life.see(0)
    life.account = replace(life.account, last_success_at=NOW + timedelta(days=9))
    gone(life, 1)
    assert life.miss(24 * 60, FailureReason.NOT_FOUND) == say("reminder", "BatchGone")
    assert life.miss(24 * 60 + 1, FailureReason.NOT_FOUND) == say("resolved", "BatchGone")
    assert life.miss(48 * 60, FailureReason.NOT_FOUND) == []


def test_an_ended_batch_that_vanishes_is_no_trouble(life):
    ended = {"ended_at": NOW, "completed": 400}
    life.see(0, **ended)
    life.see(1, **ended)
    life.account = replace(life.account, last_success_at=NOW + 500 * MIN)
    for minute in range(2, 60):
        assert life.miss(minute, FailureReason.NOT_FOUND) == []


def test_a_batch_that_was_never_there_is_unreachable_and_not_gone(life):
    life.account = replace(life.account, last_success_at=NOW + MIN)
    said = [life.miss(minute, FailureReason.NOT_FOUND, "not found") for minute in range(6)]
    assert said[:-1] == [[]] * 5
    assert said[-1] == say("firing", "BatchUnreachable")
    assert life.status.assessment.state is State.UNKNOWN


# Accounts


def test_an_account_that_does_not_answer_is_told_after_five_minutes(life):
    for minute in range(5):
        assert life.probe(minute, FailureReason.TIMEOUT) == []
    assert life.probe(5, FailureReason.TIMEOUT) == say("firing", "AccountUnreachable")
    assert life.probe(6) == say("resolved", "AccountUnreachable")


@pytest.mark.parametrize("reason", [FailureReason.UNAUTHORIZED, FailureReason.FORBIDDEN])
def test_a_rejected_key_is_told_instead(life, reason):
    assert life.probe(0, reason) == []
    assert life.probe(1, reason) == say("firing", "AccountKeyRejected")
    for minute in range(2, 20):
        assert life.probe(minute, reason) == []
    assert life.probe(20, FailureReason.TIMEOUT) == []  # the key cannot be judged while nothing answers
    assert life.probe(21) == say("resolved", "AccountKeyRejected")


def test_an_outage_that_turns_into_a_rejected_key_says_so_once(life):
    for minute in range(6):
        life.probe(minute, FailureReason.TIMEOUT)
    assert (
        life.probe(6, FailureReason.UNAUTHORIZED) == []
    )  # one rejection at the end of an outage is not enough
    assert life.probe(7, FailureReason.UNAUTHORIZED) == [
        ("firing", "AccountKeyRejected"),
        ("resolved", "AccountUnreachable"),
    ]


def test_while_the_account_s_alert_fires_nothing_new_fires_for_its_batches_and_what_fires_stays(stalled):
    for minute in range(16, 22):
        stalled.probe(minute, FailureReason.SERVER_ERROR)
    assert stalled.see(22) == []
    assert stalled.firing() == {"BatchStalled"}
    other = Life()
    other.account = stalled.account
    for minute in range(60):
        assert other.see(minute) == []
    other.account = account()
    assert other.see(60) == say("firing", "BatchStalled")


# Who hears what


def test_labels_stay_as_they_were_when_it_fired(stalled):
    stalled.status = replace(
        stalled.status, batch="renamed", target=replace(stalled.status.target, account="other")
    )
    assert stalled.see(16) == []
    stalled.see(17, completed=119)
    first, last = stalled.heard[0].alert, stalled.heard[-1].alert
    assert first.labels == last.labels
    assert first.fingerprint == last.fingerprint
    assert dict(last.labels) == {
        "account": "main",
        "agent_id": stalled.status.key.agent_id,
        "alertname": "BatchStalled",
        "batch": "spring-renewals",
        "batch_id": stalled.status.key.batch_id,
        "severity": "warning",
        "team": "growth",
    }


def test_configured_labels_cannot_hide_ours():
    life = Life()
    life.status = replace(life.status, target=replace(life.status.target, labels=(("severity", "mine"),)))
    for minute in range(16):
        life.see(minute)
    assert dict(life.heard[0].alert.labels)["severity"] == "warning"


def test_reminders_go_to_those_who_do_not_remind_by_themselves(stalled):
    for minute in range(16, 255):
        assert stalled.see(minute) == []
    assert stalled.see(255) == say("reminder", "BatchStalled")
    assert stalled.told("oncall") == say("firing", "BatchStalled")
    assert stalled.told("chat") == [("firing", "BatchStalled"), ("reminder", "BatchStalled")]
    assert "for 4 h 15 min" in dict(stalled.heard[-1].alert.annotations)["summary"]


@dataclass(frozen=True)
class Wants:
    """A route: these alerts."""

    names: tuple[str, ...]
    only: None = None

    def why_not(self, labels):
        return None if dict(labels)["alertname"] in self.names else "not wanted"

    def muted_until(self, at):
        return None


NOTHING = Receiver("picky", route=Wants(()))
STALLS = Receiver("picky", route=Wants(("BatchStalled", "BatchEndedIncomplete")))


def resolved_for(life):
    return [one.receiver for one in life.heard if one.kind is MessageKind.RESOLVED]


@pytest.mark.parametrize(
    "receivers",
    [(), (CHAT,), (replace(CHAT, route=Wants(())), replace(AM, route=Wants(())))],
    ids=["removed", "one removed", "filtered"],
)
def test_a_resolve_goes_to_all_who_were_told_configured_or_not_whatever_the_filters_say_now(
    stalled, receivers
):
    stalled.voice = replace(stalled.voice, receivers=receivers)
    stalled.see(17, completed=119)
    assert resolved_for(stalled) == ["oncall", "chat"]


def test_who_was_not_told_of_the_firing_is_not_told_of_its_end(life):
    life.voice = replace(life.voice, receivers=(CHAT, NOTHING))
    for minute in range(16):
        life.see(minute)
    life.see(17, completed=119)
    assert life.told("picky") == []
    assert resolved_for(life) == ["chat"]


def test_who_does_not_hear_of_what_supersedes_an_alert_hears_of_its_end(life):
    """Else one that was down meanwhile would never hear that it stood still: what says more is not for it."""
    life.voice = replace(life.voice, receivers=(CHAT, STALLS))
    over = {"window_end": NOW + 16 * MIN}
    for minute in range(16):
        life.see(minute)
    for minute in range(16, 22):
        life.see(minute, **over)
    assert life.told("picky") == [("firing", "BatchStalled"), ("resolved", "BatchStalled")]
    assert superseded(life, "picky") == [("BatchStalled", None)]
    assert superseded(life) == [("BatchStalled", AlertName.BATCH_OVERDUE)]


def test_closing_tells_removed_receivers_too(stalled):
    told = decisions.close(stalled.status.alerts, (), NOW + 19 * MIN)
    assert [one.receiver for one in told.notifications] == ["oncall", "chat"]


def test_a_receiver_that_is_new_hears_once_of_what_fires_and_then_of_its_end(stalled):
    stalled.voice = replace(stalled.voice, receivers=(AM, CHAT, Receiver("new")))
    assert stalled.see(16) == []  # for everybody else nothing has happened
    assert stalled.see(17) == []
    [one] = [one for one in stalled.heard if one.receiver == "new"]
    assert (one.kind, one.alert.starts_at, one.created_at) == (
        MessageKind.FIRING,
        NOW + 15 * MIN,
        NOW + 16 * MIN,
    )
    assert one.alert.fingerprint == stalled.heard[0].alert.fingerprint
    assert "for 16 min" in dict(one.alert.annotations)["summary"]  # in today's numbers
    assert len(stalled.heard) == 3
    stalled.see(18, completed=119)
    assert resolved_for(stalled) == ["oncall", "chat", "new"]
    assert stalled.told("chat") == [("firing", "BatchStalled"), ("resolved", "BatchStalled")]


def test_a_receiver_that_wants_more_than_before_hears_once_of_what_fires(life):
    life.voice = replace(life.voice, receivers=(CHAT, NOTHING))
    for minute in range(17):
        life.see(minute)
    assert life.told("picky") == []
    life.voice = replace(life.voice, receivers=(CHAT, STALLS))
    life.see(17)
    life.voice = replace(life.voice, receivers=(CHAT, NOTHING))
    life.see(18)
    life.voice = replace(life.voice, receivers=(CHAT, STALLS))
    life.see(19)
    assert life.told("picky") == [("firing", "BatchStalled")]


def test_a_receiver_that_is_new_is_not_told_of_events_that_were(life):
    life.see(0)
    ended = {"ended_at": NOW + MIN}
    life.see(1, **ended)
    assert life.see(2, **ended) == say("firing", "BatchEndedIncomplete")
    life.voice = replace(life.voice, receivers=(CHAT, Receiver("new"), STALLS))
    life.see(3, **ended)
    assert life.firing() == {"BatchEndedIncomplete"}
    assert life.told("new") == life.told("picky") == []


def test_a_receiver_that_is_new_hears_of_what_fires_of_its_account(life):
    for minute in range(6):
        life.probe(minute, FailureReason.TIMEOUT)
    life.voice = replace(life.voice, receivers=(CHAT, Receiver("new")))
    now = NOW + 6 * MIN
    failing = evaluate.failed(life.account.failing, FailureReason.TIMEOUT, "broken", now)
    told = decide_account(replace(life.account, failing=failing), life.voice, now)
    assert [(one.receiver, one.kind) for one in told.notifications] == [("new", MessageKind.FIRING)]
    assert told.said == ()


def test_every_notification_has_a_key_of_its_own(stalled):
    for minute in range(16, 256):
        stalled.see(minute)
    stalled.see(256, completed=119)
    stalled.see(272, completed=120)
    assert len({one.id for one in stalled.heard}) == len(stalled.heard) == 7


def test_an_alert_that_is_switched_off_is_closed(stalled):
    stalled.voice = replace(stalled.voice, policy=Policy({}))
    assert stalled.see(16) == say("resolved", "BatchStalled")
    assert dict(stalled.heard[-1].alert.annotations)["resolution"] == "no longer watched"


def test_closing_closes_what_fires_and_remembers_which_ends_were_told(stalled):
    ended = {"ended_at": NOW + 17 * MIN}
    stalled.see(17, **ended)
    stalled.see(18, **ended)
    assert stalled.firing() == {"BatchEndedIncomplete"}
    told = decisions.close(stalled.status.alerts, stalled.voice.receivers, NOW + 19 * MIN)
    assert told.notifications == ()
    assert [state.name for state in told.alerts] == [AlertName.BATCH_ENDED_INCOMPLETE]
    stalled.status = replace(stalled.status, alerts=told.alerts)
    assert stalled.see(20, **ended) == []


def test_a_stall_at_the_account_s_cap_says_so():
    life = Life()
    life.account = replace(life.account, active_calls=5, allowed_concurrent_calls=5)
    for minute in range(16):
        life.see(minute)
    assert dict(life.heard[0].alert.annotations)["cause"] == "the account is at its cap: 5 of 5 calls active"


def test_links_are_filled_in(stalled):
    annotations = dict(stalled.heard[0].alert.annotations)
    assert annotations["dashboard_url"] == f"https://grafana.example/d/x?batch={stalled.status.key.batch_id}"
    assert annotations["runbook_url"] == "https://wiki.example/BatchStalled"


def test_no_secret_can_be_in_an_observation():
    assert not {name for name in Observation.__dataclass_fields__ if "secret" in name or "webhook" in name}


def test_a_batch_that_is_unreachable_and_then_gone_never_turns_green(life):
    life.see(0)
    life.account = replace(life.account, last_success_at=NOW + timedelta(days=9))
    for minute in range(1, 7):
        life.miss(minute)
    assert life.firing() == {"BatchUnreachable"}
    gone(life, 7)
    assert life.told("chat")[:2] == [("firing", "BatchUnreachable"), ("firing", "BatchGone")]
    assert superseded(life) == [("BatchUnreachable", AlertName.BATCH_GONE)]
    assert dict(life.heard[-1].alert.annotations)["resolution"] == "superseded by BatchGone"


def test_a_reminder_after_a_rename_has_the_labels_of_the_first_message(stalled):
    stalled.status = replace(stalled.status, batch="renamed")
    stalled.see(255)
    first, last = stalled.heard[0].alert, stalled.heard[-1].alert
    assert stalled.heard[-1].kind is MessageKind.REMINDER
    assert first.labels == last.labels
    assert next(a.labels for a in stalled.status.alerts if a.phase is Phase.FIRING) == first.labels


def test_an_alert_never_ends_before_it_began_when_our_clock_is_set_back(stalled):
    told = decisions.close(stalled.status.alerts, stalled.voice.receivers, NOW - 60 * MIN)
    assert [one.alert.ends_at - one.alert.starts_at for one in told.notifications] == [0 * MIN, 0 * MIN]


@pytest.mark.parametrize("looks", [1, 2], ids=["pending", "firing"])
def test_an_end_that_is_switched_off_does_not_stand_in_the_way_of_the_next_stall(stalled, looks):
    for minute in range(looks):
        stalled.see(16 + minute, ended_at=NOW + 16 * MIN)
    rules = {n: default_rule(n) for n in AlertName if n is not AlertName.BATCH_ENDED_INCOMPLETE}
    stalled.voice = replace(stalled.voice, policy=Policy(rules))
    said = [stalled.see(18, total=500)]
    assert {alert.phase for alert in stalled.status.alerts} <= {Phase.TOLD}
    assert len(stalled.status.alerts) == looks - 1  # what was never told is not remembered as told
    assert stalled.firing() == set()  # neither the old stall, nor the end
    said += [stalled.see(minute, total=500) for minute in range(19, 34)]
    assert said[-1] == say("firing", "BatchStalled")


@pytest.mark.parametrize("hours", [1, 25])
def test_a_batch_that_was_deleted_during_an_outage_is_told_however_long_it_was(life, hours):
    life.see(0)
    for minute in range(1, hours * 60):
        life.miss(minute)
    life.account = replace(life.account, last_success_at=NOW + timedelta(days=9))
    gone(life, hours * 60)
    assert life.firing() == {"BatchGone"}
    assert None not in {by for _, by in superseded(life)}  # gone is not recovered
    day = hours * 60 + 24 * 60  # from the first 404
    life.miss(day - 1, FailureReason.NOT_FOUND)
    assert life.firing() == {"BatchGone"}
    assert life.miss(day, FailureReason.NOT_FOUND) == say("resolved", "BatchGone")
    assert life.miss(day + 1, FailureReason.NOT_FOUND) == []


@settings(max_examples=400, deadline=None)
@given(
    state=st.sampled_from([State.RUNNING, State.WAITING]) | st.sampled_from(State),
    completed=st.integers(0, 400),
    seen=st.fixed_dictionaries(
        {},
        optional={
            "paused": st.booleans(),
            "ended_at": st.sampled_from([None, NOW]),
            "window_start": st.sampled_from([None, NOW + MIN, NOW - MIN]),
            "window_end": st.sampled_from([None, NOW - MIN, NOW + MIN]),
        },
    ),
    missed=st.none() | st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)),
    calls=st.none() | st.tuples(st.integers(0, 60), st.integers(0, 60)),
    failing=st.none() | st.integers(1, 5),
    news=st.booleans(),
    switched_off=st.sets(st.sampled_from(AlertName), max_size=3),
)
def test_what_is_taken_for_quiet_is_so_by_every_question(
    state, completed, seen, missed, calls, failing, news, switched_off
):
    one = status(observation(completed=completed, **seen))
    low, likely, high = missed or (None, None, None)
    one = replace(
        one,
        assessment=replace(
            one.assessment,
            state=state,
            projected_missed=likely,
            projected_missed_range=None if missed is None else (low, high),
        ),
        outcomes=None if calls is None else Outcomes(NOW, 0, 0, success=calls[0], expired=0, error=calls[1]),
        failing=failing and Failing(NOW - 9 * MIN, failing, 0, FailureReason.TIMEOUT, "no answer"),
    )
    voice = Voice(
        Policy({name: default_rule(name) for name in AlertName if name not in switched_off}),
        LINKS,
        (AM, CHAT),
    )
    soon = decide_batch(one, account(), voice, NOW, news=news)
    with pytest.MonkeyPatch.context() as asked:
        asked.setattr(conditions, "quiet", lambda *_: False)
        by_each = decide_batch(one, account(), voice, NOW, news=news)
    assert soon == by_each
    if conditions.quiet(voice.policy, one):
        event("quiet")
