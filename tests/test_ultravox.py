"""The client: what it asks, what it believes, how it fails, and that the key goes nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from datetime import UTC, datetime, timedelta

import aioresponses
import pytest
from aiohttp import web
from pretend_api import API_KEY, GOOD, SECRET, printed, serve
from pydantic import SecretStr
from samples import AGENT, BATCH, KEY, NOW
from yarl import URL

from monitor import __version__, simulator
from monitor.clock import utc_now
from monitor.model import BatchKey, FailureReason
from monitor.ultravox import ApiSettings, Client, UltravoxError
from monitor.ultravox.body import BODY_LIMIT
from monitor.ultravox.transport import FIRST_PAUSE, clock_skew

BASE = "https://api.example"
BATCH_URL = f"{BASE}/api/agents/{AGENT}/scheduled_batches/{BATCH}"
AGENT_ANSWER = {"agentId": AGENT, "name": "renewals", "callTemplate": {"systemPrompt": SECRET}}
ACCOUNT = {"name": "main", "activeCalls": 5, "allowedConcurrentCalls": 5, "billingUrl": "https://pay.example"}


@pytest.fixture
async def responses():
    return []


@pytest.fixture
async def client(responses):
    """A client of an API that is mocked."""
    made = Client(
        ApiSettings("main", SecretStr(API_KEY), BASE, max_requests_per_second=1000),
        clock=lambda: NOW,
        on_response=lambda *seen: responses.append(seen),
    )
    yield made
    await made.close()


async def failure(client, key=KEY):
    """The error of a poll that must fail; no secret may be in anything that could be printed of it."""
    with pytest.raises(UltravoxError) as caught:
        await client.get_batch(key)
    said = printed(caught.value)
    assert API_KEY not in said
    assert SECRET not in said
    return caught.value


async def test_it_asks_the_batch_s_own_url_with_the_key_and_nothing_else(
    client, responses, shimmed_aioresponses
):
    shimmed_aioresponses.get(BATCH_URL, payload=GOOD)
    seen = await client.get_batch(KEY)
    assert (seen.total, seen.completed, seen.paused, seen.throttle) == (400, 118, True, "gentle")
    assert seen.created == datetime(2026, 11, 23, 9, tzinfo=UTC)
    assert seen.window_start == datetime(2026, 11, 23, 9, 0, 0, 123456, tzinfo=UTC)
    assert (seen.window_end, seen.ended_at, seen.at) == (None, None, NOW)
    [(method_and_url, [request])] = shimmed_aioresponses.requests.items()
    assert method_and_url == ("GET", URL(BATCH_URL))
    assert request.kwargs["headers"] == {
        "X-API-Key": API_KEY,
        "Accept": "application/json",
        "User-Agent": f"ultravox-batch-monitor/{__version__}",
    }
    assert request.kwargs["allow_redirects"] is False
    assert responses == [("get_batch", 200)]


@pytest.mark.parametrize("base", ["https://proxy.example/ultravox", "https://proxy.example/ultravox/"])
async def test_the_api_may_live_under_a_path(shimmed_aioresponses, base):
    client = Client(ApiSettings("main", SecretStr(API_KEY), base), clock=lambda: NOW)
    shimmed_aioresponses.get(f"https://proxy.example/ultravox/api/agents/{AGENT}", payload=AGENT_ANSWER)
    assert await client.get_agent_name(AGENT) == "renewals"
    await client.close()


STATUSES = [
    (400, FailureReason.CLIENT_ERROR, False),
    (401, FailureReason.UNAUTHORIZED, False),
    (403, FailureReason.FORBIDDEN, False),
    (404, FailureReason.NOT_FOUND, False),
    (429, FailureReason.THROTTLED, True),
    (500, FailureReason.SERVER_ERROR, True),
    (503, FailureReason.SERVER_ERROR, True),
    (302, FailureReason.CLIENT_ERROR, False),
    (204, FailureReason.CLIENT_ERROR, False),
]


@pytest.mark.parametrize(("status", "reason", "again_helps"), STATUSES, ids=[str(row[0]) for row in STATUSES])
async def test_every_status_has_its_reason(
    client, responses, shimmed_aioresponses, status, reason, again_helps
):
    shimmed_aioresponses.get(BATCH_URL, status=status, payload={"detail": SECRET})
    error = await failure(client)
    assert (error.reason, error.again_helps) == (reason, again_helps)
    assert str(error).startswith("account main: get_batch: ")
    assert f"(HTTP {status})" in str(error)
    assert responses == [("get_batch", status)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(TimeoutError(), FailureReason.TIMEOUT), (OSError(f"{API_KEY}"), FailureReason.CONNECTION)],
)
async def test_no_answer_has_its_reason_and_no_status(client, responses, shimmed_aioresponses, error, reason):
    shimmed_aioresponses.get(BATCH_URL, exception=error)
    assert (await failure(client)).reason is reason
    assert responses == [("get_batch", None)]


HUGE = 10**30
PAYLOADS = {
    "not JSON": "<html>",
    "empty": "",
    "not UTF-8": json.dumps(GOOD).replace("gentle", "\xff").encode("latin-1"),
    "more than one": json.dumps(GOOD) * 2,
    "cut short": json.dumps(GOOD)[:-1],
    "a list": [GOOD],
    "null": None,
    "nested too deep": "[" * 100_000,
    "nested too deep where nobody looks": json.dumps(GOOD).replace("[1, 2]", "[" * 5_000 + "]" * 5_000),
    "a number of 5,000 digits": json.dumps(GOOD).replace("400", "4" * 5_000),
    "NaN": json.dumps(GOOD).replace("400", "NaN"),
    "another batch": GOOD | {"batchId": "3c900000-0000-4000-8000-00000000ffff"},
    **{f"without {name}": {k: v for k, v in GOOD.items() if k != name} for name in ("batchId", "created", "totalCount", "completedCount", "endedAt")},
    **{f"null {name}": GOOD | {name: None} for name in ("batchId", "created", "totalCount", "completedCount")},
    **{f"{name} {value!r}"[:40]: GOOD | {name: value} for name in ("totalCount", "completedCount") for value in ("400", 400.5, 400.0, True, -1, HUGE, [])},
    **{
        f"{name} {value!r}"[:60]: GOOD | {name: value}
        for name in ("created", "endedAt", "windowStart", "windowEnd")
        for value in (1763900000, "1763900000", "yesterday", "2026-11-23T09:00:00", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", True, {})
    },
    **{f"paused {value!r}": GOOD | {"paused": value} for value in ("true", 1, 0, [])},
    **{f"throttle {value!r}"[:30]: GOOD | {"throttle": value} for value in (7, "x" * 201, {})},
}  # fmt: skip


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
async def test_what_is_not_a_batch_is_not_believed(client, responses, shimmed_aioresponses, payload):
    body = payload if isinstance(payload, str | bytes) else json.dumps(payload)
    shimmed_aioresponses.get(BATCH_URL, body=body)
    assert (await failure(client)).reason is FailureReason.BAD_RESPONSE
    assert responses == [("get_batch", 200)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T09:00:00Z", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23t09:00:00z", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23 09:00:00+00:00", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23T14:30:00+05:30", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23T09:00:00.5Z", datetime(2026, 11, 23, 9, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-23T09:00:00.123456789Z", datetime(2026, 11, 23, 9, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
async def test_every_form_of_an_rfc_3339_date_is_read(client, shimmed_aioresponses, text, expected):
    shimmed_aioresponses.get(BATCH_URL, payload=GOOD | {"endedAt": text})
    assert (await client.get_batch(KEY)).ended_at == expected


@pytest.mark.parametrize("paused", [None, False, "absent"])
async def test_a_batch_that_does_not_say_paused_is_not(client, shimmed_aioresponses, paused):
    payload = {k: v for k, v in GOOD.items() if k != "paused"}
    shimmed_aioresponses.get(BATCH_URL, payload=payload if paused == "absent" else GOOD | {"paused": paused})
    assert (await client.get_batch(KEY)).paused is False


@pytest.mark.parametrize(
    ("changes", "cap"),
    [({}, 5), ({"allowedConcurrentCalls": None}, None), ({"name": "n" * 1000}, 5)],
)
async def test_what_an_account_says_is_read(client, shimmed_aioresponses, changes, cap):
    shimmed_aioresponses.get(f"{BASE}/api/accounts/me", payload=ACCOUNT | changes)
    answer = await client.get_account()
    assert (answer.active_calls, answer.allowed_concurrent_calls, answer.clock_skew) == (5, cap, None)


@pytest.mark.parametrize(
    "payload",
    [
        *({k: v for k, v in ACCOUNT.items() if k != name} for name in ("name", "activeCalls", "allowedConcurrentCalls")),
        *(ACCOUNT | {name: value} for name in ("activeCalls", "allowedConcurrentCalls") for value in (-1, "5", 5.0, True)),
        ACCOUNT | {"activeCalls": None},
    ],
)  # fmt: skip
async def test_what_is_not_an_account_is_not_believed(client, shimmed_aioresponses, payload):
    shimmed_aioresponses.get(f"{BASE}/api/accounts/me", payload=payload)
    with pytest.raises(UltravoxError) as caught:
        await client.get_account()
    assert caught.value.reason is FailureReason.BAD_RESPONSE


async def test_ids_cannot_lead_to_another_path(client, shimmed_aioresponses):
    shimmed_aioresponses.get(
        URL(f"{BASE}/api/agents/..%2F..%2Fx/scheduled_batches/y%3Fz", encoded=True), status=404
    )
    assert (await failure(client, BatchKey("../../x", "y?z"))).reason is FailureReason.NOT_FOUND


# The API's clock

TEN = datetime(2026, 11, 23, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Mon, 23 Nov 2026 10:00:00 GMT", timedelta(0)),
        ("Mon, 23 Nov 2026 10:00:03 GMT", timedelta(0)),
        ("Mon, 23 Nov 2026 10:00:04 GMT", timedelta(seconds=3)),
        ("Mon, 23 Nov 2026 09:59:58 GMT", timedelta(seconds=-3)),
        ("Mon, 23 Nov 2026 12:00:01 GMT", timedelta(hours=2)),
        ("Mon, 23 Nov 2026 12:00:01 -0000", timedelta(hours=2)),
        ("last Monday", None),
        ("Mon, 23 Nov 2026 10:00:00 +99999999999999999999999", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
        ("Mon, 23 Nov 2026 09:00:00 GMT", timedelta(hours=-1, seconds=-1)),
        ("Sat, 01 Jan 2000 00:00:00 GMT", datetime(2000, 1, 1, tzinfo=UTC) - TEN - timedelta(seconds=1)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("", None),
        (None, None),
    ],
)
def test_the_skew_is_what_the_date_header_tells_and_small_ones_are_none(date, expected):
    """It was asked at ten, answered two seconds later: the header was written at one second past ten."""
    assert clock_skew(date, TEN + timedelta(seconds=2), 2.0) == expected


@pytest.mark.parametrize("elapsed", [0.0, 0.02, 0.3, 0.9])
def test_a_skew_is_no_finer_than_the_header_it_comes_from(elapsed):
    assert clock_skew("Mon, 23 Nov 2026 12:00:00 GMT", TEN, elapsed) == timedelta(hours=2)


async def test_batches_are_judged_by_the_api_s_clock(client, shimmed_aioresponses):
    shimmed_aioresponses.get(BATCH_URL, payload=GOOD, headers={"Date": "Mon, 23 Nov 2026 15:00:00 GMT"})
    assert (await client.get_batch(KEY)).at == NOW + timedelta(hours=3)


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 -2300", "Mon, 01 Jan 0101 00:00:00 GMT", "soon"])
async def test_an_absurd_date_header_is_no_time(client, shimmed_aioresponses, date):
    shimmed_aioresponses.get(BATCH_URL, payload=GOOD, headers={"Date": date})
    assert (await client.get_batch(KEY)).at == NOW


async def test_our_clock_may_be_set_while_a_request_is_under_way(shimmed_aioresponses):
    """Or the machine may sleep: what counts is what the API's clock said."""
    now = [NOW]

    def set_the_clock(url, **options):
        now[0] += timedelta(hours=4)
        return aioresponses.CallbackResult(payload=GOOD, headers={"Date": f"{NOW:%a, %d %b %Y %H:%M:%S} GMT"})

    client = Client(ApiSettings("main", SecretStr(API_KEY), BASE), clock=lambda: now[0])
    shimmed_aioresponses.get(BATCH_URL, callback=set_the_clock)
    assert (await client.get_batch(KEY)).at == NOW
    await client.close()


