"""What Prometheus reads: right, complete, absent where there is nothing to tell, clean for promtool."""

from __future__ import annotations

import gzip
import math
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from samples import KEY, NOW, PROMETHEUS_3, account, batch_key, observation, status

from monitor import evaluate
from monitor.metrics import API_CODES, Instruments, code_label, families, render
from monitor.model import (
    AlertName,
    AlertState,
    FailureReason,
    Phase,
    QueueStatus,
    Severity,
    Snapshot,
    State,
)


@pytest.fixture
def instruments():
    made = Instruments(endpoints=("get_batch", "accounts_me"), send_failures=("timeout",), now=NOW)
    made.add_account("main")
    made.add_receiver("oncall")
    made.add_heartbeat().taken(NOW)
    made.sharded(0, 3)
    return made


def samples(*batches, accounts=(), **rest):
    """{(name, labels): value} of everything drawn from a snapshot."""
    snapshot = Snapshot(NOW, batches=tuple(batches), accounts=tuple(accounts), **rest)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families(snapshot)
        for sample in family.samples
    }


def of_batch(found, name, **labels):
    labels |= {"account": "main", "agent_id": KEY.agent_id, "batch_id": KEY.batch_id}
    return found.get((f"ultravox_batch_{name}", tuple(sorted(labels.items()))))


def test_a_batch_that_was_seen():
    seen = observation(throttle="gentle", paused=False)
    found = samples(status(seen))
    assert of_batch(found, "calls") == 400
    assert of_batch(found, "completed_calls") == 118
    assert of_batch(found, "completion_ratio") == pytest.approx(0.295)
    assert of_batch(found, "paused") == 0
    assert of_batch(found, "created_timestamp_seconds") == seen.created.timestamp()
    assert of_batch(found, "window_start_timestamp_seconds") == seen.window_start.timestamp()
    assert of_batch(found, "window_end_timestamp_seconds") == seen.window_end.timestamp()
    assert of_batch(found, "idle_seconds") == 0
    assert of_batch(found, "stall_after_seconds") == 900
    assert of_batch(found, "up") == 1
    assert of_batch(found, "last_success_timestamp_seconds") == NOW.timestamp()
    assert of_batch(found, "next_poll_timestamp_seconds") == NOW.timestamp() + 30
    names = {"agent": "renewals", "batch": "spring-renewals", "team": "growth", "throttle": "gentle"}
    assert of_batch(found, "info", **names) == 1


ABSENT = [
    ("window_start_timestamp_seconds", {"window_start": None}),
    ("window_end_timestamp_seconds", {"window_end": None}),
    ("ended_timestamp_seconds", {}),
    ("completion_ratio", {"total": 0, "completed": 0}),
    ("idle_seconds", {"paused": True}),
    ("stall_after_seconds", {"paused": True}),
    ("last_progress_timestamp_seconds", {}),
    ("completed_calls_per_second", {}),
    ("estimated_end_timestamp_seconds", {}),
]


@pytest.mark.parametrize(("name", "changes"), ABSENT, ids=[name for name, _ in ABSENT])
def test_missing_means_absent(name, changes):
    assert of_batch(samples(status(observation(**changes))), name) is None


def test_a_batch_that_was_never_seen_has_its_state_and_its_failed_poll_and_nothing_else():
    failing = evaluate.failed(None, FailureReason.TIMEOUT, "no answer", NOW)
    assessment = evaluate.assess(None, failing, evaluate.Rules())
    found = samples(status(progress=None, failing=failing, assessment=assessment, last_success_at=None))
    names = {name for (name, _) in found if name.startswith("ultravox_batch_")}
    assert names == {"ultravox_batch_info", "ultravox_batch_state", "ultravox_batch_up"} | {
        "ultravox_batch_next_poll_timestamp_seconds"
    }
    assert of_batch(found, "up") == 0
    assert of_batch(found, "state", state="unknown") == 1


def test_exactly_one_state_is_1():
    found = samples(status(observation(paused=True)))
    states = {state: of_batch(found, "state", state=state.value) for state in State}
    assert sum(states.values()) == 1
    assert states[State.PAUSED] == 1


