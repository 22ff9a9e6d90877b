"""The configuration: what it means, and what is said of every mistake in it."""

from __future__ import annotations

import copy
import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor import config
from monitor.alerts import KINDS, default_rule
from monitor.config import ConfigError, document, schema, texts
from monitor.evaluate import Rules
from monitor.model import AlertName, Severity

ROOT = Path(__file__).parent.parent
BAD = Path(__file__).parent / "data/config/bad"
GOOD = Path(__file__).parent / "data/config/good"
KEY = "Zk3hQ9aB.0123456789abcdef0123456789abcdef"
ENVIRON = {"KEY": KEY, "EMPTY": "", "FOLDER": "correct-horse", "ULTRAVOX_API_KEY": KEY}
AGENT = "7f6a1c52-0d5e-4b6e-9a51-2f1f0c3f7a10"
OTHER_AGENT = "7f6a1c52-0d5e-4b6e-9a51-2f1f0c3f7a11"
BATCH = "3c90c3cc-0d44-4b50-8888-8dd25736052a"
MINIMAL = "accounts:\n  - name: main\n    api_key: ${KEY}\n"
WITH_BATCH = MINIMAL + f"    batches:\n      - {{agent_id: {AGENT}, batch_id: {BATCH}}}\n"


@pytest.fixture
def load(tmp_path):
    def load(text, **options):
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return config.load(path, ENVIRON, **options)

    return load


def mistakes(load, text):
    with pytest.raises(ConfigError) as caught:
        load(text)
    return [(found.path, found.text) for found in caught.value.mistakes]


# Mistakes

BAD_FILES = sorted(BAD.glob("*.yaml"))


@pytest.mark.parametrize("path", BAD_FILES, ids=lambda path: path.stem)
def test_every_mistake_is_told_with_its_place_and_what_to_do(path, monkeypatch):
    """The expected lines stand at the end of each file, where they move no other line."""
    monkeypatch.chdir(path.parent)
    expected = re.findall(r"^# expect: (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert expected
    with pytest.raises(ConfigError) as caught:
        config.load(Path(path.name), ENVIRON)
    assert str(caught.value).splitlines() == [f"{path.name}:{line}" for line in expected]
    assert KEY not in str(caught.value)
    assert "correct-horse" not in str(caught.value)


def test_there_are_enough_bad_files():
    assert len(BAD_FILES) >= 30


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "nowhere.yaml"
    with pytest.raises(
        ConfigError, match=re.escape(f"{path}:1:1: there is no such file: copy config.example.yaml to it")
    ):
        config.load(path, ENVIRON)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(MINIMAL.encode() + b"# caf\xe9\n")
    with pytest.raises(ConfigError, match=r":4:1: not UTF-8"):
        config.load(path, ENVIRON)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"two\nlines\n", "must hold one line, without blanks"),
        (b"\xff\xfe", "is not text"),
    ],
)
def test_a_file_with_a_secret_that_cannot_be_one_is_named_and_not_quoted(load, tmp_path, content, text):
    tmp_path.joinpath("key").write_bytes(content)
    [(path, said)] = mistakes(load, "accounts:\n  - name: main\n    api_key_file: key\n")
    assert path == "accounts[0].api_key_file"
    assert said == f"{tmp_path / 'key'} {text}"


@pytest.mark.parametrize("tag", ["!!int ''", "!!float ''", "!!bool foo", "!!timestamp foo", "!!binary '%'"])
def test_a_tag_that_does_not_fit_its_value_is_a_mistake_like_any_other(load, tag):
    assert mistakes(load, MINIMAL + f"web: {tag}\n")


def test_a_file_s_name_that_cannot_be_one_is_a_mistake(load):
    found = mistakes(load, 'accounts:\n  - {name: main, api_key_file: "a\\0b"}\n')
    assert {path for path, _ in found} == {"accounts[0].api_key_file"}


