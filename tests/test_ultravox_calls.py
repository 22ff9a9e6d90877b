"""The calls of a batch: how many have which status, why they failed, whom they were for.

Against the pretend Ultravox on a real socket, and against one that answers what a table says.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta

import pytest
from aiohttp import web
from pretend_api import API_KEY, SECRET, PretendApi, following, listing, printed
from pydantic import SecretStr
from receivers import MovedClock
from samples import AGENT, KEY, NOW, batch_key

from monitor import simulator
from monitor.model import BatchKey, CallError, CallStatus, FailureReason, Outcomes, Throttle, ThrottleRule
from monitor.simulator import Fault, FaultKind
from monitor.ultravox import ApiSettings, Client, UltravoxError, payload

SCENARIO = """
seed: 1
accounts:
  - name: main
    call_duration: 30s
    throttles: [{name: gentle, rules: [{max_calls: 10, window: 1m}, {max_calls: 100, window: 1d}]}]
    agents:
      - name: renewals
        batches:
          - name: spring
            calls: 700
            pace: 60/m
            jitter: 0
            window: {start: 0s, end: 5m}
            failing: {share: 0.4, error: "SIP 486 Busy Here"}
          - {name: autumn, calls: 50, pace: 60/m, jitter: 0, medium: twilio, failing: {share: 1, error: "SIP 480 Unavailable"},
             script: [{at: 20s, do: fail, share: 1, error: "SIP 503 Service Unavailable"}]}
