"""What a client sees beyond the happy path: refusals, pages, dates, and every batch against the API's document."""

import asyncio
import base64
from datetime import timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jsonschema
import pytest
from test_simulator import NOON, ask, ids, scenario, schema_of

from monitor import simulator
from monitor.simulator import Fault, FaultKind

BATCH = "/api/agents/{agent_id}/scheduled_batches/{batch_id}"


def keep_to(path, body):
    jsonschema.validate(body, schema_of(path), format_checker=jsonschema.FormatChecker())


async def test_every_batch_of_the_afternoon_keeps_to_the_document_at_any_time(start, clock):
    played = simulator.shipped()
    pretend, session = await start(played)
    pretend.clear_faults()
    shown = set()
    for _ in range(5):
        for account in played.accounts:
            key = {"X-API-Key": account.api_key}
            for agent in account.agents:
                path = f"/api/agents/{agent.agent_id}/scheduled_batches"
                status, listed = await ask(session, path, headers=key)
                assert status == 200
                keep_to(path.replace(str(agent.agent_id), "{agent_id}"), listed)
                for batch in listed["results"]:
                    shown.add((batch["webhookUrl"] is None, batch["endedAt"] is None, "paused" in batch))
                    status, same = await ask(session, f"{path}/{batch['batchId']}", headers=key)
                    assert (status, same) == (200, batch)
                    for part in ("scheduled_calls", "created_calls"):
                        _, calls = await ask(
                            session, f"{path}/{batch['batchId']}/{part}?pageSize=9", headers=key
                        )
                        keep_to(f"{BATCH}/{part}", calls)
        clock.now += timedelta(hours=1)
    assert {(False, True, True), (True, True, True), (False, False, True), (False, False, False)} <= shown


async def test_a_throttle_keeps_to_the_document(start):
    _, session = await start(simulator.shipped())
    _, body = await ask(session, "/api/call_throttles")
    _, one = await ask(session, f"/api/call_throttles/{body['results'][0]['throttleId']}")
    keep_to("/api/call_throttles/{throttle_id}", one)


async def test_secrets_and_numbers_are_planted_so_that_one_can_look_for_them(start, clock):
    played = scenario("medium: twilio, failing: {share: 1.0, error: refused}")
    _, session = await start(played)
    _, batch = await ask(session, ids(played)[1])
    assert batch["webhookSecret"].startswith("whsec-")
    clock.now += timedelta(minutes=10)
    _, calls = await ask(session, ids(played)[1] + "/scheduled_calls?status=ERROR")
    for call in calls["results"]:
        numbers = call["medium"]["twilio"]["outgoing"]
        number = numbers["to"]
        assert (number[5:10], numbers["from"]) == ("55501", "+15550100"), "nobody's numbers"
        assert call["error"] == f"refused: {number}"


async def test_a_batch_without_a_webhook_has_no_secret(start):
    played = scenario("webhook: false")
    _, session = await start(played)
    _, batch = await ask(session, ids(played)[1])
    assert (batch["webhookUrl"], batch["webhookSecret"]) == (None, None)


async def test_of_the_calls_created_some_reach_nobody(start, clock):
    played = scenario()
    _, session = await start(played)
    clock.now += timedelta(hours=1)
    _, body = await ask(session, ids(played)[1] + "/created_calls")
    reasons = {call["endReason"]: call for call in body["results"]}
    assert set(reasons) == {"hangup", "unjoined"}
    assert (reasons["unjoined"]["joined"], reasons["unjoined"]["billedDuration"]) == (None, "0s")
    answered = reasons["hangup"]
    assert (answered["joined"], answered["billedDuration"]) == (answered["created"], "120s")


def opaque(text):
    return base64.urlsafe_b64encode(text.encode()).decode()


NONSENSE = [
    *({"pageSize": text} for text in ("0", "-1", "1.5", "many", "", "９", "1e3")),
    *({"cursor": text} for text in ("", "%%", "o=5", opaque("o=-5"), opaque("o= 5"), opaque("5"), opaque("o=5") + "!")),
    *({"status": text} for text in ("", "DONE", "success")),
]  # fmt: skip


@pytest.mark.parametrize("query", NONSENSE, ids=str)
async def test_a_question_that_makes_no_sense_is_a_400_in_json(start, query):
    played = scenario()
    _, session = await start(played)
    status, body = await ask(session, ids(played)[1] + "/scheduled_calls", params=query)
    assert status == 400
    assert list(body) == ["detail"]


async def test_a_page_larger_than_the_largest_is_cut_down(start):
    played = simulator.load("accounts: [{name: a, agents: [{name: b, batches: [{name: c, calls: 600}]}]}]")
    _, session = await start(played)
    _, body = await ask(session, ids(played)[1] + "/scheduled_calls", params={"pageSize": 100_000})
    assert (len(body["results"]), body["total"]) == (500, 600)


