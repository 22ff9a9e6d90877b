"""Fields of the API's answers, each with everything that it must not be: for every endpoint that is read.

What a field may be is said in one table; whatever else is there is a failed request that names the field. Then
the same end to end: after any answer the gauges are those of the last good poll, and the failure is counted.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pretend_api import API_KEY, GOOD, SECRET, PretendApi, printed
from receivers import MovedClock
from samples import AGENT, KEY

from monitor import ultravox
from monitor.alerts import Policy
from monitor.metrics import Instruments, render
from monitor.model import CallStatus, FailureReason, Snapshot, Target
from monitor.poller import Book, Poller
from monitor.store import Store
from monitor.targets import Watch
from monitor.ultravox import UltravoxError, payload

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "40"))
MISSING = object()
RAW = "raw:"  # what json.dumps would not write
DEEP = json.loads("[" * 60 + "]" * 60)
FAULTS = {
    "missing": MISSING,
    "null": None,
    "true": True,
    "a text": "some text",
    "a long text": "x" * 201,
    "a number": 7,
    "a number as a text": "7",
    "a fraction": 7.5,
    "a fraction that is whole": 7.0,
    "negative": -1,
    "more than ten million": 10_000_001,
    "10^30": 10**30,
    "5,000 digits": f"{RAW}{'9' * 5000}",
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
    "1e999": f"{RAW}1e999",
    "-0": f"{RAW}-0",
    "a list": [],
    "an object": {},
    "nested": DEEP,
    "a date": "2026-11-23T09:00:00Z",
    "a date without a zone": "2026-11-23T09:00:00",
    "a day": "2026-11-23",
    "a second of 60": "2026-11-23T23:59:60Z",
    "year 0": "0000-01-01T00:00:00Z",
    "before the calendar": "0001-01-01T00:00:00+14:00",
    "after the calendar": "9999-12-31T23:59:59-14:00",
    "a Unix time": 1763900000,
    "a Unix time as a text": "1763900000",
}
TEXTS = {name for name, value in FAULTS.items() if isinstance(value, str) and not value.startswith(RAW)}
NAMES = TEXTS - {"a long text"}
COUNTS = {"a number", "-0"}
MAY_BE = {
    "id": NAMES,
    "count": COUNTS,
    "count, null": COUNTS | {"null"},
    "count, null, missing": COUNTS | {"null", "missing"},
    "window": {"a number", "more than ten million"},
    "instant": {"a date"},
    "instant, null": {"a date", "null"},
    "instant, null, missing": {"a date", "null", "missing"},
    "switch, null, missing": {"true", "null", "missing"},
    "name": NAMES,
    "name, missing": NAMES | {"missing"},
    "name, null, missing": NAMES | {"null", "missing"},
    "text": TEXTS,
    "text, null, missing": TEXTS | {"null", "missing"},
    "list": {"a list"},
    "results": {"a list", "nested"},
    "status": set(),
}
BATCH_FIELDS = {
    "created": "instant",
    "totalCount": "count",
    "completedCount": "count",
    "endedAt": "instant, null",
    "windowStart": "instant, null, missing",
    "windowEnd": "instant, null, missing",
    "paused": "switch, null, missing",
    "throttle": "name, null, missing",
}
CALL = {"status": "ERROR", "error": "SIP 486", "medium": {"sip": {"to": "sip:1"}}, "metadata": {"a": "b"}}


async def every(reading):
    async with aclosing(reading) as pages:
        return [page async for page in pages]


async def batches(client):
    """A list of batches; the error of an entry is the list's."""
    for page in await every(client.list_batches(AGENT)):
        for one in page.batches.values():
            if isinstance(one, UltravoxError):
                raise one


def page(entry):
    return {"results": [entry], "next": None, "previous": None, "total": 1}


