"""Lists: read to their end, by the cursor alone, and no entry spoils another. On real sockets."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC

import pytest
from pretend_api import API_KEY, GOOD, SECRET, PretendApi, following, listing, printed
from samples import AGENT, NOW, batch_key

from monitor.model import CallStatus, FailureReason, Observation, Throttle, ThrottleRule
from monitor.ultravox import AgentAnswer, Client, UltravoxError, hedge
from monitor.ultravox import client as client_module

PATH = f"/api/agents/{AGENT}/scheduled_batches"
FIRST, SECOND, THIRD = (batch_key(number).batch_id for number in (1, 2, 3))


def batch(number: int, **changes):
    return GOOD | {"batchId": batch_key(number).batch_id} | changes


@pytest.fixture
async def api():
    made = PretendApi()
    await made.start()
    yield made
    await made.stop()


async def read(reading):
    """All pages that came, and the error that ended them if one did; no secret is in what it gives away."""
    pages, ended_by = [], None
    try:
        async for page in reading:
            pages.append(page)  # noqa: PERF401 - what came before an error is kept
    except UltravoxError as error:
        ended_by = error
    if ended_by is not None:
        assert API_KEY not in printed(ended_by)
        assert SECRET not in printed(ended_by)
    return pages, ended_by


async def test_a_list_is_read_page_by_page_to_its_end(api):
    api.answer = listing([batch(1), batch(2)], [], [batch(3)])
    pages, error = await read(api.client().list_batches(AGENT))
    assert error is None
    assert [list(page.batches) for page in pages] == [[FIRST, SECOND], [], [THIRD]]
    assert [(page.entries, page.total, page.last) for page in pages] == [
        (2, 3, False),
        (0, 3, False),
        (1, 3, True),
    ]
    assert {request.path for request in api.asked} == {PATH}
    assert api.queries == [
        {"pageSize": "100"},
        {"pageSize": "100", "cursor": "page-1"},
        {"pageSize": "100", "cursor": "page-2"},
    ]


async def test_a_page_that_hangs_keeps_nobody_waiting_who_stands_behind_it(api, monkeypatch):
    monkeypatch.setattr(hedge, "LEAST", 30)
    pages, hung, responses = listing([batch(1)], [batch(2)], [batch(3)]), [], []

    async def answer(request):
        if request.query.get("cursor") is None:
            monkeypatch.setattr(hedge, "LEAST", 0.05)  # for the next page alone: a busy machine hangs, too
        elif request.query["cursor"] == "page-1" and not hung:
            hung.append(request)
            await asyncio.Event().wait()
        else:
            monkeypatch.setattr(hedge, "LEAST", 30)
        return pages(request)

    api.answer = answer
    client = api.client(on_response=lambda *response: responses.append(response))
    found, error = await read(client.list_batches(AGENT))
    assert error is None
    assert [list(page.batches) for page in found] == [[FIRST], [SECOND], [THIRD]]
    assert len(hung) == 1
    assert responses.count(("list_batches", 200)) == 3
    assert responses.count(("list_batches", None)) == 1  # it was asked, and not answered


async def test_what_is_seen_in_a_list_is_what_is_seen_of_the_batch_alone(api):
    api.answer = lambda request: batch(1) if request.path.endswith(FIRST) else listing([batch(1)])(request)
    [page], _ = await read(api.client().list_batches(AGENT))
    alone = await api.client().get_batch(batch_key(1))
    assert replace(page.batches[FIRST], at=NOW) == replace(alone, at=NOW)
    assert page.batches[FIRST].at.tzinfo is UTC
    assert SECRET not in repr(page)


async def test_nothing_is_asked_ahead_of_the_one_who_reads(api):
    api.answer = listing([batch(1)], [batch(2)], [batch(3)])
    async with aclosing(api.client().list_batches(AGENT)) as reading:
        async for page in reading:
            assert list(page.batches) == [FIRST]
            break
    assert len(api.asked) == 1


# Where the next page is said to be

ELSEWHERE = {
    "another host": "{other}/api/agents",
    "another host, the same path": "{other}" + PATH,
    "another host by its name": "http://localhost:{other_port}" + PATH,
    "a key in front of another host": "http://user:password@127.0.0.1:{other_port}/",
    "another host without a scheme": "//127.0.0.1:{other_port}/",
    "another scheme": "https://127.0.0.1:{other_port}" + PATH,
    "a scheme of files": "file:///etc/passwd",
    "another path": "{own}/api/accounts/me",
    "a path that climbs": "{own}/../../api/accounts/me",
    "no host": "",
    "a path only": "/api/accounts/me",
}


@pytest.mark.parametrize("address", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_of_the_next_page_s_address_only_the_cursor_is_believed(api, address):
    other = PretendApi(answer=listing([batch(2)]))
    await other.start()
    places = {"other": other.url, "other_port": other.url.rpartition(":")[2], "own": api.url}
    base = address.format(**places)
    api.answer = listing([batch(1)], [batch(2)], next_page=lambda cursor: following(cursor, base))
    pages, error = await read(api.client().list_batches(AGENT))
    await other.stop()
    assert error is None
    assert [list(page.batches) for page in pages] == [[FIRST], [SECOND]]
    assert other.asked == []  # and so no key either
    assert [request.path for request in api.asked] == [PATH, PATH]
    assert [request.headers["X-API-Key"] for request in api.asked] == [API_KEY, API_KEY]


async def test_other_parameters_of_the_next_page_s_address_are_not_taken_over(api):
    api.answer = listing(
        [], [], next_page=lambda cursor: f"{api.url}{PATH}?pageSize=1&status=SUCCESS&cursor={cursor}&x=1#y"
    )
    _, error = await read(api.client().list_batches(AGENT))
    assert error is None
    assert api.queries == [{"pageSize": "100"}, {"pageSize": "100", "cursor": "page-1"}]


NOWHERE = {
    "no cursor": "https://api.ultravox.ai/api/agents?pageSize=100",
    "no query": "https://api.ultravox.ai/api/agents",
    "empty": "",
    "an empty cursor": "https://api.ultravox.ai/api/agents?cursor=",
    "a cursor and no address": "cursor=page-1",
    "a cursor of another name": "https://api.ultravox.ai/api/agents?Cursor=page-1",
    "a cursor after the query": "https://api.ultravox.ai/api/agents#?cursor=page-1",
    "a cursor in the path": "https://api.ultravox.ai/api/agents;cursor=page-1",
    "not a URL": "http://[::?cursor=page-1",
    "not a host": "http://[v1.x]:x]/?cursor=page-1",
    "words": "the next one, please",
    "a number": 7,
    "true": True,
    "a list": ["page-1"],
    "an object": {"cursor": "page-1"},
    "without an end": following("x" * 10_000),
}


@pytest.mark.parametrize("address", NOWHERE.values(), ids=NOWHERE)
async def test_a_next_page_that_is_nowhere_is_an_error_and_not_the_end(api, address):
    api.answer = listing([batch(1)], [batch(2)], [batch(3)], next_page=lambda cursor: following(cursor) if cursor == "page-1" else address)  # fmt: skip
    pages, error = await read(api.client().list_batches(AGENT))
    assert [list(page.batches) for page in pages] == [[FIRST]]
    assert (error.reason, error.again_helps) == (FailureReason.BAD_RESPONSE, True)
    assert str(error).startswith("account main: list_batches: ")
    assert "page-1" not in str(error)
    assert len(api.asked) == 2  # the page of which the next is nowhere, and none after it


@pytest.mark.parametrize(("cursors", "requests"), [("a", 2), ("ab", 3), ("abc", 4)])
async def test_a_list_that_leads_back_into_itself_is_an_error_at_once(api, cursors, requests):
    def answer(request):
        at = request.query.get("cursor")
        after = cursors[(cursors.index(at) + 1) % len(cursors)] if at else cursors[0]
        return {"results": [batch(1)], "next": following(after), "total": 1}

    api.answer = answer
    pages, error = await read(api.client().list_batches(AGENT))
    assert error.reason is FailureReason.BAD_RESPONSE
    assert str(error) == "account main: list_batches: the next page leads nowhere new"
    assert (len(api.asked), len(pages)) == (requests, requests - 1)


@pytest.mark.parametrize(("count", "ends"), [(1, True), (3, True), (4, False), (10, False)])
async def test_a_list_of_too_many_pages_is_not_believed_to_end(api, monkeypatch, count, ends):
    monkeypatch.setattr(client_module, "MOST_PAGES", 3)
    api.answer = listing(*([batch(number)] for number in range(count)))
    pages, error = await read(api.client().list_batches(AGENT))
    assert len(pages) == len(api.asked) == min(count, 3)
    if ends:
        assert error is None
    else:
        assert error.reason is FailureReason.BAD_RESPONSE
        assert str(error) == "account main: list_batches: a list without an end"


CURSORS = ["cD00ODY=", "a+b/c==", "100%", "%2B", "%25", "a b", " ", "a&cursor=b", "a#b", "a;b", "?", "ü", "🙂", "\u2028", '"', "\x00", "\\", "0"]  # fmt: skip


@pytest.mark.parametrize("cursor", CURSORS, ids=ascii)
async def test_a_cursor_arrives_as_it_was_meant(api, cursor):
    api.answer = lambda request: {
        "results": [],
        "next": None if "cursor" in request.query else following(cursor),
    }
    _, error = await read(api.client().list_batches(AGENT))
    assert error is None
    assert api.queries == [{"pageSize": "100"}, {"pageSize": "100", "cursor": cursor}]


# Entries that cannot be read

BAD_ENTRIES = {
    "a count that is text": {"totalCount": "400"},
    "a count below zero": {"completedCount": -1},
    "a count that is huge": {"totalCount": 10**20},
    "no number at all": {"totalCount": float("nan")},
    "a date that is a number": {"created": 1763900000},
    "no date": {"endedAt": "yesterday"},
    "null": {"created": None},
}


@pytest.mark.parametrize("changes", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
async def test_a_bad_entry_is_that_batch_s_error_alone(api, changes):
    api.answer = listing([batch(1), batch(2, **changes), batch(3)])
    [page], error = await read(api.client().list_batches(AGENT))
    assert error is None
    assert (list(page.batches), page.entries) == ([FIRST, SECOND, THIRD], 3)
    assert all(isinstance(page.batches[one], Observation) for one in (FIRST, THIRD))
    bad = page.batches[SECOND]
    assert isinstance(bad, UltravoxError)
    assert bad.reason is FailureReason.BAD_RESPONSE
    assert str(bad).startswith(f"account main: list_batches: {next(iter(changes))}: ")
    assert SECRET not in printed(bad)


@pytest.mark.parametrize("field", ["created", "totalCount", "completedCount", "endedAt"])
async def test_an_entry_without_what_every_batch_has_is_its_error(api, field):
    entry = batch(2)
    del entry[field]
    api.answer = listing([entry, batch(1)])
    [page], _ = await read(api.client().list_batches(AGENT))
    assert isinstance(page.batches[SECOND], UltravoxError)
    assert isinstance(page.batches[FIRST], Observation)


UNUSABLE = {
    "null": None,
    "a number": 7,
    "text": "batch",
    "a list": [batch(2)],
    "no fields": {},
    "no id": {name: value for name, value in GOOD.items() if name != "batchId"},
    "an id that is null": GOOD | {"batchId": None},
    "an id that is a number": GOOD | {"batchId": 7},
    "an id that is a list": GOOD | {"batchId": [SECOND]},
    "an empty id": GOOD | {"batchId": ""},
    "an id without an end": GOOD | {"batchId": "3" * 201},
}


@pytest.mark.parametrize("entry", UNUSABLE.values(), ids=UNUSABLE)
async def test_an_entry_without_a_usable_id_is_nobody_s_but_counts_as_an_entry(api, entry):
    api.answer = listing([batch(1), entry, batch(3)])
    [page], error = await read(api.client().list_batches(AGENT))
    assert error is None
    assert (list(page.batches), page.entries) == ([FIRST, THIRD], 3)


async def test_ids_are_written_in_small_letters_however_they_come(api):
    shouted = [batch(1, batchId=FIRST.upper()), batch(2, batchId=SECOND.upper(), totalCount="400")]
    api.answer = lambda request: shouted[0] if request.path.endswith(FIRST) else listing(shouted)(request)
    [page], _ = await read(api.client().list_batches(AGENT))
    assert list(page.batches) == [FIRST, SECOND]
    assert "C" in FIRST.upper()  # or this would say nothing
    assert (await api.client().get_batch(batch_key(1))).total == 400


# Pages that cannot be read

FAILING = {
    "too many requests": (429, FailureReason.THROTTLED),
    "trouble": (503, FailureReason.SERVER_ERROR),
    "gone": (404, FailureReason.NOT_FOUND),
    "the key": (401, FailureReason.UNAUTHORIZED),
    "a cursor that is refused": (400, FailureReason.CLIENT_ERROR),
    "a connection that is cut": (None, FailureReason.CONNECTION),
    "no envelope": ({"detail": SECRET}, FailureReason.BAD_RESPONSE),
    "results that are none": ({"results": {}, "next": None}, FailureReason.BAD_RESPONSE),
    "results that are null": ({"results": None, "next": None}, FailureReason.BAD_RESPONSE),
    "a total below zero": ({"results": [], "next": None, "total": -1}, FailureReason.BAD_RESPONSE),
    "a total that is text": ({"results": [], "next": None, "total": "1"}, FailureReason.BAD_RESPONSE),
    "text": (SECRET, FailureReason.BAD_RESPONSE),
}


@pytest.mark.parametrize(("page", "reason"), FAILING.values(), ids=FAILING)
async def test_a_page_that_fails_takes_nothing_back_of_those_before(api, page, reason):
    api.answer = listing([batch(1)], [batch(2)], page, [batch(3)])
    pages, error = await read(api.client().list_batches(AGENT))
    assert [list(one.batches) for one in pages] == [[FIRST], [SECOND]]
    assert [one.last for one in pages] == [False, False]
    assert error.reason is reason
    assert "page-3" not in [query.get("cursor") for query in api.queries]


@pytest.mark.parametrize("absent", ["next", "previous", "total"])
async def test_what_the_document_does_not_require_of_a_page_may_be_missing(api, absent):
    page = {"results": [batch(1)], "next": None, "previous": None, "total": 1}
    del page[absent]
    api.answer = lambda _: page
    [read_page], error = await read(api.client().list_batches(AGENT))
    assert (error, list(read_page.batches), read_page.last) == (None, [FIRST], True)
    assert read_page.total == (None if absent == "total" else 1)


async def test_ids_cannot_lead_a_list_to_another_path(api):
    api.answer = listing([])
    _, error = await read(api.client().list_batches("../../accounts/me?x=#"))
    assert error is None
    [request] = api.asked
    assert request.raw_path.startswith("/api/agents/..%2F..%2Faccounts%2Fme%3Fx")
    assert request.raw_path.endswith("%23/scheduled_batches?pageSize=100")


# The other lists


async def test_agents_are_listed_each_once_by_their_latest_name(api):
    one, other = AGENT.upper(), AGENT.replace("7f6a", "8a00")
    api.answer = listing(
        [{"agentId": one, "name": "renewals", "callTemplate": {"systemPrompt": SECRET}}],
        [{"agentId": other}, {"agentId": AGENT, "name": "spring"}],
    )
    agents = await api.client().list_agents()
    assert agents == (AgentAnswer(AGENT, "spring"), AgentAnswer(other, ""))  # a name is not required


async def test_an_agent_without_a_name_has_none(api):
    api.answer = lambda _: {"agentId": AGENT}
    assert await api.client().get_agent_name(AGENT) == ""


BAD_THROTTLES = {
    "no id": {"throttleId": None},
    "an empty id": {"throttleId": ""},
    "no name": {"name": None},
    "no rules": {"rules": None},
    "a rule that is none": {"rules": [7]},
    "no window": {"rules": [{"maxCalls": 1}]},
    "a window of nothing": {"rules": [{"maxCalls": 1, "windowSeconds": 0}]},
    "a window of years": {"rules": [{"maxCalls": 1, "windowSeconds": 367 * 86400}]},
    "calls below zero": {"rules": [{"maxCalls": -1, "windowSeconds": 1}]},
    "calls that are text": {"rules": [{"maxCalls": "1", "windowSeconds": 1}]},
}
THROTTLE = {"throttleId": "t-1", "name": "gentle", "created": GOOD["created"], "rules": [{"maxCalls": 1, "windowSeconds": 1}]}  # fmt: skip


async def test_throttles_are_listed_with_all_their_rules(api):
    rules = [{"maxCalls": 10, "windowSeconds": 60}, {"maxCalls": 100, "windowSeconds": 86400}]
    api.answer = listing([THROTTLE | {"rules": rules}], [THROTTLE | {"throttleId": "t-2", "rules": []}])
    assert await api.client().get_throttles() == (
        Throttle("t-1", "gentle", (ThrottleRule(10, 60), ThrottleRule(100, 86400))),
        Throttle("t-2", "gentle", ()),
    )
    assert {request.path for request in api.asked} == {"/api/call_throttles"}


@pytest.mark.parametrize("changes", BAD_THROTTLES.values(), ids=BAD_THROTTLES)
async def test_a_throttle_that_cannot_be_read_is_no_throttle_without_rules(api, changes):
    """A batch would be judged by rules that are not those of its throttle."""
    api.answer = listing([THROTTLE, THROTTLE | changes])
    with pytest.raises(UltravoxError) as caught:
        await api.client().get_throttles()
    assert caught.value.reason is FailureReason.BAD_RESPONSE
    assert str(caught.value).startswith("account main: list_throttles: ")


async def read_calls(client: Client):
    return [call async for call in client.list_calls(batch_key(1), CallStatus.ERROR)]


LISTS = {
    "list_agents": lambda client: client.list_agents(),
    "list_throttles": lambda client: client.get_throttles(),
    "scheduled_calls": read_calls,
}


@pytest.mark.parametrize(("endpoint", "ask"), LISTS.items(), ids=LISTS)
async def test_every_list_is_wary_of_its_next_page(api, endpoint, ask):
    api.answer = lambda _: {"results": [], "next": following("again")}
    with pytest.raises(UltravoxError) as caught:
        await ask(api.client())
    assert str(caught.value) == f"account main: {endpoint}: the next page leads nowhere new"
    assert len(api.asked) == 2


@pytest.mark.parametrize(("endpoint", "ask"), LISTS.items(), ids=LISTS)
async def test_every_request_of_a_list_is_counted(api, endpoint, ask):
    api.answer = listing([], [], 503)
    counted = []
    with pytest.raises(UltravoxError):
        await ask(api.client(on_response=lambda *seen: counted.append(seen)))
    assert counted == [(endpoint, 200), (endpoint, 200), (endpoint, 503)]
