"""The runbooks: one for each alert, in one form, and nothing in them that does not exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import promql
import pytest
import yaml
from commands import COMMANDS
from test_rules import MONITOR

from monitor import config
from monitor.alerts import KINDS
from monitor.notices import DROPPED

ROOT = Path(__file__).parent.parent
INDEX = ROOT / "docs/runbooks/README.md"
PAGES = sorted(page for page in INDEX.parent.glob("*.md") if page != INDEX)
WITH_COMMANDS = [*PAGES, INDEX, ROOT / "docs/prometheus.md"]
HEADINGS = ["What it means", "Check first", "Act", "Goes away", "Quieter"]
OURS = (
    {name.value: kind.severity.value for name, kind in KINDS.items()}
    | {rule["alert"]: rule["labels"]["severity"] for rule in MONITOR}
    | {DROPPED: "critical"}
)
NOT_RUN = {
    "curl -sS": "asks the real Ultravox",
    "curl -sI": "asks the real Ultravox",
    "curl -X PATCH": "changes a batch at the real Ultravox; the simulator takes no changes",
    "docker": "its last part is checked; the rest needs the running stack",
    "kubectl": "its last part is checked; the rest needs a cluster",
    "df": "shows the machine's own disks",
    "ls": "shows the machine's own files",
    "date": "shows the machine's own clock",
    "timedatectl": "shows the machine's own clock",
    "amtool": "tests/deploy/test_prometheus.py runs it",
    "promtool": "tests/deploy/test_prometheus.py runs it",
    "sed": "tests/deploy/test_prometheus.py runs it",
    "cp": "tests/deploy/test_prometheus.py runs it",
    "curl -X POST http://localhost:9090/-/reload": "tests/deploy/test_prometheus.py runs it",
}


def stem(page):
    return page.stem


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    assert {page.stem for page in PAGES} == OURS.keys()


@pytest.mark.parametrize("page", PAGES, ids=stem)
def test_all_have_one_form_and_are_short(page):
    text = page.read_text("utf-8")
    assert text.startswith(f"# {page.stem}\n\nSeverity: ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    assert len(text.splitlines()) <= 60


@pytest.mark.parametrize("page", PAGES, ids=stem)
def test_each_says_how_bad_it_is_and_who_decides_it(page):
    said = page.read_text("utf-8").splitlines()[2]
    assert re.findall(r"Severity: (\w+)", said) == [OURS[page.stem]]
    kind = KINDS.get(page.stem)
    rule = next((rule for rule in MONITOR if rule["alert"] == page.stem), None)
    if kind is not None:
        assert said.endswith(f"Setting: `alerts.{kind.key}`.")
    elif rule is not None:
        assert "From Prometheus" in said
        minutes = re.findall(r"after (\d+) minutes", said)
        assert bool(minutes) is ("for" in rule)


def test_the_index_lists_each_once_under_its_severity():
    listed, severity = [], ""
    for line in INDEX.read_text("utf-8").splitlines():
        severity = line[2:].partition("**")[0].lower() if line.startswith("**") else severity
        if found := re.match(r"- \[(\w+)\]\((\w+)\.md\): ", line):
            assert found[1] == found[2]
            listed.append((severity, found[1]))
    worst = OURS | {"BatchEndedIncomplete": "critical"}  # from 5 % of its calls on
    order = ("critical", "warning", "info")
    assert listed == sorted(
        ((severity, name) for name, severity in worst.items()),
        key=lambda one: (order.index(one[0]), one[1]),
    )


def commands(page):
    """What a page has one type: in ```sh fences, and `batch-monitor …` in its sentences."""
    inline = re.findall(
        r"`(batch-monitor [^`]+)`", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    )
    return promql.lines(page, "sh") + inline


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=stem)
def test_every_command_exists_with_these_options(page):
    for line in commands(page):
        words = shlex.split(line, comments=True)
        if "batch-monitor" not in words:
            assert is_known(line), line
            continue
        name, *arguments = words[words.index("batch-monitor") + 1 :]
        arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
        if arguments or line in promql.lines(
            page, "sh"
        ):  # a sentence may speak of a command by its name alone
            COMMANDS[name].make_context(name, arguments)
        assert name in COMMANDS


def is_known(line):
    """Whether a command that is not ours is run elsewhere, not to be run, or asks the daemon for what it has."""
    if any(line.startswith(prefix) for prefix in NOT_RUN):
        return True
    asked = re.search(r"http://localhost:10042(/[\w/-]+)", line)
    served = (ROOT / "monitor/web/server.py").read_text("utf-8")
    return asked is not None and f'"{asked[1]}"' in served


@pytest.mark.parametrize("page", [*PAGES, INDEX], ids=stem)
def test_the_promql_asks_for_what_there_is(page):
    for query in promql.lines(page, "promql"):
        assert promql.mistakes(query) == [], query


@pytest.mark.parametrize("page", PAGES, ids=stem)
def test_what_it_shows_of_a_configuration_is_one(page, tmp_path):
    for block in promql.fenced(page, "yaml"):
        file = tmp_path / "config.yaml"
        shown = {"accounts": [{"name": "main", "api_key": "${KEY}"}]} | yaml.safe_load(block)
        file.write_text(yaml.safe_dump(shown))
        config.load(
            file, {"KEY": "Zk3hQ9aB.0123456789abcdef", "ULTRAVOX_API_KEY": "Zk3hQ9aB.0123456789abcdef"}
        )


@pytest.mark.parametrize("page", PAGES, ids=stem)
def test_the_settings_and_log_lines_that_it_names_exist(page):
    text = page.read_text("utf-8")
    keys = re.findall(
        r"^\| `([\w.\[\]]+)`", (ROOT / "docs/configuration.md").read_text("utf-8"), re.MULTILINE
    )
    for named in re.findall(
        r"`((?:accounts|discover|poll|alerts|heartbeat|storage|web)(?:\[\])?\.[\w.]+)`", text
    ):
        kind = re.sub(r"^alerts\.(\w+)$", "alerts.KIND.enabled", named)
        assert any(key.endswith(kind) for key in keys), named
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "monitor").rglob("*.py"))
    for sentence in re.findall(r"log (?:says|has a line) (.*?)\.\s", text, re.DOTALL):
        for line in re.findall(r"`([^`]+)`", sentence):
            assert f'"{line}' in sources or line in COMMANDS, line