# endpoint: how it is asked, an answer, where the fields stand in it, and what each may be
SHAPES = {
    "get_batch": (lambda client: client.get_batch(KEY), GOOD, (), BATCH_FIELDS | {"batchId": "status"}),
    "list_batches": (batches, page(GOOD), ("results", 0), BATCH_FIELDS),
    "list_agents": (lambda client: client.list_agents(), page({"agentId": AGENT, "name": "a"}), ("results", 0), {"agentId": "id", "name": "name, missing"}),
    "get_agent": (lambda client: client.get_agent_name(AGENT), {"agentId": AGENT, "name": "a"}, (), {"agentId": "id", "name": "name, missing"}),
    "accounts_me": (lambda client: client.get_account(), {"name": "main", "activeCalls": 1, "allowedConcurrentCalls": 5}, (), {"name": "text", "activeCalls": "count", "allowedConcurrentCalls": "count, null"}),
    "list_throttles": (lambda client: client.get_throttles(), page({"throttleId": "t", "name": "n", "rules": [{"maxCalls": 1, "windowSeconds": 60}]}), ("results", 0), {"throttleId": "id", "name": "name", "rules": "list"}),
    "list_throttles, a rule": (lambda client: client.get_throttles(), page({"throttleId": "t", "name": "n", "rules": [{"maxCalls": 1, "windowSeconds": 60}]}), ("results", 0, "rules", 0), {"maxCalls": "count", "windowSeconds": "window"}),
    "scheduled_calls, counted": (lambda client: client.get_outcomes(KEY), page(CALL), (), {"total": "count", "results": "results"}),
    "scheduled_calls, why": (lambda client: client.get_failed_calls(KEY), page(CALL), ("results", 0), {"status": "status", "error": "text, null, missing"}),
    "scheduled_calls, listed": (lambda client: every(client.list_calls(KEY, CallStatus.ERROR)), page(CALL), ("results", 0), {"status": "status", "error": "text, null, missing"}),
    "list_agents, the page": (lambda client: client.list_agents(), {"results": [], "next": None, "total": 1}, (), {"results": "list", "total": "count, null, missing", "next": "status, null, missing"}),
}  # fmt: skip
MAY_BE["status, null, missing"] = {"null", "missing"}
_ALSO_SAID = (
    "not JSON",
    "answered with another batch",
    "without a total",
    "the next page",
    "a valid dictionary",
)
"""Where it is not one field that is wrong."""

FIELDS = [(shape, field) for shape, (*_, fields) in SHAPES.items() for field in fields]


def with_field(answer, at, field, value):
    changed = copy.deepcopy(answer)
    inside = changed
    for step in at:
        inside = inside[step]
    if value is MISSING:
        inside.pop(field, None)
    else:
        inside[field] = value
    return changed


def written(answer) -> bytes:
    """JSON, with NaN and what else json.dumps has no word for."""
    text = json.dumps(answer)
    while (start := text.find(f'"{RAW}')) >= 0:
        end = text.index('"', start + 1)
        text = text[:start] + text[start + len(RAW) + 1 : end] + text[end + 1 :]
    return text.encode()


@pytest.fixture
async def api():
    made = PretendApi()
    await made.start()
    yield made
    await made.stop()


def answered(body: bytes):
    return lambda _: web.Response(body=body, content_type="application/json")


@pytest.mark.parametrize(("shape", "field"), FIELDS, ids=[f"{shape}: {field}" for shape, field in FIELDS])
async def test_a_field_is_what_it_may_be_or_its_answer_is_not_believed(api, shape, field):
    ask, answer, at, fields = SHAPES[shape]
    client = api.client()
    for name, value in FAULTS.items():
        api.answer = answered(written(with_field(answer, at, field, value)))
        if name in MAY_BE[fields[field]]:
            await ask(client)
            continue
        with pytest.raises(UltravoxError) as caught:
            await ask(client)
        assert caught.value.reason is FailureReason.BAD_RESPONSE, name
        assert any(word in str(caught.value) for word in (field, *_ALSO_SAID)), name
        assert API_KEY not in printed(caught.value)
        assert SECRET not in printed(caught.value)


# End to end


