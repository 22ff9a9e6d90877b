"""Messages as people read them: on a lock screen, in a chat, by mail."""

from __future__ import annotations

import random
import textwrap
from dataclasses import replace
from datetime import timedelta

import pytest
from samples import NOW, account, batch_key
from test_messages import batch, failing

from monitor import alerts, messages, notices, outbox
from monitor.messages import Links
from monitor.model import (
    Alert,
    AlertName,
    AlertState,
    FailureReason,
    MessageKind,
    Notification,
    Outcomes,
    Phase,
    Resolution,
    Severity,
)
from monitor.notify import text
from monitor.notify.text import Kind

MIN = timedelta(minutes=1)
PAGE = "https://monitor.example"
LINKS = Links(
    "https://grafana.example/d/ultravox-campaign?var-batch_id={batch_id}",
    "https://wiki.example/runbooks/{alertname}",
)
AT_CAP = account(active_calls=5, allowed_concurrent_calls=5)
STALLED, RUNNING = batch(22), batch(1, completed=119)


def nth(number, found=STALLED, name=None):
    """One of many batches."""
    name = name or f"renewals-{number:03}"
    return replace(found, batch=name, target=replace(found.target, key=batch_key(number)))


def fires(name, found, *, severity=None, at=NOW, of=None, **more):
    """The notification of an alert that begins, or of a reminder."""
    severity = severity or alerts.KINDS[name].severity
    of = of or account()
    if name.startswith("Account"):
        labels = messages.account_labels(name, severity, of)
        said = messages.account_annotations(name, of, LINKS, labels)
    else:
        labels = messages.batch_labels(name, severity, found)
        said = messages.batch_annotations(name, found, of, LINKS, labels)
    return told(Alert(labels, said, at), **more)


def told(alert, kind=MessageKind.FIRING, **more):
    name = f"{alert.fingerprint}{kind}"
    return Notification(name, "ops-chat/slack", kind, alert, NOW, **more)


def over(row, how, found=None, *, at=NOW + 40 * MIN, by=None):
    """The notification of its end."""
    name = AlertName(dict(row.alert.labels)["alertname"])
    state = AlertState(name, Phase.FIRING, row.alert.starts_at, Severity.WARNING)
    state = replace(state, labels=row.alert.labels, annotations=row.alert.annotations)
    truth = messages.truth(found) if found is not None else None
    said = messages.resolved_annotations(state, how, by, truth)
    ended = replace(row.alert, annotations=said, ends_at=at)
    return told(ended, MessageKind.RESOLVED, superseded_by=by)


def render(*rows, heard=(), **changes):
    """What falls due at once, in words."""
    known = {row.alert.fingerprint: row.alert for row in heard}
    standing = outbox.Standing("ops-chat/slack", rows, known)
    manner = outbox.Manner(timedelta(0), (), PAGE)
    made = outbox.compose(standing, manner, NOW + timedelta(days=1)).message
    return text.render(replace(made, **changes))


def read(found):
    return f"{found.title}\n\n{found.body}\n"


def golden(written):
    return textwrap.dedent(written).lstrip()


STALL = fires(AlertName.BATCH_STALLED, STALLED, at=NOW + 22 * MIN, of=AT_CAP)


# Golden texts


def test_one_stalled_batch():
    assert read(render(STALL)) == golden("""
        Warning: spring-renewals has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min

        Cause: the account is at its cap: 5 of 5 calls active.
        Calls should be going out now and none is. People in this batch are not being called.

        Fired 2026-11-23 12:22 UTC.
        Alert BatchStalled, account main, batch 3c900000-0000-4000-8000-000000000001, team=growth.
        Dashboard: https://grafana.example/d/ultravox-campaign?var-batch_id=3c900000-0000-4000-8000-000000000001
        Runbook: https://wiki.example/runbooks/BatchStalled
        Monitor: https://monitor.example
    """)


