"""The pages say what the code does: states, alerts, commands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import promql_parser
import pytest
from commands import COMMANDS

from docs.source import FOLDER, PAGES, written
from monitor import alerts, evaluate, glossary, words
from monitor.model import AlertName, FailureReason, State

ROOT = Path(__file__).parent.parent


def rows(page, columns):
    """The cells of every table row of a page that has so many columns and starts with a code word."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    return [row for row in found if len(row) == columns]


def test_the_states_are_those_of_the_code_in_its_order_and_in_its_plain_words():
    documented = [tuple(cell.strip("` |") for cell in row) for row in rows("docs/alerts.md", 3)]
    assert documented == [(state.value, when, glossary.STATES[state]) for state, when, _ in evaluate.STATES]


def test_the_alerts_are_those_of_the_code_with_its_defaults_and_in_its_plain_words():
    documented = {
        name.strip("` "): (
            said,
            key.strip("`"),
            severity.split(";")[0],
            hold,
            when.removesuffix(" |").strip(),
        )
        for name, said, key, severity, hold, when in rows("docs/alerts.md", 6)
    }

    def prometheus(duration):
        text = words.duration(duration)
        return text.replace(" min", "m").replace(" s", "s").replace(" h", "h")

    assert documented == {
        name.value: (
            glossary.ALERTS[name],
            kind.key,
            kind.severity.value,
            prometheus(kind.hold),
            kind.fires_when,
        )
        for name, kind in alerts.KINDS.items()
    }


def test_the_index_of_runbooks_says_what_an_alert_is_in_the_same_words():
    index = (ROOT / "docs/runbooks/README.md").read_text(encoding="utf-8")
    said = dict(
        re.findall(r"^- \[((?:Batch|Account)\w+)\]\(\w+\.md\): (.*?)(?: \(.*\))?$", index, re.MULTILINE)
    )
    assert said == {name.value: text for name, text in glossary.ALERTS.items()}


def test_the_reasons_of_failures_are_those_of_the_code_in_its_plain_words():
    documented = {name.strip("`| "): said.strip("| ") for name, said in rows("docs/metrics.md", 2)}
    assert documented == {reason.value: text for reason, text in glossary.FAILURES.items()}


def test_every_state_alert_and_failure_has_plain_words():
    assert set(glossary.STATES) == set(State)
    assert set(glossary.ALERTS) == set(AlertName)
    assert set(glossary.FAILURES) == set(FailureReason)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_written_from_the_code_is_as_it_would_be_written(page):
    text = (FOLDER / page).read_text(encoding="utf-8")
    assert "<!-- make docs: " in text
    assert written(text) == text, "make docs"


def test_the_picture_of_the_states_asks_the_questions_of_the_code_in_its_order():
    page = (FOLDER / "architecture.md").read_text(encoding="utf-8")
    [picture] = re.findall(r"```mermaid\n(.*?)```", page, re.DOTALL)
    questions = re.findall(r'^  q\d\["(.*?)\?"\] -- yes --> (\w+)\(', picture, re.MULTILINE)
    assert [(answer, asked.replace("#lt;", "<")) for asked, answer in questions] == [
        (state.value, when) for state, when, _ in evaluate.STATES[:-1]
    ]
    *steps, last = re.split(r" -- no --> ", picture.splitlines()[-1].strip())
    assert steps == [f"q{number}" for number in range(len(evaluate.STATES) - 1)]
    assert last.startswith(f"{evaluate.STATES[-1][0].value}(")


def test_the_page_on_architecture_has_the_layers_that_are_enforced():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    [layers] = [one["layers"] for one in contracts["contracts"] if one["type"] == "layers"]
    page = (FOLDER / "architecture.md").read_text(encoding="utf-8")
    [block] = re.findall(r"enforces it\.\n\n```\n(.*?)```", page, re.DOTALL)
    assert re.findall(r"^(\w+(?: \| \w+)*)(?=  )", block, re.MULTILINE) == layers


@pytest.mark.parametrize(
    "module", sorted((ROOT / "monitor/web").glob("[a-z]*.py")), ids=lambda path: path.stem
)
def test_the_page_on_architecture_names_the_parts_of_the_web(module):
    [said] = re.findall(
        r"^In `web`.*?\n\n",
        (FOLDER / "architecture.md").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    assert f"`{module.stem}`" in said


STATE = re.compile(r'_(?:state|batches)\{[^}]*\bstate=~?\\?"([\w|]+)')


@pytest.mark.parametrize(
    "page",
    sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.yml"), *ROOT.glob("deploy/**/*.json")]),
    ids=lambda page: page.name,
)
def test_queries_ask_for_states_that_there_are(page):
    asked = {name for found in STATE.findall(page.read_text(encoding="utf-8")) for name in found.split("|")}
    assert asked <= {state.value for state in State}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_an_example_in_its_help_and_a_line_in_the_readme(command):
    assert f"Example: batch-monitor {command}" in COMMANDS[command].help
    assert re.search(rf"batch-monitor {command}\b", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_readme_names_every_alert_with_its_severity_and_how_long_it_must_hold():
    told = {name.strip("`| "): (when, severity.strip("| ")) for name, when, severity in rows("README.md", 3)}
    assert told.keys() == {name.value for name in alerts.KINDS}
    for name, kind in alerts.KINDS.items():
        when, severity = told[name.value]
        assert severity.startswith(kind.severity.value), name
        assert not kind.hold or f"for {words.duration(kind.hold)}" in when, name
    assert words.duration(evaluate.Rules().stall_after) in told["BatchStalled"][0]


def test_the_readme_is_short_enough_to_be_read():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")), ids=lambda page: page.name
)
def test_no_link_leads_nowhere(page):
    text = page.read_text(encoding="utf-8")
    for link, picture in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)|\bsrc(?:set)?=\"([^\":]+)\"", text):
        target = link or picture
        assert (page.parent / target).exists(), target


def test_the_promql_of_the_pages_can_be_parsed():
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    queries = [
        line
        for block in re.findall(r"```promql\n(.*?)```", page, flags=re.DOTALL)
        for line in block.splitlines()
        if not line.startswith("#")
    ]
    assert len(queries) >= 6
    for query in queries:
        promql_parser.parse(query)
