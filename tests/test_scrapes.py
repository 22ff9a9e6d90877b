"""Scrapes on a real socket: streamed when there is much, one piece at a time, with what may go wrong in between."""

from __future__ import annotations

import asyncio
import gzip

import aiohttp
import pytest
from doors import opened
from samples import NOW, PROMETHEUS_3, batch_key, status
from test_web import Daemon

from monitor.metrics import PIECE
from monitor.model import Snapshot
from monitor.web import server

MANY = Snapshot(NOW, tuple(status(key=batch_key(number)) for number in range(500)))
PLAINLY = {"Accept-Encoding": "identity"}


@pytest.fixture
async def door():
    async with opened(daemon=Daemon(shown=MANY)) as made:
        yield made


@pytest.fixture
async def session(door):
    base = f"http://127.0.0.1:{door.port}"
    async with aiohttp.ClientSession(base, headers=PLAINLY, auto_decompress=False) as made:
        yield made


def of_batches(text):
    """What is the same in every scrape."""
    return [line for line in text.splitlines() if line.startswith(b"ultravox_batch")]


async def scraped(session, **headers):
    async with session.get("/metrics", headers=headers) as answer:
        return answer.headers, await answer.read()


async def test_few_batches_come_with_their_length_and_many_in_chunks(door, session):
    headers, many = await scraped(session)
    assert headers["Transfer-Encoding"] == "chunked"
    assert len(many) > 10 * PIECE
    door.daemon.shown = Snapshot(NOW, MANY.batches[:2])
    headers, few = await scraped(session)
    assert int(headers["Content-Length"]) == len(few)
    assert set(of_batches(few)) < set(of_batches(many))


async def test_who_can_take_gzip_gets_one_member_whatever_its_length(door, session):
    door.daemon.shown = Snapshot(NOW, tuple(status(key=batch_key(n**4)) for n in range(5000)))
    _, plain = await scraped(session)
    headers, packed = await scraped(session, **{"Accept-Encoding": "gzip"})
    assert (headers["Transfer-Encoding"], headers["Content-Encoding"]) == ("chunked", "gzip")
    assert of_batches(gzip.decompress(packed)) == of_batches(plain)
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{door.port}") as usual,
        usual.get("/metrics") as answer,
    ):
        assert of_batches(await answer.read()) == of_batches(plain)


async def test_who_scrapes_at_the_same_time_gets_the_same(session):
    one, *others = await asyncio.gather(*(scraped(session, Accept=PROMETHEUS_3) for _ in range(8)))
    assert len(of_batches(one[1])) > 10_000
    for _, text in others:
        assert of_batches(text) == of_batches(one[1])
        assert text.endswith(b"# EOF\n")


@pytest.mark.parametrize("kept", ["close", "keep-alive"])
async def test_a_client_without_chunks_is_told_the_end_by_the_end_of_the_connection(door, session, kept):
    reader, writer = await door.knock()
    writer.write(f"GET /metrics HTTP/1.0\r\nHost: a\r\nConnection: {kept}\r\n\r\n".encode())
    async with asyncio.timeout(20):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert b"chunked" not in head
    assert of_batches(body) == of_batches((await scraped(session))[1])
    writer.close()


async def test_a_head_of_many_batches_has_no_body_and_leaves_the_connection_in_order(door):
    reader, writer = await door.knock()
    for _ in range(2):
        writer.write(b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


# What goes wrong


def pieces_that(monkeypatch, begin, *, accept=""):
    """`begin` makes the pieces of who asks with this Accept."""
    usual = server.pieces
    monkeypatch.setattr(
        server,
        "pieces",
        lambda *asked, **how: (begin(), "text/plain") if how["accept"] == accept else usual(*asked, **how),
    )


def endless(ended):
    try:
        while True:
            yield b"x" * PIECE
    finally:
        ended.append(True)


async def test_what_fails_at_once_is_an_error_of_ours(session, monkeypatch, caplog):
    pieces_that(monkeypatch, lambda: (1 / 0 for _ in range(2)))
    async with session.get("/metrics", headers={"Accept": ""}) as answer:
        assert answer.status == 500
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_what_fails_later_is_cut_off_and_never_looks_whole(session, monkeypatch, caplog):
    pieces_that(monkeypatch, lambda: (b"x" * PIECE if part else bytes(1 / part) for part in (1, 1, 0)))
    async with session.get("/metrics", headers={"Accept": ""}) as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def five_wait(door):
    """Whether five clients have asked and take no answer."""
    found = [guest.connection for guest in door.connections._guests if guest.connection is not None]
    return sum(one._wire is not None and one._wire.get_write_buffer_size() > 0 for one in found) == 5


async def test_who_takes_nothing_holds_up_nobody(door, session, monkeypatch):
    """There is one thread for all of them: none may have it while its client sleeps."""
    pieces_that(monkeypatch, lambda: endless([]), accept="sleepy")
    writers = []
    for _ in range(5):
        _, writer = await door.knock()
        writer.transport.pause_reading()
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: sleepy\r\n\r\n")
        writers.append(writer)
    while not five_wait(door):  # noqa: ASYNC110 - looked at from outside
        await asyncio.sleep(0)
    _, text = await scraped(session)
    assert len(of_batches(text)) > 10_000
    for writer in writers:
        writer.transport.abort()


async def test_who_leaves_takes_everything_along(door, monkeypatch, caplog):
    ended = []
    pieces_that(monkeypatch, lambda: endless(ended))
    reader, writer = await door.knock()
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept:\r\n\r\n")
    await reader.readexactly(10 * PIECE)
    assert not ended
    writer.transport.abort()
    async with asyncio.timeout(10):
        while not ended:  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.01)
    assert not caplog.records
