"""Every mistake in a scenario is told, all at once, with its path; what is right is filled in the same way always."""

import pytest

from monitor import simulator
from monitor.simulator import ScenarioError

MAIN = "accounts: [{name: main, agents: [{name: a, batches: [{name: b, calls: 1%s}]}]}]\n"
HERE = "scenario: accounts[0].agents[0].batches[0]"
DURATION = "not a duration: write it like 30s, 5m, 1h30m or -2h"


def batch(text):
    return MAIN % f", {text}"


def fault(text):
    return MAIN % "" + f"faults: [{{{text}}}]\n"


MISTAKES = [
    ("", "scenario: the document: must be a map"),
    ("- 1\n", "scenario: the document: must be a map"),
    ("{}\n", "scenario: accounts: Field required"),
    ("accounts: 7\n", "scenario: accounts: must be a list"),
    ("accounts: [7]\n", "scenario: accounts[0]: must be a map"),
    ("accounts: [{name: a, colour: red}]\n", "scenario: accounts[0].colour: no such key"),
    ("accounts: [{name: a}]\nspeed: 0\n", "scenario: speed: Input should be greater than 0"),
    ("accounts: [{name: a}]\nspeed: .inf\n", "scenario: speed: Input should be a finite number"),
    ("accounts: [{name: a}]\nseed: true\n", "scenario: seed: Input should be a valid integer"),
    ("seed: 1\nseed: 2\naccounts: [{name: a}]\n", "scenario: seed: is there twice"),
    (
        "accounts: [{name: a, call_duration: 1m, call_duration: 2}]\n",
        f"scenario: accounts[0].call_duration: is there twice\nscenario: accounts[0].call_duration: {DURATION}",
    ),
    (
        "accounts: [{name: a, api_key: short}]\n",
        r"scenario: accounts[0].api_key: String should match pattern '^[^\s.]{8}\.[^\s.]{32}$'",
    ),
    (
        "accounts: [{name: a, api_key: &k 'SIMULATE.12345678901234567890123456789012'}, {name: b, api_key: *k}]\n",
        "scenario: accounts: two accounts have the same api_key",
    ),
    (
        "accounts: [{name: a, agents: [{name: b}, {name: b}]}]\n",
        "scenario: accounts: two agents have the same name in the same account, or the same agent_id",
    ),
    (
        "accounts: [{name: a, agents: [{name: b, batches: [{name: c, calls: 1}, {name: c, calls: 1}]}]}]\n",
        "scenario: accounts: two batches have the same name under the same agent, or the same batch_id",
    ),
    (
        "accounts: [{name: a, throttles: [{name: t, rules: []}, {name: t, rules: []}]}]\n",
        "scenario: accounts[0]: throttle `t` is there twice",
    ),
    (
        "accounts: [{name: a, throttles: [{name: t, rules: [{max_calls: 101, window: 25h}]}]}]\n",
        (
            "scenario: accounts[0].throttles[0].rules[0].max_calls: Input should be less than or equal to 100\n"
            "scenario: accounts[0].throttles[0].rules[0].window: must be between 1s and 1d, as the API's"
        ),
    ),
    (batch("pace: 1/d"), f"{HERE}.pace: not a pace: write it like 120/h, 2/m or 5/s"),
    (batch("created: 12:30"), f"{HERE}.created: {DURATION}"),
    (batch("created: false"), f"{HERE}.created: {DURATION}"),
    (batch('jitter: "0.2"'), f"{HERE}.jitter: Input should be a valid number"),
    (batch("window: 4h"), f"{HERE}.window: must be a map"),
    (batch("medium: pigeon"), f"{HERE}.medium: Input should be 'sip' or 'twilio'"),
    (batch("script: [{at: 1m, do: pause, calls: 2}]"), f"{HERE}.script[0]: pause takes no `calls`"),
    (batch("script: [{at: 1m, do: add_calls, calls: 2, pace: 1/h}]"), f"{HERE}.script[0]: add_calls takes no `pace`"),
    (batch("script: [{at: 1m, do: move_window}]"), f"{HERE}.script[0]: move_window needs `start` or `end`"),
    (
        batch("window: {start: 1h}, script: [{at: 1m, do: move_window, end: 30m}]"),
        "scenario: accounts[0]: batch `b`: its window, once moved, ends before it starts",
    ),
    (fault("kind: smoke"), "scenario: faults[0].kind: Input should be 'latency', 'hang', 'throttled', 'server_error', 'reset', 'truncated', 'html', 'wrong_types', 'shrink', 'skew', 'unauthorized', 'forbidden' or 'not_found'"),
    (fault("kind: html, endpoint: x"), "scenario: faults[0].endpoint: Input should be 'get_batch', 'list_batches', 'scheduled_calls', 'created_calls', 'list_agents', 'get_agent', 'accounts_me', 'list_throttles', 'get_throttle' or 'any'"),
    (fault("kind: html, seconds: 3"), "scenario: faults[0].seconds: html takes none"),
    (fault("kind: html, without: [a], status: 500"), "scenario: faults[0].status: html takes none\nscenario: faults[0].without: html takes none"),
    (fault("kind: latency, seconds: .nan"), "scenario: faults[0].seconds: Input should be a finite number"),
    (fault("kind: html, from: 2m, to: 1m"), "scenario: faults[0].to: not later than `from`"),
    (fault("kind: html, share: 2"), "scenario: faults[0].share: Input should be less than or equal to 1"),
    (
        fault("kind: throttled, retry_after: soon"),
        "scenario: faults[0].retry_after: neither whole seconds nor an HTTP date like Mon, 23 Nov 2026 12:00:00 GMT",
    ),
    (
        "accounts: [{name: m, agents: [{name: a, batches: [{name: b, calls: 1}]}]}, {name: o}]\nfaults: [{kind: html, account: o, batch: b}]\n",
        "scenario: faults[0].batch: no batch is named `b`",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=[text or "nothing" for text, _ in MISTAKES])
def test_each_mistake_is_told_with_its_place(text, expected):
    with pytest.raises(ScenarioError) as caught:
        simulator.load(text)
    assert str(caught.value) == expected


UNREADABLE = ["a: [1", "a: 2026-13-45\n", "a: !!python/object:os.system {}\n", "a: *b\n", "--- 1\n--- 2\n"]


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_no_yaml_is_told_too(text):
    with pytest.raises(ScenarioError, match=r"^scenario: "):
        simulator.load(text)


def test_mistakes_in_a_file_begin_with_its_name(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("accounts: []\n")
    with pytest.raises(ScenarioError) as caught:
        simulator.load(path)
    assert str(caught.value) == f"{path}: accounts: at least one is needed"
    path.write_bytes(b"accounts: \xff\n")
    with pytest.raises(ScenarioError, match="can't decode byte"):
        simulator.load(path)
    with pytest.raises(FileNotFoundError):
        simulator.load(tmp_path / "none.yaml")


def test_anchors_and_merges_are_no_duplicates():
    played = simulator.load(
        "accounts:\n"
        "  - name: main\n"
        "    agents:\n"
        "      - name: a\n"
        "        batches:\n"
        "          - &one {name: one, calls: 5, pace: 60/h}\n"
        "          - {<<: *one, name: two}\n"
    )
    one, two = played.accounts[0].agents[0].batches
    assert (one.calls, two.calls, two.name) == (5, 5, "two")


def test_keys_and_ids_come_from_the_names_and_stay_the_same():
    """They stand in configurations that people wrote for a scenario."""
    account = simulator.shipped().accounts[0]
    assert account.api_key == simulator.default_api_key("main") == "SIMULATE.dbfd384d95dc5820aa6da6f7a8d7e08f"
    assert len(account.api_key) == 41
    agent = account.agents[0]
    assert str(agent.agent_id) == "6c1f53ba-c2ac-5c11-a75b-4a2f5f654d78"
    assert str(agent.batches[0].batch_id) == "f27acd75-5785-553b-80ff-c2821f4daa9d"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1h30m", 5400), ("-2h", -7200), ("250ms", 0.25), ("1.5d", 129600), ("0", 0)],
)
def test_durations(text, seconds):
    played = simulator.load(MAIN % f", created: {text}")
    assert played.accounts[0].agents[0].batches[0].created == seconds
