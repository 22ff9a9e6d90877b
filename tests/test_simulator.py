"""The pretend Ultravox keeps to the API's document, is the same every time, and breaks in every way it is asked to."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jsonschema
import pytest

from monitor import simulator
from monitor.simulator import Fault, FaultKind, ScenarioError, Simulator
from monitor.simulator.campaign import CallStatus, World

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DOCUMENT = json.loads((Path(__file__).parent / "data/ultravox/openapi.json").read_text(encoding="utf-8"))
MAIN = "accounts:\n  - name: main\n"


def scenario(batch="", account="", rest="", agents=True):
    text = f"seed: 1\naccounts:\n  - name: main\n    {account or 'call_duration: 2m'}\n"
    if agents:
        text += "    agents:\n      - name: renewals\n        batches:\n"
        text += f"          - {{name: spring, calls: 100, pace: 60/m, jitter: 0, {batch}}}\n"
    return simulator.load(text + rest)


def world(batch="", account=""):
    made = World(scenario(batch, account).accounts[0], 1)
    [campaign] = made.campaigns.values()
    return made, campaign


class MovedClock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return MovedClock()


@pytest.fixture
async def start(clock):
    """Start a simulator; a session that asks it as the first account."""
    running, sessions = [], []

    async def start(played, **options):
        pretend = Simulator(played, clock=clock, **options)
        url = await pretend.start()
        running.append(pretend)
        session = aiohttp.ClientSession(url, headers={"X-API-Key": played.accounts[0].api_key})
        sessions.append(session)
        return pretend, session

    yield start
    for session in sessions:
        await session.close()
    for pretend in running:
        await pretend.stop()


async def ask(session, path, **options):
    async with session.get(path, **options) as answer:
        return answer.status, await answer.json()


def ids(played, account=0, agent=0, batch=0):
    found = played.accounts[account].agents[agent]
    return (
        f"/api/agents/{found.agent_id}",
        f"/api/agents/{found.agent_id}/scheduled_batches/{found.batches[batch].batch_id}",
    )


# Against the API's own document


def schema_of(path):
    """The JSON schema of a path's answer, OpenAPI 3.0's `nullable` and `writeOnly` put into JSON schema's words."""
    operation = DOCUMENT["paths"][path]["get"]
    root = operation["responses"]["200"]["content"]["application/json"]["schema"]

    def put(node):
        if isinstance(node, list):
            return [put(one) for one in node]
        if not isinstance(node, dict):
            return node
        node = {name: put(value) for name, value in node.items()}
        if "properties" in node and "required" in node:
            hidden = {
                name
                for name, one in node["properties"].items()
                if isinstance(one, dict) and one.get("writeOnly")
            }
            node["required"] = [name for name in node["required"] if name not in hidden]
        if node.pop("nullable", False):
            return {"anyOf": [node, {"type": "null"}]}
        return node

    return put(root | {"components": DOCUMENT["components"]})


PATHS = [
    ("/api/agents/{agent_id}/scheduled_batches/{batch_id}", "{batch}"),
    ("/api/agents/{agent_id}/scheduled_batches", "{agent}/scheduled_batches"),
    ("/api/agents/{agent_id}/scheduled_batches/{batch_id}/scheduled_calls", "{batch}/scheduled_calls"),
    ("/api/agents/{agent_id}/scheduled_batches/{batch_id}/created_calls", "{batch}/created_calls"),
    ("/api/agents", "/api/agents"),
    ("/api/agents/{agent_id}", "{agent}"),
    ("/api/accounts/me", "/api/accounts/me"),
    ("/api/call_throttles", "/api/call_throttles"),
]


@pytest.mark.parametrize("minutes", [0, 100])
@pytest.mark.parametrize(("path", "asked"), PATHS, ids=[path for path, _ in PATHS])
async def test_every_answer_keeps_to_the_api_s_document(start, clock, path, asked, minutes):
    played = simulator.shipped()
    _, session = await start(played)
    clock.now += timedelta(minutes=minutes)
    agent, batch = ids(played, batch=1)
    status, body = await ask(session, asked.format(agent=agent, batch=batch))
    assert status == 200
    if "results" in body:
        assert body["results"] or path.endswith("created_calls")
    checker = jsonschema.FormatChecker()
    jsonschema.validate(body, schema_of(path), format_checker=checker)


