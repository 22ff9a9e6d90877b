"""The dashboards: what is committed is what their source writes, and it asks for what the daemon has."""

from __future__ import annotations

import json
from pathlib import Path

import promql_parser
import pytest
import yaml
from samples import NOW

from deploy.grafana.source import FOLDER, dashboards, text
from deploy.grafana.source.promql import SEVERITIES, STATES, STATUSES
from monitor import notify, ultravox
from monitor.metrics import API_CODES, Instruments, families
from monitor.model import AlertName, CallStatus, Severity, Snapshot, State
from tests.deploy.panels import panel_queries

ROOT = Path(__file__).parent.parent
PAGES = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
FILLED = {"batch_id": "3c900000-0000-4000-8000-000000000001", "instance": "monitor:10042"}
NOT_OURS = {"up", "ALERTS"}  # Prometheus' own

every_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
every_expression = pytest.mark.parametrize(
    "asked",
    [
        pytest.param(asked, id=f"{page['uid']}-{asked.title}-{asked.ref}")
        for page in PAGES.values()
        for asked in panel_queries(page, FILLED)
    ],
)


def panels(page):
    return [inner for panel in page["panels"] for inner in (panel, *panel.get("panels", ()))]


def shown(page):
    """The panels that show data."""
    return [panel for panel in panels(page) if panel["type"] not in {"row", "text"}]


def selectors(node):
    """Every vector selector of a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        inner = getattr(node, name, None)
        if inner is not None:
            yield from selectors(inner)
    for inner in getattr(node, "args", ()):
        yield from selectors(inner)


def exposed():
    """Every name that a sample of the daemon's can have."""
    instruments = Instruments(endpoints=ultravox.ENDPOINTS, send_failures=notify.FAILURES, now=NOW)
    instruments.add_heartbeat().taken(NOW)
    suffixes = {
        "counter": ("_total",),
        "histogram": ("_bucket", "_count", "_sum"),
        "info": ("_info",),
        "gauge": ("",),
    }
    return {
        family.name + suffix
        for family in (*families(Snapshot(NOW)), *instruments.registry.collect())
        for suffix in suffixes[family.type]
    }


def test_what_is_committed_is_what_the_source_writes():
    written = {name: text(page) for name, page in dashboards().items()}
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*")}
    assert committed == written, "run `make dashboards`"


def test_the_pages_have_the_uids_that_links_and_the_documentation_name():
    assert {page["uid"] for page in PAGES.values()} == {
        "ultravox-campaigns",
        "ultravox-campaign",
        "ultravox-monitor",
    }
    for page in PAGES.values():
        [link] = page["links"]
        assert link["tags"] == page["tags"], "each page links to every page with its tag"
        assert link["includeVars"]
        assert link["keepTime"]


def test_states_statuses_and_severities_are_those_of_the_daemon():
    assert set(STATES) == {state.value for state in State}
    assert set(STATUSES) == {status.name.lower() for status in CallStatus}
    assert set(SEVERITIES) == {severity.value for severity in Severity}
    numbers = [number for number, _ in (*STATES.values(), *SEVERITIES.values())]
    assert len(set(numbers)) == len(numbers), "they share timelines"


@every_expression
def test_every_expression_can_be_parsed_and_asks_for_what_there_is(asked):
    found = list(selectors(promql_parser.parse(asked.expr)))
    known = exposed() | NOT_OURS
    for selector in found:
        assert selector.name in known, f"{selector.name}: the daemon has no such metric"
    assert found
    assert " vector(" not in asked.expr, "a dead monitor must not look like a quiet day"


CLOSED = {
    "state": {state.value for state in State},
    "status": {status.name.lower() for status in CallStatus},
    "severity": {severity.value for severity in Severity},
    "alert": {name.value for name in AlertName},
    "code": set(API_CODES),
}


@every_expression
def test_every_value_of_a_closed_label_is_one_of_its_values(asked):
    for selector in selectors(promql_parser.parse(asked.expr)):
        for matcher in selector.matchers.matchers:
            if matcher.name in CLOSED and matcher.op in (
                promql_parser.MatchOp.Equal,
                promql_parser.MatchOp.NotEqual,
            ):
                assert matcher.value in CLOSED[matcher.name]


