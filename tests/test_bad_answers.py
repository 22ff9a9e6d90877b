"""Answers that nobody should give: each is a failed poll or post with its reason, soon, and costs no memory.

One table for the API and for receivers. The same bytes mean different things to them: of the API the body is
read, of a receiver only the status line.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import tracemalloc
import zlib
from datetime import timedelta

import aiohttp
import pytest
from pretend_api import API_KEY, GOOD, printed
from pydantic import SecretStr
from raw import OK, Endless, RawServer, Silence, sized
from receivers import message, notification
from samples import KEY, NOW

from monitor import heartbeat
from monitor.clock import utc_now
from monitor.heartbeat import Heartbeat
from monitor.metrics import Instruments
from monitor.notify import FAILURES, alertmanager, webhook
from monitor.notify.channel import SendError, Wire
from monitor.ultravox import ApiSettings, Client, UltravoxError
from monitor.ultravox.body import BODY_LIMIT, LARGE

TAKEN = "taken"
PATIENCE = timedelta(seconds=20)
IMPATIENCE = timedelta(seconds=0.2)
"""Where an answer never comes to its end."""

MEMORY = 64 * 1024 * 1024
"""Bytes by which the process may grow over an answer of any size: eight times the longest body that is read."""

BATCH = json.dumps(GOOD).encode()
BOMB = gzip.compress(bytes(100_000_000), 9)
NOT_HTTP = ("bad_response", "the answer is not HTTP", "its answer is not HTTP")
TOO_LONG = ("bad_response", "more than 8 MiB", TAKEN)
TIMEOUT = ("timeout", "no full answer within 0.2 s", "has not answered within 0.2 s")
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def status(code: int, reason: str, said: str, receiver: str | None = None):
    """A row for a status line without a body."""
    text = f"{said} (HTTP {code})"
    return (
        b"HTTP/1.1 %03d X\r\nContent-Length: 0\r\n\r\n" % code,
        reason,
        text,
        receiver or f"answered {code}",
    )


REDIRECT = "a redirect, which is not followed"
ROWS = {
    # what is answered; the API's reason and text; what is said of a receiver
    "a batch": (sized(BATCH), TAKEN, "", TAKEN),
    "a batch after early hints": (b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + sized(BATCH), TAKEN, "", TAKEN),
    "a batch with a name twice": (sized(BATCH[:-1] + b', "totalCount": 400}'), TAKEN, "", TAKEN),
    "a batch by HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n" + BATCH, TAKEN, "", TAKEN),
    "nothing": (b"", "connection", "the connection was lost before an answer came", "the connection was lost before an answer came"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", *NOT_HTTP),
    "zeros": (bytes(100_000), *NOT_HTTP),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", *NOT_HTTP),
    "another HTTP": (b"HTTP/9.9 200 OK\r\n\r\n", *NOT_HTTP),
    "a status that is no number": (b"HTTP/1.1 OK\r\n\r\n", *NOT_HTTP),
    "a status of one digit": (b"HTTP/1.1 0 X\r\n\r\n", *NOT_HTTP),
    "status 99": status(99, "client_error", "unexpected answer"),
    "status 101": (b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "client_error", "unexpected answer (HTTP 101)", "answered 101"),
    "status 204": status(204, "client_error", "unexpected answer", TAKEN),
    "status 206": status(206, "client_error", "unexpected answer", TAKEN),
    "status 301 to nowhere": status(301, "client_error", REDIRECT, f"answered 301: {REDIRECT}"),
    "status 304": status(304, "client_error", REDIRECT, f"answered 304: {REDIRECT}"),
    "status 999": status(999, "server_error", "the API is in trouble"),
    "more patience than there is": (b"HTTP/1.1 429 X\r\nRetry-After: " + b"9" * 5000 + b"\r\nContent-Length: 0\r\n\r\n", "throttled", "too many requests (HTTP 429)", "answered 429"),
    "patience that is none": (b"HTTP/1.1 503 X\r\nRetry-After: \xff\r\nContent-Length: 0\r\n\r\n", "server_error", "the API is in trouble (HTTP 503)", "answered 503"),
    # lengths
    "a negative length": (OK + b"Content-Length: -1\r\n\r\n", *NOT_HTTP),
    "a length of 300 digits": (OK + b"Content-Length: " + b"9" * 300 + b"\r\n\r\n", *NOT_HTTP),
    "two lengths": (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", *NOT_HTTP),
    "a length and chunks": (OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", *NOT_HTTP),
    "more than its length": (sized(BATCH) + b"HTTP/1.1", TAKEN, "", TAKEN),
    "less than its length": (OK + b"Content-Length: 9000\r\n\r\n" + BATCH, "connection", "the answer broke off", TAKEN),
    "less than its length, and silence": (Silence(OK + b"Content-Length: 9000\r\n\r\n" + BATCH), TIMEOUT[0], TIMEOUT[1], TAKEN),
    "chunks that are none": (CHUNKED + b"zz\r\nxx", "bad_response|connection", "", None),
    "a chunk that breaks off": (CHUNKED + b"5\r\nab", "connection", "the answer broke off", TAKEN),
    "a chunk of 16^17 bytes": (CHUNKED + b"f" * 17 + b"\r\nab", "bad_response|connection", "", None),
    # headers
    "a header without a name": (OK + b": x\r\n\r\n", *NOT_HTTP),
    "a header that is no text": (sized(BATCH, b"Date: \xff\xfe", b"Content-Type: text/\xff"), TAKEN, "", TAKEN),
    "a date of 4,000 digits": (sized(BATCH, b"Date: " + b"9" * 4000), TAKEN, "", TAKEN),
    "a header of 100 KB": (OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n", *NOT_HTTP),
    "200 headers": (sized(BATCH, *[b"X-%d: x" % number for number in range(200)]), *NOT_HTTP),
    "4,000 cookies in a header": (sized(BATCH, b"Set-Cookie: " + b"a=b;" * 2000), TAKEN, "", TAKEN),
    # what is packed
    "a bomb of gzip": (sized(BOMB, b"Content-Encoding: gzip"), *TOO_LONG),
    "half a bomb": (sized(BOMB[:50_000], b"Content-Encoding: gzip"), *TOO_LONG),
    "a bomb of deflate": (sized(zlib.compress(bytes(100_000_000), 9), b"Content-Encoding: deflate"), *TOO_LONG),
    "a packed batch": (sized(gzip.compress(BATCH), b"Content-Encoding: gzip"), TAKEN, "", TAKEN),
    "gzip that is none": (sized(b"not gzip", b"Content-Encoding: gzip"), "connection", "the answer broke off", TAKEN),
    "gzip and more": (sized(gzip.compress(BATCH) + b"more", b"Content-Encoding: gzip"), "connection", "the answer broke off", TAKEN),
    "20,000 parts of gzip": (sized(gzip.compress(b" ") * 20_000, b"Content-Encoding: gzip"), "connection", "the answer broke off", TAKEN),
    "packed twice": (sized(gzip.compress(gzip.compress(BATCH)), b"Content-Encoding: gzip, gzip"), "bad_response", "not JSON", TAKEN),
    "brotli, unasked": (sized(b"\x0b\x02\x80{}\x03", b"Content-Encoding: br"), "bad_response", "the answer is not HTTP", TAKEN),
    "zstd, unasked": (sized(b"(\xb5/\xfd", b"Content-Encoding: zstd"), "bad_response", "the answer is not HTTP", TAKEN),
    "a packing that nobody knows": (sized(b"\0\1", b"Content-Encoding: nonsense"), "bad_response", "not JSON", TAKEN),
    # texts
    "UTF-16": (sized(json.dumps(GOOD).encode("utf-16")), "bad_response", "not JSON", TAKEN),
    "UTF-8 with a mark": (sized(b"\xef\xbb\xbf" + BATCH), "bad_response", "not JSON", TAKEN),
    "Latin-1": (sized(BATCH.replace(b"gentle", b"caf\xe9")), "bad_response", "not JSON", TAKEN),
    "half a surrogate": (sized(BATCH.replace(b"gentle", b"\\ud800")), "bad_response", "not JSON", TAKEN),
    "nested 100,000 times": (sized(b'{"a": ' + b"[" * 100_000), "bad_response", "not JSON", TAKEN),
    "seven megabytes of blanks": (sized(b" " * 7_000_000 + BATCH), TAKEN, "", TAKEN),
    "a text of seven megabytes": (sized(BATCH.replace(b"gentle", b"x" * 7_000_000)), "bad_response", "throttle: String should have at most 200 characters", TAKEN),
    # without an end
    "silence": (Silence(), *TIMEOUT),
    "half a status line, and silence": (Silence(b"HTTP/1.1 2"), *TIMEOUT),
    "half a head, and silence": (Silence(OK + b"X: y\r\n"), *TIMEOUT),
    "a hundred megabytes": (Endless(OK + b"Content-Length: 100000000\r\n\r\n", bytes(65536)), *TOO_LONG),
    "chunks without an end": (Endless(CHUNKED, b"10000\r\n" + bytes(65536) + b"\r\n"), *TOO_LONG),
    "a body without an end": (Endless(OK + b"\r\n", bytes(65536)), *TOO_LONG),
    "a status line without an end": (Endless(b"HTTP/1.1 200 ", b"x" * 65536), *NOT_HTTP),
    "headers without an end": (Endless(OK, b"X: " + b"x" * 1000 + b"\r\n"), *NOT_HTTP),
    "a header without an end": (Endless(OK + b"X: ", b"x" * 65536), *NOT_HTTP),
    "hints without an end": (Endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100), *TIMEOUT),
    "trailers without an end": (Endless(CHUNKED + b"0\r\n", b"X: x\r\n" * 100), "bad_response|connection", "", None),
    "a chunk's extension without an end": (Endless(CHUNKED + b"1;", b"x" * 65536), "bad_response|connection|timeout", "", None),
}  # fmt: skip
"""`|`: it depends on how far aiohttp's parser came. None: the same, of a receiver."""