def test_an_external_url_with_a_password_is_refused(load):
    assert mistakes(load, MINIMAL + "web: {external_url: 'http://user:pass@monitor.example'}\n")


def test_a_section_that_is_left_empty_has_its_defaults(load):
    assert load(MINIMAL + "poll:\nalerts:\nreceivers:\nlinks:\nstorage:\nweb:\n").web.port == 10042


def test_an_address_from_a_file_is_checked_as_one_from_this_file_is(load, tmp_path):
    tmp_path.joinpath("url").write_text("tcp://crm.example/token-1234")
    [(path, said)] = mistakes(load, MINIMAL + "receivers:\n  - name: crm\n    webhook: {url_file: url}\n")
    assert path == "receivers[0].webhook.url_file"
    assert "not a URL" in said
    assert "token-1234" not in said


def test_nesting_that_would_crash_the_parser_is_refused(load):
    """The composer of libyaml recurses in C: without a look ahead this ends the process."""
    for opening in ("[", "{a: ", "- ", "? "):
        [(_, said)] = mistakes(load, "a:\n " + opening * 100_000)
        assert said == "nested deeper than 50 levels"


def test_what_an_alias_brings_is_counted_before_it_is_copied(load):
    """A hundred thousand copies of a map with a thousand keys would be more than the memory holds."""
    wide = ", ".join(f"k{number}: 1" for number in range(1000))
    many = ", ".join(["*a"] * 100_000)
    [(_, said)] = mistakes(load, f"a: &a {{{wide}}}\nb: {{<<: [{many}]}}\n")
    assert said == "more than 100,000 values"


def test_an_account_s_key_is_hidden_wherever_it_was_put_by_mistake(load):
    for text in (f"api_key: {KEY}", f"api_key_file: {KEY}", f"api_key_file: ./{KEY}", f"base_url: {KEY}"):
        with pytest.raises(ConfigError) as caught:
            load(f"accounts:\n  - name: main\n    {text}\n")
        assert KEY not in str(caught.value)
        assert not any(KEY in str(path) for path in caught.value.sources)


def test_a_file_that_is_too_large_for_a_secret_is_not_taken_for_one(load, tmp_path):
    tmp_path.joinpath("key").write_bytes(b"x" * (64 * 1024 + 1))
    [(_, said)] = mistakes(load, "accounts:\n  - name: main\n    api_key_file: key\n")
    assert said == f"{tmp_path / 'key'} is larger than 64 KiB: no secret is"


def test_an_address_from_a_file_is_checked_whatever_else_is_wrong(load, tmp_path):
    tmp_path.joinpath("url").write_text("tcp://crm.example/token-1234")
    text = "poll: {interval: 3}\nreceivers:\n  - name: crm\n    webhook: {url_file: url}\n"
    assert [path for path, _ in mistakes(load, MINIMAL + text)] == [
        "poll.interval",
        "receivers[0].webhook.url_file",
    ]


# Meaning