"""
SPRING, AUTUMN = range(2)
PHONE = "+12015550142"
SAID = f"SIP 486 Busy Here: {PHONE}"


class Pretend:
    """A simulator, its clock, and a client of it."""

    def __init__(self):
        self.clock = MovedClock()
        self.simulator = simulator.Simulator(simulator.load(SCENARIO), clock=self.clock)
        [account] = self.simulator.scenario.accounts
        [self.agent] = account.agents
        self.key = SecretStr(account.api_key)

    async def start(self):
        settings = ApiSettings(
            "main", self.key, await self.simulator.start(), max_requests_per_second=100_000
        )
        self.client = Client(settings, clock=self.clock)

    async def stop(self):
        await self.client.close()
        await self.simulator.stop()

    def batch(self, number):
        return BatchKey(str(self.agent.agent_id), str(self.agent.batches[number].batch_id))

    def statuses(self, number):
        """What has become of every call, as the simulator itself knows it."""
        [world] = self.simulator._worlds.values()
        campaign = world.campaigns[self.batch(number).batch_id]
        duration = world.account.call_duration
        return Counter(campaign.status(index, world.now, duration).value for index in range(campaign.total))


@pytest.fixture
async def pretend():
    made = Pretend()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def api():
    made = PretendApi()
    await made.start()
    yield made
    await made.stop()


async def failure(asking):
    """The error; nothing that was answered, and no secret, is in anything that could be printed of it."""
    with pytest.raises(UltravoxError) as caught:
        await asking
    for hidden in (API_KEY, SECRET, PHONE, "Busy"):
        assert hidden not in printed(caught.value)
    return caught.value


# How many have which status


@pytest.mark.parametrize("seconds", [0, 1, 29, 31, 120, 300, 301, 3600])
async def test_outcomes_are_those_of_the_calls_at_every_moment(pretend, seconds):
    pretend.clock.move(seconds=seconds)
    seen = await pretend.client.get_outcomes(pretend.batch(SPRING))
    counts = {status.value: getattr(seen, status.name.lower()) for status in CallStatus}
    assert +Counter(counts) == pretend.statuses(SPRING)
    assert sum(counts.values()) == 700
    assert seen.at == pretend.clock.now


async def test_outcomes_say_what_share_has_failed(pretend):
    pretend.clock.move(minutes=10)
    seen = await pretend.client.get_outcomes(pretend.batch(SPRING))
    assert (seen.future, seen.pending) == (0, 0)
    assert min(seen.success, seen.expired, seen.error) > 0
    assert seen.error_ratio == pytest.approx(0.4, abs=0.1)


async def test_outcomes_cost_five_requests_for_a_page_of_one(pretend):
    await pretend.client.get_outcomes(pretend.batch(SPRING))
    assert [request.endpoint for request in pretend.simulator.requests] == ["scheduled_calls"] * 5
    queries = [request.path.partition("?")[2] for request in pretend.simulator.requests]
    assert queries == [
        f"status={status}&pageSize=1" for status in ("FUTURE", "PENDING", "SUCCESS", "EXPIRED", "ERROR")
    ]


@pytest.mark.parametrize("kind", [FaultKind.SERVER_ERROR, FaultKind.RESET, FaultKind.TRUNCATED, FaultKind.HTML, FaultKind.WRONG_TYPES, FaultKind.NOT_FOUND])  # fmt: skip
async def test_outcomes_that_cannot_be_had_are_an_error_and_no_zeros(pretend, kind):
    pretend.simulator.add_fault(Fault(kind=kind, endpoint="scheduled_calls"))
    error = await failure(pretend.client.get_outcomes(pretend.batch(SPRING)))
    assert str(error).startswith("account main: scheduled_calls: ")


TOTALS = {
    "absent": {},
    "null": {"total": None},
    "text": {"total": "7"},
    "below zero": {"total": -1},
    "half a call": {"total": 7.5},
    "true": {"total": True},
    "huge": {"total": 10**12},
}


@pytest.mark.parametrize("status", CallStatus)
@pytest.mark.parametrize("total", TOTALS.values(), ids=TOTALS)
async def test_one_total_that_is_none_is_no_outcome(api, status, total):
    def answer(request):
        said = total if request.query["status"] == status.value else {"total": 7}
        return {"results": [], "next": None} | said

    api.answer = answer
    assert (await failure(api.client().get_outcomes(KEY))).reason is FailureReason.BAD_RESPONSE


@pytest.mark.parametrize(("status", "requests"), list(zip(CallStatus, range(1, 6), strict=True)))
async def test_one_of_the_five_that_fails_ends_the_asking(api, status, requests):
    api.answer = lambda request: (
        503 if request.query["status"] == status.value else {"results": [], "total": 7}
    )
    assert (await failure(api.client().get_outcomes(KEY))).reason is FailureReason.SERVER_ERROR
    assert len(api.asked) == requests


async def test_outcomes_are_as_old_as_the_oldest_of_the_five_answers(api):
    """By the API's clock; the address of a next page means nothing to who wants a total."""
    later = iter([30, 10, 50, 20, 40])

    def answer(request):
        at = NOW + timedelta(seconds=next(later))
        page = {"results": [], "next": following("more"), "total": len(api.asked)}
        return web.json_response(page, headers={"Date": f"{at:%a, %d %b %Y %H:%M:%S} GMT"})

    api.answer = answer
    seen = await api.client(clock=lambda: NOW).get_outcomes(KEY)
    assert seen == Outcomes(NOW + timedelta(seconds=10), future=1, pending=2, success=3, expired=4, error=5)
    assert len(api.asked) == 5


# Why they failed


async def test_why_calls_failed_is_told_in_classes_the_commonest_first(pretend, caplog):
    caplog.set_level(logging.DEBUG)
    pretend.clock.move(minutes=1)
    found = await pretend.client.get_failed_calls(pretend.batch(AUTUMN))
    assert [error for error, _ in found] == [CallError.PROVIDER, CallError.UNREACHABLE]
    assert sum(count for _, count in found) == 50
    said = repr(found) + caplog.text
    assert "SIP" not in said
    assert "555" not in said
    [request] = pretend.simulator.requests
    assert request.path.endswith("scheduled_calls?status=ERROR&pageSize=100")


async def test_no_more_than_a_page_of_failed_calls_is_asked_for(pretend):
    pretend.clock.move(hours=1)
    found = await pretend.client.get_failed_calls(pretend.batch(SPRING))
    assert found == ((CallError.BUSY, 100),)  # of some 120
    assert len(pretend.simulator.requests) == 1


async def test_where_nothing_failed_there_is_no_class(pretend):
    assert await pretend.client.get_failed_calls(pretend.batch(SPRING)) == ()


def failed(**changes):
    return {"status": "ERROR", "batchId": KEY.batch_id, "callId": None, "error": SAID} | changes


