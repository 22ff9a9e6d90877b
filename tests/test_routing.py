"""Who wants which alert, when a receiver is muted, until when; and what the configuration makes of it."""

from __future__ import annotations

import re
import subprocess
import sys
import zoneinfo
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from samples import account, status

from monitor import config, messages
from monitor.model import AlertName, Severity
from monitor.routing import LONGEST_MUTE, Pacing, Route, TimeInterval

MIN, DAY = timedelta(minutes=1), timedelta(days=1)
BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
STALLED = messages.batch_labels(AlertName.BATCH_STALLED, Severity.WARNING, status())  # its team is growth
ENDED = messages.batch_labels(AlertName.BATCH_ENDED, Severity.INFO, status())
UNREACHABLE = messages.account_labels(AlertName.ACCOUNT_UNREACHABLE, Severity.CRITICAL, account())


def match(**labels):
    return Route(
        match=tuple(
            (name, frozenset([values] if isinstance(values, str) else values))
            for name, values in labels.items()
        )
    )


# Who wants what


@pytest.mark.parametrize("labels", [STALLED, ENDED, UNREACHABLE, ()])
def test_who_says_nothing_is_told_everything_at_any_time(labels):
    assert Route().why_not(labels) is None
    assert Route().muted_until(datetime(2026, 11, 23, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("route", "labels", "why"),
    [
        (Route(only=frozenset({AlertName.BATCH_STALLED})), STALLED, None),
        (Route(only=frozenset({AlertName.BATCH_STALLED})), ENDED, "its `only` does not name BatchEnded"),
        (Route(only=frozenset({AlertName.BATCH_STALLED, AlertName.BATCH_ENDED})), ENDED, None),
        (Route(severity_at_least=Severity.INFO), ENDED, None),
        (
            Route(severity_at_least=Severity.WARNING),
            ENDED,
            "severity info is below its `severity_at_least: warning`",
        ),
        (Route(severity_at_least=Severity.WARNING), STALLED, None),
        (Route(severity_at_least=Severity.WARNING), UNREACHABLE, None),
        (
            Route(severity_at_least=Severity.CRITICAL),
            STALLED,
            "severity warning is below its `severity_at_least: critical`",
        ),
        (Route(severity_at_least=Severity.CRITICAL), UNREACHABLE, None),
        (match(team="growth"), STALLED, None),
        (match(team="sales"), STALLED, "its `match` asks for team=sales, and team is growth"),
        (match(team=["sales", "growth"]), STALLED, None),
        (
            match(account=["second", "third"]),
            STALLED,
            "its `match` asks for account=second or third, and account is main",
        ),
        (match(team="grow"), STALLED, "its `match` asks for team=grow, and team is growth"),
        (match(team="GROWTH"), STALLED, "its `match` asks for team=GROWTH, and team is growth"),
        (match(team="growth", account="main", severity="warning", alertname="BatchStalled"), STALLED, None),
        (match(batch="spring-renewals", agent_id=dict(STALLED)["agent_id"]), STALLED, None),
        (match(team="growth", account="other"), STALLED, "its `match` asks for account=other, and account is main"),
        (match(region="north"), STALLED, "its `match` asks for region=north, and there is no region"),
        (match(region=["", "north"]), STALLED, None),
        (match(team=""), STALLED, 'its `match` asks for team="", and team is growth'),
        (match(team=["", "sales"]), STALLED, 'its `match` asks for team="" or sales, and team is growth'),
    ],
)  # fmt: skip
def test_why_a_receiver_does_not_want_an_alert(route, labels, why):
    assert route.why_not(labels) == why


@pytest.mark.parametrize(
    ("route", "why"),
    [
        (match(account="main"), None),
        (match(team="growth"), "its `match` asks for team=growth, and there is no team"),
        (match(team=["growth", ""]), None),
        (match(batch_id=""), None),  # alerts about accounts, and no other
    ],
)
def test_an_alert_about_an_account_has_no_label_of_a_batch(route, why):
    assert route.why_not(UNREACHABLE) == why


def test_alerts_about_accounts_alone_can_be_asked_for():
    assert "batch_id" in match(batch_id="").why_not(STALLED)


def test_the_first_that_fails_is_told_and_all_have_to_hold():
    route = replace(
        match(team="sales", account="other"),
        only=frozenset({AlertName.BATCH_STALLED}),
        severity_at_least=Severity.CRITICAL,
    )
    assert route.why_not(ENDED) == "its `only` does not name BatchEnded"
    assert (
        replace(route, only=None).why_not(ENDED) == "severity info is below its `severity_at_least: critical`"
    )
    assert (
        replace(route, only=None, severity_at_least=Severity.INFO).why_not(ENDED)
        == "its `match` asks for team=sales, and team is growth"
    )


def test_what_is_known_as_an_alert_s_labels_is_what_alerts_have():
    own = dict(status().target.labels)
    assert set(dict(STALLED)) - set(own) == messages.ALERT_LABELS
    assert set(dict(UNREACHABLE)) < messages.ALERT_LABELS
    assert messages.ALERT_LABELS < messages.RESERVED_LABELS


# Mute time intervals: until when, as the clocks at the place show it

MON, TUE, WED, THU, FRI, SAT, SUN = range(7)


def clock(text):
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)