# Too many requests


@pytest.mark.parametrize(
    ("told", "held_back", "retry_after"),
    [
        (None, FIRST_PAUSE, None),
        ("7", 7, 7),
        ("0", FIRST_PAUSE, 0),
        ("3600", 300, 300),
        ("Mon, 23 Nov 2026 15:00:30 GMT", 30, 30),  # by the API's clock, three hours ahead of ours
        ("Mon, 23 Nov 2026 14:00:00 GMT", FIRST_PAUSE, 0),
        ("soon", FIRST_PAUSE, None),
    ],
)
async def test_a_429_holds_the_account_back_as_long_as_it_says(
    client, shimmed_aioresponses, told, held_back, retry_after
):
    headers = {"Date": "Mon, 23 Nov 2026 15:00:00 GMT"} | ({"Retry-After": told} if told else {})
    shimmed_aioresponses.get(BATCH_URL, status=429, headers=headers)
    before = asyncio.get_running_loop().time()
    error = await failure(client)
    assert error.retry_after == (None if retry_after is None else timedelta(seconds=retry_after))
    assert client._transport._limiter._paused_until - before == pytest.approx(held_back, abs=0.5)


async def test_the_pause_doubles_up_to_a_minute_until_something_succeeds(client, shimmed_aioresponses):
    loop = asyncio.get_running_loop()

    async def pause_after(status):
        shimmed_aioresponses.get(BATCH_URL, status=status, payload=GOOD)
        client._transport._limiter._paused_until = 0  # the pause before is over
        with contextlib.suppress(UltravoxError):
            await client.get_batch(KEY)
        return (
            round(client._transport._limiter._paused_until - loop.time())
            if client._transport._limiter.paused
            else 0
        )

    assert [await pause_after(429) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [await pause_after(status) for status in (500, 429, 200, 429)] == [0, 60, 0, 1]


# On a real socket


@pytest.fixture
async def asked_of():
    """Poll a batch of a server that answers with the given handler; the error, or the observation."""
    runners, clients = [], []

    async def ask(handler, seconds=5.0):
        runner, url = await serve(handler)
        runners.append(runner)
        settings = ApiSettings("main", SecretStr(API_KEY), url, timedelta(seconds=seconds))
        clients.append(Client(settings, clock=utc_now))
        return await failure(clients[-1])

    yield ask
    for client in clients:
        await client.close()
    for runner in runners:
        await runner.cleanup()


async def test_half_a_body_is_a_broken_connection(asked_of):
    async def handler(request):
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b'{"batchId": ')
        request.transport.close()
        return response

    assert (await asked_of(handler)).reason is FailureReason.CONNECTION


