"""The example and the page on configuration: every key of the code, no other, with the code's defaults."""

from __future__ import annotations

import re
import types
import typing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from monitor import config, heartbeat
from monitor.alerts import KINDS, Policy, default_rule
from monitor.config import schema
from monitor.evaluate import Rules
from monitor.notify import alertmanager, webhook

ROOT = Path(__file__).parent.parent
EXAMPLE = (ROOT / "config.example.yaml").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
KEY = "Zk3hQ9aB.0123456789abcdef0123456789abcdef"
ENVIRON = {
    "ULTRAVOX_API_KEY": KEY,
    "CRM_WEBHOOK_SECRET": "correct-horse",
    "SLACK_URL": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
}
KIND_KEYS = {kind.key for kind in KINDS.values()}


def fields_in(model=schema.File, at=()):
    """Every key that holds no further keys: its path and its model, as (("accounts[]", "name"), Account)."""
    hints = typing.get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        path = (*at, (field.alias or name) + ("[]" if is_list(hints[name]) else ""))
        inner = None if name == "alerts" and at else model_in(hints[name])
        if inner is None:
            yield (*at, field.alias or name), model, name
        else:
            yield from fields_in(inner, path)


def model_in(hint):
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
        return hint if issubclass(hint, BaseModel) else None
    return next((model for part in typing.get_args(hint) if (model := model_in(part))), None)


def is_list(hint):
    return (typing.get_origin(hint) is list and model_in(hint)) or any(map(is_list, typing.get_args(hint)))


FIELDS = {".".join(path): (model, name) for path, model, name in fields_in()}


def as_documented(path):
    """What all alerts of a kind's sort have in common is told once."""
    parts = path.split(".")
    common = parts[0] == "alerts" and parts[2] in {
        "enabled",
        "severity",
        "for",
        "keep_firing_for",
        "repeat_every",
    }
    return f"alerts.KIND.{parts[2]}" if common else path


def refused(hint):
    """The bounds of a duration, as the page is to say them, from what is said of one that is outside of them."""
    for outside in ("1ms", "90d"):
        try:
            TypeAdapter(hint).validate_python(outside)
        except ValidationError as error:
            if bounds := re.search(r"must be between (\S+) and (\w+)", str(error)):
                return f"{bounds[1]} to {bounds[2]}"
            if bounds := re.search(r"must be at least (\w+)", str(error)):
                return f"{bounds[1]} at least"
    return None


ROWS = re.findall(r"^\| `([^`]+)` \|\s*([^|]*?)\s*\|\s*([^|]*?)\s*\|$", PAGE, flags=re.MULTILINE)


def test_the_page_has_a_row_for_every_key_and_for_no_other():
    assert sorted(path for path, _, _ in ROWS) == sorted({as_documented(path) for path in FIELDS})
    assert all(meaning for _, _, meaning in ROWS)


def test_the_page_names_every_kind_of_alert():
    [kinds] = re.findall(r"`KIND` is one of(.*?)\. ", PAGE, flags=re.DOTALL)
    assert set(re.findall(r"`(\w+)`", kinds)) == KIND_KEYS


def default_of(model, name):
    field = model.model_fields[name]
    return field.get_default(call_default_factory=True)


@pytest.mark.parametrize(
    ("path", "written"), [(path, default.strip("`")) for path, default, _ in ROWS if default.startswith("`")]
)
def test_the_defaults_of_the_page_are_those_of_the_code(path, written):
    value = yaml.safe_load(written)
    match path.split("."):
        case ["alerts", "KIND", "enabled"]:
            assert value is True
        case ["alerts", "KIND", key]:
            rules = [default_rule(name) for name, kind in KINDS.items() if not kind.one_shot]
            assert {getattr(rule, key) for rule in rules} == {schema_duration(value)}
        case ["alerts", "stalled", key]:
            assert getattr(Rules(), f"stall_{key}") == schema_duration(value)
        case ["alerts", "ended_incomplete", "failed_ratio"]:
            assert Policy().failed_ratio == value
        case ["alerts", "failure_rate_high", key]:
            assert getattr(Policy(), f"failure_{key}") == value
        case _:
            model, name = FIELDS[path]
            hint = typing.get_type_hints(model, include_extras=True)[name]
            assert TypeAdapter(hint).validate_python(value) == default_of(model, name)