def interval(times=(), weekdays=(), location=UTC):
    return TimeInterval(
        tuple((clock(start), clock(end)) for start, end in (one.split("-") for one in times)),
        frozenset(weekdays),
        location,
    )


def muted(*intervals):
    return Route(mute_time_intervals=intervals)


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


OFFICE = interval(["08:00-18:00"], [MON, TUE, WED, THU, FRI])
NIGHT = interval(["22:00-06:00"])
FRIDAY_NIGHT = interval(["22:00-06:00"], [FRI])
WEEKEND = interval(weekdays=[SAT, SUN])
LUNCH_AND_TEA = interval(["12:00-13:00", "16:00-16:30"])


@pytest.mark.parametrize(  # 2026-11-23 is a Monday
    ("intervals", "at", "until"),
    [
        # the start belongs to it, the end does not
        ([OFFICE], "2026-11-23 07:59:59.999999", None),
        ([OFFICE], "2026-11-23 08:00", "2026-11-23 18:00"),
        ([OFFICE], "2026-11-23 17:59:59.999999", "2026-11-23 18:00"),
        ([OFFICE], "2026-11-23 18:00", None),
        ([OFFICE], "2026-11-28 12:00", None),
        ([LUNCH_AND_TEA], "2026-11-23 12:30", "2026-11-23 13:00"),
        ([LUNCH_AND_TEA], "2026-11-23 13:00", None),
        ([LUNCH_AND_TEA], "2026-11-23 16:29", "2026-11-23 16:30"),
        # over midnight: the day on which it starts counts
        ([NIGHT], "2026-11-23 21:59", None),
        ([NIGHT], "2026-11-23 22:00", "2026-11-24 06:00"),
        ([NIGHT], "2026-11-24 00:00", "2026-11-24 06:00"),
        ([NIGHT], "2026-11-24 05:59", "2026-11-24 06:00"),
        ([NIGHT], "2026-11-24 06:00", None),
        ([FRIDAY_NIGHT], "2026-11-27 05:00", None),
        ([FRIDAY_NIGHT], "2026-11-27 23:00", "2026-11-28 06:00"),
        ([FRIDAY_NIGHT], "2026-11-28 05:00", "2026-11-28 06:00"),
        ([FRIDAY_NIGHT], "2026-11-28 23:00", None),
        ([interval(["22:00-06:00"], [SUN])], "2026-11-23 05:00", "2026-11-23 06:00"),  # over the week's end
        # midnight as an end, either way it is written
        ([interval(["18:00-24:00"])], "2026-11-23 23:59", "2026-11-24 00:00"),
        ([interval(["18:00-00:00"])], "2026-11-23 23:59", "2026-11-24 00:00"),
        ([interval(["18:00-00:00"])], "2026-11-24 00:00", None),
        ([interval(["00:00-24:00"], [MON])], "2026-11-23 00:00", "2026-11-24 00:00"),
        ([interval(["00:00-24:00"], [MON])], "2026-11-24 00:00", None),
        # whole days
        ([WEEKEND], "2026-11-27 23:59", None),
        ([WEEKEND], "2026-11-28 00:00", "2026-11-30 00:00"),
        ([WEEKEND], "2026-11-29 23:59", "2026-11-30 00:00"),
        ([interval(weekdays=[SUN, MON])], "2026-11-22 10:00", "2026-11-24 00:00"),  # and over the week's end
        # what touches or overlaps is one
        ([interval(["08:00-09:00"]), interval(["09:00-10:00"])], "2026-11-23 08:30", "2026-11-23 10:00"),
        ([interval(["08:00-09:00", "08:30-10:00"])], "2026-11-23 08:15", "2026-11-23 10:00"),
        ([interval(["08:00-12:00", "09:00-10:00"])], "2026-11-23 09:30", "2026-11-23 12:00"),
        ([interval(["08:00-09:00"]), interval(["09:01-10:00"])], "2026-11-23 08:30", "2026-11-23 09:00"),
        ([interval(["18:00-08:00"]), WEEKEND], "2026-11-27 19:00", "2026-11-30 08:00"),
        # by the clocks there
        ([interval(["08:00-18:00"], location=BERLIN)], "2026-11-23 07:00", "2026-11-23 17:00"),
        ([interval(weekdays=[SAT], location=NEW_YORK)], "2026-11-28 04:59", None),
        ([interval(weekdays=[SAT], location=NEW_YORK)], "2026-11-28 05:00", "2026-11-29 05:00"),
        (
            [interval(["08:00-20:00"], location=BERLIN), interval(["13:00-20:00"], location=NEW_YORK)],
            "2026-11-23 12:00",
            "2026-11-24 01:00",
        ),
        ([interval(["00:00-06:00"], location=ZoneInfo("Asia/Kathmandu"))], "2026-11-23 18:15", "2026-11-24 00:15"),
    ],
)  # fmt: skip
def test_a_mute_lasts_until(intervals, at, until):
    assert muted(*intervals).muted_until(utc(at)) == (until and utc(until))