def test_pace_zero_is_a_pace_and_has_no_estimated_end():
    rules = evaluate.Rules()
    first = observation()
    progress = evaluate.observe(None, first, rules)
    for minute in range(1, 17):
        progress = evaluate.observe(progress, replace(first, at=NOW + timedelta(minutes=minute)), rules)
    found = samples(status(progress=progress, assessment=evaluate.assess(progress, None, rules)))
    assert of_batch(found, "completed_calls_per_second") == 0
    assert of_batch(found, "estimated_end_timestamp_seconds") is None
    assert of_batch(found, "projected_missed_calls") == 282


def test_a_firing_alert_has_the_labels_it_was_sent_with_and_a_pending_one_has_no_series():
    labels = (
        ("account", "old-name"),
        ("alertname", "BatchStalled"),
        ("batch", "old"),
        ("severity", "warning"),
    )
    firing = AlertState(AlertName.BATCH_STALLED, Phase.FIRING, NOW, Severity.WARNING, labels=labels)
    pending = AlertState(AlertName.BATCH_OVERDUE, Phase.PENDING, NOW, Severity.CRITICAL)
    told = AlertState(AlertName.BATCH_ENDED, Phase.TOLD, NOW, Severity.INFO, labels=labels)
    found = samples(status(alerts=(firing, pending, told)))
    assert {key: value for key, value in found.items() if key[0] == "ultravox_batch_alert_firing"} == {
        (
            "ultravox_batch_alert_firing",
            (("account", "old-name"), ("alert", "BatchStalled"), ("batch", "old"), ("severity", "warning")),
        ): 1
    }


def test_what_fires_for_an_account_has_a_series_without_a_batch():
    labels = (("account", "main"), ("alertname", "AccountUnreachable"), ("severity", "critical"))
    firing = AlertState(AlertName.ACCOUNT_UNREACHABLE, Phase.FIRING, NOW, Severity.CRITICAL, labels=labels)
    found = samples(accounts=(account(alerts=(firing,)),))
    assert [labels for name, labels in found if name == "ultravox_batch_alert_firing"] == [
        (("account", "main"), ("alert", "AccountUnreachable"), ("severity", "critical"))
    ]


def test_a_batch_that_is_gone_from_the_snapshot_leaves_no_series():
    found = samples()
    assert not any(name.startswith("ultravox_batch_") for name, _ in found)
    assert {value for (name, _), value in found.items() if name == "ultravox_monitor_batches"} == {0}


def test_accounts_and_queues():
    failing = evaluate.failed(None, FailureReason.TIMEOUT, "no answer", NOW)
    found = samples(
        accounts=(
            account(active_calls=5, allowed_concurrent_calls=5, clock_skew=timedelta(seconds=-40)),
            account(name="other", failing=failing),
            account(name="fresh", last_probe_at=None, last_success_at=None),
        ),
        queues=(
            QueueStatus("oncall", 2, NOW),
            QueueStatus("chat"),
            QueueStatus("muted", 1, NOW + timedelta(hours=1)),
        ),
        store_writable=False,
    )

    def value(name, **labels):
        return found.get((name, tuple(sorted(labels.items()))))

    assert value("ultravox_account_up", account="main") == 1
    assert value("ultravox_account_up", account="other") == 0
    assert value("ultravox_account_up", account="fresh") is None
    assert value("ultravox_account_active_calls", account="main") == 5
    assert value("ultravox_account_allowed_concurrent_calls", account="other") is None
    assert value("ultravox_account_clock_skew_seconds", account="main") == -40
    assert value("ultravox_monitor_notifications_pending", receiver="oncall") == 2
    assert value("ultravox_monitor_notifications_pending", receiver="chat") == 0
    oldest = "ultravox_monitor_notifications_oldest_pending_timestamp_seconds"
    assert value(oldest, receiver="oncall") == NOW.timestamp()
    assert value(oldest, receiver="chat") is None
    assert value(oldest, receiver="muted") is None, "it is not due yet"
    assert value("ultravox_monitor_store_writable") == 0


