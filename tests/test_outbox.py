"""What makes one message, when it falls due, and what there is to tell of what has waited."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from receivers import labels, notification
from samples import NOW

from monitor import outbox
from monitor.delivery import queue as delivery_queue
from monitor.delivery.queue import Queue, Settings
from monitor.model import Alert, AlertName, MessageKind
from monitor.notify.channel import SendError, SendFailure
from monitor.outbox import MOST_ENTRIES, REMINDERS_WAIT, Manner, Standing, compose, held, over_while_muted

FIRING, RESOLVED, REMINDER = MessageKind.FIRING, MessageKind.RESOLVED, MessageKind.REMINDER
SEC, MIN = timedelta(seconds=1), timedelta(minutes=1)
WAIT = 30 * SEC
BY_NAME = Manner(WAIT, ("account", "alertname"))
ALL_IN_ONE = Manner(WAIT, ())
LATER = NOW + timedelta(hours=3)
OVERDUE = AlertName.BATCH_OVERDUE


def row(number=1, kind=FIRING, *, alertname="BatchStalled", account="main", at=NOW, since=NOW, **more):
    """A notification: `at` this instant, of the episode that began `since`."""
    made = notification(number, kind=kind, created_at=at, starts_at=since, **more)
    said = dict(made.alert.labels) | {"alertname": alertname, "account": account}
    return replace(made, alert=replace(made.alert, labels=labels(**said)))


def told(*rows):
    """What its receiver was told of, and what fires on."""
    return {one.alert.fingerprint: one.alert for one in rows}


def plan(*rows, now=LATER, heard=(), under_way=(), manner=BY_NAME):
    return compose(Standing("crm", rows, told(*heard), tuple(under_way)), manner, now)


def send(*rows, **more):
    message = plan(*rows, **more).message
    assert message is not None
    return message


def said(message):
    """Kind and batch of each entry."""
    return [(entry.kind, dict(entry.alert.labels)["batch_id"]) for entry in message.entries]


def overtaken(found):
    return [(one.id, one.overtaken) for one in found]


def group(alertname="BatchStalled", account="main"):
    return (("account", account), ("alertname", alertname))


def muted_until(until):
    return lambda row: until


def nothing_muted(row):
    return None


BEGAN = row(1)
REMINDED = row(2, REMINDER, at=NOW + MIN)
REMINDED_AGAIN = row(3, REMINDER, at=NOW + 2 * MIN)
OVER = row(4, RESOLVED, at=NOW + 5 * MIN)
SUPERSEDED = replace(OVER, superseded_by=OVERDUE)


# What is told of an episode


@pytest.mark.parametrize(
    ("waits", "heard", "kind", "words"),
    [
        ([BEGAN], False, FIRING, BEGAN),
        ([BEGAN, REMINDED, REMINDED_AGAIN], False, FIRING, REMINDED_AGAIN),
        ([REMINDED], False, FIRING, REMINDED),  # the beginning was given up
        ([REMINDED, REMINDED_AGAIN], True, REMINDER, REMINDED_AGAIN),
        ([OVER], True, RESOLVED, OVER),
        ([REMINDED, OVER], True, RESOLVED, OVER),
        ([SUPERSEDED], True, RESOLVED, SUPERSEDED),
    ],
)
def test_what_waits_of_an_episode_is_told_in_one_go_as_it_stands(waits, heard, kind, words):
    found = plan(*waits, heard=[BEGAN] if heard else [])
    [entry] = found.message.entries
    assert (entry.kind, entry.alert, entry.belated) == (kind, words.alert, False)
    assert entry.settles == tuple(one.id for one in waits)
    assert found.overtaken == ()


@pytest.mark.parametrize("waits", [[BEGAN, OVER], [BEGAN, REMINDED, OVER], [REMINDED, OVER]])
def test_what_was_over_before_it_was_told_is_told_with_both_times(waits):
    [entry] = send(*waits).entries
    assert (entry.kind, entry.belated, entry.settles) == (RESOLVED, True, tuple(one.id for one in waits))
    assert (entry.alert.starts_at, entry.alert.ends_at) == (NOW, NOW + 5 * MIN)
    assert dict(entry.alert.annotations)["summary"] == (
        "was over before it was told (fired 2026-11-23 12:00 UTC, over 2026-11-23 12:05 UTC): message 4"
    )


@pytest.mark.parametrize(
    ("waits", "why"),
    [
        ([OVER], "its beginning was never told"),
        ([SUPERSEDED], "its beginning was never told"),
        ([BEGAN, SUPERSEDED], "superseded by BatchOverdue before it was told"),
        ([REMINDED, SUPERSEDED], "superseded by BatchOverdue before it was told"),
    ],
)
def test_where_nothing_is_left_to_tell_nothing_is_told(waits, why):
    waits = [replace(one, next_attempt_at=NOW) for one in waits]
    found = plan(*waits)
    assert found.message is None
    assert overtaken(found.overtaken) == [(one.id, why) for one in waits]
    assert {(one.overtaken_at, one.next_attempt_at) for one in found.overtaken} == {(LATER, None)}
    assert found.again_at is None


def test_what_is_overtaken_holds_up_nothing_that_is_said_of_the_same_alert_next():
    again = row(5, at=NOW + 9 * MIN, since=NOW + 9 * MIN)
    found = plan(BEGAN, SUPERSEDED, again)
    assert [one.id for one in found.overtaken] == ["id-1", "id-4"]
    assert said(found.message) == [(FIRING, "b1")]
    assert found.message.entries[0].alert == again.alert


# When


def test_it_is_due_when_it_has_waited_for_company_and_not_before():
    assert plan(BEGAN, now=NOW) == outbox.Plan(None, (), NOW + WAIT)
    assert plan(BEGAN, now=NOW + WAIT - timedelta(microseconds=1)).message is None
    found = plan(BEGAN, now=NOW + WAIT)
    assert (said(found.message), found.message.created_at) == ([(FIRING, "b1")], NOW + WAIT)
    assert found.again_at == NOW + WAIT  # at once: there may be more


def test_company_that_comes_meanwhile_rides_along():
    late = row(2, batch_id="b2", at=NOW + WAIT - SEC)
    assert said(send(BEGAN, late, now=NOW + WAIT)) == [(FIRING, "b1"), (FIRING, "b2")]


def test_of_two_groups_only_what_is_due_goes():
    late = row(2, alertname="BatchOverdue", at=NOW + 10 * SEC)
    found = plan(BEGAN, late, now=NOW + WAIT)
    assert found.message.group == group()
    assert said(found.message) == [(FIRING, "b1")]
    assert plan(late, now=NOW + WAIT).again_at == NOW + 10 * SEC + WAIT


def test_the_group_that_has_been_due_for_longest_goes_first():
    first, second = row(1, at=NOW + SEC), row(2, alertname="BatchOverdue")
    assert send(first, second).group == group("BatchOverdue")


def test_reminders_wait_ten_times_as_long_and_ride_along_with_what_does_not():
    assert plan(REMINDED, now=NOW + MIN, heard=[BEGAN]).again_at == NOW + MIN + REMINDERS_WAIT * WAIT
    assert plan(REMINDED, now=NOW + MIN + REMINDERS_WAIT * WAIT - SEC, heard=[BEGAN]).message is None
    assert said(send(REMINDED, now=NOW + MIN + REMINDERS_WAIT * WAIT, heard=[BEGAN])) == [(REMINDER, "b1")]
    news = row(9, batch_id="b2", at=NOW + MIN)
    assert said(send(REMINDED, news, now=NOW + MIN + WAIT, heard=[BEGAN])) == [
        (REMINDER, "b1"),
        (FIRING, "b2"),
    ]
    # A reminder of what was never told is news, and an end is not kept by the reminder before it.
    assert plan(REMINDED, now=NOW + MIN + WAIT).message is not None
    assert plan(REMINDED, OVER, now=NOW + 5 * MIN, heard=[BEGAN]).message is not None


@pytest.mark.parametrize("back", [SEC, timedelta(days=30)])
def test_a_clock_that_was_set_back_prolongs_no_wait(back):
    assert plan(BEGAN, now=NOW - back).message is not None
    failed = replace(BEGAN, attempts=3, next_attempt_at=NOW + 5 * MIN)
    found = plan(failed, now=NOW - timedelta(days=30))
    assert found.message is not None


def test_nothing_waits_for_company_that_is_not_to_come():
    assert plan(BEGAN, now=NOW, manner=replace(BY_NAME, group_wait=timedelta(0))).message is not None


# Together


def test_one_message_is_about_one_kind_of_alert_of_one_account():
    rows = [
        row(1),
        row(2, batch_id="b2"),
        row(3, alertname="BatchOverdue", at=NOW + SEC),
        row(4, account="other", batch_id="b4", at=NOW + SEC),
    ]
    message = send(*rows)
    assert (message.group, said(message)) == (group(), [(FIRING, "b1"), (FIRING, "b2")])
    assert (message.receiver, message.attempts, message.left_out) == ("crm", 0, 0)
    assert {send(one).group for one in rows} == {group(), group("BatchOverdue"), group(account="other")}


def test_without_labels_to_group_by_everything_is_one_message():
    rows = [row(1), row(2, alertname="BatchOverdue"), row(3, account="other", batch_id="b3")]
    message = send(*rows, manner=ALL_IN_ONE)
    assert (message.group, len(message.entries)) == ((), 3)


def test_a_label_that_an_alert_lacks_is_no_part_of_its_group():
    alone = replace(BEGAN, alert=Alert((("alertname", "X"), ("batch_id", "b1")), (), NOW))
    assert send(alone).group == (("alertname", "X"),)
    assert send(row(account="")).group == (("alertname", "BatchStalled"),)  # an empty one is none


def test_three_hundred_stalled_batches_are_one_message():
    rows = [row(n, batch_id=f"b{n}", at=NOW + n * timedelta(milliseconds=50)) for n in range(300)]
    found = plan(*rows, now=NOW + WAIT)
    assert len(found.message.entries) == 300
    assert plan(*rows[300:], now=NOW + WAIT).message is None
    assert [dict(one.alert.labels)["batch_id"] for one in found.message.entries] == [
        f"b{n}" for n in range(300)
    ]


def test_what_is_more_than_a_message_holds_comes_in_the_next_one():
    rows = [row(n, batch_id=f"b{n}") for n in range(MOST_ENTRIES + 1)]
    first = send(*rows)
    assert len(first.entries) == MOST_ENTRIES
    assert said(send(rows[-1])) == [(FIRING, f"b{MOST_ENTRIES}")]
    few = replace(BY_NAME, most_entries={group(): 2})
    assert said(send(*rows, manner=few)) == [(FIRING, "b0"), (FIRING, "b1")]
    other = row(1, account="other")
    assert len(send(other, manner=few).entries) == 1


# What else fires


def test_a_message_lists_what_else_fires_on_in_its_group():
    fires = [row(n, batch_id=f"s{n}", since=NOW - n * MIN) for n in (1, 2, 3)]
    foreign = [row(7, alertname="BatchOverdue"), row(8, account="other")]
    message = send(BEGAN, heard=[*fires, *foreign])
    assert message.still == tuple(one.alert for one in reversed(fires))  # the oldest first
    assert (message.left_out, message.fires) == (0, True)


def test_an_alert_is_not_also_among_what_still_fires():
    assert send(REMINDED, heard=[BEGAN]).still == ()
    ended = send(OVER, heard=[BEGAN])
    assert (ended.still, ended.fires) == ((), False)
    # Its next episode is not told before its end, and the end is not told while it is said to fire.
    again = row(9, at=NOW + 9 * MIN, since=NOW + 9 * MIN)
    assert said(send(OVER, again, heard=[BEGAN])) == [(RESOLVED, "b1")]


def test_of_what_fires_on_only_as_much_is_listed_as_there_is_room_for():
    fires = [row(n, batch_id=f"s{n}", since=NOW - n * MIN) for n in (1, 2, 3)]
    for most, shown in ((1, 0), (2, 1), (3, 2), (4, 3), (9, 3)):
        message = send(BEGAN, heard=fires, manner=replace(BY_NAME, most_entries={group(): most}))
        assert (len(message.still), message.left_out) == (shown, 3 - shown)
    rows = [row(n, batch_id=f"b{n}") for n in range(5)]
    message = send(*rows, heard=fires, manner=replace(BY_NAME, most_entries={group(): 2}))
    assert (len(message.entries), message.still, message.left_out) == (2, (), 3)


# One after the other


def test_of_one_alert_a_message_tells_one_episode_and_the_next_one_after_it():
    again = row(5, at=NOW + 6 * MIN, since=NOW + 6 * MIN)
    over_again = row(6, RESOLVED, at=NOW + 7 * MIN, since=NOW + 6 * MIN)
    rows = [BEGAN, OVER, again, over_again]
    for manner in (BY_NAME, ALL_IN_ONE):
        first = send(*rows, manner=manner)
        assert [entry.settles for entry in first.entries] == [("id-1", "id-4")]
        assert [entry.settles for entry in send(*rows[2:], manner=manner).entries] == [("id-5", "id-6")]


def test_while_an_episode_has_to_wait_the_next_one_does_too():
    again = row(5, at=NOW + 6 * MIN, since=NOW + 6 * MIN)
    rows = [replace(BEGAN, attempts=1, next_attempt_at=LATER + MIN), OVER, again]
    assert plan(*rows) == outbox.Plan(None, (), LATER + MIN)


def test_nothing_is_said_of_an_alert_whose_message_is_under_way():
    under_way = send(BEGAN, row(2, batch_id="b2"))
    again = row(5, at=NOW + 6 * MIN, since=NOW + 6 * MIN)
    for waits in ([REMINDED], [OVER], [SUPERSEDED], [OVER, again], [again]):
        for manner in (BY_NAME, ALL_IN_ONE):
            # Neither told nor settled: whether its beginning is told is not known yet.
            assert plan(*waits, under_way=[under_way], manner=manner) == outbox.Plan()


def test_a_group_tells_nothing_while_a_message_of_it_is_under_way_and_the_others_do():
    under_way = send(BEGAN)
    found = plan(row(2, batch_id="b2"), row(3, alertname="BatchOverdue"), under_way=[under_way])
    assert found.message.group == group("BatchOverdue")
    assert plan(row(2, batch_id="b2"), under_way=[under_way]) == outbox.Plan()


def test_what_a_message_under_way_says_still_fires_is_not_ended_meanwhile():
    fires = row(2, batch_id="b2")
    under_way = send(BEGAN, heard=[fires])
    assert under_way.still == (fires.alert,)
    risen = row(3, alertname="BatchOverdue", batch_id="b2", at=NOW + MIN)
    end = row(4, RESOLVED, batch_id="b2", at=NOW + MIN, superseded_by=OVERDUE)
    assert said(send(risen, end, heard=[fires], under_way=[under_way])) == [(FIRING, "b2")]


def test_what_is_under_way_is_not_said_to_fire_on():
    """Its end may be in the message that is under way, in another group."""
    ended = row(1, RESOLVED, at=NOW + MIN, superseded_by=OVERDUE)
    risen = row(2, alertname="BatchOverdue", at=NOW + MIN)
    under_way = send(risen, ended, heard=[BEGAN])
    assert len(under_way.entries) == 2
    news = row(3, batch_id="b3")
    assert send(news, heard=[BEGAN], under_way=[under_way]).still == ()


# What has failed


def test_what_waits_after_a_failure_is_left_out_while_others_go():
    failed = replace(BEGAN, attempts=2, next_attempt_at=LATER + MIN)
    other = row(2, batch_id="b2")
    assert said(send(failed, other)) == [(FIRING, "b2")]
    assert plan(failed).again_at == LATER + MIN
    assert plan(failed, row(3, batch_id="b3", at=LATER)).again_at == LATER + WAIT
    message = send(failed, other, now=LATER + MIN)
    assert (said(message), message.attempts) == ([(FIRING, "b1"), (FIRING, "b2")], 2)


def test_what_has_failed_before_lets_the_other_groups_go_first():
    failed = [replace(BEGAN, attempts=1), replace(row(2, alertname="BatchGone"), attempts=3)]
    fresh = row(3, alertname="BatchOverdue", at=NOW + MIN)
    assert send(*failed, fresh).group == group("BatchOverdue")
    assert send(*failed).group == group()


def test_a_failure_of_any_of_its_notifications_keeps_the_episode():
    waits = [BEGAN, replace(REMINDED, next_attempt_at=LATER + MIN)]
    assert plan(*waits).again_at == LATER + MIN
    both = [replace(waits[0], held_until=LATER + 2 * MIN), waits[1]]
    assert plan(*both).again_at == LATER + 2 * MIN


@pytest.mark.parametrize(("wait", "waits"), [(outbox.LONGEST_WAIT, True), (outbox.LONGEST_WAIT + SEC, False)])
def test_a_wait_that_is_longer_than_any_was_set_before_the_clock_was_set_back(wait, waits):
    assert (plan(replace(BEGAN, next_attempt_at=LATER + wait)).message is None) is waits


# Superseded


def test_what_was_superseded_is_told_with_what_superseded_it():
    risen = row(5, alertname="BatchOverdue", at=NOW + 5 * MIN, since=NOW + 5 * MIN)
    message = send(risen, SUPERSEDED, heard=[BEGAN])
    assert message.group == group("BatchOverdue")
    assert said(message) == [(FIRING, "b1"), (RESOLVED, "b1")]
    assert message.entries[1].superseded_by is OVERDUE


def test_also_when_that_has_been_told_already():
    risen = row(5, alertname="BatchOverdue")
    message = send(SUPERSEDED, heard=[BEGAN, risen])
    assert (message.group, message.still) == (group("BatchOverdue"), (risen.alert,))
    assert message.fires


@pytest.mark.parametrize("by", [OVERDUE, AlertName.BATCH_STALLED], ids=["each other", "itself"])
def test_alerts_that_superseded_one_another_in_a_circle_end_it(by):
    """No version of ours says so; a state file of another one must not stop the daemon."""
    risk = row(1, alertname="BatchWindowAtRisk")
    circle = [
        row(2, at=NOW + MIN, since=NOW + MIN),
        row(3, RESOLVED, at=NOW + 2 * MIN, since=NOW + MIN, superseded_by=by),
        row(4, alertname="BatchOverdue", at=NOW + MIN, since=NOW + MIN),
        row(
            5,
            RESOLVED,
            alertname="BatchOverdue",
            at=NOW + 2 * MIN,
            since=NOW + MIN,
            superseded_by=AlertName.BATCH_STALLED,
        ),
    ]
    end = row(
        6, RESOLVED, alertname="BatchWindowAtRisk", at=NOW + 3 * MIN, superseded_by=AlertName.BATCH_STALLED
    )
    found = plan(*circle, end, heard=[risk])
    assert [one.id for one in found.overtaken] == ["id-2", "id-3", "id-4", "id-5"]
    assert found.message.group == group("BatchWindowAtRisk")


def test_and_it_waits_while_that_is_under_way():
    risen = row(5, alertname="BatchOverdue", at=NOW + 5 * MIN)
    under_way = send(risen)
    assert plan(SUPERSEDED, heard=[BEGAN], under_way=[under_way]) == outbox.Plan()


@pytest.mark.parametrize(
    "other", [{"batch_id": "b2"}, {"account": "other"}, {"alertname": "BatchGone"}, {"kind": RESOLVED}]
)
def test_it_goes_alone_when_its_receiver_does_not_hear_of_that(other):
    assert (send(SUPERSEDED, heard=[BEGAN]).group, send(SUPERSEDED, heard=[BEGAN]).fires) == (group(), False)
    risen = row(**({"number": 5, "alertname": "BatchOverdue", "at": NOW + 5 * MIN} | other))
    message = send(SUPERSEDED, replace(risen, next_attempt_at=LATER + MIN), heard=[BEGAN])
    assert (message.group, said(message)) == (group(), [(RESOLVED, "b1")])


# Names


def test_the_same_said_again_has_the_same_id_and_anything_else_another():
    fires = row(2, batch_id="b2")
    base = send(BEGAN, heard=[fires])
    assert send(BEGAN, heard=[fires], now=LATER + MIN).id == base.id
    assert send(replace(BEGAN, attempts=4, last_error="no"), heard=[fires]).id == base.id
    words = replace(BEGAN, alert=replace(BEGAN.alert, annotations=(("summary", "other words"),)))
    others = [
        send(words, heard=[fires]),
        send(replace(BEGAN, id="id-9"), heard=[fires]),
        send(BEGAN, REMINDED, heard=[fires]),
        send(BEGAN, row(3, batch_id="b3"), heard=[fires]),
        send(BEGAN),
        send(BEGAN, heard=[fires], manner=replace(BY_NAME, most_entries={group(): 1})),
        send(BEGAN, heard=[fires], manner=replace(BY_NAME, external_url="https://monitor.example")),
        send(BEGAN, heard=[fires], manner=replace(BY_NAME, group_by=("alertname",))),
        compose(Standing("chat", (BEGAN,), told(fires)), BY_NAME, LATER).message,
    ]
    assert len({base.id, *(one.id for one in others)}) == 1 + len(others)
    assert len(base.id) == 32
    assert (
        send(BEGAN, manner=replace(BY_NAME, external_url="https://x.example")).external_url
        == "https://x.example"
    )


def test_a_notification_has_a_name_of_its_own():
    alert, other = BEGAN.alert, row(1, batch_id="b2").alert
    names = {
        outbox.notification_id("crm", alert, FIRING, NOW),
        outbox.notification_id("chat", alert, FIRING, NOW),
        outbox.notification_id("crm", other, FIRING, NOW),
        outbox.notification_id("crm", alert, REMINDER, NOW),
        outbox.notification_id("crm", alert, FIRING, NOW + SEC),
    }
    assert len(names) == 5
    assert outbox.notification_id("crm", alert, FIRING, NOW) in names


def test_text_that_has_no_utf_8_can_be_named():
    odd = replace(BEGAN.alert, labels=labels(batch="\ud800"))
    assert outbox.notification_id("crm", odd, FIRING, NOW)
    assert send(replace(BEGAN, alert=odd)).id


def test_what_was_delivered_says_with_which_message():
    message = send(BEGAN)
    failed = replace(BEGAN, attempts=2, next_attempt_at=NOW, last_error="no")
    done = outbox.delivered(message, failed, LATER)
    assert done == replace(BEGAN, attempts=3, message_id=message.id, delivered_at=LATER)
    assert done.settled


# Mutes


def test_a_mute_is_noted_moved_and_lifted():
    [noted] = held([BEGAN], muted_until(LATER), NOW + SEC)
    assert noted == replace(BEGAN, held_since=NOW + SEC, held_until=LATER)
    assert held([noted], muted_until(LATER), NOW + MIN) == ()  # nothing new
    [moved] = held([noted], muted_until(NOW + 2 * MIN), NOW + MIN)
    assert (moved.held_since, moved.held_until) == (NOW + SEC, NOW + 2 * MIN)
    [lifted] = held([noted], nothing_muted, NOW + MIN)
    assert (lifted.held_since, lifted.held_until) == (NOW + SEC, NOW + MIN)
    assert held([lifted], nothing_muted, NOW + MIN) == held([BEGAN], nothing_muted, NOW) == ()
    [again] = held([lifted], muted_until(LATER), NOW + 9 * MIN)  # another mute
    assert (again.held_since, again.held_until) == (NOW + 9 * MIN, LATER)


def test_each_is_held_by_its_own_mute():
    rows = [BEGAN, row(2, batch_id="b2"), row(3, batch_id="b3")]
    ends = {"id-1": LATER, "id-3": LATER + MIN}
    assert [(one.id, one.held_until) for one in held(rows, lambda one: ends.get(one.id), NOW)] == [
        ("id-1", LATER),
        ("id-3", LATER + MIN),
    ]


def test_what_is_muted_is_told_when_the_mute_ends():
    muted = replace(BEGAN, held_since=NOW, held_until=LATER)
    other = row(2, batch_id="b2")
    assert plan(muted, now=LATER - SEC).again_at == LATER
    assert said(send(muted, other, now=LATER - SEC)) == [(FIRING, "b2")]
    assert said(send(muted, now=LATER)) == [(FIRING, "b1")]  # and waits for no company then


def under_mute(*rows, since=NOW + 10 * SEC, until=NOW + 5 * MIN):
    return [replace(one, held_since=max(since, one.created_at), held_until=until) for one in rows]


MUTED_AWAY = "it was over before its mute was"


@pytest.mark.parametrize("waits", [[BEGAN, OVER], [BEGAN, REMINDED, OVER]])
@pytest.mark.parametrize("since", [NOW - MIN, NOW + WAIT])
def test_what_began_and_ended_under_a_mute_is_not_told(waits, since):
    rows = under_mute(*waits, since=since)
    found = over_while_muted(rows, WAIT, NOW + 5 * MIN)
    assert overtaken(found) == [(one.id, MUTED_AWAY) for one in rows]
    assert all(one.settled_at == NOW + 5 * MIN for one in found)
    assert overtaken(plan(*rows).overtaken) == overtaken(found)
    assert plan(*rows).message is None


@pytest.mark.parametrize(
    "waits",
    [
        [BEGAN, OVER],  # no mute
        under_mute(BEGAN, OVER, until=NOW + 5 * MIN - SEC),  # its end came after the mute's
        under_mute(BEGAN, OVER, since=NOW + WAIT + SEC),  # it was due before the mute, its receiver down
        [replace(one, attempts=1) for one in under_mute(BEGAN, OVER)],  # it was even tried
        under_mute(REMINDED, OVER),  # its beginning was given up
    ],
)
def test_what_was_not_under_a_mute_from_beginning_to_end_is_told(waits):
    assert over_while_muted(waits, WAIT, LATER) == ()
    [entry] = send(*waits).entries
    assert (entry.kind, entry.belated) == (RESOLVED, True)


def test_an_end_is_told_when_its_beginning_was_whatever_was_muted():
    beginning = replace(under_mute(BEGAN)[0], delivered_at=NOW)
    rows = [beginning, *under_mute(OVER)]
    assert over_while_muted(rows, WAIT, LATER) == ()
    assert said(send(*rows[1:], heard=[BEGAN])) == [(RESOLVED, "b1")]
    assert over_while_muted(under_mute(BEGAN), WAIT, LATER) == over_while_muted([OVER], WAIT, LATER) == ()


def test_each_episode_is_judged_alone():
    again = row(5, at=NOW + 6 * MIN, since=NOW + 6 * MIN)
    rows = [*under_mute(BEGAN, OVER), again, row(6, batch_id="b2")]
    assert [one.id for one in over_while_muted(rows, WAIT, LATER)] == ["id-1", "id-4"]


# Giving up


def test_it_is_given_up_when_it_has_waited_so_long_not_counting_mutes():
    day = timedelta(days=1)
    rows = [
        BEGAN,
        replace(row(2), held_until=NOW + timedelta(hours=2)),
        replace(row(3), held_until=NOW - MIN),
        replace(row(4), delivered_at=NOW),
        row(5, at=NOW + SEC),
    ]
    assert [one.id for one in outbox.given_up(rows, day, NOW + day)] == ["id-1", "id-3"]
    assert outbox.given_up(rows, day, NOW + day - timedelta(microseconds=1)) == ()
    assert [one.id for one in outbox.given_up(rows, day, NOW + day + timedelta(hours=2))] == [
        "id-1",
        "id-2",
        "id-3",
        "id-5",
    ]


# For every outbox


_BATCHES = st.sampled_from(["b1", "b2", "b3"])
_NAMES = st.sampled_from(["BatchStalled", "BatchOverdue", "BatchGone"])


@st.composite
def outboxes(draw):
    """Episodes of some alerts, some of them told, some held, some failed: as decisions and failures leave them."""
    rows, heard, number = [], [], 0
    for batch in ("b1", "b2", "b3"):
        for name in draw(st.sets(_NAMES)):
            since = NOW
            for _ in range(draw(st.integers(0, 3))):
                since += draw(st.integers(1, 400)) * SEC
                kinds = [
                    FIRING,
                    *[REMINDER] * draw(st.integers(0, 2)),
                    *draw(st.sampled_from([[], [RESOLVED]])),
                ]
                at, episode = since, []
                for kind in kinds:
                    number += 1
                    made = row(number, kind, alertname=name, batch_id=batch, at=at, since=since)
                    by = draw(st.none() | st.just(OVERDUE)) if kind is RESOLVED else None
                    waits = draw(st.none() | st.integers(0, 3600))
                    episode.append(
                        replace(
                            made,
                            superseded_by=by,
                            attempts=draw(st.integers(0, 3)),
                            next_attempt_at=None if waits is None else NOW + waits * SEC,
                        )
                    )
                    at += draw(st.integers(1, 400)) * SEC
                if draw(st.booleans()) and not rows_of(rows, episode[0]):
                    heard.append(episode.pop(0))
                rows += episode
                since = at
                if kinds[-1] is not RESOLVED:
                    break
    rows.sort(key=lambda one: one.created_at)
    return rows, heard


def rows_of(rows, one):
    return [other for other in rows if other.alert.labels == one.alert.labels]


@settings(max_examples=120, deadline=None)
@given(outboxes(), st.sampled_from([BY_NAME, ALL_IN_ONE]), st.integers(0, 4000), st.integers(1, 4))
def test_everything_is_told_once_and_in_order_by_and_by(made, manner, start, most):
    """Whatever waits: message after message tells all of it, each episode once, of each alert the oldest first."""
    rows, heard = made
    by_id = {one.id: one for one in rows}
    waiting, fires, now = dict(by_id), told(*heard), NOW + start * SEC
    manner = replace(
        manner,
        most_entries=dict.fromkeys([(), *map(group, ("BatchStalled", "BatchOverdue", "BatchGone"))], most),
    )
    order = {}
    for _ in range(1000):
        found = compose(Standing("crm", tuple(waiting.values()), fires), manner, now)
        assert found == compose(Standing("crm", tuple(waiting.values()), fires), manner, now)
        for one in found.overtaken:
            del waiting[one.id]
        if found.message is None:
            if found.again_at is None:
                break
            assert found.again_at > now
            now = found.again_at
            continue
        alerts = [entry.alert.labels for entry in found.message.entries]
        alerts += [alert.labels for alert in found.message.still]
        assert len(set(alerts)) == len(alerts)
        assert len(found.message.entries) <= most
        for entry in found.message.entries:
            began = entry.alert.starts_at
            assert order.setdefault(entry.alert.labels, began) <= began
            order[entry.alert.labels] = began
            first = by_id[entry.settles[0]]
            assert all(one is None or one <= now for one in (by_id[n].next_attempt_at for n in entry.settles))
            assert (entry.kind is REMINDER) <= (first.alert.fingerprint in fires)
            for name in entry.settles:
                del waiting[name]
            if entry.kind is RESOLVED:
                assert (first.alert.fingerprint in fires) is not entry.belated
                fires.pop(first.alert.fingerprint, None)
            else:
                fires[first.alert.fingerprint] = entry.alert
        for alert in found.message.still:
            assert fires[alert.fingerprint] == alert
    assert waiting == {}


# What a failure teaches


def failing_queue(*rows, heard=()):
    made = Queue("crm", Settings(None))
    made.rows = {one.id: one for one in (*(replace(one, delivered_at=NOW) for one in heard), *rows)}
    return made


def next_message(made, now=LATER):
    message = compose(made.standing(), made.manner(("account", "alertname"), None), now).message
    made.under_way[message.id] = message
    return message


REFUSED = SendError(SendFailure.REFUSED, "crm answered 413", status=413)
DOWN = SendError(SendFailure.CONNECTION, "crm: no connection")
NO_ANSWER = SendError(SendFailure.TIMEOUT, "crm has not answered", may_have_arrived=True)


def test_what_is_refused_as_too_much_is_told_without_what_still_fires():
    fires = [row(n, batch_id=f"s{n}") for n in (7, 8)]
    made = failing_queue(BEGAN, heard=fires)
    message = next_message(made)
    assert len(message.still) == 2
    assert not made.failed(message, REFUSED, LATER, float)
    assert made.must_wait(LATER) == timedelta(0)
    alone = next_message(made)
    assert (said(alone), alone.still, alone.left_out) == ([(FIRING, "b1")], (), 2)
    made.took(alone)
    made.settle(outbox.delivered(alone, made.rows["id-1"], LATER))
    made.rows["id-2"] = row(2, batch_id="b2")
    assert len(next_message(made).still) == 1  # a little more each time


def test_one_that_is_refused_is_found_and_told_in_the_log_once(caplog):
    made, sizes = failing_queue(*(row(n, batch_id=f"b{n}") for n in range(4))), []
    for _ in range(3):
        message = next_message(made)
        sizes.append(len(message.entries))
        assert not made.failed(message, REFUSED, LATER, float)
    assert (sizes, said(message)) == ([4, 2, 1], [(FIRING, "b0")])
    assert made.rows["id-0"].next_attempt_at == LATER + delivery_queue.RETRY_CAP
    assert said(next_message(made)) == [(FIRING, "b1")]
    made.under_way.clear()
    made.rows = {"id-0": made.rows["id-0"]}
    assert not made.failed(next_message(made, LATER + delivery_queue.RETRY_CAP), REFUSED, LATER, float)
    refusals = [one for one in caplog.records if one.levelname == "ERROR"]
    assert [(one.msg, one.message_id, one.count) for one in refusals] == [
        ("receiver refuses a message", message.id, 1)
    ]


def test_a_failure_that_says_nothing_of_an_earlier_try_leaves_the_message_as_it_is():
    made = failing_queue(BEGAN)
    message = next_message(made)
    assert made.failed(message, NO_ANSWER, LATER, float)
    made.rows["id-2"] = row(2, batch_id="b2")
    again = made.repeated(LATER)
    assert again.id == message.id
    assert made.failed(again, DOWN, LATER, float, again=True)
    assert made.repeated(LATER).entries == message.entries
    assert not made.failed(again, REFUSED, LATER, float, again=True)  # so it was before
    assert made.under_way == {}


def test_a_failure_that_says_that_nothing_arrived_lets_it_be_told_in_other_words():
    made = failing_queue(BEGAN)
    assert not made.failed(next_message(made), DOWN, LATER, float)
    made.rows["id-2"] = row(2, batch_id="b2")
    assert len(next_message(made).entries) == 2


def fail(made, message, error, now=LATER, **more):
    return made.failed(message, error, now, lambda top: top, **more)


UNWELCOME = SendError(SendFailure.REFUSED, "crm answered 401", status=401)
BROKEN = SendError(SendFailure.SERVER_ERROR, "crm answered 500", status=500)
THROTTLED = SendError(SendFailure.THROTTLED, "crm answered 429", status=429, retry_after=2 * MIN)
ODD = SendError(SendFailure.REFUSED, "crm answered 409", status=409)


@pytest.mark.parametrize(
    ("error", "wait"), [(DOWN, SEC), (NO_ANSWER, SEC), (UNWELCOME, 5 * MIN), (THROTTLED, 2 * MIN)]
)
def test_a_receiver_that_fails_is_left_alone_and_not_only_its_message(error, wait):
    made = failing_queue(BEGAN, row(2, alertname="BatchGone"))
    fail(made, next_message(made), error)
    assert made.must_wait(LATER) == wait
    assert made.rows["id-1"].next_attempt_at is None
    assert [one.attempts for one in made.under_way.values()] == ([1] if error is NO_ANSWER else [])


def test_ten_messages_may_leave_at_once_and_then_one_a_second():
    made = failing_queue(BEGAN)
    for _ in range(delivery_queue.BURST):
        assert made.must_wait(NOW) == timedelta(0)
        made.take_slot(NOW)
    assert made.must_wait(NOW) == SEC
    made.take_slot(NOW + SEC)
    assert (made.must_wait(NOW + SEC), made.must_wait(NOW + MIN)) == (SEC, timedelta(0))


def others_are_taken(made):
    made.taken += 1
    made.works()


def test_what_fails_while_others_are_taken_waits_alone_and_longer_each_time():
    made = failing_queue(BEGAN, row(2, alertname="BatchGone", at=NOW + SEC))
    fail(made, next_message(made), BROKEN)
    made.took(next_message(made))  # of the other group
    del made.rows["id-2"]
    fail(made, next_message(made), BROKEN)
    assert (made.must_wait(LATER), made.rows["id-1"].next_attempt_at) == (timedelta(0), LATER + 2 * SEC)
    # Nothing was taken since: it may as well be the receiver.
    fail(made, next_message(made, LATER + 2 * SEC), BROKEN, LATER + 2 * SEC)
    assert made.must_wait(LATER + 2 * SEC) == SEC


def test_of_several_that_fail_while_others_are_taken_the_half_is_tried():
    made = failing_queue(*(row(n, batch_id=f"b{n}") for n in range(4)))
    fail(made, next_message(made), BROKEN)
    others_are_taken(made)
    fail(made, next_message(made), BROKEN)
    assert (made.must_wait(LATER), len(next_message(made).entries)) == (timedelta(0), 2)


def test_but_what_may_have_arrived_is_not_divided_and_sent_again_later():
    made = failing_queue(*(row(n, batch_id=f"b{n}") for n in range(4)))
    fail(made, next_message(made), NO_ANSWER)
    for error, again_at in ((NO_ANSWER, LATER + 2 * SEC), (BROKEN, LATER + 4 * SEC)):
        others_are_taken(made)
        assert fail(made, made.repeated(LATER + MIN), error, again=True)
        assert made.repeated(LATER) is None
        assert made.again_at() == again_at
        assert len(made.repeated(again_at).entries) == 4


def test_of_what_may_have_arrived_what_failed_less_often_goes_first():
    made = failing_queue(BEGAN, row(2, alertname="BatchGone"))
    one, other = next_message(made), next_message(made)
    made.under_way[one.id] = replace(one, attempts=2)
    made.under_way[other.id] = replace(other, attempts=1, next_attempt_at=LATER + MIN)
    assert made.repeated(LATER).id == one.id
    assert made.repeated(LATER + MIN).id == other.id
    assert made.again_at() == LATER + MIN


@pytest.mark.parametrize(("error", "stays"), [(UNWELCOME, True), (ODD, False), (BROKEN, True), (DOWN, True)])
def test_only_a_refusal_of_what_it_says_settles_what_may_have_arrived(error, stays):
    made = failing_queue(BEGAN)
    message = next_message(made)
    fail(made, message, NO_ANSWER)
    assert fail(made, message, error, again=True) is stays
    assert (message.id in made.under_way) is stays


def test_only_a_refusal_is_told_in_the_log_for_each_message(caplog):
    made = failing_queue(BEGAN)
    fail(made, next_message(made), BROKEN)
    others_are_taken(made)
    fail(made, next_message(made), BROKEN)
    assert "ERROR" not in {one.levelname for one in caplog.records}
    fail(made, next_message(made, LATER + MIN), ODD)
    assert caplog.records[-1].message == "receiver refuses a message"


# What waits, and what is kept


def test_what_is_settled_is_kept_only_while_it_fires():
    made = failing_queue()
    made.settle(replace(BEGAN, delivered_at=NOW))
    assert made.heard() == told(BEGAN)
    made.settle(replace(row(5, batch_id="b5"), dropped_at=NOW))
    made.settle(replace(row(6, batch_id="b6"), overtaken_at=NOW))
    made.settle(replace(row(7, batch_id="b7", one_shot=True), delivered_at=NOW))
    assert list(made.rows) == ["id-1"]
    made.rows["id-2"] = REMINDED
    made.settle(replace(OVER, delivered_at=NOW))
    assert list(made.rows) == ["id-2"]  # what waits is not settled by an end


def test_what_is_part_of_a_message_under_way_is_not_composed_again():
    made = failing_queue(BEGAN, REMINDED)
    message = next_message(made)
    made.rows["id-5"] = row(5, batch_id="b5")
    standing = made.standing()
    assert [one.id for one in standing.waiting] == ["id-5"]
    assert standing.under_way == (message,)


def test_at_another_address_everything_is_tried_at_once():
    made = failing_queue(BEGAN, replace(row(2, batch_id="b2"), delivered_at=NOW))
    made.rows["id-3"] = replace(row(3, batch_id="b3"), dropped_at=NOW)  # as after a restart
    message = next_message(made)
    made.under_way[message.id] = replace(message, attempts=3, next_attempt_at=LATER + MIN)
    made.rows["id-1"] = replace(BEGAN, next_attempt_at=LATER + MIN)
    made.pause(UNWELCOME, 5 * MIN, LATER, float)
    made.use(Settings(object()))
    assert made.must_wait(LATER) == timedelta(0)
    assert made.repeated(LATER).id == message.id
    assert made.rows["id-1"].next_attempt_at is None
    assert list(made.rows) == ["id-1", "id-2"]


DAY = delivery_queue.Pacing().give_up_after


def test_what_was_never_tried_has_its_chance_before_it_is_given_up():
    made = failing_queue(BEGAN)
    assert made.to_drop(NOW + DAY) == []
    made.rows["id-1"] = replace(BEGAN, attempts=1)
    assert made.to_drop(NOW + DAY - SEC) == []
    assert made.to_drop(NOW + DAY) == [made.rows["id-1"]]
    made.rows["id-1"] = BEGAN
    made.failing_since = NOW
    assert made.to_drop(NOW + DAY) == [BEGAN]


def test_what_is_told_with_its_end_is_as_old_as_that():
    began = replace(BEGAN, attempts=1)
    made = failing_queue(began, replace(OVER, attempts=1))
    assert made.to_drop(NOW + DAY) == []
    assert [one.id for one in made.to_drop(NOW + DAY + 5 * MIN)] == ["id-1", "id-4"]


def test_a_message_of_which_something_is_given_up_is_one_no_more():
    made = failing_queue(BEGAN, row(2, alertname="BatchGone"))
    first, second = next_message(made), next_message(made)
    assert made.thawed([made.rows[first.settles[0]]]) == (first.id,)
    assert list(made.under_way) == [second.id]