async def test_next_and_previous_are_whole_addresses_that_keep_what_was_asked(start):
    played = scenario()
    pretend, session = await start(played)
    path = ids(played)[1] + "/scheduled_calls"
    _, first = await ask(session, path, params={"pageSize": 40, "status": "FUTURE"})
    assert first["previous"] is None
    address = urlsplit(first["next"])
    assert f"{address.scheme}://{address.netloc}" == pretend.base_url
    assert address.path == path
    query = parse_qs(address.query)
    assert query.pop("cursor")
    assert query == {"pageSize": ["40"], "status": ["FUTURE"]}
    async with aiohttp.ClientSession(headers={"X-API-Key": played.accounts[0].api_key}) as anyone:
        _, second = await ask(anyone, first["next"])
        _, third = await ask(anyone, second["next"])
        _, back = await ask(anyone, second["previous"])
    assert [len(page["results"]) for page in (second, third)] == [40, 20]
    assert third["next"] is None
    assert back == first


async def test_a_cursor_past_the_end_is_an_empty_page(start):
    played = scenario()
    _, session = await start(played)
    _, body = await ask(session, ids(played)[1] + "/scheduled_calls", params={"cursor": opaque("o=1000")})
    assert (body["results"], body["next"], body["total"]) == ([], None, 100)


@pytest.mark.parametrize(("search", "found"), [("SURV", 1), ("surv", 1), ("e", 2), ("x", 0)])
async def test_agents_can_be_searched_for(start, search, found):
    _, session = await start(
        simulator.load("accounts: [{name: main, agents: [{name: Survey}, {name: Renewals}]}]")
    )
    _, body = await ask(session, "/api/agents", params={"search": search})
    assert (len(body["results"]), body["total"]) == (found, found)


async def test_every_answer_has_the_date_of_the_simulator_s_clock(start, clock):
    """The library would put in the machine's, and what is compared with it would be off."""
    played = scenario()
    pretend, session = await start(played)
    clock.now = NOON + timedelta(days=400)
    batch = ids(played)[1]

    async def dated(method="GET", path=batch, **options):
        async with session.request(method, path, **options) as answer:
            assert parsedate_to_datetime(answer.headers["Date"]) == clock.now
            return answer.status

    assert await dated() == 200
    assert await dated(headers={"X-API-Key": ""}) == 401
    assert await dated(path="/api/nonsense") == 404
    assert await dated("POST") == 405
    for kind in (FaultKind.HTML, FaultKind.TRUNCATED, FaultKind.SERVER_ERROR, FaultKind.WRONG_TYPES):
        pretend.add_fault(Fault(kind=kind))
        await dated()
        pretend.clear_faults()
    for _ in range(200):
        await session.get(batch)
    assert await dated() == 429


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
async def test_nothing_but_get(start, method):
    played = scenario()
    _, session = await start(played)
    async with session.request(method, ids(played)[1]) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")
        assert answer.content_type == "application/json"


async def test_the_limit_is_each_key_s_own_and_slides(start, clock):
    played = simulator.load("accounts: [{name: main}, {name: other}]")
    pretend, session = await start(played)
    other = {"X-API-Key": played.accounts[1].api_key}
    paths = ("/api/accounts/me", "/api/agents", "/api/nonsense")

    async def many(count, **options):
        return [(await ask(session, paths[turn % 3], **options))[0] for turn in range(count)]

    assert 429 not in await many(100)
    clock.now += timedelta(milliseconds=600)
    assert 429 not in await many(100)
    assert await many(1) == [429]
    assert 429 not in await many(1, headers=other)
    clock.now += timedelta(milliseconds=600)
    async with session.get("/api/accounts/me") as answer:
        assert (answer.status, "Retry-After" in answer.headers) == (200, False)
    rest = await many(100)
    assert (rest.count(429), rest[-1]) == (1, 429)
    assert sum(seen.status == 429 for seen in pretend.requests) == 2


async def test_a_moved_clock_moves_the_campaigns_and_going_back_does_nothing(start, clock):
    played = scenario()
    _, session = await start(played)
    counts = []
    for moved in (0, 30, -30, 60):
        clock.now = NOON + timedelta(seconds=moved)
        counts.append((await ask(session, ids(played)[1]))[1]["completedCount"])
    assert counts == [0, 30, 30, 60]


async def test_serve_says_where_it_is_and_stops_when_cancelled(clock):
    addresses = asyncio.Queue()
    served = asyncio.create_task(
        simulator.serve(
            scenario(), speed=None, host="127.0.0.1", port=0, clock=clock, on_ready=addresses.put_nowait
        )
    )
    address = await addresses.get()
    async with aiohttp.ClientSession() as session:
        assert (await ask(session, address + "/api/accounts/me"))[0] == 401
        served.cancel()
        with pytest.raises(asyncio.CancelledError):
            await served
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(address + "/api/accounts/me")
