"""The pages say what the code does: states, alerts, commands."""

from __future__ import annotations

import re
from pathlib import Path

import promql_parser
import pytest

from monitor import alerts, evaluate, words
from monitor.cli import cli

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


def test_the_states_are_those_of_the_code_in_its_order():
    documented = [
        (name.strip("` "), when.removesuffix(" |").strip()) for name, when in rows("docs/alerts.md", 2)
    ]
    assert documented == [(state.value, when) for state, when, _ in evaluate.STATES]


def test_the_alerts_are_those_of_the_code_with_its_defaults():
    documented = {
        name.strip("` "): (key.strip("`"), severity.split(";")[0], hold, when.removesuffix(" |").strip())
        for name, key, severity, hold, when in rows("docs/alerts.md", 5)
    }

    def prometheus(duration):
        text = words.duration(duration)
        return text.replace(" min", "m").replace(" s", "s").replace(" h", "h")

    assert documented == {
        name.value: (kind.key, kind.severity.value, prometheus(kind.hold), kind.fires_when)
        for name, kind in alerts.KINDS.items()
    }


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_has_an_example_in_its_help_and_a_line_in_the_readme(command):
    assert f"Example: batch-monitor {command}" in cli.commands[command].help
    assert re.search(rf"batch-monitor {command}\b", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_readme_is_short_enough_to_be_read():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")), ids=lambda page: page.name
)
def test_no_link_leads_nowhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
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