# In 2026 clocks are put forward on 29 March in Berlin (02:00 becomes 03:00, at 01:00 UTC) and on 8 March in New York
# (07:00 UTC), and put back on 25 October (03:00 becomes 02:00, at 01:00 UTC) and on 1 November (06:00 UTC).


@pytest.mark.parametrize(
    ("location", "times", "at", "until"),
    [
        # Berlin, spring: 02:00 to 03:00 is not there
        (BERLIN, "22:00-06:00", "2026-03-28 21:00", "2026-03-29 04:00"),
        (BERLIN, "01:00-02:30", "2026-03-29 00:30", "2026-03-29 01:00"),
        (BERLIN, "02:15-02:45", "2026-03-29 00:59", None),
        (BERLIN, "02:15-02:45", "2026-03-29 01:00", None),
        (BERLIN, "02:30-03:30", "2026-03-29 00:59:59", None),
        (BERLIN, "02:30-03:30", "2026-03-29 01:00", "2026-03-29 01:30"),
        (BERLIN, "03:00-02:00", "2026-03-28 12:00", "2026-03-30 00:00"),  # the hour that it leaves out is not there
        (BERLIN, "03:30-02:00", "2026-03-28 12:00", "2026-03-29 01:00"),
        # Berlin, autumn: 02:00 to 03:00 is there twice
        (BERLIN, "22:00-06:00", "2026-10-24 20:00", "2026-10-25 05:00"),
        (BERLIN, "01:00-02:30", "2026-10-24 23:30", "2026-10-25 00:30"),
        (BERLIN, "01:00-02:30", "2026-10-25 00:45", None),
        (BERLIN, "01:00-02:30", "2026-10-25 01:15", "2026-10-25 01:30"),
        (BERLIN, "02:15-02:45", "2026-10-25 00:15", "2026-10-25 00:45"),
        (BERLIN, "02:15-02:45", "2026-10-25 01:15", "2026-10-25 01:45"),
        (BERLIN, "02:00-03:00", "2026-10-25 00:30", "2026-10-25 02:00"),
        (BERLIN, "03:00-02:00", "2026-10-24 12:00", "2026-10-25 00:00"),
        # New York, spring
        (NEW_YORK, "22:00-06:00", "2026-03-08 03:00", "2026-03-08 10:00"),
        (NEW_YORK, "01:00-02:30", "2026-03-08 06:30", "2026-03-08 07:00"),
        (NEW_YORK, "02:15-02:45", "2026-03-08 07:00", None),
        # New York, autumn: 01:00 to 02:00 is there twice
        (NEW_YORK, "22:00-06:00", "2026-11-01 02:00", "2026-11-01 11:00"),
        (NEW_YORK, "01:00-01:30", "2026-11-01 05:00", "2026-11-01 05:30"),
        (NEW_YORK, "01:00-01:30", "2026-11-01 05:30", None),
        (NEW_YORK, "01:00-01:30", "2026-11-01 06:00", "2026-11-01 06:30"),
        (NEW_YORK, "00:30-02:00", "2026-11-01 04:30", "2026-11-01 07:00"),
        # clocks that are put back by half an hour (Lord Howe, 02:00 becomes 01:30, at 15:00 UTC)
        (ZoneInfo("Australia/Lord_Howe"), "01:30-02:00", "2026-04-04 14:30", "2026-04-04 15:30"),
        # and at midnight (Santiago, 24:00 becomes 23:00, at 03:00 UTC; 00:00 becomes 01:00, at 04:00 UTC)
        (ZoneInfo("America/Santiago"), "20:00-24:00", "2026-04-05 00:00", "2026-04-05 04:00"),
        (ZoneInfo("America/Santiago"), "20:00-00:30", "2026-09-06 00:00", "2026-09-06 04:00"),
    ],
)  # fmt: skip
def test_where_clocks_are_put_forward_or_back_what_they_show_decides(location, times, at, until):
    found = muted(interval([times], location=location)).muted_until(utc(at))
    assert found == (until and utc(until))


