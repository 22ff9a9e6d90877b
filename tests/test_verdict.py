"""How bad it is, as the exit code of `status`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import NOW, account, batch_key, observation, status

from monitor.choice import asked, choose
from monitor.cli.verdict import OF_SEVERITIES, OF_STATES, judged, verdict
from monitor.model import AlertName, AlertState, Phase, Severity, Snapshot, State
from monitor.web import answers

WELL, WARNING, CRITICAL, UNKNOWN = range(4)


@pytest.mark.parametrize(
    ("states", "at_risk", "firing", "code"),
    [
        ({}, 0, {}, UNKNOWN),
        ({"unknown": 3}, 0, {}, UNKNOWN),
        ({"unknown": 3}, 0, {"warning": 1}, WARNING),
        ({"unknown": 3}, 0, {"critical": 1}, CRITICAL),
        ({}, 0, {"critical": 1}, CRITICAL),
        ({"unknown": 1, "running": 1}, 0, {}, WELL),
        ({"running": 1, "waiting": 2, "paused": 3, "ended": 4}, 0, {}, WELL),
        ({"incomplete": 1}, 0, {}, WELL),
        ({"incomplete": 1}, 0, {"critical": 1}, CRITICAL),
        ({"ended": 1}, 0, {"info": 1}, WELL),
        ({"running": 1}, 1, {}, WARNING),
        ({"running": 1}, 0, {"warning": 1}, WARNING),
        ({"stalled": 1, "running": 99}, 0, {}, WARNING),
        ({"stalled": 0, "running": 99}, 0, {"critical": 0}, WELL),
        ({"gone": 1}, 0, {}, WARNING),
        ({"overdue": 1}, 0, {}, CRITICAL),
        ({"overdue": 1, "stalled": 1}, 2, {"warning": 3}, CRITICAL),
        ({"asleep": 1}, 0, {}, UNKNOWN),
        ({"asleep": 1, "stalled": 1}, 0, {}, WARNING),
        ({"running": 1}, 0, {"fatal": 1}, UNKNOWN),
    ],
)
def test_the_worst_decides(states, at_risk, firing, code):
    assert verdict(states, at_risk, firing) == code


def test_every_state_and_severity_is_judged():
    assert set(OF_STATES) == {state.value for state in State}
    assert set(OF_SEVERITIES) == {severity.value for severity in Severity}


def fires(name, severity):
    return AlertState(name, Phase.FIRING, NOW, severity=severity)


def one(number, state, *, of="main", alerts=()):
    made = status(observation(), key=batch_key(number), alerts=tuple(alerts))
    return replace(
        made,
        target=replace(made.target, account=of),
        assessment=replace(made.assessment, state=state),
        batch=f"batch-{number}",
    )


WORLD = Snapshot(
    NOW,
    (
        one(1, State.RUNNING),
        one(2, State.RUNNING, alerts=[fires(AlertName.BATCH_WINDOW_AT_RISK, Severity.WARNING)]),
        one(3, State.OVERDUE),
        one(4, State.ENDED, of="other"),
    ),
    (
        account(),
        account(name="other", alerts=(fires(AlertName.ACCOUNT_UNREACHABLE, Severity.CRITICAL),)),
    ),
)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({}, CRITICAL),
        ({"state": "overdue"}, CRITICAL),
        ({"state": "running"}, WARNING),  # the overdue one was not asked for
        ({"state": "running", "q": "batch-1"}, WELL),  # nor the one at risk
        ({"q": "batch-1"}, WELL),  # the account that is away is another's
        ({"state": "stalled"}, UNKNOWN),
        ({"account": "main", "state": "running"}, WARNING),
        ({"account": "other"}, CRITICAL),
        ({"account": "other", "state": "stalled"}, CRITICAL),  # it cannot be told because of it
        ({"state": "ended"}, CRITICAL),
        ({"account": "nobody"}, UNKNOWN),
        ({"firing": "any", "account": "main"}, WARNING),
    ],
)
def test_what_was_asked_for_is_judged_and_nothing_else(query, code):
    data = answers.batches(WORLD, choose(WORLD.batches, asked(query)))["data"]
    found = judged(
        data, states=query.get("state", ""), account=query.get("account", ""), narrowed=bool(query)
    )
    assert found == code


def test_rows_that_are_not_shown_count_too():
    """`watch` and scripts may ask for a part; the counts are of everything."""
    data = answers.batches(WORLD, choose(WORLD.batches[:3], asked({"sort": "name", "limit": "1"})))["data"]
    assert [batch["batch"] for batch in data["batches"]] == ["batch-1"]
    assert judged(data, narrowed=True) == CRITICAL
