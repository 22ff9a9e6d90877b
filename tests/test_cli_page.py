"""docs/cli.md has every command and option of the code, its exit codes, and the keys of its JSON; and no other."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from commands import COMMANDS
from samples import NOW, account, status

from monitor.choice import Choice, Sort, choose
from monitor.cli.completing import SHELLS
from monitor.cli.verdict import Verdict
from monitor.model import Snapshot
from monitor.web import answers

PAGE = (Path(__file__).parent.parent / "docs/cli.md").read_text(encoding="utf-8")
SECTIONS = {title: text for part in PAGE.split("\n## ")[1:] for title, _, text in [part.partition("\n")]}


def section(command):
    [found] = [text for title, text in SECTIONS.items() if command in title.split(", ")]
    return found


def options(command):
    return {
        option
        for parameter in COMMANDS[command].params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    }


def first_cells(text):
    return [line.split(" | ")[0].lstrip("| ") for line in text.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_of_a_command_is_in_its_section(command):
    text = section(command) + (section("status") if command == "watch" else "")
    assert options(command) - set(re.findall(r"--[a-z.-]+", text)) == set()


def test_no_option_is_in_a_table_that_no_command_of_its_section_has():
    for title, text in SECTIONS.items():
        known = set().union(*(options(command) for command in title.split(", ")))
        told = {option for cell in first_cells(text) for option in re.findall(r"--[a-z.-]+", cell)}
        assert told - known == set(), title


def test_every_command_is_in_the_list_and_no_other():
    head = PAGE.partition("\n## ")[0]
    listed = re.findall(r"\[`([a-z-]+)`\]\(#[a-z-]+\)", head.partition("Exit codes")[0])
    assert sorted(listed) == sorted(COMMANDS)


def test_the_exit_codes_are_those_of_the_help():
    told = dict(re.findall(r"^\| ([0-3]) \| (.*) \|$", section("status"), flags=re.MULTILINE))
    help_text = COMMANDS["status"].help
    helped = dict(re.findall(r"^ *([0-3])  (.*)$", help_text, flags=re.MULTILINE))
    assert told == helped
    assert {int(code) for code in told} == set(Verdict)


def test_the_keys_of_the_json_are_those_that_are_printed():
    snapshot = Snapshot(NOW, (status(),), (account(),))
    data = answers.batches(snapshot, choose(snapshot.batches, Choice()))["data"]
    table = section("status").partition("prints one object")[2]
    told = [name for cell in first_cells(table) for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(told) == sorted([*data, "alerts"])


def test_orders_and_shells_are_those_of_the_code():
    [row] = [line for line in section("status").splitlines() if line.startswith("| `--sort`")]
    assert re.findall(r"`(\w+)`", row) == [sort.value for sort in Sort]
    for shell in SHELLS:
        assert f"batch-monitor completion {shell}" in section("completion")
        assert f"batch-monitor completion {shell}" in COMMANDS["completion"].help