@pytest.mark.parametrize(
    ("location", "at", "until"),
    [
        (BERLIN, "2026-03-29 12:00", "2026-03-29 22:00"),
        (BERLIN, "2026-03-28 23:00", "2026-03-29 22:00"),
        (BERLIN, "2026-10-24 22:00", "2026-10-25 23:00"),
    ],
)
def test_a_day_of_23_or_25_hours_is_muted_as_a_whole(location, at, until):
    route = muted(interval(weekdays=[SUN], location=location))
    assert route.muted_until(utc(at)) == utc(until)
    assert route.muted_until(utc(until) - MIN) == utc(until)


@pytest.mark.parametrize(
    "intervals",
    [
        [interval(weekdays=range(7), location=BERLIN)],
        [interval(["18:00-08:00", "08:00-18:00"], location=NEW_YORK)],
        [interval(weekdays=[MON, TUE, WED, THU, FRI]), WEEKEND],
        [TimeInterval()],
        [interval(["12:00-12:00"])],
    ],
)
def test_a_mute_for_ever_is_looked_at_for_a_year(intervals):
    at = utc("2026-11-23 12:34:56")
    assert muted(*intervals).muted_until(at) == at + LONGEST_MUTE


def test_one_minute_in_the_week_ends_a_mute():
    route = muted(interval(weekdays=[MON, TUE, WED, THU, FRI, SAT]), interval(["12:01-12:00"], [SAT, SUN]))
    assert route.muted_until(utc("2026-11-23 00:00")) == utc("2026-11-29 12:00")
    assert route.muted_until(utc("2026-11-29 12:00")) is None
    assert route.muted_until(utc("2026-11-29 12:01")) == utc("2026-12-06 12:00")


# Compared with what a patient reader of clocks finds, minute by minute


def shows(clocks, at):
    """Whether the clocks at a place show, at this instant, a time that lies in one of the spans on its calendar."""
    local = at.astimezone(clocks.location).replace(tzinfo=None)
    for days_ago in (0, 1):
        day = local.date() - days_ago * DAY
        if clocks.weekdays and day.isoweekday() - 1 not in clocks.weekdays:
            continue
        midnight = datetime.combine(day, time())
        for start, end in clocks.times or ((0, 1440),):
            ends = midnight + end * MIN if end > start else midnight + DAY + end * MIN
            if midnight + start * MIN <= local < ends:
                return True
    return False