@pytest.mark.parametrize("path", sorted(GOOD.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_good_file_loads(path):
    found = config.load(path, ENVIRON)
    assert found.accounts
    assert KEY not in repr(found)


def test_an_alias_to_a_map_that_merges_has_no_key_twice():
    found = config.load(GOOD / "merge-keys.yaml", ENVIRON)
    rules = found.accounts[0].policy.rules
    assert rules[AlertName.BATCH_UNREACHABLE].hold == timedelta(minutes=3)
    assert rules[AlertName.BATCH_UNREACHABLE].severity is Severity.INFO
    labels = [dict(watch.target.labels) for watch in found.accounts[0].watches]
    assert labels == [{"team": "growth"}, {"team": "growth"}, {"team": "growth", "region": "north"}]


def test_what_two_of_everything_means():
    found = config.load(GOOD / "two-of-everything.yaml", ENVIRON)
    north, south = found.accounts
    assert (north.api.base_url, north.api.max_requests_per_second) == ("http://localhost:8080/ultravox", 0.5)
    assert south.api.api_key.get_secret_value() == f"prefix-{KEY}"
    assert AlertName.BATCH_STALLED not in north.policy.rules
    [watch] = north.watches
    assert AlertName.BATCH_STALLED in watch.policy.rules
    assert watch.rules.stall_after == timedelta(minutes=90)
    assert (watch.key.agent_id, watch.target.name) == (AGENT, "Frühjahr: 1 $")
    assert north.policy.rules[AlertName.ACCOUNT_UNREACHABLE].hold == timedelta(minutes=10)
    assert south.policy.rules[AlertName.ACCOUNT_UNREACHABLE].hold == timedelta(minutes=5)
    assert found.receivers["oncall"].channel.timeout == timedelta(milliseconds=500)
    assert (found.web.host, found.web.port) == ("::1", 0)
    assert found.storage_path == Path("/var/lib/monitor/state.db")


def test_the_stall_clock_has_its_limit_where_the_alert_is_off(load):
    nearer = f"{BATCH}, alerts: {{stalled: {{enabled: false, after: 7m, after_at_cap: 9m}}}}"
    [watch] = load(WITH_BATCH.replace(BATCH, nearer)).accounts[0].watches
    assert AlertName.BATCH_STALLED not in watch.policy.rules
    assert (watch.rules.stall_after, watch.rules.stall_after_at_cap) == (
        timedelta(minutes=7),
        timedelta(minutes=9),
    )


def test_every_kind_of_alert_has_its_key_where_it_belongs():
    of_batches = {kind.key for kind in KINDS.values() if not kind.about_account}
    assert set(schema.BatchAlerts.model_fields) == of_batches
    assert set(schema.AllAlerts.model_fields) == {kind.key for kind in KINDS.values()}


def test_the_least_that_is_needed_has_every_default(load, tmp_path):
    found = load(WITH_BATCH)
    [account] = found.accounts
    assert (account.name, account.api.base_url) == ("main", "https://api.ultravox.ai")
    assert account.api.api_key.get_secret_value() == KEY
    assert account.api.timeout == timedelta(seconds=10)
    assert account.api.max_requests_per_second == 20
    assert found.account_interval == timedelta(minutes=1)
    assert found.receivers == {}
    assert found.storage_path == tmp_path / "monitor.db"
    assert (found.web.host, found.web.port, found.web.external_url) == ("", 10042, None)
    [watch] = account.watches
    assert watch.rules == Rules()
    assert watch.policy.rules == {name: default_rule(name) for name in KINDS}
    assert (watch.target.account, watch.target.name, watch.target.labels) == ("main", None, ())
    assert (watch.key.agent_id, watch.key.batch_id) == (AGENT, BATCH)


def test_the_nearest_block_wins_key_by_key(load):
    text = f"""
accounts:
  - name: main
    api_key: ${{KEY}}
    alerts: {{overdue: {{severity: info, repeat_every: 1h}}}}
    agents:
      - {{agent_id: {AGENT}, name: renewals, labels: {{team: growth, region: north}}, alerts: {{overdue: {{for: 2m}}}}}}
    batches:
      - agent_id: {AGENT}
        batch_id: {BATCH}
        labels: {{region: south}}
        alerts: {{overdue: {{repeat_every: null}}, gone: {{enabled: false}}}}
      - {{agent_id: {OTHER_AGENT}, batch_id: {BATCH}}}
alerts: {{overdue: {{severity: critical, for: 9m, keep_firing_for: 3m}}, stalled: {{after: 20m}}}}
"""
    near, far = load(text).accounts[0].watches
    rule = near.policy.rules[AlertName.BATCH_OVERDUE]
    assert rule.severity is Severity.INFO  # the account's
    assert rule.hold == timedelta(minutes=2)  # the agent's
    assert rule.keep_firing_for == timedelta(minutes=3)  # the root's
    assert rule.repeat_every is None  # the batch's: null is a value
    assert AlertName.BATCH_GONE not in near.policy.rules
    assert near.target.labels == (("region", "south"), ("team", "growth"))
    assert near.rules.stall_after == timedelta(minutes=20)
    rule = far.policy.rules[AlertName.BATCH_OVERDUE]
    assert (rule.hold, rule.repeat_every) == (timedelta(minutes=9), timedelta(hours=1))
    assert AlertName.BATCH_GONE in far.policy.rules
    assert far.target.labels == ()


def test_what_is_switched_off_can_be_switched_on_again_nearer(load):
    nearer = f"{BATCH}, alerts: {{stalled: {{enabled: true}}}}"
    text = WITH_BATCH.replace(BATCH, nearer) + "alerts: {stalled: {enabled: false}}\n"
    [account] = load(text).accounts
    assert AlertName.BATCH_STALLED not in account.policy.rules
    assert AlertName.BATCH_STALLED in account.watches[0].policy.rules


def test_unmade_calls_that_are_tolerated(load):
    found = load(WITH_BATCH + "alerts: {ended_incomplete: {unmade_over: {count: 3, ratio: 0.01}}}\n")
    policy = found.accounts[0].watches[0].policy
    assert (policy.unmade_over_count, policy.unmade_over_ratio) == (3, 0.01)


def test_secrets_come_from_files_and_are_remembered_to_be_hidden_and_watched(load, tmp_path):
    for name, text in (("key", KEY), ("url", "https://crm.example/token-1234"), ("secret", "correct-horse")):
        tmp_path.joinpath(name).write_text(text + "\n")
    found = load(
        "accounts:\n  - {name: main, api_key_file: key}\n"
        "receivers:\n"
        "  - {name: crm, webhook: {url_file: url, secret_file: secret, timeout: 3s}}\n"
        "  - {name: oncall, alertmanager: {urls: ['http://user:pass@alertmanager:9093']}}\n"
    )
    assert {secret.get_secret_value() for secret in found.secrets} == {
        KEY,
        "https://crm.example/token-1234",
        "correct-horse",
        "http://user:pass@alertmanager:9093",
    }
    assert {path.name for path in found.sources} == {"config.yaml", "key", "url", "secret"}
    crm = found.receivers["crm"].channel
    assert crm.secret.get_secret_value() == "correct-horse"
    assert crm.timeout == timedelta(seconds=3)
    for secret in found.secrets:
        assert secret.get_secret_value() not in repr(found)


def test_a_variable_may_stand_inside_a_text_and_a_dollar_may_be_meant(load):
    found = load(MINIMAL + "links: {runbook_url: 'https://wiki.example/${KEY}/$${alertname}'}\n")
    assert found.links.runbook_url == f"https://wiki.example/{KEY}/${{alertname}}"


def test_the_command_line_s_address_wins(load):
    found = load(MINIMAL + "web: {listen_address: ':1'}\n", listen_address="127.0.0.1:9")
    assert (found.web.host, found.web.port) == ("127.0.0.1", 9)
    with pytest.raises(ConfigError, match=r"web.listen_address: not an address"):
        load(MINIMAL, listen_address="nonsense")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":10042", "", 10042),
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("[::1]:80", "::1", 80),
        ("localhost:0", "localhost", 0),
    ],
)
def test_listen_addresses(load, text, host, port):
    found = load(MINIMAL + f"web: {{listen_address: '{text}'}}\n")
    assert (found.web.host, found.web.port) == (host, port)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1d", 86400),
        ("2w", 1209600),
        ("0s", 0),
        ("0", 0),
        ("1500ms", 1.5),
    ],
)
def test_durations_are_those_of_prometheus(load, text, seconds):
    found = load(WITH_BATCH + f"alerts: {{overdue: {{for: {text}}}}}\n")
    rule = found.accounts[0].watches[0].policy.rules[AlertName.BATCH_OVERDUE]
    assert rule.hold == timedelta(seconds=seconds)


