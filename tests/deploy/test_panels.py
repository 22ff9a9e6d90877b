"""Every panel shows something of a day on which everything happens, also while one daemon takes over from another."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from datetime import timedelta

import pytest

from deploy.grafana.source import dashboards
from tests.deploy import history
from tests.deploy.panels import MAY_BE_EMPTY, may_be_empty, panel_queries

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]

SECOND = history.TARGET | {"instance": "monitor-2:10042"}
SILENT = {
    "Restarts",  # here another instance takes over
    "Alerts about the monitor",  # no rules are loaded
}


class Asking:
    def __init__(self, url):
        self.url = url

    def get(self, path, **parameters):
        question = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(question) as answer:  # an error of the query's is a 4xx, which raises
            return json.load(answer)["data"]["result"]

    def at(self, expr, instant):
        return self.get("query", query=expr, time=instant.timestamp())

    def ever(self, expr):
        start, end = history.START.timestamp(), history.END.timestamp()
        return self.get("query_range", query=expr, start=start, end=end, step="5m")


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    data = history.make(folder, after_restart=SECOND)
    with history.prometheus(folder, data) as url:
        yield Asking(url)


def batches(asking):
    return sorted(one["metric"]["batch_id"] for one in asking.ever("max by (batch_id) (ultravox_batch_info)"))


def test_every_expression_of_every_panel_has_data_at_some_time(asking):
    silent = set()
    for page in dashboards().values():
        of_batch = page["uid"] == "ultravox-campaign"
        found = {}
        for batch_id in batches(asking) if of_batch else [""]:
            for asked in panel_queries(page, {"batch_id": batch_id, "instance": "monitor.*"}):
                name = (asked.title, asked.ref)
                found[name] = found.get(name) or bool(asking.ever(asked.expr))
        silent |= {title for (title, _), has_data in found.items() if not has_data}
    assert silent == SILENT


def test_what_is_empty_on_a_good_day_is_known(asking):
    known = {title for _, title, _ in MAY_BE_EMPTY}
    assert known <= {
        asked.title
        for page in dashboards().values()
        for asked in panel_queries(page, {"batch_id": "", "instance": ""})
    }
    for minutes in (40, 130, 335, 470):
        instant = history.START + timedelta(minutes=minutes)
        seen = 'max by (batch_id) (ultravox_batch_info unless on (batch_id) ultravox_batch_state{state="unknown"} == 1)'
        ids = [one["metric"]["batch_id"] for one in asking.at(seen, instant)]
        assert ids
        for page in dashboards().values():
            for batch_id in ids if page["uid"] == "ultravox-campaign" else [""]:
                for asked in panel_queries(page, {"batch_id": batch_id, "instance": "monitor.*"}):
                    if may_be_empty(page["uid"], asked) is None:
                        assert asking.at(asked.expr, instant), asked


def test_nothing_is_counted_twice_while_two_daemons_are_scraped(asking):
    both, one = (history.RESTARTED_AT + timedelta(minutes=minutes) for minutes in (2, 8))
    assert len(asking.at("ultravox_monitor_build_info", both)) == 2
    assert len(asking.at("ultravox_monitor_build_info", one)) == 1
    for name, page in dashboards().items():
        if name == "ultravox-monitor.json":
            continue  # it shows each process
        for asked in panel_queries(page, {"batch_id": batches(asking)[0]}):
            before, after = asking.at(asked.expr, both), asking.at(asked.expr, one)
            if asked.kind == "panel" and asked.title not in {"Alerts that fire", "State and alerts"}:
                assert len(before) == len(after), asked
            if asked.title == "Batches now":
                assert before[0]["value"][1] == after[0]["value"][1], asked