ZONES = sorted(zoneinfo.available_timezones() - {"localtime", "posixrules"})
PLACES = st.sampled_from([BERLIN, NEW_YORK, UTC, ZoneInfo("Australia/Lord_Howe")]) | st.sampled_from(ZONES).map(
    ZoneInfo
)  # fmt: skip
CHANGES = [utc("2026-03-08 07:00"), utc("2026-03-29 01:00"), utc("2026-10-25 01:00"), utc("2026-11-01 06:00")]
INSTANTS = st.datetimes(datetime(2024, 1, 1), datetime(2036, 12, 31), timezones=st.just(UTC)) | st.builds(
    lambda change, off: change + off,
    st.sampled_from(CHANGES),
    st.timedeltas(-2 * DAY, 6 * timedelta(hours=1)),
)
CLOCK_TIMES = st.integers(0, 1439) | st.integers(0, 95).map(lambda quarter: 15 * quarter)
TIMES = st.tuples(CLOCK_TIMES, CLOCK_TIMES | st.just(1440)).filter(lambda one: one[0] != one[1])
INTERVALS = st.builds(
    TimeInterval,
    times=st.lists(TIMES, max_size=3).map(tuple),
    weekdays=st.frozensets(st.integers(0, 6), max_size=7),
    location=PLACES,
).filter(lambda one: one.times or one.weekdays)


@settings(max_examples=150, deadline=None)
@given(st.lists(INTERVALS, max_size=3).map(tuple), INSTANTS)
@example((interval(["01:00-02:30"], location=BERLIN),), utc("2026-10-25 00:29:59.999999"))
@example((interval(["01:00-02:30"], location=BERLIN),), utc("2026-03-29 00:59:59.999999"))
def test_a_mute_lasts_as_long_as_every_minute_is_muted_and_no_longer(intervals, at):
    def reference(instant):
        return any(shows(one, instant) for one in intervals)

    until = Route(mute_time_intervals=intervals).muted_until(at)
    if until is None:
        assert not reference(at)
        return
    assert at < until <= at + LONGEST_MUTE
    if until < at + LONGEST_MUTE:
        assert not reference(until)
        assert Route(mute_time_intervals=intervals).muted_until(until) is None
    first = at.replace(second=0, microsecond=0)
    minutes = int((until - first) / MIN)
    sampled = range(0, minutes, 1 + minutes // 300)
    for minute in {*range(min(120, minutes)), *sampled, *range(max(0, minutes - 120), minutes)}:
        assert reference(first + minute * MIN), first + minute * MIN


def test_no_place_on_earth_changes_its_clocks_in_a_way_that_is_missed():
    """Every hour before a change of 2026 and 2027, from a day and more ahead; places that change alike count once."""
    places = {changes_of(zone): zone for zone in map(ZoneInfo, ZONES)}
    assert len(places) > 20
    for changes, zone in places.items():
        for clocks in (interval(["22:00-06:00"], location=zone), interval(weekdays=[SUN], location=zone)):
            for change, _, _ in changes:
                for hours in range(-26, 4):
                    at = change + timedelta(hours=hours)
                    until = muted(clocks).muted_until(at)
                    assert (until is not None) == shows(clocks, at), (zone, at)
                    assert until is None or (shows(clocks, until - MIN) and not shows(clocks, until)), (
                        zone,
                        at,
                    )


def changes_of(zone):
    """When the clocks at a place are changed in 2026 and 2027, and how far they are from UTC before and after."""
    changes, before = [], utc("2026-01-01 00:00")
    while before.year < 2028:
        after = before + 5 * DAY
        offset = before.astimezone(zone).utcoffset()
        if after.astimezone(zone).utcoffset() != offset:
            while after - before > MIN:
                middle = before + MIN * ((after - before) // MIN // 2)
                same = middle.astimezone(zone).utcoffset() == offset
                before, after = (middle, after) if same else (before, middle)
            changes.append((after, offset, after.astimezone(zone).utcoffset()))
        before = after
    return tuple(changes)


# The configuration

PAGE = (Path(__file__).parent.parent / "docs/receivers.md").read_text(encoding="utf-8")
MINIMAL = "accounts: [{name: main, api_key: '${KEY}'}]\n"


def load(tmp_path, receiver):
    path = tmp_path / "config.yaml"
    text = MINIMAL + "receivers:\n  - name: crm\n    webhook: {url: 'https://crm.example/'}\n" + receiver
    path.write_text(text, encoding="utf-8")
    found = config.load(path, {"KEY": "Zk3hQ9aB.0123456789abcdef0123456789abcdef", "TEAM": "growth"})
    return found.receivers["crm"].route, found.receivers["crm"].pacing


def test_a_receiver_that_says_nothing_has_the_defaults(tmp_path):
    assert load(tmp_path, "") == (Route(), Pacing())
    assert Pacing() == Pacing(timedelta(seconds=30), timedelta(hours=24), 60)


@pytest.mark.parametrize(
    ("text", "route"),
    [
        (
            "only: [BatchStalled, BatchEndedIncomplete, BatchStalled]",
            Route(only=frozenset({AlertName.BATCH_STALLED, AlertName.BATCH_ENDED_INCOMPLETE})),
        ),
        ("only: null", Route()),
        ("severity_at_least: critical", Route(severity_at_least=Severity.CRITICAL)),
        ("match: {team: growth, account: [main, second]}", match(team="growth", account=["main", "second"])),
        ("match: {team: '${TEAM}', batch_id: ''}", match(team="growth", batch_id="")),
        ("match: {}", Route()),
        ("mute_time_intervals: []", Route()),
        (
            "mute_time_intervals: [{times: [{start_time: '18:00', end_time: '24:00'}, {start_time: '22:30', end_time: '06:05'}]}]",
            muted(interval(["18:00-24:00", "22:30-06:05"], location=ZoneInfo("UTC"))),
        ),
        (
            "mute_time_intervals: [{weekdays: ['monday:wednesday', Sunday], location: Europe/Berlin}, {weekdays: [friday]}]",
            muted(
                interval(weekdays=[MON, TUE, WED, SUN], location=BERLIN),
                interval(weekdays=[FRI], location=ZoneInfo("UTC")),
            ),
        ),
    ],
)
def test_what_a_receiver_is_told(tmp_path, text, route):
    assert load(tmp_path, f"    {text}\n")[0] == route


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("monday", {MON}),
        ("sunday:sunday", {SUN}),
        ("monday:sunday", set(range(7))),
        ("saturday:monday", {SAT, SUN, MON}),
        ("sunday:saturday", set(range(7))),
        ("WEDNESDAY:Thursday", {WED, THU}),
    ],
)
def test_ranges_of_weekdays_hold_both_ends_and_may_run_over_the_week_s_end(tmp_path, text, days):
    [route, _] = load(tmp_path, f"    mute_time_intervals: [{{weekdays: [{text}]}}]\n")
    assert route.mute_time_intervals[0].weekdays == days