_SLOW = {name for name, row in ROWS.items() if row[1] == "timeout" or isinstance(row[0], Endless)}


def _largest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture
async def server():
    made = RawServer()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def wire():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield Wire(session, "crm", NOW)


rows = pytest.mark.parametrize(("answer", "reason", "said", "of_receiver"), ROWS.values(), ids=ROWS)


@rows
async def test_the_api_s_answer_is_taken_or_a_failed_poll_with_its_reason(
    server, answer, reason, said, of_receiver
):
    server.answer, before = answer, _largest()
    heard = []
    patience = IMPATIENCE if "timeout" in reason else PATIENCE
    client = Client(
        ApiSettings("main", SecretStr(API_KEY), server.url, patience),
        clock=utc_now,
        on_response=lambda *one: heard.append(one),
    )
    if reason == TAKEN:
        seen = await client.get_batch(KEY)
        assert (seen.total, seen.completed) == (400, 118)
    else:
        with pytest.raises(UltravoxError) as caught:
            await client.get_batch(KEY)
        assert caught.value.reason.value in reason.split("|")
        assert said in str(caught.value)
        assert API_KEY not in printed(caught.value)
    await client.close()
    assert [endpoint for endpoint, _ in heard] == ["get_batch"]
    assert _largest() - before < MEMORY