async def test_the_check_against_the_document_can_fail(start):
    played = simulator.shipped()
    _, session = await start(played)
    _, body = await ask(session, ids(played)[1])
    for wrong in ({"totalCount": "400"}, {"created": "yesterday"}, {"endedAt": 7}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(
                body | wrong, schema_of(PATHS[0][0]), format_checker=jsonschema.FormatChecker()
            )


def test_every_path_of_the_document_is_served():
    served = {path for path, _ in PATHS} | {"/api/call_throttles/{throttle_id}"}
    assert served == set(DOCUMENT["paths"])


async def test_a_throttle_can_be_asked_for_by_its_id(start):
    _, session = await start(simulator.shipped())
    _, body = await ask(session, "/api/call_throttles")
    [throttle] = body["results"]
    assert await ask(session, f"/api/call_throttles/{throttle['throttleId']}") == (200, throttle)
    assert (await ask(session, "/api/call_throttles/nonsense"))[0] == 404


# Who may ask for what


async def test_without_the_key_nothing_is_answered_and_another_account_s_things_do_not_exist(start):
    played = simulator.shipped()
    _, session = await start(played)
    assert (await ask(session, "/api/accounts/me", headers={"X-API-Key": "wrong"}))[0] == 401
    assert (await ask(session, ids(played, account=1)[1]))[0] == 404
    assert (await ask(session, ids(played, account=1)[0]))[0] == 404
    async with session.patch(ids(played)[1], json={"paused": True}) as answer:
        assert answer.status == 405


async def test_200_requests_a_second_are_allowed_and_no_more(start, clock):
    _, session = await start(scenario())
    for _ in range(200):
        assert (await ask(session, "/api/accounts/me"))[0] == 200
    status, body = await ask(session, "/api/accounts/me")
    assert (status, body) == (429, {"detail": "Request was throttled."})
    clock.now += timedelta(seconds=1)
    assert (await ask(session, "/api/accounts/me"))[0] == 200


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_following_the_cursors_shows_everything_once(start, clock, size):
    played = scenario()
    _, session = await start(played)
    _, batch = ids(played)
    found, cursor = [], None
    while True:
        query = {"pageSize": size} | ({"cursor": cursor} if cursor else {})
        _, body = await ask(session, f"{batch}/scheduled_calls", params=query)
        assert body["total"] == 100
        found += [call["metadata"]["customer"] for call in body["results"]]
        if body["next"] is None:
            break
        cursor = parse_qs(urlsplit(body["next"]).query)["cursor"][0]
    assert len(found) == len(set(found)) == 100


async def test_outcomes_can_be_counted_by_status(start, clock):
    played = scenario("failing: {share: 0.3}, window: {end: 1m}, paused: false")
    _, session = await start(played)
    _, batch = ids(played)
    clock.now += timedelta(minutes=10)
    totals = {}
    for status in CallStatus:
        _, body = await ask(
            session, f"{batch}/scheduled_calls", params={"status": status.value, "pageSize": 1}
        )
        totals[status] = body["total"]
        assert all(call["status"] == status for call in body["results"])
    _, seen = await ask(session, batch)
    assert sum(totals.values()) == seen["totalCount"]
    assert totals[CallStatus.SUCCESS] + totals[CallStatus.ERROR] == seen["completedCount"]
    assert totals[CallStatus.ERROR] > 0
    assert totals[CallStatus.EXPIRED] == seen["totalCount"] - seen["completedCount"] > 0


@pytest.mark.parametrize("query", [{"status": "DONE"}, {"cursor": "%%"}, {"pageSize": "many"}])
async def test_a_question_that_makes_no_sense_is_refused(start, query):
    played = scenario()
    _, session = await start(played)
    status, _ = await ask(session, ids(played)[1] + "/scheduled_calls", params=query)
    assert 400 <= status < 500


# Campaigns


def test_the_same_seed_makes_the_same_afternoon_whoever_looks_when():
    def history(looks):
        worlds = [World(account, 7) for account in simulator.shipped().accounts]
        for at in looks:
            for made in worlds:
                made.advance(at)
        return [[(c.plan.name, c.made, c.ended_at) for c in made.campaigns.values()] for made in worlds]

    assert history([14400]) == history([*range(0, 14400, 37), 14400]) == history([14000, 3.5, 14400])


def test_nothing_is_called_outside_the_window_and_what_is_left_expires():
    made, campaign = world("window: {start: 10s, end: 40s}")
    made.advance(1000)
    assert {call.at for call in campaign.made} <= set(range(11, 41))
    assert len(campaign.made) == 30
    assert campaign.ended_at == 40
    assert campaign.status(99, 1000, 120) is CallStatus.EXPIRED


def test_a_batch_may_end_late():
    made, campaign = world("window: {end: 40s}, ends_late: 20s")
    made.advance(59)
    assert campaign.ended_at is None
    made.advance(60)
    assert campaign.ended_at == 60


SCRIPTS = [
    ("{at: 10s, do: pause}, {at: 30s, do: resume}", 10, 30),
    ("{at: 10s, do: stall}, {at: 30s, do: recover}", 10, 30),
    ("{at: 10s, do: cancel}", 10, 1000),
]


@pytest.mark.parametrize(("script", "stops", "goes_on"), SCRIPTS)
def test_a_script_stops_calls_and_lets_them_go_on(script, stops, goes_on):
    made, campaign = world(f"script: [{script}]")
    made.advance(500)
    assert not [call.at for call in campaign.made if stops <= call.at < goes_on]
    assert [call.at for call in campaign.made if call.at < stops]


def test_calls_that_are_added_reopen_a_batch():
    made, campaign = world("script: [{at: 3m, do: add_calls, calls: 20}]")
    made.advance(150)
    assert campaign.ended_at is not None
    made.advance(180)
    assert (campaign.ended_at, campaign.total) == (None, 120)
    made.advance(400)
    assert len(campaign.made) == 120
    assert campaign.ended_at > 180


def test_pace_window_and_failures_can_change_on_the_way():
    made, campaign = world(
        "window: {end: 30s}, script: [{at: 10s, do: set_pace, pace: 6/m}, {at: 20s, do: fail, share: 1, error: oops},"
        "{at: 25s, do: move_window, start: 40s, end: 1h}]"
    )
    made.advance(39)
    assert 10 <= len(campaign.made) <= 13
    made.advance(3600)
    assert len(campaign.made) == 100
    assert all(call.error == "oops" for call in campaign.made if call.at >= 20)
    assert all(call.error is None for call in campaign.made if call.at < 20)


async def test_a_deleted_batch_is_not_found_and_one_not_yet_created_neither(start, clock):
    played = scenario("created: 10s, script: [{at: 20s, do: delete}]")
    _, session = await start(played)
    _, batch = ids(played)
    for seconds, expected in ((0, 404), (15, 200), (10, 404)):
        clock.now += timedelta(seconds=seconds)
        assert (await ask(session, batch))[0] == expected


def test_a_throttle_is_kept_in_every_window_over_all_batches_that_share_it():
    text = """
accounts:
  - name: main
    throttles: [{name: slow, rules: [{max_calls: 10, window: 1m}, {max_calls: 30, window: 10m}]}]
    agents:
      - name: a
        batches:
          - {name: one, calls: 200, pace: 100/m, throttle: slow}
          - {name: two, calls: 200, pace: 100/m, throttle: slow}
"""
    made = World(simulator.load(text).accounts[0], 1)
    made.advance(3600)
    starts = sorted(call.at for campaign in made.campaigns.values() for call in campaign.made)
    for limit, window in ((10, 60), (30, 600)):
        assert all(later - first >= window for first, later in zip(starts, starts[limit:], strict=False))
    assert len(starts) >= 150


def test_the_account_s_cap_is_never_exceeded_and_shared_fairly():
    text = """
accounts:
  - name: main
    allowed_concurrent_calls: 5
    call_duration: 1m
    agents:
      - name: a
        batches:
          - {name: one, calls: 1000, pace: 100/m}
          - {name: two, calls: 1000, pace: 100/m}
"""
    made = World(simulator.load(text).accounts[0], 1)
    for second in range(3600):
        made.advance(second)
        assert made.active_calls() <= 5
    one, two = (len(campaign.made) for campaign in made.campaigns.values())
    assert one + two > 250
    assert abs(one - two) < 0.2 * (one + two)


async def test_speed_makes_real_instants_come_sooner(start, clock):
    played = scenario("window: {start: 0s, end: 4h}")
    _, session = await start(played, speed=240)
    _, body = await ask(session, ids(played)[1])
    assert datetime.fromisoformat(body["windowEnd"]) == NOON + timedelta(minutes=1)
    clock.now += timedelta(seconds=1)
    _, body = await ask(session, ids(played)[1])
    assert body["completedCount"] == 100


# Faults


async def faulty(start, kind, **options):
    played = scenario()
    pretend, session = await start(played)
    pretend.add_fault(Fault(kind=kind, endpoint="get_batch", **options))
    return pretend, session, ids(played)[1]


@pytest.mark.parametrize(
    ("kind", "options", "status"),
    [
        (FaultKind.THROTTLED, {}, 429),
        (FaultKind.SERVER_ERROR, {"status": 502}, 502),
        (FaultKind.UNAUTHORIZED, {}, 401),
        (FaultKind.FORBIDDEN, {}, 403),
        (FaultKind.NOT_FOUND, {}, 404),
    ],
)
async def test_faults_that_are_a_status(start, kind, options, status):
    _, session, batch = await faulty(start, kind, **options)
    assert (await ask(session, batch))[0] == status
    assert (await ask(session, "/api/accounts/me"))[0] == 200


async def test_a_429_with_patience(start):
    _, session, batch = await faulty(start, FaultKind.THROTTLED, retry_after=7)
    async with session.get(batch) as answer:
        assert answer.headers["Retry-After"] == "7"


async def test_a_reset_and_half_a_body(start):
    pretend, session, batch = await faulty(start, FaultKind.RESET)
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(session, batch)
    pretend.clear_faults()
    pretend.add_fault(Fault(kind=FaultKind.TRUNCATED))
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask(session, batch)


async def test_html_wrong_types_and_totals_that_shrink(start, clock):
    pretend, session, batch = await faulty(start, FaultKind.HTML)
    async with session.get(batch) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
    pretend.clear_faults()
    pretend.add_fault(Fault(kind=FaultKind.WRONG_TYPES))
    _, body = await ask(session, batch)
    assert (type(body["totalCount"]), type(body["created"])) == (str, int)
    pretend.clear_faults()
    pretend.add_fault(Fault(kind=FaultKind.SHRINK))
    assert (await ask(session, batch))[1]["totalCount"] == 50


async def test_a_clock_that_is_wrong(start):
    _, session, batch = await faulty(start, FaultKind.SKEW, seconds=-90)
    async with session.get(batch) as answer:
        assert parsedate_to_datetime(answer.headers["Date"]) == NOON - timedelta(seconds=90)


async def test_a_hang_ends_with_the_client_s_patience(start):
    _, session, batch = await faulty(start, FaultKind.HANG)
    with pytest.raises(TimeoutError):
        await ask(session, batch, timeout=aiohttp.ClientTimeout(total=0.1))


async def test_latency_is_real_time(start):
    _, session, batch = await faulty(start, FaultKind.LATENCY, seconds=0.05)
    assert (await ask(session, batch))[0] == 200


async def test_faults_have_their_time_their_account_and_their_share(start, clock):
    played = simulator.load(
        "seed: 3\naccounts: [{name: main}, {name: other}]\n"
        "faults:\n"
        "  - {kind: forbidden, endpoint: accounts_me, account: main, from: 1m, to: 2m}\n"
        "  - {kind: not_found, endpoint: accounts_me, account: main, from: 3m, share: 0.5}\n"
    )
    _, session = await start(played)
    other = {"X-API-Key": played.accounts[1].api_key}
    statuses = []
    for _ in range(3):
        statuses.append((await ask(session, "/api/accounts/me"))[0])
        assert (await ask(session, "/api/accounts/me", headers=other))[0] == 200
        clock.now += timedelta(minutes=1)
    assert statuses == [200, 403, 200]
    found = Counter([(await ask(session, "/api/accounts/me"))[0] for _ in range(100)])
    assert 30 < found[404] < 70
    assert found[200] + found[404] == 100


async def test_what_was_asked_can_be_looked_at(start):
    played = scenario()
    pretend, session = await start(played)
    await ask(session, ids(played)[1])
    await ask(session, "/api/nonsense")
    assert [(seen.endpoint, seen.account, seen.status) for seen in pretend.requests] == [
        ("get_batch", "main", 200),
        ("unknown", "main", 404),
    ]


# Scenarios

MISTAKES = [
    ("accounts: []\n", "scenario: accounts: at least one is needed"),
    (MAIN + "    agents: [{name: a, batches: [{name: b}]}]\n", "scenario: accounts[0].agents[0].batches[0].calls: Field required"),
    (MAIN + "    call_duration: 5\n", "scenario: accounts[0].call_duration: not a duration: write it like 30s, 5m, 1h30m or -2h"),
    (MAIN + "    call_duration: -5s\n", "scenario: accounts[0].call_duration: must not be negative"),
    (
        MAIN + "    agents: [{name: a, batches: [{name: b, calls: 1, pace: fast}]}]\n",
        "scenario: accounts[0].agents[0].batches[0].pace: not a pace: write it like 120/h, 2/m or 5/s",
    ),
    (
        MAIN + "    agents: [{name: a, batches: [{name: b, calls: 1, script: [{at: 1m, do: set_pace}]}]}]\n",
        "scenario: accounts[0].agents[0].batches[0].script[0]: set_pace needs `pace`",
    ),
    (
        MAIN + "    agents: [{name: a, batches: [{name: b, calls: 1, throttle: t, window: {start: 2m, end: 1m}}]}]\n",
        (
            "scenario: accounts[0]: batch `b`: no throttle is named `t`\n"
            "scenario: accounts[0]: batch `b`: its window ends before it starts"
        ),
    ),
    ("accounts: [{name: a}, {name: a}]\n", "scenario: accounts: `a` is there twice"),
    (
        MAIN + "faults: [{kind: html, account: x}, {kind: html, batch: y}]\n",
        "scenario: faults[0].account: no account is named `x`\nscenario: faults[1].batch: no batch is named `y`",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_in_a_scenario_are_told_with_their_place(text, expected):
    with pytest.raises(ScenarioError) as caught:
        simulator.load(text)
    assert str(caught.value) == expected


def test_the_shipped_afternoon_shows_what_it_says():
    """The story of each comment in the file, told by the campaigns."""
    found = {}
    for account in simulator.shipped().accounts:
        made = World(account, 7)
        made.advance(4 * 3600)
        found |= {c.plan.name: c for c in made.campaigns.values()}
    minutes = 60

    def silence(name):
        starts = [call.at for call in found[name].made]
        return max(later - first for first, later in itertools.pairwise(starts))

    assert silence("spring-renewals") >= 39 * minutes
    assert found["spring-renewals"].remaining == 0
    assert found["loyalty-thanks"].remaining == 0
    assert found["evening-survey"].made[0].at > 90 * minutes
    assert silence("price-change-notice") >= 89 * minutes
    assert found["last-minute-offer"].remaining > 0.05 * 300
    assert found["last-minute-offer"].ended_at == 120 * minutes
    assert 0 < found["dentist-reminders"].remaining < 0.05 * 103
    assert found["delivery-slots"].remaining > 0
    assert found["delivery-slots"].ended_at == 90 * minutes
    assert found["callback-requests"].total == 120
    assert found["callback-requests"].ended_at is not None
    assert silence("gentle-feedback") < 15 * minutes
    assert sum(call.error is not None for call in found["trunk-trouble"].made) > 100
    assert found["test-please-ignore"].deleted
    assert found["not-yet-created"].made[0].at >= 20 * minutes


def test_repeated_it_goes_on_with_new_batches_as_the_first_ones_did(clock):
    text = "script: [{at: 30s, do: stall}], window: {start: 10s, end: 1m}"
    fault = "faults:\n  - {kind: latency, from: 1h10m, to: 1h20m}\n  - {kind: latency, share: 0.1}\n"
    played = simulator.repeated(scenario(text, rest=fault), 3)
    made = World(played.accounts[0], 1)
    first, second, third = made.campaigns.values()

    made.advance(2 * 7200 - 1)
    before = [(len(c.made), c.ended_at) for c in (first, second, third)]
    made.advance(3 * 7200)

    assert before == [(19, 60.0), (19, 7260.0), (0, None)], "two hours a time: the fault ends in the second"
    assert (third.ended_at, len(third.made)) == (14460.0, 19)
    assert len({c.plan.batch_id for c in (first, second, third)}) == 3
    assert [(fault.from_, fault.to) for fault in played.faults] == [
        (4200.0, 4800.0),
        (0.0, None),
        (11400.0, 12000.0),
        (18600.0, 19200.0),
    ]


def test_once_is_the_scenario_itself():
    assert simulator.repeated(simulator.shipped(), 1) == simulator.shipped()