async def test_a_reset_is_a_broken_connection(asked_of):
    async def handler(request):
        request.transport.abort()
        return web.Response()

    assert (await asked_of(handler)).reason is FailureReason.CONNECTION


async def test_an_answer_that_drips_is_cut_off_at_the_total_timeout(asked_of):
    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    async with asyncio.timeout(5):
        error = await asked_of(handler, seconds=0.2)
    assert error.reason is FailureReason.TIMEOUT
    assert str(error) == "account main: get_batch: no full answer within 0.2 s"


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip bomb"])
async def test_a_huge_answer_is_not_read_to_its_end(asked_of, packed):
    body = b" " * (BODY_LIMIT + 100_000)
    headers = {"Content-Encoding": "gzip"} if packed else {}

    async def handler(request):
        return web.Response(body=gzip.compress(body) if packed else body, headers=headers)

    error = await asked_of(handler)
    assert error.reason is FailureReason.BAD_RESPONSE
    assert "more than 8 MiB" in str(error)


async def test_a_body_that_cannot_be_unpacked_is_a_failed_poll(asked_of):
    async def handler(request):
        return web.Response(body=b"not gzip", headers={"Content-Encoding": "gzip"})

    assert (await asked_of(handler)).reason in {FailureReason.CONNECTION, FailureReason.BAD_RESPONSE}