def test_three_hundred_batches_that_stall_for_one_cause():
    rows = [
        fires(AlertName.BATCH_STALLED, nth(number), at=NOW + 22 * MIN, of=AT_CAP) for number in range(300)
    ]
    assert read(render(*rows)) == golden("""
        Warning: 300 batches stalled on account main

        Cause: the account is at its cap: 5 of 5 calls active.
        - renewals-000 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        - renewals-001 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        - renewals-002 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        - renewals-003 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        - renewals-004 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        - renewals-005 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        - renewals-006 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        - renewals-007 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        - renewals-008 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        - renewals-009 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        and 290 more.
        Fired 2026-11-23 12:22 UTC.
        Runbook: https://wiki.example/runbooks/BatchStalled

        Monitor: https://monitor.example
    """)


def test_an_alert_that_was_over_before_it_was_told():
    found = render(STALL, over(STALL, Resolution.RECOVERED, RUNNING))
    assert found.kind is Kind.SUCCESS
    assert read(found) == golden("""
        Recovered before it was told: spring-renewals is running, 119 of 400 done

        Fired 2026-11-23 12:22 UTC, over 2026-11-23 12:40 UTC.
        Alert BatchStalled, account main, batch 3c900000-0000-4000-8000-000000000001, team=growth.
        Dashboard: https://grafana.example/d/ultravox-campaign?var-batch_id=3c900000-0000-4000-8000-000000000001
        Runbook: https://wiki.example/runbooks/BatchStalled
        Monitor: https://monitor.example
    """)


def test_the_report_of_an_end_and_what_it_supersedes():
    ended = replace(batch(ended_at=NOW, completed=318), outcomes=Outcomes(NOW, 0, 0, 306, 82, 12))
    end = fires(AlertName.BATCH_ENDED_INCOMPLETE, ended, severity=Severity.CRITICAL, one_shot=True)
    stalled = fires(AlertName.BATCH_STALLED, batch(22), at=NOW - 22 * MIN)
    closed = over(stalled, Resolution.SUPERSEDED, ended, by=AlertName.BATCH_ENDED_INCOMPLETE)
    assert read(render(end, closed, heard=[stalled])) == golden("""
        Critical: spring-renewals has ended with 82 calls (20 %) not made and 12 calls (3 %) failed: 318 of 400 done

        Cause unknown: the API does not tell.
        400 calls in all, 306 succeeded, 12 failed, 82 expired, 82 not made, took 1 h, mean pace 318 calls/h, never seen paused, used 32 % of its window.
        These people were not reached, and Ultravox will not call them any more. `batch-monitor uncalled 3c900000-0000-4000-8000-000000000001` lists whom to call again.

        Fired 2026-11-23 12:00 UTC.
        Alert BatchEndedIncomplete, account main, batch 3c900000-0000-4000-8000-000000000001, team=growth.
        Dashboard: https://grafana.example/d/ultravox-campaign?var-batch_id=3c900000-0000-4000-8000-000000000001
        Runbook: https://wiki.example/runbooks/BatchEndedIncomplete
        Monitor: https://monitor.example

        Superseded by BatchEndedIncomplete: spring-renewals, which was stalled.
    """)


def test_alerts_of_many_kinds_the_worst_first_and_what_is_over_last():
    stalls = [fires(AlertName.BATCH_STALLED, nth(n), at=NOW + n * MIN, of=AT_CAP) for n in range(3)]
    other_cause = fires(AlertName.BATCH_STALLED, nth(3), at=NOW + 3 * MIN)
    overdue = fires(AlertName.BATCH_OVERDUE, nth(10, batch(7, window_end=NOW)))
    heard = [fires(AlertName.BATCH_STALLED, nth(n), at=NOW - 22 * MIN) for n in range(20, 25)]
    paused = fires(AlertName.BATCH_PAUSED_TOO_LONG, nth(30, batch(61, paused=True)), at=NOW - MIN)
    found = render(
        over(heard[0], Resolution.RECOVERED, nth(20, RUNNING)),
        over(heard[1], Resolution.RECOVERED, nth(21, RUNNING)),
        *stalls,
        other_cause,
        overdue,
        over(heard[2], Resolution.SUPERSEDED, nth(22, RUNNING), by=AlertName.BATCH_OVERDUE),
        told(paused.alert, MessageKind.REMINDER),
        heard=[*heard, paused],
    )
    assert found.kind is Kind.FAILURE
    assert read(found) == golden("""
        Critical: renewals-010 overdue, 4 batches stalled, renewals-030 still paused for too long on account main; 2 recovered

        Critical: renewals-010 is 7 min past the end of its window and has not ended: 118 of 400 done, 282 calls remain
        Cause unknown: the API does not tell.

        Warning: 4 batches stalled:
        Cause of 3 of them: the account is at its cap: 5 of 5 calls active.
        - renewals-000 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        - renewals-001 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        - renewals-002 has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min
        and 1 more.
        Fired 2026-11-23 12:00 UTC to 2026-11-23 12:03 UTC.
        Runbook: https://wiki.example/runbooks/BatchStalled

        Warning, still: renewals-030 has been paused for 1 h 1 min: 118 of 400 done, window closes in 1 h 1 min
        Cause: seen paused since 2026-11-23 12:00 UTC.

        Recovered: 2 batches that were stalled:
        - renewals-020 is running, 119 of 400 done
        - renewals-021 is running, 119 of 400 done
        Fired 2026-11-23 11:38 UTC, over 2026-11-23 12:40 UTC.

        Superseded by BatchOverdue: renewals-022, which was stalled.
        Told before and still firing: 2 batches stalled.
        Monitor: https://monitor.example
    """)