def schema_duration(value):
    return TypeAdapter(schema.Duration).validate_python(value)


def test_a_key_without_a_default_on_the_page_has_none_in_the_code():
    for path, default, _ in ROWS:
        if not default.startswith("`") and path in FIELDS:
            model, name = FIELDS[path]
            field = model.model_fields[name]
            assert field.is_required() == (default == "needed"), path
            assert field.is_required() or field.default is None or name == "alerts", path


RANGES = {
    path: found
    for path, (model, name) in FIELDS.items()
    if (found := refused(typing.get_type_hints(model, include_extras=True)[name]))
}


def test_there_are_ranges_of_durations():
    assert len(RANGES) >= 24


@pytest.mark.parametrize(("path", "said"), RANGES.items(), ids=RANGES)
def test_the_page_says_between_what_a_duration_must_be(path, said):
    [meaning] = [meaning for row, _, meaning in ROWS if row == as_documented(path)]
    assert said in meaning


def keys_of(data, at=""):
    """The paths in a file, down to what holds no further keys."""
    for key, value in data.items():
        path = f"{at}.{key}" if at else key
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from (inner for one in value for inner in keys_of(one, f"{path}[]"))
        elif isinstance(value, dict) and key != "labels" and path not in FIELDS:
            yield from keys_of(value, path)
        else:
            yield path


def test_the_example_has_every_key_and_no_other():
    """Those that exclude another are commented out in it."""
    everything = re.sub(r"^( *)# (\w+: )", r"\1\2", EXAMPLE, flags=re.MULTILINE)
    assert set(keys_of(yaml.safe_load(everything))) == FIELDS.keys()


def test_the_example_says_the_defaults(tmp_path):
    found = config.load(ROOT / "config.example.yaml", ENVIRON)
    tmp_path.joinpath("least.yaml").write_text(
        "accounts: [{name: main, api_key: '${ULTRAVOX_API_KEY}'}]\n", encoding="utf-8"
    )
    least = config.load(tmp_path / "least.yaml", ENVIRON)
    [account], [least_account] = found.accounts, least.accounts
    assert account.api == least_account.api
    assert account.policy == least_account.policy
    assert found.account_interval == least.account_interval
    assert (found.interval, found.outcomes_interval) == (least.interval, least.outcomes_interval)
    assert replace(account.discovery, by_agent={}) == replace(least_account.discovery, by_agent={})
    assert (found.web.host, found.web.port) == (least.web.host, least.web.port)
    assert found.storage_path.name == least.storage_path.name
    oncall, crm = found.receivers["oncall"].channel, found.receivers["crm"].channel
    assert isinstance(oncall, alertmanager.Settings)
    assert isinstance(crm, webhook.Settings)
    assert oncall.timeout == alertmanager.Settings(()).timeout
    assert crm.timeout == webhook.Settings(crm.url).timeout
    assert found.heartbeat == heartbeat.Settings(found.heartbeat.url)
    [watch] = account.watches
    assert watch.rules == Rules(stall_after=timedelta(minutes=20))  # the batch's own
    assert watch.target.labels == (("team", "growth"),)
    assert watch.target.agent_name == "renewals"


def test_every_line_of_the_example_is_explained():
    """A key, in a line of its own, with what it means beside it, above it or in the block that it opens."""
    for line in EXAMPLE.splitlines():
        if re.match(r" +(- )?\w+: \S", line) and "{" not in line:
            assert "#" in line or "_url" in line, line


SNIPPETS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.split(":")[0])
def test_what_the_page_shows_loads(snippet, tmp_path):
    if "accounts:" not in snippet:
        snippet += "accounts: [{name: main, api_key: '${ULTRAVOX_API_KEY}'}]\n"
    path = tmp_path / "config.yaml"
    path.write_text(snippet, encoding="utf-8")
    config.load(path, ENVIRON)


def test_every_section_of_the_page_shows_an_example():
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    for section in sections:
        if "| key |" in section:
            assert "```yaml" in section, section.splitlines()[0]