@pytest.mark.parametrize(
    ("text", "pacing"),
    [
        ("group_wait: 0s", Pacing(group_wait=timedelta(0))),
        ("group_wait: 1h", Pacing(group_wait=timedelta(hours=1))),
        ("give_up_after: 1h", Pacing(give_up_after=timedelta(hours=1))),
        ("give_up_after: 30d", Pacing(give_up_after=timedelta(days=30))),
        ("max_messages_per_minute: 1", Pacing(max_messages_per_minute=1)),
        ("max_messages_per_minute: 6000", Pacing(max_messages_per_minute=6000)),
    ],
)
def test_how_fast_a_receiver_is_told(tmp_path, text, pacing):
    assert load(tmp_path, f"    {text}\n")[1] == pacing


def test_each_receiver_has_its_own_and_alertmanager_may_be_told_less_too(tmp_path):
    second = "  - {name: oncall, alertmanager: {urls: ['http://alertmanager:9093']}, severity_at_least: warning, give_up_after: 2h}\n"
    assert load(tmp_path, "    group_wait: 5s\n" + second) == (Route(), Pacing(timedelta(seconds=5)))
    found = config.load(tmp_path / "config.yaml", {"KEY": "Zk3hQ9aB.0123456789abcdef0123456789abcdef"})
    assert found.receivers["oncall"].route == Route(severity_at_least=Severity.WARNING)
    assert found.receivers["oncall"].pacing.give_up_after == timedelta(hours=2)


def test_what_the_page_shows_is_muted_by_night_and_over_the_weekend(tmp_path):
    [shown] = re.findall(r"^    mute_time_intervals:\n(?: {6}- .*\n)+", PAGE, flags=re.MULTILINE)
    [route, _] = load(tmp_path, shown)
    assert route.muted_until(utc("2026-10-23 16:00")) == utc(
        "2026-10-26 07:00"
    )  # Friday evening to Monday morning
    assert route.muted_until(utc("2026-10-26 07:00")) is None


def test_time_zones_are_there_where_the_system_has_none():
    """Slim images have no zone files: those of the package that is installed with the monitor serve."""
    script = "from zoneinfo import ZoneInfo, reset_tzpath; reset_tzpath([]); print(ZoneInfo('Europe/Berlin'))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "Europe/Berlin\n"