def test_our_own_counters_are_there_at_0_from_the_start(instruments):
    registry = instruments.registry
    for reason in FailureReason:
        labels = {"account": "main", "reason": reason.value}
        assert registry.get_sample_value("ultravox_monitor_poll_failures_total", labels) == 0
    for code in API_CODES:
        labels = {"account": "main", "endpoint": "get_batch", "code": code}
        assert registry.get_sample_value("ultravox_monitor_api_requests_total", labels) == 0
    assert registry.get_sample_value("ultravox_monitor_polls_total", {"account": "main"}) == 0
    assert registry.get_sample_value("ultravox_monitor_poll_duration_seconds_count", {"account": "main"}) == 0
    labels = {"receiver": "oncall", "reason": "timeout"}
    assert registry.get_sample_value("ultravox_monitor_notification_failures_total", labels) == 0


def test_an_account_and_a_receiver_take_their_series_with_them(instruments):
    instruments.add_account("other")
    instruments.remove_account("main")
    instruments.remove_receiver("oncall")
    body, _ = render(Snapshot(NOW), instruments, accept="", compressed=False)
    assert b'"main"' not in body
    assert b'"oncall"' not in body
    assert b'"other"' in body


def test_a_refused_configuration_keeps_the_time_of_the_last_good_one(instruments):
    instruments.loaded(successful=False, now=NOW + timedelta(hours=1))
    value = instruments.registry.get_sample_value
    assert value("ultravox_monitor_config_last_reload_successful") == 0
    assert value("ultravox_monitor_config_last_reload_success_timestamp_seconds") == NOW.timestamp()


@pytest.mark.parametrize(
    ("code", "label"),
    [
        (200, "200"),
        (401, "401"),
        (404, "404"),
        (418, "4xx"),
        (429, "429"),
        (503, "5xx"),
        (302, "4xx"),
        (None, "none"),
    ],
)
def test_codes_are_a_closed_set(code, label):
    assert code_label(code) == label
    assert label in API_CODES


def full_snapshot():
    labels = (("account", "main"), ("alertname", "BatchStalled"), ("batch", "a"), ("severity", "warning"))
    firing = AlertState(AlertName.BATCH_STALLED, Phase.FIRING, NOW, Severity.WARNING, labels=labels)
    ended = observation(completed=400, ended_at=NOW)
    batches = (
        status(alerts=(firing,), batch='quo"te \\ and\nline'),
        status(ended, key=batch_key(2)),
    )
    return Snapshot(NOW, batches, (account(active_calls=1),), (QueueStatus("oncall"),))


def test_prometheus_3_is_answered_in_openmetrics(instruments):
    body, content_type = render(full_snapshot(), instruments, accept=PROMETHEUS_3, compressed=False)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    found = {family.name: family for family in parse_openmetrics(body.decode())}
    assert found["ultravox_batch"].type == "info"
    assert found["ultravox_monitor_polls"].type == "counter"
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize("accept", ["", "*/*", "text/html", "text/plain;version=0.0.4"])
def test_everyone_else_is_answered_in_text(instruments, accept):
    body, content_type = render(full_snapshot(), instruments, accept=accept, compressed=False)
    assert content_type.startswith("text/plain; version=0.0.4")
    names = {family.name for family in parse_text(body.decode())}
    assert "ultravox_batch_completion_ratio" in names
    assert not any(
        math.isnan(sample.value) for family in parse_text(body.decode()) for sample in family.samples
    )


def test_gzip_is_the_same_text(instruments):
    plain, _ = render(full_snapshot(), instruments, accept="", compressed=False)
    packed, _ = render(full_snapshot(), instruments, accept="", compressed=True)

    def lasting(body):
        return [line for line in body.splitlines() if not line.startswith(b"process_")]

    assert lasting(gzip.decompress(packed)) == lasting(plain)


def test_every_metric_is_in_the_documentation_and_no_other(instruments):
    page = Path(__file__).parent.parent.joinpath("docs/metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)", page, flags=re.MULTILINE))
    body, _ = render(full_snapshot(), instruments, accept="", compressed=False)
    exposed = {
        family.name + ("_total" if family.type == "counter" and not family.name.endswith("_total") else "")
        for family in parse_text(body.decode())
    }
    assert {name for name in documented if name.startswith("ultravox_")} == {
        name for name in exposed if name.startswith("ultravox_")
    }


@pytest.mark.stack
def test_promtool_finds_nothing_to_say(instruments):
    body, _ = render(full_snapshot(), instruments, accept="", compressed=False)
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not on PATH"
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
