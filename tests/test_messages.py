"""The sentences, word by word."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from samples import NOW, account, observation, status

from monitor import evaluate, messages
from monitor.evaluate import Rules
from monitor.messages import Links
from monitor.model import AlertName, FailureReason, Outcomes, Severity

MIN = timedelta(minutes=1)


def batch(minutes=0, failing=None, **changes):
    """A batch seen at NOW, and again so many minutes later."""
    first = observation(**({"window_end": NOW + 122 * MIN} | changes))
    progress = evaluate.observe(None, first, Rules())
    if minutes:
        progress = evaluate.observe(progress, replace(first, at=NOW + minutes * MIN), Rules())
    return status(progress=progress, assessment=evaluate.assess(progress, failing, Rules()), failing=failing)


def failing(polls, reason=FailureReason.TIMEOUT):
    found = None
    for _ in range(polls):
        found = evaluate.failed(found, reason, "account main: get_batch: no full answer within 10 s", NOW)
    return found


SUMMARIES = [
    (
        AlertName.BATCH_STALLED,
        batch(22),
        "spring-renewals has made no call for 22 min: 118 of 400 done, window closes in 1 h 40 min",
    ),
    (
        AlertName.BATCH_STALLED,
        batch(22, window_end=None),
        "spring-renewals has made no call for 22 min: 118 of 400 done",
    ),
    (
        AlertName.BATCH_ENDED,
        batch(completed=400, ended_at=NOW),
        "spring-renewals has ended: 400 of 400 done in 1 h",
    ),
    (
        AlertName.BATCH_ENDED_INCOMPLETE,
        batch(ended_at=NOW),
        "spring-renewals has ended with 282 calls (70 %) not made: 118 of 400 done",
    ),
    (
        AlertName.BATCH_ENDED_INCOMPLETE,
        batch(ended_at=NOW, completed=399),
        "spring-renewals has ended with 1 call (<1 %) not made: 399 of 400 done",
    ),
    (
        AlertName.BATCH_OVERDUE,
        batch(7, window_end=NOW),
        "spring-renewals is 7 min past the end of its window and has not ended: 118 of 400 done, 282 calls remain",
    ),
    (
        AlertName.BATCH_PAUSED_TOO_LONG,
        batch(61, paused=True),
        "spring-renewals has been paused for 1 h 1 min: 118 of 400 done, window closes in 1 h 1 min",
    ),
    (
        AlertName.BATCH_ENDED_INCOMPLETE,
        replace(batch(ended_at=NOW), outcomes=Outcomes(NOW, 0, 0, 106, 282, 12)),
        "spring-renewals has ended with 282 calls (70 %) not made and 12 calls (3 %) failed: 118 of 400 done",
    ),
    (
        AlertName.BATCH_ENDED_INCOMPLETE,
        replace(batch(ended_at=NOW, completed=400), outcomes=Outcomes(NOW, 0, 0, 100, 0, 300)),
        "spring-renewals has ended with 300 calls (75 %) failed: 400 of 400 done",
    ),
    (
        AlertName.BATCH_WINDOW_AT_RISK,
        batch(22),
        "spring-renewals will leave about 282 calls (70 %) unmade: 118 of 400 done, window closes in 1 h 40 min, at 0 calls/h where 169 calls/h are needed",
    ),
    (
        AlertName.BATCH_FAILURE_RATE_HIGH,
        replace(batch(), outcomes=Outcomes(NOW, 282, 8, 70, 0, 40)),
        "spring-renewals: 40 calls (36 %) of 110 failed so far: 118 of 400 done",
    ),
    (
        AlertName.BATCH_GONE,
        batch(),
        "spring-renewals is gone: Ultravox no longer knows it; it was last seen at 118 of 400 done",
    ),
    (
        AlertName.BATCH_UNREACHABLE,
        batch(failing=failing(11)),
        "spring-renewals cannot be observed: 11 polls in a row failed, last seen 2026-11-23 12:00 UTC at 118 of 400 done",
    ),
    (
        AlertName.BATCH_UNREACHABLE,
        status(progress=None, failing=failing(3), last_success_at=None),
        "spring-renewals has never been observed: 3 polls in a row failed",
    ),
]


def said(name, found, links=None):
    links = links or Links()
    labels = messages.batch_labels(name, Severity.WARNING, found)
    return dict(messages.batch_annotations(name, found, account(), links, labels))


@pytest.mark.parametrize(("name", "found", "expected"), SUMMARIES, ids=[row[2][:60] for row in SUMMARIES])
def test_the_summary_is_one_plain_sentence_with_the_numbers(name, found, expected):
    annotations = said(name, found)
    assert annotations["summary"] == expected
    assert annotations["description"]
    assert annotations["cause"]


def test_every_alert_of_a_batch_has_a_summary_of_its_own():
    told = {name for name, _, _ in SUMMARIES}
    assert told == {name for name in AlertName if name.startswith("Batch")}


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        (AlertName.BATCH_STALLED, batch(22), "unknown: the API does not tell"),
        (AlertName.BATCH_PAUSED_TOO_LONG, batch(61, paused=True), "seen paused since 2026-11-23 12:00 UTC"),
        (
            AlertName.BATCH_UNREACHABLE,
            batch(failing=failing(3)),
            "account main: get_batch: no full answer within 10 s",
        ),
        (
            AlertName.BATCH_GONE,
            batch(failing=failing(3)),
            "account main: get_batch: no full answer within 10 s",
        ),
    ],
)
def test_the_cause_is_what_the_api_can_tell_and_unknown_is_said_as_unknown(name, found, expected):
    assert said(name, found)["cause"] == expected


def test_a_stall_during_an_outage_names_the_outage():
    broken = account(failing=failing(1))
    found = messages.batch_annotations(AlertName.BATCH_STALLED, batch(22), broken, Links(), ())
    assert dict(found)["cause"] == "API unreachable since 2026-11-23 12:00 UTC"


@pytest.mark.parametrize(
    ("name", "reason", "summary"),
    [
        (
            AlertName.ACCOUNT_UNREACHABLE,
            FailureReason.TIMEOUT,
            "Ultravox has not answered properly for account main since 2026-11-23 12:00 UTC",
        ),
        (
            AlertName.ACCOUNT_KEY_REJECTED,
            FailureReason.UNAUTHORIZED,
            "Ultravox rejects the API key of account main",
        ),
    ],
)
def test_accounts(name, reason, summary):
    found = account(failing=failing(1, reason))
    labels = messages.account_labels(name, Severity.CRITICAL, found)
    links = Links("https://grafana.example/{batch_id}", "https://wiki.example/{alertname}?account={account}")
    annotations = dict(messages.account_annotations(name, found, links, labels))
    assert annotations["summary"] == summary
    assert "dashboard_url" not in annotations  # an account has no batch to link to
    assert annotations["runbook_url"] == f"https://wiki.example/{name}?account=main"


def test_names_are_put_into_links_as_text():
    found = replace(batch(22), batch="a/b {account}&x=1 ü")
    annotations = said(AlertName.BATCH_STALLED, found, Links(None, "https://wiki.example/{batch}?{}"))
    assert annotations["runbook_url"] == "https://wiki.example/a%2Fb%20%7Baccount%7D%26x%3D1%20%C3%BC?{}"