def test_messages_that_were_dropped():
    names = ["BatchStalled"] * 11 + ["BatchEnded"]
    dropped = notices.dropped_alert("crm", names, "crm answered 503", timedelta(hours=24), NOW)
    assert read(render(told(dropped, one_shot=True))) == golden("""
        Critical: crm was not told of 12 alerts: they were dropped after 1 d

        Cause: crm answered 503.
        It has not taken them: 11 of BatchStalled, 1 of BatchEnded. They are on the monitor's page.

        Fired 2026-11-23 12:00 UTC.
        Alert NotificationsDropped.
        Monitor: https://monitor.example
    """)


# Titles


def test_a_reminder_says_still():
    found = render(told(STALL.alert, MessageKind.REMINDER), heard=[STALL])
    assert found.title.startswith("Warning, still: spring-renewals has made no call for 22 min")
    assert "Firing since 2026-11-23 12:22 UTC." in found.body


@pytest.mark.parametrize(
    ("severity", "start", "kind"),
    [
        (Severity.INFO, "spring-renewals has", Kind.INFO),
        (Severity.WARNING, "Warning: spring-renewals has", Kind.WARNING),
        (Severity.CRITICAL, "Critical: spring-renewals has", Kind.FAILURE),
    ],
)
def test_the_severity_stands_in_front(severity, start, kind):
    found = render(fires(AlertName.BATCH_STALLED, batch(22), severity=severity))
    assert found.title.startswith(start)
    assert found.kind is kind


@pytest.mark.parametrize(
    ("how", "title"),
    [
        (Resolution.RECOVERED, "Recovered: spring-renewals is running, 119 of 400 done"),
        (Resolution.WINDOW_CLOSED, "Window closed: spring-renewals is running, 119 of 400 done"),
        (Resolution.NO_LONGER_WATCHED, "No longer watched: spring-renewals is running, 119 of 400 done"),
    ],
)
def test_an_end_begins_with_how_it_ended(how, title):
    found = render(over(STALL, how, RUNNING), heard=[STALL])
    assert found.title == title
    assert found.kind is Kind.SUCCESS
    assert "at its cap" not in found.body  # what was the cause is none any more
    assert "should be going out" not in found.body


def test_an_end_of_which_nothing_is_known_any_more_repeats_what_it_was_about():
    found = render(over(STALL, Resolution.NO_LONGER_WATCHED), heard=[STALL])
    assert found.title.startswith("No longer watched: spring-renewals has made no call for 22 min")


def test_what_is_superseded_by_something_told_elsewhere_is_no_good_news():
    found = render(
        over(STALL, Resolution.SUPERSEDED, RUNNING, by=AlertName.BATCH_ENDED_INCOMPLETE), heard=[STALL]
    )
    assert found.title.startswith("Superseded by BatchEndedIncomplete: spring-renewals is running")
    assert found.kind is Kind.INFO


def recovered(numbers, name=AlertName.BATCH_STALLED, how=Resolution.RECOVERED):
    heard = [fires(name, nth(number)) for number in numbers]
    return heard, [over(row, how, nth(number, RUNNING)) for row, number in zip(heard, numbers, strict=True)]


