"""Requests that nobody should send to us: answered, refused or cut off, never with a 5xx or a traceback in the log.

The real daemon, on raw sockets: what is sent need not be HTTP. POST /-/reload of a bad configuration answers 500,
as Prometheus does, and the two checks of health 503: none of them is asked for here in a state to do so.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_app import STORY, Daemon

from monitor import simulator
from monitor.clock import utc_now

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "40"))
JSON = b"Content-Type: application/json\r\n"
ROUTES = (
    "/",
    "/batches/3c90",
    "/static/page.css",
    "/favicon.ico",
    "/metrics",
    "/api/v1/batches",
    "/api/v1/alerts",
    "/api/v1/explain",
    "/api/v1/notifications",
    "/api/v1/mutes",
    "/api/v1/test-alert",
    "/api/v1/handover",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
)
QUERIES = ("state", "account", "firing", "q", "sort", "limit", "page", "batch_id", "receiver", "before", "v")


def get(target: str, *headers: bytes, method: bytes = b"GET") -> bytes:
    lines = [b"Host: x", b"Connection: close", *headers]
    return b"%s %s HTTP/1.1\r\n%s\r\n\r\n" % (method, target.encode(), b"\r\n".join(lines))


def post(path: str, body: bytes, kind: bytes = JSON) -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" % path.encode()
    return head + kind + b"Content-Length: %d\r\n\r\n" % len(body) + body


ROWS = {
    # what is sent, and the status of the answer; None: none, or one that depends on how far the parser came
    "half a surrogate in a path": (get("/batches/%ED%A0%80"), 404),
    "no UTF-8 in a path": (get("/batches/%FF%00"), 404),
    "an escape that is none": (get("/batches/%zz%1"), 404),
    "a path that climbs": (get("/static/../server.py"), 404),
    "a path that climbs, encoded": (get("/static/%2e%2e%2fserver.py"), 404),
    "a file that is not ours": (get("/static/%2Fetc%2Fpasswd"), 404),
    "500 percent signs": (get("/batches/" + "%25" * 500), 404),
    "half a surrogate to search for": (get("/?q=%ED%A0%80"), 200),
    "markup to search for": (get("/?q=%3Cscript%3Ealert(1)%3C/script%3E"), 200),
    "a state that is none": (get("/?state=%FF"), 400),
    "a sort with a NUL": (get("/?sort=%00"), 400),
    "a page of another script": (get("/?page=%D9%A1"), 200),
    "a limit that looks like a number": (get("/?limit=%C2%B2"), 400),
    "a limit of 5,000 digits": (get(f"/api/v1/notifications?limit={'9' * 5000}"), 400),
    "a negative limit": (get("/api/v1/notifications?limit=-1"), 400),
    "before the calendar": (get("/api/v1/notifications?before=0001-01-01T00:00:00%2B14:00"), 200),
    "after the calendar": (get("/api/v1/notifications?before=9999-12-31T23:59:59-14:00"), 200),
    "SQL": (get("/api/v1/notifications?receiver='%20OR%201=1--&batch_id=%25"), 200),
    "a receiver with a NUL": (get("/api/v1/notifications?receiver=%00%FF"), 200),
    "half a surrogate to explain": (get("/api/v1/explain?batch_id=%ED%A0%80"), 404),
    "everything to explain": (get("/api/v1/explain?batch_id="), 400),
    "lists nested 4,000 times": (post("/api/v1/mutes", b"[" * 4000), 400),
    "maps nested 800 times": (post("/api/v1/mutes", b'{"a":' * 800), 400),
    "no UTF-8": (post("/api/v1/mutes", b"\xff\xfe"), 400),
    "not a number": (post("/api/v1/mutes", b'{"batch_id": "3c", "for_seconds": NaN}'), 400),
    "for ever": (post("/api/v1/mutes", b'{"batch_id": "3c", "for_seconds": Infinity}'), 400),
    "4,000 digits": (post("/api/v1/mutes", b'{"batch_id": "3c", "for_seconds": %s}' % (b"9" * 4000)), 400),
    "a number beyond all": (post("/api/v1/mutes", b'{"batch_id": "3c", "for_seconds": 1e400}'), 400),
    "true seconds": (post("/api/v1/mutes", b'{"batch_id": "3c", "for_seconds": true}'), 400),
    "half a surrogate for a batch": (post("/api/v1/mutes", b'{"batch_id": "\\ud800", "for_seconds": 1}'), 404),
    "half a surrogate for a receiver": (post("/api/v1/test-alert", b'{"receiver": "\\ud800"}'), 404),
    "a receiver that is a list": (post("/api/v1/test-alert", b'{"receiver": []}'), 400),
    "a body that is too long": (post("/api/v1/mutes", b"x" * 5000), 413),
    "a body of another type": (post("/api/v1/mutes", b"{}", b"Content-Type: text/plain\r\n"), 415),
    "a type that is none": (post("/api/v1/mutes", b"{}", b"Content-Type: \xff/\xff; charset=\xff\r\n"), 415),
    "a body that cannot be unpacked": (post("/api/v1/mutes", b"{}", JSON + b"Content-Encoding: gzip\r\n"), 400),
    "a packing that nobody knows": (post("/api/v1/mutes", b"\0", JSON + b"Content-Encoding: br\r\n"), 400),
    "a version that is none": (get("/metrics", b"Accept: application/openmetrics-text;version=abc;q=x,;;;"), 200),
    "an escaping that is none": (get("/metrics", b"Accept: application/openmetrics-text;version=1.0.0;escaping=\xff"), 200),
    "a version of the future": (get("/metrics", b"Accept: text/plain;version=9;escaping=nonsense"), 200),
    "a quality that is none": (get("/metrics", b"Accept-Encoding: gzip;q=\xff, , ;"), 200),
    "ranges, dates, cookies": (get("/", b"Range: bytes=0-99999999999", b"If-Modified-Since: x", b"Cookie: \xff=\xff; =;;"), 200),
    "an expectation that is none": (get("/", b"Expect: nonsense"), 417),
    "an expectation that is no text": (get("/metrics", b"Expect: \x80"), 417),
    "an expectation that is no text, of nothing": (get("/nothing", b"Expect: \x80"), 417),
    "an expectation that is met": (b"POST /api/v1/mutes HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + JSON + b"Content-Length: 2\r\n\r\n{}", 100),
    "another method": (get("/metrics", method=b"DELETE"), 405),
    "a method of its own": (get("/metrics", method=b"BREW"), None),
    "all of it": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "a tunnel": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "another's address": (b"GET http://elsewhere/-/healthy HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n", 200),
    "an upgrade": (b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
    "a host that is none": (b"GET /-/healthy HTTP/1.1\r\nHost: \xff\xff:99999999\r\nConnection: close\r\n\r\n", 200),
    "an address that is none": (b"GET http://[::/ HTTP/1.1\r\nHost: y\r\n\r\n", 400),
    "not HTTP": (b"GARBAGE\r\n\r\n", 400),
    "another HTTP": (b"GET / HTTP/9.9\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), 400),
    "zeros": (bytes(1000), 400),
    "a header of 100 KB": (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", None),
    "an address of 100 KB": (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", None),
    "10,000 headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 10_000 + b"\r\n", None),
    "a length and chunks": (b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks that are none": (b"POST /api/v1/mutes HTTP/1.1\r\nHost: x\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "a negative length": (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    "bytes in the path": (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a header split in two": (b"GET / HTTP/1.1\r\nHost: x\r\nX\r\n: y\r\n\r\n", 400),
}  # fmt: skip


@pytest.fixture
async def daemon(tmp_path):
    """A daemon that watches two batches, and says nothing that is not in its log."""
    pretend = simulator.Simulator(simulator.load(STORY), clock=utc_now)
    await pretend.start()
    made = Daemon(tmp_path, pretend)
    made.write("one", "two")
    async with made.running():
        await made.until(made.app.surface.ready)
        yield made
    await pretend.stop()


async def said_to(address: str, sent: bytes, *, parts: int = 1) -> int | None:
    """The status of the answer, if there is one. Nothing of ours may be in an answer that refuses."""
    host, port = address.removeprefix("http://").split(":")
    async with asyncio.timeout(10), connection(host, int(port)) as (reader, writer):
        step = -(-len(sent) // parts)
        try:
            for start in range(0, len(sent), step):
                writer.write(sent[start : start + step])
                await writer.drain()
            line = await reader.readline()
        except OSError:
            return None
    found = re.match(rb"HTTP/[0-9]\.[0-9] ([0-9]{3}) ", line)
    assert found or not line, line
    return int(found[1]) if found else None


@asynccontextmanager
async def connection(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def quiet(caplog) -> bool:
    return not any(record.exc_info or record.levelname in {"ERROR", "CRITICAL"} for record in caplog.records)


async def test_whatever_is_asked_is_answered_or_refused(daemon, caplog):
    caplog.set_level("DEBUG")
    for name, (sent, status) in ROWS.items():
        caplog.clear()
        answered = await said_to(daemon.app.address, sent)
        assert answered == status or (status is None and (answered or 400) < 500), name
        assert quiet(caplog), f"{name}: {caplog.text}"
    async with daemon.session.get("/-/healthy") as answer:
        assert answer.status == 200


async def test_who_goes_away_amid_a_body_is_no_news(daemon, caplog):
    head = b"POST /api/v1/mutes HTTP/1.1\r\nHost: x\r\n" + JSON + b"Content-Length: 4000\r\n\r\n{"
    host, port = daemon.app.address.removeprefix("http://").split(":")
    async with connection(host, int(port)) as (_, writer):
        writer.write(head)
        await writer.drain()
        assert await said_to(daemon.app.address, get("/-/healthy")) == 200  # by then it has been read
    for _ in range(3):
        assert await said_to(daemon.app.address, get("/-/healthy")) == 200
    assert quiet(caplog), caplog.text


async def test_a_body_that_never_comes_holds_nobody_up(daemon):
    """Fifty that have said how much they will send, and do not."""
    head = b"POST /api/v1/mutes HTTP/1.1\r\nHost: x\r\n" + JSON + b"Content-Length: 4000\r\n\r\n"
    host, port = daemon.app.address.removeprefix("http://").split(":")
    held = [await asyncio.open_connection(host, int(port)) for _ in range(50)]
    for _, writer in held:
        writer.write(head)
    assert await said_to(daemon.app.address, get("/-/healthy")) == 200
    for _, writer in held:
        writer.close()


_TEXT = st.text(max_size=30) | st.sampled_from(
    ["3c90", "any", "-worst", "1", "BatchStalled", "2026-11-23T09:00:00Z"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
_ASKED = st.fixed_dictionaries(
    {}, optional={"batch_id": _TEXT | _JSON, "for_seconds": _JSON, "receiver": _JSON}
)
_HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"Accept", b"Accept-Encoding", b"Content-Type", b"Expect", b"Cookie", b"Host", b"Origin", b"If-None-Match", b"Authorization", b"X-Forwarded-For"]),
        st.binary(max_size=30) | st.sampled_from([b"application/openmetrics-text;version=1.0.0", b"gzip", b"application/json", b"*/*"]),
    ),
    max_size=4,
)  # fmt: skip
_fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_fuzz
@given(
    route=st.sampled_from(ROUTES) | st.text(max_size=20).map(lambda text: "/" + quote(text)),
    query=st.lists(st.tuples(st.sampled_from(QUERIES) | _TEXT, _TEXT | st.binary(max_size=9)), max_size=3),
    method=st.sampled_from([b"GET", b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS"]),
    headers=_HEADERS,
    body=_ASKED.map(lambda asked: json.dumps(asked).encode()) | st.binary(max_size=60),
)
async def test_any_request_is_answered_or_refused(daemon, caplog, route, query, method, headers, body):
    caplog.clear()
    target = (
        route + ("?" if query else "") + "&".join(f"{quote(name)}={quote(value)}" for name, value in query)
    )
    lines = [b"%s: %s" % (name, value.replace(b"\r", b"").replace(b"\n", b"")) for name, value in headers]
    lines.append(b"Content-Length: %d" % len(body))
    status = await said_to(daemon.app.address, get(target, *lines, method=method) + body)
    assert status is None or status < 500
    assert quiet(caplog), caplog.text


@_fuzz
@given(
    row=st.sampled_from([sent for sent, _ in ROWS.values() if len(sent) < 5000]),
    at=st.integers(0, 300),
    cut=st.integers(0, 20),
    put=st.binary(max_size=20),
    parts=st.integers(1, 4),
)
async def test_any_bytes_are_answered_or_refused(daemon, caplog, row, at, cut, put, parts):
    caplog.clear()
    at = min(at, len(row))
    sent = row[:at] + put + row[at + cut :]
    try:
        async with asyncio.timeout(0.3):
            status = await said_to(daemon.app.address, sent, parts=parts)
    except TimeoutError:  # it waits for more
        status = None
    assert status is None or status < 500
    assert quiet(caplog), caplog.text
