"""Which batches a view shows: filters, order, pages, and what is said of a question that cannot be answered."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NOW, batch_key, observation, status

from monitor import evaluate
from monitor.choice import ANY, MOST_ROWS, WORST_FIRST, Choice, Sort, asked, at_risk, choose
from monitor.model import AlertName, AlertState, Phase, Severity, State


def firing(name=AlertName.BATCH_STALLED, severity=Severity.WARNING, phase=Phase.FIRING):
    return AlertState(name, phase, NOW, severity)


AT_RISK = firing(AlertName.BATCH_WINDOW_AT_RISK)


def made(number, *, name=None, state=None, alerts=(), account="main", labels=(), **changes):
    one = status(
        observation(**changes), key=batch_key(number), batch=name or f"batch {number}", alerts=tuple(alerts)
    )
    target = replace(one.target, account=account, labels=labels)
    assessment = one.assessment if state is None else replace(one.assessment, state=state)
    return replace(one, target=target, assessment=assessment)


def names(found):
    return [one.batch for one in found.rows]


def test_every_state_has_its_place():
    assert set(WORST_FIRST) == set(State)


def test_the_worst_comes_first():
    later = NOW + timedelta(hours=9)
    batches = [
        made(1, name="ended", state=State.ENDED),
        made(2, name="waiting", state=State.WAITING),
        made(3, name="running", window_end=later),
        made(4, name="closes sooner"),
        made(5, name="without an end", window_end=None),
        made(6, name="unknown", state=State.UNKNOWN),
        made(7, name="paused", state=State.PAUSED),
        made(8, name="calls fail", alerts=[firing(AlertName.BATCH_FAILURE_RATE_HIGH)]),
        made(9, name="incomplete", state=State.INCOMPLETE),
        made(10, name="gone", state=State.GONE),
        made(11, name="overdue, told", state=State.OVERDUE, alerts=[firing(severity=Severity.CRITICAL)]),
        made(12, name="overdue", state=State.OVERDUE),
        made(13, name="stalled, told", state=State.STALLED, alerts=[firing()]),
        made(14, name="stalled", state=State.STALLED, alerts=[firing(phase=Phase.PENDING)]),
        made(15, name="at risk", alerts=[AT_RISK]),
    ]
    assert names(choose(batches, Choice())) == [
        "at risk",
        "stalled, told",
        "stalled",
        "overdue, told",
        "overdue",
        "gone",
        "incomplete",
        "calls fail",
        "paused",
        "unknown",
        "closes sooner",
        "running",
        "without an end",
        "waiting",
        "ended",
    ]


def test_an_end_of_which_is_told_does_not_come_before_what_goes_on():
    told = made(1, name="ended", state=State.ENDED, alerts=[firing(AlertName.BATCH_ENDED, Severity.INFO)])
    assert names(choose([told, made(2, name="running")], Choice())) == ["running", "ended"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.RUNNING, True),
        (State.STALLED, True),
        (State.PAUSED, True),
        (State.OVERDUE, False),
        (State.INCOMPLETE, False),
        (State.GONE, False),
    ],
)
def test_at_risk_is_what_can_still_be_helped(state, expected):
    assert at_risk(made(1, state=state, alerts=[AT_RISK])) is expected
    assert not at_risk(made(1, state=state, alerts=[replace(AT_RISK, phase=Phase.PENDING)]))


BATCHES = [
    made(1, name="Spring Renewals", account="main", labels=(("team", "growth"),), completed=40),
    made(2, name="dentist", account="agency", alerts=[firing()], completed=400, throttle="gentle-straße"),
    made(3, name="autumn", account="main", state=State.PAUSED, alerts=[AT_RISK], completed=0),
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Choice(), {"Spring Renewals", "dentist", "autumn"}),
        (Choice(account="main"), {"Spring Renewals", "autumn"}),
        (Choice(account="mai"), set()),
        (Choice(states=(State.PAUSED,)), {"autumn"}),
        (Choice(states=(State.PAUSED, State.RUNNING), account="main"), {"Spring Renewals", "autumn"}),
        (Choice(firing=ANY), {"dentist", "autumn"}),
        (Choice(firing="BatchStalled"), {"dentist"}),
        (Choice(firing="BatchGone"), set()),
        (Choice(search="SPRING"), {"Spring Renewals"}),
        (Choice(search="renewals spring"), {"Spring Renewals"}),
        (Choice(search="team=growth"), {"Spring Renewals"}),
        (Choice(search="GENTLE-STRASSE"), {"dentist"}),
        (Choice(search="gentle"), {"dentist"}),
        (Choice(search=batch_key(3).batch_id), {"autumn"}),
        (Choice(search="agency den"), {"dentist"}),
        (Choice(search="spring autumn"), set()),
    ],
)
def test_what_is_asked_for_is_shown(wanted, expected):
    found = choose(BATCHES, wanted)
    assert set(names(found)) == expected
    assert found.matching == len(expected)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (Sort.NAME, ["Spring Renewals", "autumn", "dentist"]),
        (Sort.PROGRESS, ["autumn", "Spring Renewals", "dentist"]),
    ],
)
def test_the_order_can_be_chosen_and_reversed(sort, expected):
    assert names(choose(BATCHES, Choice(sort=sort))) == expected
    assert names(choose(BATCHES, Choice(sort=sort, reverse=True))) == expected[::-1]


def test_what_has_no_pace_no_window_and_was_never_seen_can_be_ordered():
    unseen = replace(
        made(9, name="unseen"),
        progress=None,
        last_success_at=None,
        assessment=evaluate.assess(None, None, evaluate.Rules()),
    )
    fast = replace(BATCHES[1], assessment=replace(BATCHES[1].assessment, calls_per_second=2.0))
    batches = [fast, unseen]
    assert names(choose(batches, Choice(sort=Sort.PACE))) == ["unseen", "dentist"]
    assert names(choose(batches, Choice(sort=Sort.WINDOW))) == ["dentist", "unseen"]
    assert names(choose(batches, Choice(sort=Sort.SEEN))) == ["unseen", "dentist"]
    assert names(choose(batches, Choice(sort=Sort.PROGRESS))) == ["unseen", "dentist"]
    assert names(choose([unseen], Choice(search="unseen"))) == ["unseen"]


def test_counts_are_of_all_that_match_not_of_what_is_on_the_page():
    found = choose(BATCHES, Choice(states=(State.RUNNING,), limit=1))
    assert (len(found.rows), found.matching, found.page, found.pages) == (1, 2, 1, 2)
    assert found.states == {
        State.PAUSED: 1,
        State.RUNNING: 2,
    }  # whatever state is asked for: they are choices
    assert list(found.states) == [State.PAUSED, State.RUNNING]
    assert found.severities == {Severity.WARNING: 1}
    assert found.at_risk == 1


@given(st.integers(0, 25), st.one_of(st.none(), st.integers(1, 9)), st.sampled_from(Sort), st.booleans())
def test_the_pages_together_are_all_of_it_once(count, limit, sort, reverse):
    batches = [made(number, completed=number % 7) for number in range(count)]
    whole = choose(batches, Choice(sort=sort, reverse=reverse))
    assert sorted(names(whole)) == sorted(one.batch for one in batches)
    pages = choose(batches, Choice(sort=sort, reverse=reverse, limit=limit)).pages
    parts = [
        name
        for page in range(1, pages + 1)
        for name in names(choose(batches, Choice(sort=sort, reverse=reverse, limit=limit, page=page)))
    ]
    assert parts == names(whole)
    beyond = choose(batches, Choice(sort=sort, reverse=reverse, limit=limit, page=pages + 3))
    assert (beyond.page, names(beyond)) == (
        pages,
        names(choose(batches, Choice(sort=sort, reverse=reverse, limit=limit, page=pages))),
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, Choice(limit=50)),
        ({"state": "", "q": " ", "firing": "", "limit": "", "page": ""}, Choice(limit=50)),
        ({"state": "stalled,paused"}, Choice(states=(State.STALLED, State.PAUSED), limit=50)),
        ({"sort": "-pace", "page": "3"}, Choice(sort=Sort.PACE, reverse=True, page=3, limit=50)),
        (
            {"firing": "any", "account": "main", "q": " a b "},
            Choice(firing=ANY, account="main", search="a b", limit=50),
        ),
        ({"firing": "BatchGone", "limit": "1000"}, Choice(firing="BatchGone", limit=1000)),
    ],
)
def test_a_question_is_read(query, expected):
    assert asked(query, limit=50) == expected


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"state": "stale"}, "state=stale: there is no such state; there are unknown, incomplete, ended"),
        ({"sort": "worse"}, "sort=worse: order by worst, name, progress, pace, window, seen; with a minus"),
        ({"sort": "--name"}, "sort=--name: order by"),
        ({"firing": "yes"}, "firing=yes: give any or the name of an alert: BatchStalled"),
        ({"limit": "0"}, f"limit=0: give a number from 1 to {MOST_ROWS}"),
        ({"limit": "1001"}, f"limit=1001: give a number from 1 to {MOST_ROWS}"),
        ({"page": "-1"}, "page=-1: give a number from 1"),
        ({"page": "1e3"}, "page=1e3: give a number from 1"),
        ({"page": "9" * 5000}, "give a number from 1"),
        ({"page": "²"}, "page=²: give a number from 1"),
    ],
)
def test_a_question_without_sense_is_told_what_would_have_one(query, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        asked(query)