FAILED = {
    "as documented": (failed(), [CallError.BUSY]),
    "no text": (failed(error=None), [CallError.OTHER]),
    "no field for the text": ({"status": "ERROR"}, [CallError.OTHER]),
    "an empty text": (failed(error=""), [CallError.OTHER]),
    "metadata of another kind": (failed(metadata=[PHONE]), [CallError.BUSY]),
    "a medium of another kind": (failed(medium=PHONE), [CallError.BUSY]),
    "nothing known of medium and metadata": (failed(medium=None, metadata=None), [CallError.BUSY]),
    "another status, which was not asked for": (failed(status="SUCCESS"), []),
}


@pytest.mark.parametrize(("call", "expected"), FAILED.values(), ids=FAILED)
async def test_of_a_failed_call_only_its_text_counts(api, call, expected):
    api.answer = listing([call])
    assert await api.client().get_failed_calls(KEY) == tuple((error, 1) for error in expected)


UNREADABLE = {
    "no call": PHONE,
    "null": None,
    "no status": {"error": SAID},
    "a status that is none": failed(status=f"BUSY {PHONE}"),
    "a status that is a number": failed(status=4),
    "a text that is none": failed(error={"message": SAID}),
    "texts": failed(error=[SAID]),
}


@pytest.mark.parametrize("call", UNREADABLE.values(), ids=UNREADABLE)
async def test_what_is_not_a_call_is_an_error_that_quotes_nothing(api, call):
    api.answer = listing([failed(), call])
    for asking in (api.client().get_failed_calls(KEY), listed(api.client())):
        error = await failure(asking)
        assert error.reason is FailureReason.BAD_RESPONSE
        assert str(error).startswith("account main: scheduled_calls: ")


# Whom they were for


async def listed(client, key=KEY, status=CallStatus.ERROR):
    return [call async for call in client.list_calls(key, status)]


@pytest.mark.parametrize(
    ("number", "to"), [(SPRING, "sip:+12015550100@carrier.example"), (AUTUMN, "+12015550100")]
)
async def test_a_call_says_whom_it_was_for_whatever_its_medium(pretend, number, to):
    first, *_ = await listed(pretend.client, pretend.batch(number), CallStatus.FUTURE)
    assert (first.status, first.error, first.destination) == (CallStatus.FUTURE, None, to)
    assert first.metadata == (("customer", "customer-00000"),)