def test_many_ends():
    heard, ends = recovered(range(12))
    found = render(*ends, heard=heard)
    assert found.title == "Recovered: 12 batches that were stalled on account main"
    assert found.kind is Kind.SUCCESS
    assert "\n- renewals-009 is running, 119 of 400 done\nand 2 more.\n" in found.body


def test_many_that_were_over_before_they_were_told_say_when():
    heard, ends = recovered(range(2))
    found = render(*heard, *ends)
    assert found.title == "Recovered before it was told: 2 batches that were stalled on account main"
    times = "fired 2026-11-23 12:00 utc, over 2026-11-23 12:40 utc"
    assert f"- renewals-000 is running, 119 of 400 done ({times})" in found.body.lower()


def test_ends_of_several_kinds():
    one, first = recovered([1])
    other, second = recovered([2], AlertName.BATCH_PAUSED_TOO_LONG, Resolution.ENDED)
    found = render(*first, *second, heard=[*one, *other])
    assert found.title == (
        "Over: renewals-001, which was stalled, renewals-002, which was paused for too long on account main"
    )


def test_the_worst_of_what_fires_counts_and_not_what_is_over():
    heard, ends = recovered([1, 2])
    critical = fires(AlertName.BATCH_OVERDUE, nth(3, batch(7, window_end=NOW)))
    over_critical = over(critical, Resolution.ENDED, RUNNING)
    found = render(fires(AlertName.BATCH_GONE, nth(4)), over_critical, *ends, heard=[*heard, critical])
    assert found.kind is Kind.WARNING
    assert found.title == "Warning: renewals-004 gone on account main; 3 over"


def test_the_title_names_three_kinds_and_counts_the_rest():
    names = [
        AlertName.BATCH_STALLED,
        AlertName.BATCH_GONE,
        AlertName.BATCH_OVERDUE,
        AlertName.BATCH_PAUSED_TOO_LONG,
    ]
    found = render(*[fires(name, nth(place)) for place, name in enumerate(names)])
    assert found.title == (
        "Critical: renewals-002 overdue, renewals-000 stalled, renewals-001 gone and 1 more on account main"
    )


@pytest.mark.parametrize("name", AlertName)
def test_there_are_words_for_several_of_every_alert(name):
    about_accounts = alerts.KINDS[name].about_account
    accounts = [account(name=f"account-{n}", failing=failing(3, FailureReason.TIMEOUT)) for n in range(2)]
    rows = [fires(name, nth(number), of=accounts[number]) for number in range(2)]
    title = render(*rows).title
    assert (" 2 accounts " if about_accounts else "2 batches ") in f" {title}"
    assert "named" not in title
    assert "alert" not in title


def test_an_alert_without_words_of_its_own_is_named():
    rows = [told(Alert((("alertname", "TestAlert"), ("n", str(n))), (), NOW)) for n in range(2)]
    assert render(*rows).title == "Warning: 2 alerts named TestAlert"
    assert render(rows[0]).title == "Warning: TestAlert"
    assert render(rows[0]).body.startswith("Fired 2026-11-23 12:00 UTC.")


def test_a_cause_that_few_share_is_none_of_all():
    causes = [
        AT_CAP,
        account(),
        account(failing=failing(1)),
        account(active_calls=9, allowed_concurrent_calls=9),
    ]
    rows = [fires(AlertName.BATCH_STALLED, nth(number), of=of) for number, of in enumerate(causes)]
    body = render(*rows).body
    assert body.startswith("- renewals-000 has made no call")
    assert "window closes in 1 h 40 min. Cause: the account is at its cap: 9 of 9 calls active.\n" in body
    assert "window closes in 1 h 40 min. Cause unknown: the API does not tell.\n" in body


# Accounts


def on_account(name, number):
    found = nth(number)
    return replace(found, target=replace(found.target, account=name))


def test_batches_of_several_accounts_say_which_account_is_theirs():
    rows = [fires(AlertName.BATCH_STALLED, on_account(name, n)) for n, name in enumerate(("main", "eu"))]
    found = render(*rows)
    assert found.title == "Warning: 2 batches stalled on 2 accounts"
    assert "window closes in 1 h 40 min (account main)\n" in found.body
    assert "window closes in 1 h 40 min (account eu)\n" in found.body