class Watched:
    """A poller on a state file that asks the pretend API, and what a scrape would tell."""

    def __init__(self, folder, api):
        self.clock = MovedClock()
        self.api = api
        self.instruments = Instruments(endpoints=ultravox.ENDPOINTS, send_failures=(), now=self.clock())
        self.store = Store(folder / "monitor.db", clock=self.clock)
        self.book = Book(
            store=self.store, instruments=self.instruments, clock=self.clock, deliver=lambda _: None
        )
        self.poller = Poller(self.book)

    async def start(self):
        self.book.restore(await self.store.open())
        await self.book.watch_account("main", self.api.client(clock=self.clock), Policy())
        self.book.watch(Watch(Target("main", KEY, name="spring")))
        return self

    async def poll(self, body):
        self.clock.move(seconds=30)
        self.api.answer = answered(body) if isinstance(body, bytes) else lambda _: body
        await self.poller.poll_batch(KEY)

    def scrape(self):
        """What is known of the batch, by the metrics; without what moves with the time."""
        accounts = tuple(one.status for one in self.book.accounts.values())
        shown = Snapshot(self.clock(), tuple(self.book.statuses.values()), accounts)
        text, _ = render(shown, self.instruments, accept="", compressed=False)
        lines = text.decode().splitlines()
        told = ("calls{", "completed_calls{", "completion_ratio{", "paused{", "created_", "window_", "ended_")
        return [line for line in lines if line.startswith(tuple(f"ultravox_batch_{one}" for one in told))]

    def failures(self):
        found = self.instruments.registry.get_sample_value
        return {
            reason.value: found(
                "ultravox_monitor_poll_failures_total", {"account": "main", "reason": reason.value}
            )
            for reason in FailureReason
        }


@pytest.fixture
async def watched(tmp_path, api):
    made = await Watched(tmp_path, api).start()
    yield made
    await made.store.close()


async def test_after_a_bad_answer_the_gauges_are_those_of_the_last_good_poll(watched):
    await watched.poll(written(GOOD))
    good, bad = watched.scrape(), 0
    assert 'ultravox_batch_calls{account="main"' in "".join(good)
    for field, kind in BATCH_FIELDS.items():
        for name, value in FAULTS.items():
            if name not in MAY_BE[kind]:
                await watched.poll(written(with_field(GOOD, (), field, value)))
                bad += 1
                assert watched.scrape() == good, (field, name)
                assert watched.failures()["bad_response"] == bad, (field, name)
    await watched.poll(written(GOOD | {"completedCount": 119}))
    assert watched.scrape() != good
    assert not watched.book.statuses[KEY].failing


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_VALUES = _JSON | st.sampled_from([value for value in FAULTS.values() if value is not MISSING])
_CHANGES = st.dictionaries(st.sampled_from([*GOOD]) | st.text(max_size=5), _VALUES, max_size=4)
_fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_fuzz
@given(changes=_CHANGES, without=st.sets(st.sampled_from([*GOOD]), max_size=2), cut=st.integers(0, 600))
async def test_any_answer_is_a_poll_that_is_right_or_one_that_has_failed(watched, changes, without, cut):
    """Judged by a reading of the answer that knows nothing of ours."""
    answer = {name: value for name, value in (GOOD | changes).items() if name not in without}
    body = written(answer)
    body = body[:cut] if cut < 300 else body
    before, failed = watched.scrape(), sum(watched.failures().values())
    await watched.poll(body)
    after, failed = watched.scrape(), sum(watched.failures().values()) - failed
    assert failed in {0, 1}
    if failed:
        assert after == before
        return
    told = json.loads(body)
    for name in ("totalCount", "completedCount"):
        assert type(told[name]) is int
        assert 0 <= told[name] <= 10_000_000
    shown = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in after}
    assert shown["ultravox_batch_calls"] == told["totalCount"]
    assert shown["ultravox_batch_completed_calls"] == told["completedCount"]
    assert shown["ultravox_batch_paused"] == bool(told.get("paused"))


@_fuzz
@given(shape=st.sampled_from([*SHAPES]), data=st.data())
async def test_any_json_is_read_or_not_believed(api, shape, data):
    ask, answer, at, fields = SHAPES[shape]
    changed = answer
    for field in data.draw(st.sets(st.sampled_from([*fields]), max_size=3)):
        changed = with_field(changed, at, field, data.draw(_VALUES))
    if data.draw(st.booleans()):
        changed = data.draw(_JSON)
    api.answer = answered(written(changed))
    client = api.client(on_throttled=lambda _: None)
    try:
        async with asyncio.timeout(5):
            await ask(client)
    except UltravoxError as error:
        said = error
    else:
        return
    assert said.reason is FailureReason.BAD_RESPONSE
    assert API_KEY not in printed(said)


def test_dates_that_were_read_are_remembered_but_not_all_there_ever_were():
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for second in range(3 * payload._MOST_READ):
        created = (at + timedelta(seconds=second)).isoformat()
        body = {"batchId": "b", "created": created, "totalCount": 1, "completedCount": 0, "endedAt": None}
        for _ in range(2):
            assert payload.item(payload.Batch, body).created == at + timedelta(seconds=second)
        assert len(payload._READ) <= payload._MOST_READ