async def test_a_redirect_is_not_followed_with_the_key(asked_of):
    elsewhere = []

    async def stolen(request):
        elsewhere.append(dict(request.headers))
        return web.json_response(GOOD)

    runner, url = await serve(stolen)

    async def handler(request):
        raise web.HTTPTemporaryRedirect(url)

    error = await asked_of(handler)
    assert error.reason is FailureReason.CLIENT_ERROR
    assert elsewhere == []
    await runner.cleanup()


async def test_a_burst_of_429s_holds_the_account_back_once():
    """Eight requests are under way when the API says that it is too much."""
    everyone = asyncio.Barrier(8)

    async def handler(request):
        await everyone.wait()
        return web.json_response({}, status=429)

    runner, url = await serve(handler)
    settings = ApiSettings("main", SecretStr(API_KEY), url, max_requests_per_second=10_000)
    client = Client(settings, clock=utc_now)
    await asyncio.gather(*(failure(client) for _ in range(8)))
    left = client._transport._limiter._paused_until - asyncio.get_running_loop().time()
    assert 0 < left <= FIRST_PAUSE
    await client.close()
    await runner.cleanup()


async def test_requests_that_hang_do_not_hold_up_those_that_do_not():
    """More than the 100 connections that aiohttp allows unless told otherwise."""
    answered = asyncio.Event()

    async def handler(request):
        if BATCH in request.path:
            answered.set()
        await answered.wait()
        return web.json_response(GOOD | {"batchId": request.path.rpartition("/")[2]})

    runner, url = await serve(handler)
    settings = ApiSettings("main", SecretStr(API_KEY), url, max_requests_per_second=10_000)
    client = Client(settings, clock=utc_now)
    hanging = (client.get_batch(BatchKey(AGENT, f"hangs-{number}")) for number in range(101))
    seen = await asyncio.gather(*hanging, client.get_batch(KEY))
    assert len(seen) == 102
    await client.close()
    await runner.cleanup()


