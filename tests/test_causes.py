"""Why an alert fires, in one clause: the most telling one that is known, and never a guess."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import get_type_hints

import pytest
from samples import NOW, account, observation, status

from monitor import causes
from monitor.alerts import KINDS
from monitor.causes import EXPLAINED_BY_CALLS, UNKNOWN
from monitor.model import (
    AlertName,
    Assessment,
    CallError,
    Circumstances,
    FailedCalls,
    Failing,
    FailureReason,
    State,
    Status,
)

OF_BATCHES = [name for name, kind in KINDS.items() if not kind.about_account]
TOLD_BY_CALLS = {AlertName.BATCH_ENDED_INCOMPLETE, AlertName.BATCH_FAILURE_RATE_HIGH}
FROM_AROUND = sorted(EXPLAINED_BY_CALLS - {AlertName.BATCH_FAILURE_RATE_HIGH})
"""The alerts whose cause may be anything around the batch, as much as its calls."""

API_DOWN = {"failing": Failing(NOW, 3, 0, FailureReason.TIMEOUT, "no answer within 10 s")}
AT_CAP = {"active_calls": 5, "allowed_concurrent_calls": 5}
THROTTLED = {"throttle": "its throttle is spent: 50 calls per 12 h"}
CALLS = (CallError.BUSY, 12), (CallError.OTHER, 3)

CLAUSES = {
    "api": "API unreachable since 2026-11-23 12:00 UTC",
    "cap": "the account is at its cap: 5 of 5 calls active",
    "throttle": "its throttle is spent: 50 calls per 12 h",
    "paused": "seen paused since 2026-11-23 12:00 UTC",
    "bound": "its throttle and the account's lines allow 15 calls/h at most",
    "calls": "calls fail, most often: busy (12 of 15 looked at)",
}
"""What can be known, the most telling first."""


def clause(name, fact):
    """Calls that fail are completed: why others are not made, they do not tell."""
    return f"unknown; {CLAUSES[fact]}" if fact == "calls" and name not in TOLD_BY_CALLS else CLAUSES[fact]


def batch(*facts):
    """A batch of which just these facts are known, and its account."""
    made = status(observation(paused="paused" in facts))
    around = THROTTLED if "throttle" in facts else {}
    if "bound" in facts:
        around = around | {"most_calls_per_second": 15 / 3600}
        made = replace(made, assessment=replace(made.assessment, needed_calls_per_second=16 / 3600))
    calls = FailedCalls(NOW, CALLS) if "calls" in facts else None
    made = replace(made, around=Circumstances(**around), failed_calls=calls)
    # A cap is believed only as long as the probe is answered.
    return made, account(**(AT_CAP if "cap" in facts else {}), **(API_DOWN if "api" in facts else {}))


@pytest.mark.parametrize("name", FROM_AROUND)
def test_the_most_telling_clause_comes_alone(name):
    known = list(CLAUSES)
    while known:
        first = known[0]
        assert causes.of_batch(name, *batch(*known)) == clause(name, first)
        assert causes.of_batch(name, *batch(first)) == clause(name, first), "it needs none of the others"
        known = known[1:]


@pytest.mark.parametrize("name", FROM_AROUND)
def test_what_is_not_known_is_said_to_be_unknown(name):
    assert causes.of_batch(name, *batch()) == UNKNOWN == "unknown: the API does not tell"
    never_seen = status(progress=None, assessment=Assessment(State.UNKNOWN, "never observed"))
    assert causes.of_batch(name, never_seen, account()) == UNKNOWN


@pytest.mark.parametrize("name", [name for name in OF_BATCHES if name not in FROM_AROUND])
def test_other_alerts_are_not_explained_by_what_is_around(name):
    said = causes.of_batch(name, *batch("cap", "throttle", "bound"))
    assert said in {UNKNOWN, "within what is tolerated"}


@pytest.mark.parametrize(
    ("active", "cap", "said"),
    [
        (4, 5, None),
        (5, 5, "the account is at its cap: 5 of 5 calls active"),
        (6, 5, "the account is at its cap: 6 of 5 calls active"),
        (5, None, None),
        (None, 5, None),
        (0, 0, "the account is at its cap: 0 of 0 calls active"),
    ],
)
def test_an_account_is_at_its_cap_when_it_makes_all_the_calls_it_may(active, cap, said):
    full = account(active_calls=active, allowed_concurrent_calls=cap)
    assert causes.of_batch(AlertName.BATCH_STALLED, status(), full) == (said or UNKNOWN)


@pytest.mark.parametrize(
    ("most", "needed", "said"),
    [
        (0.1, 0.1, None),
        (0.1, 0.2, "its throttle and the account's lines allow 360 calls/h at most"),
        (0.0, 0.2, "its throttle and the account's lines allow 0 calls/h at most"),
        (None, 0.2, None),
        (0.1, None, None),
    ],
)
def test_what_throttle_and_lines_allow_is_a_cause_where_more_is_needed(most, needed, said):
    made = status(around=Circumstances(most_calls_per_second=most))
    made = replace(made, assessment=replace(made.assessment, needed_calls_per_second=needed))
    assert causes.of_batch(AlertName.BATCH_WINDOW_AT_RISK, made, account()) == (said or UNKNOWN)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (((CallError.BAD_NUMBER, 1),), "calls fail, most often: bad number (1 of 1 looked at)"),
        (CALLS, CLAUSES["calls"]),
        ((), UNKNOWN),
    ],
)
def test_failing_calls_are_told_by_their_commonest_class(classes, said):
    made = status(failed_calls=FailedCalls(NOW, classes))
    for name in EXPLAINED_BY_CALLS:
        unknown = "" if said == UNKNOWN or name in TOLD_BY_CALLS else "unknown; "
        assert causes.of_batch(name, made, account()) == unknown + said
    assert causes.of_batch(AlertName.BATCH_PAUSED_TOO_LONG, made, account()) == UNKNOWN


def test_a_failure_rate_is_explained_by_nothing_but_its_calls():
    everything = [*CLAUSES]
    name = AlertName.BATCH_FAILURE_RATE_HIGH
    assert causes.of_batch(name, *batch(*everything)) == CLAUSES["calls"]
    assert causes.of_batch(name, *batch(*everything[:-1])) == UNKNOWN


def test_a_pause_says_since_when():
    assert causes.of_batch(AlertName.BATCH_PAUSED_TOO_LONG, *batch("paused", "cap")) == CLAUSES["paused"]
    assert causes.of_batch(AlertName.BATCH_PAUSED_TOO_LONG, *batch("cap")) == UNKNOWN


@pytest.mark.parametrize("name", [AlertName.BATCH_UNREACHABLE, AlertName.BATCH_GONE])
def test_what_cannot_be_observed_says_how_it_failed(name):
    failing = Failing(NOW, 3, 3, FailureReason.NOT_FOUND, "404 from Ultravox", NOW)
    assert causes.of_batch(name, status(failing=failing), account()) == "404 from Ultravox"
    assert causes.of_batch(name, status(), account(**API_DOWN)) == UNKNOWN


@pytest.mark.parametrize(
    ("completed", "said"), [(400, "all its calls were made"), (399, "within what is tolerated")]
)
def test_an_end_as_it_should_be_says_whether_anything_was_left_out(completed, said):
    ended = status(observation(ended_at=NOW - timedelta(minutes=1), completed=completed))
    assert causes.of_batch(AlertName.BATCH_ENDED, ended, account()) == said


@pytest.mark.parametrize("name", OF_BATCHES)
@pytest.mark.parametrize("known", [(), ("api",), ("cap",), ("throttle", "calls"), tuple(CLAUSES)])
def test_every_alert_has_a_cause_of_one_clause(name, known):
    for made, of in (batch(*known), (status(progress=None), account())):
        said = causes.of_batch(name, made, of)
        assert said
        assert "\n" not in said
        assert not said.endswith(".")


def test_there_is_no_way_for_the_raw_text_of_a_failed_call_to_come_in():
    """Error texts hold phone numbers. Of failed calls a batch knows classes and counts, and nothing else."""
    assert [field.name for field in fields(FailedCalls)] == ["at", "classes"]
    assert get_type_hints(FailedCalls)["classes"] == tuple[tuple[CallError, int], ...]
    assert get_type_hints(Status)["failed_calls"] == FailedCalls | None
    said = {
        causes.of_batch(name, status(failed_calls=FailedCalls(NOW, ((error, 1),))), account())
        for name in OF_BATCHES
        for error in CallError
    }
    assert said - {UNKNOWN, "within what is tolerated"} == {
        f"{unknown}calls fail, most often: {error.value} (1 of 1 looked at)"
        for error in CallError
        for unknown in ("", "unknown; ")
    }