@rows
async def test_a_receiver_s_answer_is_taken_or_a_failure_that_is_told(
    server, wire, answer, reason, said, of_receiver
):
    server.answer, before = answer, _largest()
    patience = IMPATIENCE if of_receiver in {None, TIMEOUT[2]} else PATIENCE
    settings = webhook.Settings(SecretStr(server.url + "/t0k3n"), timeout=patience)
    try:
        await settings.send(wire, message(notification()))
        error = None
    except SendError as raised:
        error = raised
    if error is not None:
        assert "t0k3n" not in printed(error)
    if of_receiver is not None:
        assert (error is None) is (of_receiver == TAKEN)
        assert error is None or of_receiver in str(error)
    assert _largest() - before < MEMORY


@pytest.mark.parametrize("name", sorted(name for name in ROWS if ROWS[name][3] and name not in _SLOW))
async def test_alertmanager_and_the_heartbeat_understand_it_as_a_webhook_does(server, wire, name):
    server.answer, _, _, of_receiver = ROWS[name]
    told = await alertmanager.Settings((SecretStr(server.url),), PATIENCE).tell(
        wire, [notification()], all_of_it=True
    )
    assert bool(told.accepted) is (of_receiver == TAKEN)
    assert all(of_receiver in str(failure) for failure in told.failures)
    instruments = Instruments(endpoints=(), send_failures=FAILURES, now=NOW)
    beats = Heartbeat(lambda: None, clock=lambda: NOW, instruments=instruments)
    series = instruments.add_heartbeat()
    taken = await beats._ping(heartbeat.Settings(SecretStr(server.url), timeout=PATIENCE), series)
    assert taken is (of_receiver == TAKEN)


async def test_of_a_flood_little_is_let_in(server):
    """What was sent is what the sockets hold, and the limit."""
    server.answer = ROWS["chunks without an end"][0]
    client = Client(ApiSettings("main", SecretStr(API_KEY), server.url, PATIENCE), clock=utc_now)
    with pytest.raises(UltravoxError, match="more than 8 MiB"):
        await client.get_batch(KEY)
    await client.close()
    assert server.sent < 32 * 1024 * 1024


async def test_twenty_accounts_whose_api_has_lost_its_mind_cost_the_memory_of_one_answer(server):
    server.answer = ROWS["a body without an end"][0]
    large = asyncio.Lock()
    clients = [
        Client(ApiSettings(f"a{n}", SecretStr(API_KEY), server.url, PATIENCE), clock=utc_now, large=large)
        for n in range(20)
    ]
    tracemalloc.start()
    try:
        told = await asyncio.gather(*(one.get_batch(KEY) for one in clients), return_exceptions=True)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all("more than 8 MiB" in str(error) for error in told)
    assert most < 6 * BODY_LIMIT  # of which the twenty hold LARGE and what their sockets have read on
    for one in clients:
        await one.close()


async def test_who_waits_for_a_large_answer_holds_up_no_small_one(server):
    server.answer = Silence(OK + b"Content-Length: 4000000\r\n\r\n" + bytes(2 * LARGE))
    large = asyncio.Lock()
    slow, quick = (
        Client(ApiSettings(name, SecretStr(API_KEY), server.url, PATIENCE), clock=utc_now, large=large)
        for name in ("slow", "quick")
    )
    asked = asyncio.create_task(slow.get_batch(KEY))
    while not large.locked():  # noqa: ASYNC110 - a lock tells nobody that it was taken
        await asyncio.sleep(0)
    server.answer = sized(BATCH)
    seen = await quick.get_batch(KEY)
    assert (seen.total, seen.completed) == (400, 118)
    asked.cancel()
    await asyncio.wait([asked])
    assert not large.locked()
    for one in (slow, quick):
        await one.close()
