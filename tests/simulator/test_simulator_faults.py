"""Which request a fault hits, and what of it arrives at a client."""

import asyncio

import aiohttp
import pytest
from test_simulator import ask, ids, scenario

from monitor import simulator
from monitor.simulator import ENDPOINTS, Fault, FaultKind
from monitor.simulator.faults import Faults

TWO = """
accounts:
  - name: main
    throttles: [{name: slow, rules: [{max_calls: 5, window: 1h}]}]
    agents: [{name: a, batches: [{name: one, calls: 100}, {name: two, calls: 100}]}]
"""


async def paths(session, played):
    agent, batch = ids(played)
    _, throttles = await ask(session, "/api/call_throttles")
    return {
        "get_batch": batch,
        "list_batches": f"{agent}/scheduled_batches",
        "scheduled_calls": f"{batch}/scheduled_calls",
        "created_calls": f"{batch}/created_calls",
        "list_agents": "/api/agents",
        "get_agent": agent,
        "accounts_me": "/api/accounts/me",
        "list_throttles": "/api/call_throttles",
        "get_throttle": f"/api/call_throttles/{throttles['results'][0]['throttleId']}",
    }


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_fault_hits_its_endpoint_and_no_other(start, endpoint):
    played = simulator.load(TWO)
    pretend, session = await start(played)
    all_paths = await paths(session, played)
    pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, status=502, endpoint=endpoint))
    hit = {name for name, path in all_paths.items() if (await ask(session, path))[0] == 502}
    assert hit == {endpoint}
    assert {seen.endpoint for seen in pretend.requests if seen.status == 502} == {endpoint}


async def test_a_fault_of_a_batch_hits_all_that_is_asked_of_it_and_nothing_else(start):
    played = simulator.load(TWO)
    pretend, session = await start(played)
    pretend.add_fault(Fault(kind=FaultKind.FORBIDDEN, batch="two"))
    one, two = ids(played)[1], ids(played, batch=1)[1]
    for path, expected in ((one, 200), (two, 403), (two + "/scheduled_calls", 403), (ids(played)[0], 200)):
        assert (await ask(session, path))[0] == expected


async def test_the_first_fault_that_fits_counts(start):
    played = simulator.load(TWO)
    pretend, session = await start(played)
    pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, share=0.0))
    pretend.add_fault(Fault(kind=FaultKind.FORBIDDEN))
    pretend.add_fault(Fault(kind=FaultKind.NOT_FOUND))
    assert (await ask(session, "/api/accounts/me"))[0] == 403


def test_a_share_depends_on_the_seed_and_the_number_of_the_request_alone():
    half = Fault(kind=FaultKind.HTML, endpoint="get_batch", share=0.5)
    other = Fault(kind=FaultKind.HTML, endpoint="accounts_me", share=0.5)

    def hits(seed, *, between=0):
        faults = Faults([half, other], seed)
        found = []
        for _ in range(200):
            for _ in range(between):
                faults.hitting("accounts_me", "main", None, 0)
            found.append(faults.hitting("get_batch", "main", None, 0) is half)
        return found

    assert hits(1) == hits(1) == hits(1, between=3)
    assert hits(1) != hits(2)
    assert 70 < sum(hits(1)) < 130


async def test_a_reset_is_a_reset_and_not_an_end(start):
    played = scenario()
    pretend, _ = await start(played)
    pretend.add_fault(Fault(kind=FaultKind.RESET))
    port = int(pretend.base_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET /api/accounts/me HTTP/1.1\r\nHost: x\r\nX-API-Key: {played.accounts[0].api_key}\r\n\r\n".encode()
    )
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_a_reset_midway_comes_after_a_200(start):
    pretend, session = await start(scenario())
    pretend.add_fault(Fault(kind=FaultKind.RESET, midway=True))
    async with session.get("/api/accounts/me") as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_half_a_body_is_announced_as_a_whole_one(start):
    pretend, session = await start(scenario())
    async with session.get("/api/accounts/me") as answer:
        whole = await answer.read()
    pretend.add_fault(Fault(kind=FaultKind.TRUNCATED))
    async with session.get("/api/accounts/me") as answer:
        assert int(answer.headers["Content-Length"]) == len(whole)
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_wrong_types_as_they_are_and_as_one_wants_them(start):
    played = scenario()
    pretend, session = await start(played)
    agent, batch = ids(played)
    _, right = await ask(session, batch)

    async def spoilt(path, **options):
        pretend.clear_faults()
        pretend.add_fault(Fault(kind=FaultKind.WRONG_TYPES, **options))
        status, body = await ask(session, path)
        assert status == 200
        return body

    left = {name: value for name, value in right.items() if name != "completedCount"}
    assert await spoilt(batch) == left | {"totalCount": "400", "created": 1763900000}
    assert (await spoilt("/api/accounts/me"))["activeCalls"] is None
    assert (await spoilt("/api/agents"))["results"] == {}
    assert await spoilt(batch, fields={"endedAt": 7, "nonsense": 1}) == right | {"endedAt": 7}
    assert await spoilt(batch, fields={"endedAt": None}, without=("created", "totalCount")) == {
        name: value for name, value in right.items() if name not in {"created", "totalCount"}
    }
    listed = await spoilt(f"{agent}/scheduled_batches", fields={"totalCount": None})
    assert (listed["total"], listed["results"]) == (1, [right | {"totalCount": None}])


async def test_counts_shrink_in_lists_too(start, clock):
    played = scenario("paused: true")
    pretend, session = await start(played)
    pretend.add_fault(Fault(kind=FaultKind.SHRINK))
    _, listed = await ask(session, ids(played)[0] + "/scheduled_batches")
    assert [batch["totalCount"] for batch in listed["results"]] == [50]
    _, calls = await ask(session, ids(played)[1] + "/scheduled_calls?status=FUTURE&pageSize=1")
    assert calls["total"] == 50


async def test_retry_after_may_be_a_date(start):
    pretend, session = await start(scenario())
    at = "Mon, 23 Nov 2026 12:00:30 GMT"
    pretend.add_fault(Fault(kind=FaultKind.THROTTLED, retry_after=at))
    async with session.get("/api/accounts/me") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, at)


async def test_a_request_without_an_answer_is_remembered_as_one(start):
    pretend, session = await start(scenario())
    pretend.add_fault(Fault(kind=FaultKind.RESET))
    with pytest.raises(aiohttp.ClientConnectionError):
        await session.get("/api/accounts/me")
    assert {(seen.endpoint, seen.account, seen.status) for seen in pretend.requests} == {
        ("accounts_me", "main", None)
    }


async def test_what_is_wrong_with_a_batch_is_wrong_on_a_page_of_the_list_and_nothing_else_is(start):
    played = simulator.load(TWO)
    pretend, session = await start(played)
    pretend.add_fault(Fault(kind=FaultKind.WRONG_TYPES, batch="one"))
    _, page = await ask(session, f"{ids(played)[0]}/scheduled_batches")
    assert {type(entry["totalCount"]) for entry in page["results"]} == {str, int}
    pretend.clear_faults()
    pretend.add_fault(Fault(kind=FaultKind.WRONG_TYPES, endpoint="get_batch"))
    _, page = await ask(session, f"{ids(played)[0]}/scheduled_batches")
    assert {type(entry["totalCount"]) for entry in page["results"]} == {int}