async def test_all_calls_of_a_status_are_listed_over_all_pages(pretend):
    pretend.clock.move(minutes=10)
    for status in CallStatus:
        before = len(pretend.simulator.requests)
        calls = await listed(pretend.client, pretend.batch(SPRING), status)
        assert {call.status for call in calls} <= {status}
        assert len({call.metadata for call in calls}) == len(calls)  # none twice
        assert len(calls) == pretend.statuses(SPRING)[status.value]
        assert len(pretend.simulator.requests) - before == max(1, -(-len(calls) // 100))
    assert pretend.statuses(SPRING)["EXPIRED"] > 300  # several pages


async def test_the_text_of_a_failed_call_is_there_for_who_asks_for_it(api):
    api.answer = listing(
        [failed(medium={"twilio": {"outgoing": {"to": PHONE}}}, metadata={"b": "2", "a": 1})]
    )
    [call] = await listed(api.client())
    assert (call.error, call.destination, call.metadata) == (SAID, PHONE, (("a", "1"), ("b", "2")))


async def test_calls_are_asked_for_by_their_status_on_every_page(api):
    api.answer = listing([failed()], [failed()])
    assert len(await listed(api.client())) == 2
    assert api.queries == [
        {"pageSize": "100", "status": "ERROR"},
        {"pageSize": "100", "status": "ERROR", "cursor": "page-1"},
    ]


def nested(levels, inside):
    for _ in range(levels):
        inside = {"deeper": inside}
    return inside


MEDIA = {
    "sip": ({"sip": {"outgoing": {"to": "sip:a@b", "from": "x", "username": "u", "password": SECRET}}}, "sip:a@b"),
    "twilio": ({"twilio": {"outgoing": {"to": PHONE, "from": "x", "additionalParams": {"to": "y"}}}}, PHONE),
    "telnyx": ({"telnyx": {"outgoing": {"additionalParams": {"to": "y"}, "to": PHONE, "from": "x"}}}, PHONE),
    "the outermost, at last": ({"plivo": {"options": {"more": {"to": "y"}}, "outgoing": {"to": PHONE}}}, PHONE),
    "the outermost, at first": ({"plivo": {"outgoing": {"to": PHONE}, "options": {"more": {"to": "y"}}}}, PHONE),
    "at once": ({"to": PHONE}, PHONE),
    "empty": ({"sip": {"outgoing": {"to": ""}}}, ""),
    "incoming": ({"sip": {"incoming": {}}}, None),
    "web": ({"webRtc": {}}, None),
    "only from": ({"twilio": {"outgoing": {"from": PHONE}}}, None),
    "no text": ({"twilio": {"outgoing": {"to": 12015550142}}}, None),
    "no text, but inside of it": ({"to": {"to": PHONE}}, PHONE),
    "a list": ({"sip": [{"to": PHONE}]}, None),
    "nothing": ({}, None),
    "null": (None, None),
    "text": (PHONE, None),
    "deep": (nested(1_000, {"to": PHONE}), PHONE),
    "deep and without": (nested(100_000, {}), None),
}  # fmt: skip


@pytest.mark.parametrize(("medium", "expected"), MEDIA.values(), ids=MEDIA)
def test_whom_a_call_was_for_is_found_in_every_medium(medium, expected):
    assert payload.destination(medium) == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (None, ()),
        ({}, ()),
        ({"b": "2", "a": "1"}, (("a", "1"), ("b", "2"))),
        ({"B": "2", "a": "1", "": "0"}, (("", "0"), ("B", "2"), ("a", "1"))),
        ({"n": 7, "t": True}, (("n", "7"), ("t", "True"))),
        ([["a", "1"]], ()),
        ("a=1", ()),
    ],
)
def test_metadata_are_pairs_of_text_by_name(metadata, expected):
    assert payload.pairs(metadata) == expected


@pytest.mark.parametrize("levels", [50, 180, 1_000])
async def test_what_is_nested_deep_is_read_or_refused_and_nothing_worse(api, levels):
    deep = '{"deeper":' * levels + f'{{"to":"{PHONE}"}}' + "}" * levels
    body = f'{{"results":[{{"status":"ERROR","medium":{deep},"metadata":{{"m":{deep}}}}}]}}'
    api.answer = lambda _: web.Response(text=body, content_type="application/json")
    if levels < 200:  # what pydantic reads
        [call] = await listed(api.client())
        assert call.destination == PHONE
    else:
        assert (await failure(listed(api.client()))).reason is FailureReason.BAD_RESPONSE


# Throttles, as the pretend Ultravox has them


async def test_the_throttles_of_an_account_are_read(pretend):
    [throttle] = await pretend.client.get_throttles()
    assert throttle == Throttle(
        throttle.throttle_id, "gentle", (ThrottleRule(10, 60), ThrottleRule(100, 86400))
    )


async def test_the_pretend_list_and_the_pretend_batches_agree(pretend):
    pretend.clock.move(minutes=1)
    [page] = [page async for page in pretend.client.list_batches(str(pretend.agent.agent_id))]
    keys = [pretend.batch(number) for number in (SPRING, AUTUMN)]
    assert page.batches == {key.batch_id: await pretend.client.get_batch(key) for key in keys}
    assert (page.entries, page.total, page.last) == (2, 2, True)


@pytest.mark.parametrize("status", [401, 404, 503])
async def test_calls_are_asked_of_their_own_batch_and_only_read(api, status):
    api.answer = lambda _: status
    for asking in (api.client().get_outcomes(KEY), api.client().get_failed_calls(KEY), listed(api.client())):
        await failure(asking)
    path = f"/api/agents/{AGENT}/scheduled_batches/{batch_key(1).batch_id}/scheduled_calls"
    assert [request.path for request in api.asked] == [path] * 3
    assert [request.method for request in api.asked] == ["GET"] * 3
