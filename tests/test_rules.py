"""Prometheus' rules: each alert of the monitor has one, each names what there is, and each is tested both ways.

What promtool, Prometheus and Alertmanager themselves say of them: tests/deploy/test_prometheus.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import promql
import pytest
import yaml

from monitor.alerts import KINDS
from monitor.model import Severity

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy/prometheus"
PAGE = ROOT / "docs/prometheus.md"


def rules(path):
    document = yaml.safe_load((DEPLOY / path).read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def cases(path):
    """(alert, whether it is to fire) of every case of a file of promtool's tests."""
    document = yaml.safe_load((DEPLOY / path).read_text("utf-8"))
    return [
        (case["alertname"], bool(case["exp_alerts"]))
        for test in document["tests"]
        for case in test["alert_rule_test"]
    ]


MONITOR = rules("rules/ultravox-batch-monitor.yml")
BATCHES = rules("batches/ultravox-batches.yml")
ALERTS = [rule for rule in MONITOR + BATCHES if "alert" in rule]
RECORDED = frozenset(rule["record"] for rule in MONITOR + BATCHES if "record" in rule)
TESTED = {
    "monitor": (MONITOR, cases("tests/ultravox-batch-monitor.yml")),
    "batches": (BATCHES, cases("tests/ultravox-batches.yml")),
}


def name(rule):
    return rule.get("alert") or rule["record"]


def test_every_alert_of_the_daemon_has_exactly_one_rule_and_every_rule_of_batches_an_alert():
    assert sorted(rule["alert"] for rule in BATCHES if "alert" in rule) == sorted(
        kind.value for kind in KINDS
    )


def test_no_alert_about_the_monitor_is_taken_for_one_of_its_own():
    assert not {name(rule) for rule in MONITOR} & {name(rule) for rule in BATCHES}
    assert all(name(rule).startswith("UltravoxMonitor") for rule in MONITOR)
    assert len({name(rule) for rule in MONITOR}) == len(MONITOR)


@pytest.mark.parametrize("rule", MONITOR + BATCHES, ids=name)
def test_every_expression_asks_for_metrics_and_labels_that_there_are(rule):
    assert promql.mistakes(rule["expr"], recorded=RECORDED) == []


def test_an_expression_that_asks_for_what_there_is_not_is_found():
    assert promql.mistakes("ultravox_batch_callz > 0") == ["no metric ultravox_batch_callz"]
    wrong = 'rate(ultravox_monitor_polls_total{reciever="a"}[5m]) / on (account) ultravox_batch_calls{status="error"}'
    assert sorted(promql.mistakes(wrong)) == [
        "ultravox_batch_calls has no label status",
        "ultravox_monitor_polls_total has no label reciever",
    ]


@pytest.mark.parametrize("rule", ALERTS, ids=name)
def test_every_alert_says_what_it_means_and_where_its_runbook_is(rule):
    said = rule["annotations"]
    assert {"summary", "description", "runbook_url"} <= said.keys()
    assert said["runbook_url"] == f"https://wiki.example/runbooks/{rule['alert']}"
    assert (ROOT / f"docs/runbooks/{rule['alert']}.md").exists()
    if rule in MONITOR:
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in {Severity.CRITICAL, Severity.WARNING}
    else:  # the series has it, and everything else
        assert rule["labels"] == {"alert": ""}
        assert f'alert="{rule["alert"]}"' in rule["expr"]
        about_batch = not KINDS[rule["alert"]].about_account
        assert ("dashboard_url" in said) is about_batch


def test_the_links_are_those_of_the_example_configuration():
    example = (ROOT / "config.example.yaml").read_text("utf-8")
    dashboards = {
        rule["annotations"]["dashboard_url"]
        for rule in BATCHES
        if "dashboard_url" in rule.get("annotations", {})
    }
    [dashboard] = {url.replace("{{ $labels.batch_id }}", "{batch_id}") for url in dashboards}
    assert f"dashboard_url: {dashboard}\n" in example
    assert "runbook_url: https://wiki.example/runbooks/{alertname}\n" in example


@pytest.mark.parametrize("which", TESTED)
def test_every_alert_is_tested_firing_and_not_firing(which):
    of, found = TESTED[which]
    names = {rule["alert"] for rule in of if "alert" in rule}
    assert {alert for alert, fires in found if fires} == names
    assert {alert for alert, fires in found if not fires} == names


def test_the_scrape_job_has_the_name_that_the_rules_know_it_by():
    named = {job for rule in MONITOR for job in re.findall(r'job="([^"]+)"', rule["expr"])}
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))
    assert named == {"ultravox-batch-monitor"}
    assert named < {job["job_name"] for job in config["scrape_configs"]}


def test_the_page_names_the_labels_that_the_rules_take_off_and_counts_them_right():
    page = PAGE.read_text("utf-8")
    [record] = [rule for rule in BATCHES if "record" in rule]
    [labels] = re.findall(r"max without \(([^)]*)\)", record["expr"])
    assert all(f"`{label}`" in page for label in labels.split(", "))
    assert record["record"] in page
    assert f"| {len(MONITOR)} alerts about the monitor" in page
    assert f"own {len(KINDS)} alerts" in page
    assert all(
        f"`deploy/{path}`" in page for path in ("prometheus/prometheus.yml", "alertmanager/alertmanager.yml")
    )
