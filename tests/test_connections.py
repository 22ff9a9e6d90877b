"""Who keeps us waiting, comes too often or sends too much: raw sockets, and limits made short enough to be met."""

from __future__ import annotations

import asyncio
import socket
from threading import Event

import pytest
from doors import client_context, heard, opened, say, write_web

from monitor.web import access, answers, connection, connections, server

SHORT = 0.2
LONG = 30.0


@pytest.fixture
def patience(monkeypatch):
    """Set one of the limits; the others are long."""

    def only(**short):
        for name in ("HEAD_TIMEOUT", "IDLE_TIMEOUT", "ANSWER_TIMEOUT", "GOODBYE_TIMEOUT"):
            monkeypatch.setattr(connection, name, short.get(name, LONG))
        monkeypatch.setattr(connections, "HANDSHAKE_TIMEOUT", short.get("HANDSHAKE_TIMEOUT", LONG))
        monkeypatch.setattr(connections, "GOODBYE_TIMEOUT", short.get("GOODBYE_TIMEOUT", LONG))
        monkeypatch.setattr(access, "BODY_TIMEOUT", short.get("BODY_TIMEOUT", LONG))

    return only


async def cut_off(reader):
    """Wait until we are; returns what was said before."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def nobody_left(door):
    async with asyncio.timeout(10):
        while door.connections._guests:  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.01)


# Who keeps us waiting


async def test_who_says_nothing_is_cut_off(patience):
    patience(HEAD_TIMEOUT=SHORT)
    async with opened() as door:
        reader, writer = await door.knock()
        assert await cut_off(reader) == b""
        writer.close()
        await nobody_left(door)


async def test_who_says_a_head_letter_by_letter_is_cut_off(patience):
    patience(HEAD_TIMEOUT=SHORT)
    async with opened() as door:
        reader, writer = await door.knock()

        async def drip():
            while True:
                writer.write(b"X")
                await asyncio.sleep(SHORT / 20)

        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: ")
        dripping = asyncio.create_task(drip())
        assert await cut_off(reader) == b""
        dripping.cancel()
        writer.close()


async def test_a_second_head_has_no_more_time_than_the_first(patience):
    patience(HEAD_TIMEOUT=SHORT)
    async with opened() as door:
        reader, writer = await door.knock()
        assert (await say(reader, writer, "/-/healthy"))[0] == 200
        writer.write(b"GET /-/hea")
        assert await cut_off(reader) == b""
        writer.close()


async def test_who_asks_nothing_more_is_cut_off_later(patience):
    patience(IDLE_TIMEOUT=SHORT)
    async with opened() as door:
        reader, writer = await door.knock()
        assert (await say(reader, writer, "/-/healthy"))[0] == 200
        assert await cut_off(reader) == b""
        writer.close()


async def test_a_kept_connection_is_not_cut_off_by_the_time_for_a_head(patience):
    patience(HEAD_TIMEOUT=SHORT)
    async with opened() as door:
        reader, writer = await door.knock()
        assert (await say(reader, writer, "/-/healthy"))[0] == 200
        await asyncio.sleep(2 * SHORT)  # what must not happen needs time to happen
        assert (await say(reader, writer, "/-/healthy"))[0] == 200
        writer.close()


async def test_a_handler_that_takes_long_is_not_cut_off(patience):
    patience(HEAD_TIMEOUT=SHORT, IDLE_TIMEOUT=SHORT, ANSWER_TIMEOUT=SHORT, BODY_TIMEOUT=SHORT)
    async with opened() as door:

        async def slow():
            await asyncio.sleep(3 * SHORT)

        door.daemon.reload = slow
        reader, writer = await door.knock()
        assert (await say(reader, writer, "/-/reload", "POST"))[0] == 200
        writer.close()


async def test_a_body_that_does_not_come_is_not_waited_for(patience):
    patience(BODY_TIMEOUT=SHORT, GOODBYE_TIMEOUT=SHORT)
    async with opened() as door:
        reader, writer = await door.knock()
        writer.write(b"POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
        said = await cut_off(reader)
        assert said.startswith(b"HTTP/1.1 408")
        assert door.daemon.reloads == 0
        writer.close()


async def test_a_body_that_nobody_wants_is_not_waited_for(patience):
    patience(GOODBYE_TIMEOUT=SHORT)
    async with opened() as door:
        reader, writer = await door.knock()
        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
        assert (await cut_off(reader)).endswith(b"healthy\n")
        writer.close()


async def test_who_says_nothing_in_a_handshake_is_cut_off(patience, tmp_path):
    patience(HANDSHAKE_TIMEOUT=SHORT)
    async with opened(write_web(tmp_path, tls={})) as door:
        reader, writer = await door.knock()
        writer.write(b"\x16\x03\x01")
        assert await cut_off(reader) == b""
        writer.close()
        await nobody_left(door)


async def test_who_does_not_end_tls_is_cut_off(patience, tmp_path):
    patience(IDLE_TIMEOUT=SHORT, GOODBYE_TIMEOUT=SHORT)
    async with opened(write_web(tmp_path, tls={})) as door:
        reader, writer = await door.knock(tls=client_context())
        await say(reader, writer, "/-/healthy")
        writer.transport.pause_reading()  # so that we see no goodbye, and say none
        await nobody_left(door)
        writer.transport.abort()


async def test_who_does_not_say_goodbye_is_not_waited_for(patience, tmp_path):
    patience(GOODBYE_TIMEOUT=SHORT)
    async with opened(write_web(tmp_path, tls={})) as door:
        _, writer = await door.knock(tls=client_context())
        writer.transport.pause_reading()
        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await nobody_left_who_asks(door)
        writer.transport.abort()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("path", ["/metrics", "/api/v1/batches"])
async def test_who_does_not_take_the_answer_is_cut_off(patience, tmp_path, monkeypatch, secure, path):
    patience(ANSWER_TIMEOUT=SHORT)
    monkeypatch.setattr(server, "pieces", lambda *_, **__: (iter([b"x" * 200_000] * 100), "text/plain"))
    monkeypatch.setattr(answers, "batches", lambda *_: {"data": "x" * 20_000_000})
    async with opened(write_web(tmp_path, tls={}) if secure else None) as door:
        _, writer = await door.knock(tls=client_context() if secure else None)
        writer.transport.pause_reading()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await asyncio.sleep(0)
        await nobody_left_who_asks(door)
        writer.transport.abort()


async def nobody_left_who_asks(door):
    async with asyncio.timeout(10):
        while not door.connections._guests:  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.01)
    await nobody_left(door)


@pytest.mark.parametrize("secure", [False, True])
async def test_who_asks_and_asks_and_takes_no_answer_is_not_buffered_for(patience, tmp_path, secure):
    """A flood of small questions whose answers are never read: what we keep of it must have an end."""
    patience(ANSWER_TIMEOUT=2 * SHORT)
    async with opened(write_web(tmp_path, tls={}) if secure else None) as door:
        _, writer = await door.knock(tls=client_context() if secure else None)
        writer.transport.pause_reading()
        asked, most = 0, 0
        async with asyncio.timeout(20):
            while asked == 0 or door.connections._guests:
                if not writer.transport.is_closing() and writer.transport.get_write_buffer_size() < 65536:
                    writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n" * 500)
                    asked += 500
                most = max([most, *(buffered(guest.connection) for guest in door.connections._guests)])
                await asyncio.sleep(0)
        assert most < 500_000
        writer.transport.abort()


def buffered(one):
    """Bytes that wait to leave, in all layers."""
    if one is None or one._wire is None or one._wire.is_closing():
        return 0
    below = getattr(getattr(one._wire, "_ssl_protocol", None), "_transport", None)
    return one._wire.get_write_buffer_size() + (below.get_write_buffer_size() if below else 0)


# Who sends too much


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"X" * 9000 + b": y\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["line", "field", "fields", "name", "not HTTP", "two lengths", "length and chunks"],
)
async def test_what_is_too_long_or_no_request_is_refused(head, caplog):
    async with opened() as door:
        reader, writer = await door.knock()
        writer.write(head)
        assert (await cut_off(reader)).split()[1] == b"400"
        writer.close()
    assert not caplog.records


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 5000\r\n\r\n" + b"x" * 5000,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n",
    ],
)
async def test_a_body_that_is_too_large_is_refused(sent):
    async with opened() as door:
        reader, writer = await door.knock()
        writer.write(b"POST /-/reload HTTP/1.1\r\nHost: a\r\n" + sent)
        assert (await heard(reader))[0] == 413
        assert door.daemon.reloads == 0
        writer.close()


async def test_a_body_that_is_broken_is_told_to_its_sender_and_not_to_the_log(caplog):
    async with opened() as door:
        reader, writer = await door.knock()
        writer.write(b"POST /-/reload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(0)
        writer.write(b"zz\r\n")
        assert (await cut_off(reader)).split()[1] == b"400"
        assert door.daemon.reloads == 0
        writer.close()
    assert not caplog.records


async def test_who_leaves_while_asking_is_not_told_to_the_log(caplog):
    async with opened() as door:
        for sent in (
            b"POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
            b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /metr",
        ):
            _, writer = await door.knock()
            writer.write(sent)
            await writer.drain()
            writer.transport.abort()
        await nobody_left(door)
    assert not caplog.records


async def test_a_body_is_not_decompressed(monkeypatch):
    """A kilobyte may hold a gigabyte of nothing."""
    import zlib

    async with opened() as door:
        body = zlib.compress(b'{"batch_id": "3c90"' + b" " * 3000 + b"}")
        headers = {"Content-Type": "application/json", "Content-Encoding": "deflate"}
        reader, writer = await door.knock()
        code, _, said = await say(reader, writer, "/api/v1/mutes", "POST", headers, body)
        assert (code, "the body is not JSON" in said) == (400, True)
        writer.close()


# Who comes too often


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 6)
    monkeypatch.setattr(connections, "MOST_OF_ONE", 4)


async def test_who_has_waited_longest_makes_room_and_health_is_reachable(few):
    async with opened() as door:
        flood = [await door.knock(source=f"127.0.0.{2 + number % 3}") for number in range(20)]
        for _ in range(5):
            assert (await door.ask("/-/healthy"))[0] == 200
        assert len(door.connections._guests) <= 6
        assert await cut_off(flood[0][0]) == b""
        for _, writer in flood:
            writer.close()


async def test_whose_body_does_not_come_makes_room_too(few):
    """Half a POST is a request that costs nothing: a flood of them must not keep health checks out."""
    half = "POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
    async with opened() as door:
        flood = [await door.knock(source=f"127.0.0.{2 + number % 3}") for number in range(20)]
        for _, writer in flood:
            writer.write(half.encode())
        async with asyncio.timeout(10):  # until all heads have come that can
            while any(  # noqa: ASYNC110 - looked at from outside
                guest.connection is None or guest.connection._patience for guest in door.connections._guests
            ):
                await asyncio.sleep(0.01)
        for _ in range(5):
            assert (await door.ask("/-/healthy"))[0] == 200
        for _, writer in flood:
            writer.close()


async def test_whatever_goes_wrong_when_one_is_accepted_the_next_is(monkeypatch, caplog):
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [MemoryError(), ValueError("odd")]

    async def failing(listening):
        if failures:
            raise failures.pop()
        return await accept(listening)

    monkeypatch.setattr(connections, "PAUSE", 0.01)
    monkeypatch.setattr(loop, "sock_accept", failing)
    async with opened() as door:
        assert (await door.ask("/-/healthy"))[0] == 200
    assert [record.message for record in caplog.records] == ["no connection can be accepted"]


async def test_one_address_takes_no_room_from_others(few):
    async with opened() as door:
        kept = [await door.knock(source="127.0.0.2") for _ in range(2)]
        flood = [await door.knock(source="127.0.0.3") for _ in range(30)]
        for reader, writer in kept:
            assert (await say(reader, writer, "/-/healthy"))[0] == 200
            writer.close()
        for _, writer in flood:
            writer.close()


async def test_a_request_under_way_is_not_cut_off_for_others(few):
    async with opened() as door:
        go = asyncio.Event()
        door.daemon.reload = go.wait
        asked = []
        for _ in range(4):
            reader, writer = await door.knock()
            asked.append((asyncio.create_task(say(reader, writer, "/-/reload", "POST")), writer))
        async with asyncio.timeout(10):
            while sum(guest.waited_for is None for guest in door.connections._guests) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        reader, writer = await door.knock()
        assert await cut_off(reader) == b""  # of this address there is no room
        writer.close()
        assert (await door.ask("/-/healthy", source="127.0.0.2"))[0] == 200
        go.set()
        for answer, wire in asked:
            assert (await answer)[0] == 200
            wire.close()


async def test_handshakes_that_stand_still_make_room(few, tmp_path):
    async with opened(write_web(tmp_path, tls={})) as door:
        flood = [await door.knock(source=f"127.0.0.{2 + number % 5}") for number in range(20)]
        assert (await door.ask("/-/healthy", tls=client_context()))[0] == 200
        assert len(door.connections._guests) <= 6
        for _, writer in flood:
            writer.close()


async def test_nothing_is_left_of_who_has_gone():
    async with opened() as door:
        for _ in range(20):
            await door.ask("/-/healthy")
        await nobody_left(door)


async def test_it_ends_while_people_are_connected(tmp_path):
    async with opened(write_web(tmp_path, tls={})) as door:
        silent = [await door.knock() for _ in range(3)]
        reader, writer = await door.knock(tls=client_context())
        await say(reader, writer, "/-/healthy")
        async with asyncio.timeout(10):
            await door.serving.cleanup()
        assert not door.connections._guests
        for one, wire in [*silent, (reader, writer)]:
            await cut_off(one)
            wire.close()
        with pytest.raises(OSError, match="Connect call failed"):
            await door.knock()


async def test_an_address_that_is_taken_is_told(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            async with opened(None, port=other.getsockname()[1]):
                pass


async def test_every_address_of_a_host_is_listened_at():
    async with opened(None, host="") as door:
        assert {len(address) for address in door.serving.addresses} >= {2}
        for address in door.serving.addresses:
            loopback = "127.0.0.1" if len(address) == 2 else "::1"
            reader, writer = await asyncio.open_connection(loopback, address[1])
            assert (await say(reader, writer, "/-/healthy"))[0] == 200
            writer.close()


async def test_a_socket_that_cannot_be_accepted_is_told_once_and_tried_again(monkeypatch, caplog):
    loop = asyncio.get_running_loop()
    async with opened() as door:
        real, failures = loop.sock_accept, Event()
        seen = []

        async def failing(listening):
            if not failures.is_set():
                seen.append(1)
                raise OSError(24, "Too many open files")
            return await real(listening)

        async def at_once(seconds, real_sleep=asyncio.sleep):
            await real_sleep(0.001)
            if len(seen) > 3:
                failures.set()

        monkeypatch.setattr(loop, "sock_accept", failing)
        monkeypatch.setattr(connections.asyncio, "sleep", at_once)
        first = await door.ask("/-/healthy")  # the accept that is under way
        assert first[0] == 200
        assert (await door.ask("/-/healthy"))[0] == 200
    told = [record for record in caplog.records if record.message == "no connection can be accepted"]
    assert len(told) == 1