def test_an_account_that_is_in_trouble_is_named_and_is_not_on_itself():
    broken = account(failing=failing(3))
    found = render(
        fires(AlertName.ACCOUNT_UNREACHABLE, None, of=broken), fires(AlertName.BATCH_STALLED, nth(1))
    )
    assert found.title == "Critical: account main without proper answers from Ultravox, renewals-001 stalled"


# What fires on


def test_what_was_told_before_is_counted():
    heard = [fires(AlertName.BATCH_STALLED, nth(number)) for number in range(3)]
    heard.append(fires(AlertName.BATCH_OVERDUE, nth(4)))
    found = render(STALL, heard=heard, left_out=1200)
    assert found.body.endswith(
        "Told before and still firing: 3 batches stalled, renewals-004 overdue, 1,200 more."
    )


# What is bounded


def test_a_title_that_is_too_long_ends_after_a_clause_and_the_body_says_it_all():
    name = "spring renewals " * 11
    found = render(fires(AlertName.BATCH_STALLED, nth(1, name=name.strip())))
    whole = f"Warning: {name}has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min"
    assert len(whole) > text.TITLE_LIMIT
    assert found.title == f"Warning: {name}has made no call for 22 min: 118 of 400 done…"
    assert found.body.startswith(f"{whole}\n\n")


def test_a_title_of_one_endless_word_is_cut():
    found = render(fires(AlertName.BATCH_STALLED, nth(1, name="x" * 1000)))
    assert len(found.title) == text.TITLE_LIMIT
    assert found.title.endswith("x…")


def test_long_lines_become_fewer_and_are_counted():
    rows = [fires(AlertName.BATCH_STALLED, nth(n, name=f"{n} " + "long " * 100)) for n in range(20)]
    body = render(*rows).body
    lines = [line for line in body.splitlines() if line.startswith("- ")]
    assert 3 <= len(lines) <= 6
    assert all(line.endswith("window closes in 1 h 40 min") for line in lines)
    assert f"and {20 - len(lines)} more." in body
    assert len(body) <= text.BODY_LIMIT


def test_what_does_not_fit_at_all_is_left_out_whole_and_counted():
    labels = dict(STALL.alert.labels) | {f"label_{n:02}": "x" * 200 for n in range(30)}
    found = render(told(replace(STALL.alert, labels=messages.sorted_labels(labels))))
    assert len(found.body) <= text.BODY_LIMIT
    assert "label_00" not in found.body
    assert found.body.endswith("Monitor: https://monitor.example\n\n(1 line left out: too long)")


def test_no_message_is_too_long_and_none_ends_in_the_middle():
    chance = random.Random(7)
    for _ in range(40):
        rows, heard = [], []
        for number in range(chance.choice([1, 2, 5, 40, 300])):
            name = chance.choice([one for one in AlertName if one.startswith("Batch")])
            long = "x y " * chance.choice([1, 10, 60])
            row = fires(name, nth(number, name=f"{number} {long}".strip()), of=chance.choice([AT_CAP, None]))
            if chance.random() < 0.5:
                rows.append(row)
                continue
            heard.append(row)
            how, by = chance.choice(
                [(Resolution.RECOVERED, None), (Resolution.SUPERSEDED, AlertName.BATCH_GONE)]
            )
            rows.append(over(row, how, nth(number, RUNNING), by=by))
        found = render(*rows, heard=heard)
        assert 0 < len(found.title) <= text.TITLE_LIMIT
        assert 0 < len(found.body) <= text.BODY_LIMIT
        assert "\n\n\n" not in found.body
        assert not found.body.startswith("\n")
        listed = sum(line.startswith("- ") for line in found.body.splitlines())
        assert listed <= 2 * text.LINES


@pytest.mark.parametrize("odd", ["two\nlines", "two\r\nlines", "a\x00b", "a\ud800b", "a\u2028b", "tab\there"])
def test_every_title_is_one_line_that_can_be_sent(odd):
    found = render(fires(AlertName.BATCH_STALLED, nth(1, name=odd)))
    assert found.title.isprintable()
    assert all(line.isprintable() for line in found.body.splitlines())
    assert (found.title + found.body).encode()


def test_the_same_message_always_reads_the_same():
    assert render(STALL) == render(replace(STALL, attempts=7, last_error="503"))