@every_expression
def test_series_are_made_one_a_batch_before_they_are_joined(asked):
    """Two daemons are scraped while one takes over from the other: their series must not meet in a join."""

    def visit(node):
        if isinstance(node, promql_parser.BinaryExpr):
            vectors = [
                side
                for side in (node.lhs, node.rhs)
                if any(True for _ in selectors(side)) and str(node.op) not in {"or", "and", "unless"}
            ]
            if len(vectors) == 2:
                for side in vectors:
                    assert not bare(side), f"{side}: put `max by` or `topk by` before the join"
        for name in ("lhs", "rhs", "expr", "param"):
            inner = getattr(node, name, None)
            if inner is not None:
                visit(inner)
        for inner in getattr(node, "args", ()):
            visit(inner)

    def bare(node):
        """Whether series come out of it as they were scraped."""
        if isinstance(node, promql_parser.AggregateExpr):
            return False
        if isinstance(node, promql_parser.VectorSelector):
            return True
        children = [getattr(node, name, None) for name in ("lhs", "rhs", "expr")]
        return any(bare(one) for one in (*children, *getattr(node, "args", ())) if one is not None)

    visit(promql_parser.parse(asked.expr))


@every_page
def test_every_panel_and_variable_asks_the_chosen_data_source(page):
    [chosen] = [one for one in page["templating"]["list"] if one["type"] == "datasource"]
    expected = {"type": "prometheus", "uid": f"${{{chosen['name']}}}"}
    asking = [
        *panels(page),
        *(target for panel in shown(page) for target in panel["targets"]),
        *(one for one in page["templating"]["list"] if one["type"] == "query"),
        *page["annotations"]["list"],
    ]
    for one in asking:
        assert one.get("type") == "row" or one["datasource"] == expected, one.get("title")


@every_page
def test_every_panel_says_what_it_shows_in_which_unit_and_why_it_may_be_empty(page):
    for panel in panels(page):
        assert panel["title"]
        if panel["type"] != "row":
            assert len(panel.get("description", "")) > 10, panel["title"]
    for panel in shown(page):
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]


@every_page
def test_every_panel_has_an_id_and_a_place_of_its_own(page):
    ids = [panel["id"] for panel in panels(page)]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0
    taken = set()
    for panel in panels(page):
        place = panel["gridPos"]
        assert 0 <= place["x"] <= place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@every_page
def test_no_colour_vanishes_in_a_theme(page):
    """Grafana's own names have a shade in each theme; others are written out and must be neither dark nor light."""
    for color in colors_of(page):
        if color.startswith("#"):
            red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
            assert 70 < 0.299 * red + 0.587 * green + 0.114 * blue < 185, color
        else:
            assert color not in {"black", "white"}


def colors_of(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"color", "fixedColor", "iconColor"} and isinstance(value, str):
                yield value
            else:
                yield from colors_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from colors_of(value)


@every_page
def test_links_open_the_page_of_one_batch_by_its_id_at_the_same_time(page):
    for panel in shown(page):
        columns = {
            transformation["options"]["renameByName"].get("batch_id", "batch_id")
            for transformation in panel.get("transformations", ())
            if transformation["id"] == "organize"
        }
        for override in panel["fieldConfig"]["overrides"]:
            for one in override["properties"]:
                if one["id"] == "links":
                    [link] = one["value"]
                    assert link["url"].startswith(
                        "/d/ultravox-campaign?var-batch_id=${__data.fields.batch_id}"
                    )
                    assert "${__url_time_range}" in link["url"]
                    assert columns == {"batch_id"}, "the link's field is in the table"


def test_grafana_is_told_where_the_dashboards_and_the_data_are():
    provisioning = ROOT / "deploy/grafana/provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards/ultravox.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    sources = yaml.safe_load((provisioning / "datasources/ultravox.yml").read_text())["datasources"]
    assert {source["name"]: source["url"] for source in sources} == {
        "Prometheus": "http://prometheus:9090",
        "Alertmanager": "http://alertmanager:9093",
    }
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["global"]
    assert sources[0]["jsonData"]["timeInterval"] == scraped["scrape_interval"], "rates depend on it"


def test_the_config_maps_hold_every_dashboard():
    made = yaml.safe_load((ROOT / "deploy/grafana/kustomization.yaml").read_text())
    files = {path for one in made["configMapGenerator"] for path in one["files"]}
    assert files == {f"dashboards/{name}" for name in PAGES}
    assert made["generatorOptions"]["labels"] == {"grafana_dashboard": "1"}