@pytest.mark.parametrize("base", ["http://[::", "http://a..b", f"http://{'a' * 70}.example"])
async def test_what_cannot_be_asked_is_nobody_s_answer(base):
    """The configuration refuses most of these; one that came this far is still a failed poll with a reason."""
    client = Client(ApiSettings("main", SecretStr(API_KEY), base), clock=utc_now)
    error = await failure(client)
    await client.close()
    assert (error.reason, error.again_helps) == (FailureReason.CLIENT_ERROR, False)
    assert str(error) == "account main: get_batch: cannot be asked with this base URL, key and proxy"


async def test_a_key_that_would_be_two_headers_is_sent_nowhere():
    arrived = []

    async def handler(request):
        arrived.append(request)
        return web.json_response(GOOD)

    runner, url = await serve(handler)  # somebody listens: it is the header that fails, not the connection
    client = Client(ApiSettings("main", SecretStr(f"{API_KEY}\r\nX: y"), url), clock=utc_now)
    error = await failure(client)
    assert (error.reason, arrived) == (FailureReason.CLIENT_ERROR, [])
    await client.close()
    await runner.cleanup()


OK = b"HTTP/1.1 200 OK\r\n"
RAW = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", FailureReason.BAD_RESPONSE),
    "another HTTP": (b"HTTP/9.9 200 OK\r\n\r\n", FailureReason.BAD_RESPONSE),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", FailureReason.BAD_RESPONSE),
    "a negative length": (OK + b"Content-Length: -1\r\n\r\n", FailureReason.BAD_RESPONSE),
    "a header without a name": (OK + b": x\r\n\r\n", FailureReason.BAD_RESPONSE),
    "an endless header": (OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n", FailureReason.BAD_RESPONSE),
    "chunks that are none": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nxx", None),
    "too few chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", FailureReason.CONNECTION),
    "a date that is no text": (OK + b"Date: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}", FailureReason.BAD_RESPONSE),
    "a switch of protocols": (b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", None),
    "nothing": (b"", FailureReason.CONNECTION),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "reason"), RAW.values(), ids=RAW.keys())
async def test_something_that_is_hardly_http_is_a_failed_poll(raw, reason):
    """None: which of its two reasons depends on how far aiohttp's parser came."""

    async def gibberish(reader, writer):
        await reader.read(1000)
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(gibberish, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Client(ApiSettings("main", SecretStr(API_KEY), f"http://127.0.0.1:{port}"), clock=utc_now)
    error = await failure(client)
    assert error.reason is (reason or error.reason)
    await client.close()
    server.close()
    await server.wait_closed()


async def test_a_proxy_that_is_asked_for_a_tunnel_hears_no_key(monkeypatch):
    heads = []

    async def proxy(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    between = await asyncio.start_server(proxy, "127.0.0.1", 0)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{between.sockets[0].getsockname()[1]}")
    client = Client(ApiSettings("main", SecretStr(API_KEY), "https://api.example"), clock=utc_now)
    with pytest.raises(UltravoxError):
        await client.get_batch(KEY)
    await client.close()
    between.close()
    assert heads[0].startswith(b"CONNECT api.example:443 ")
    assert API_KEY.encode() not in b"".join(heads)


async def test_nobody_listening_is_no_connection():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    client = Client(ApiSettings("main", SecretStr(API_KEY), f"http://127.0.0.1:{port}"), clock=utc_now)
    error = await failure(client)
    assert error.reason is FailureReason.CONNECTION
    assert str(error) == "account main: get_batch: no connection"
    await client.close()


async def test_the_pretend_ultravox_is_understood():
    scenario = simulator.shipped()
    pretend = simulator.Simulator(scenario, clock=utc_now)
    url = await pretend.start()
    [account, *_] = scenario.accounts
    client = Client(ApiSettings(account.name, SecretStr(account.api_key), url), clock=utc_now)
    for agent in account.agents:
        assert await client.get_agent_name(str(agent.agent_id)) == agent.name
        for batch in agent.batches:
            seen = await client.get_batch(BatchKey(str(agent.agent_id), str(batch.batch_id)))
            assert seen.total == batch.calls
    answer = await client.get_account()
    assert (answer.name, answer.allowed_concurrent_calls) == ("main", 400)
    assert answer.clock_skew == timedelta(0)
    await client.close()
    await pretend.stop()