def test_merge_keys_work_and_do_not_count_as_duplicates(load):
    text = f"""
accounts:
  - name: main
    api_key: ${{KEY}}
    batches:
      - &first {{agent_id: {AGENT}, batch_id: {BATCH}, labels: {{team: growth}}}}
      - {{<<: *first, batch_id: 3c90c3cc-0d44-4b50-8888-8dd25736052b}}
"""
    one, two = load(text).accounts[0].watches
    assert one.target.labels == two.target.labels == (("team", "growth"),)
    assert one.key != two.key


def test_no_state_file_means_memory(load):
    assert load(MINIMAL + "storage: {path: null}\n").storage_path is None


# Never anything but a configuration or its mistakes

_KEYS = st.sampled_from(
    [
        "accounts",
        "name",
        "api_key",
        "batches",
        "agent_id",
        "alerts",
        "stalled",
        "after",
        "receivers",
        "webhook",
        "url",
        "web",
    ]
)
_YAML = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.just("${KEY}"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def loads_or_tells(load, text):
    """Neither another exception, nor a place that is not there, nor a secret, nor pydantic's words."""
    try:
        load(text)
    except ConfigError as error:
        caught = error
    else:
        return
    assert caught.mistakes, "an error without a mistake"
    assert KEY not in str(caught)
    assert list(caught.mistakes) == sorted(caught.mistakes)
    assert len(str(caught).splitlines()) == len(caught.mistakes), "a mistake of more than one line"
    for one in caught.mistakes:
        assert 1 <= one.line <= len(text.splitlines()) + 1
        assert one.column >= 1
        assert one.text
        assert one.text != texts.OTHERWISE


_fuzz = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_fuzz
@given(data=_YAML)
def test_any_yaml_is_a_configuration_or_a_list_of_mistakes(load, data):
    loads_or_tells(load, yaml.safe_dump(data, allow_unicode=True))


EXAMPLE = (ROOT / "config.example.yaml").read_text(encoding="utf-8")
EXAMPLE_DATA = yaml.safe_load(
    re.sub(r"^( *)# ((?:only|match|mute_time_intervals): )", r"\1\2", EXAMPLE, flags=re.MULTILINE)
)


def places(data, at=()):
    """The way to every value."""
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [at, *(place for step, value in inside for place in places(value, (*at, step)))]


@_fuzz
@given(data=st.data())
def test_the_example_with_other_values_in_it_is_a_configuration_or_a_list_of_mistakes(load, data):
    changed = copy.deepcopy(EXAMPLE_DATA)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(changed)[1:] or [("accounts",)]))
        inside = changed
        for step in way:
            inside = inside[step]
        match data.draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                inside[last] = data.draw(_YAML)
            case "add" if isinstance(inside, dict):
                inside[data.draw(st.text(max_size=5) | _KEYS)] = data.draw(_YAML)
            case _:
                inside.pop(last, None) if isinstance(inside, dict) else inside.pop(last)
    loads_or_tells(load, yaml.dump(changed, Dumper=yaml.CSafeDumper))


_SIGNS = st.lists(st.sampled_from([*"{}[]&*!|>%@`#:-?,'\"$<=~ \n\t", "<<", "${KEY}", "---\n", "!!int "]))


@_fuzz
@given(at=st.integers(0, len(EXAMPLE)), length=st.integers(0, 30), put=_SIGNS.map("".join) | st.text())
def test_the_example_with_other_signs_in_it_is_a_configuration_or_a_list_of_mistakes(load, at, length, put):
    loads_or_tells(load, EXAMPLE[:at] + put.encode(errors="ignore").decode() + EXAMPLE[at + length :])


@settings(max_examples=150, deadline=None)
@given(text=st.text())
def test_any_text_can_be_parsed_or_is_said_to_be_wrong(text):
    found = document.parse(text.encode("utf-8", errors="surrogatepass"), ENVIRON)
    assert found.data is not None or found.mistakes or yaml.safe_load(text) is None
