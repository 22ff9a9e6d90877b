"""Callers for whom there is no file descriptor: turned away, one line in the log, and no storm of tries."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket

import aiohttp
import pytest
from aiohttp import web

from monitor.web.listening import Listening, listen


@pytest.fixture
async def url():
    async def answer(_):
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for sock in await listen("127.0.0.1", 0):
        await web.SockSite(runner, sock).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def asked(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


@pytest.fixture
def no_descriptors(monkeypatch):
    """Every first try to take a caller fails, as it does while none is left but the reserve."""
    real, tries = socket.socket.accept, []

    def accept(sock):
        if not isinstance(sock, Listening) or sock._reserve is None:  # it has been given up: one is free
            return real(sock)
        tries.append(1)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "accept", accept)
        yield tries


async def test_callers_are_turned_away_at_once_and_the_log_says_so_once(url, no_descriptors, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(3):
        with pytest.raises(aiohttp.ClientConnectionError):
            await asked(url)
    assert len(no_descriptors) <= 12, "no storm: a caller is one try, and asyncio's look for the next"
    assert [record.message for record in caplog.records] == [
        "no file descriptor is left, connections are turned away; raise the limit (ulimit -n)"
    ]


async def test_the_log_says_when_they_are_taken_again(url, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    real, left = socket.socket.accept, [1]

    def accept(sock):
        if left and isinstance(sock, Listening) and sock._reserve is not None:
            left.pop()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(sock)

    monkeypatch.setattr(socket.socket, "accept", accept)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2].strip("/")))
    assert await reader.read() == b"", "hung up on"
    writer.close()
    assert await asked(url) == "here"
    assert [record.message for record in caplog.records][1:] == ["connections are taken again"]


async def test_another_error_is_left_to_the_loop(monkeypatch):
    [sock] = await listen("127.0.0.1", 0)

    def fail(_):
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(socket.socket, "accept", fail)
    with pytest.raises(OSError, match="no"):
        sock.accept()
    sock.close()
    sock.close()


async def test_a_reserve_that_cannot_be_had_is_tried_for_each_time(monkeypatch):
    [sock] = await listen("127.0.0.1", 0)
    sock.listen()
    sock.setblocking(False)
    with monkeypatch.context() as patched:

        def fail(*_):
            raise OSError(errno.EMFILE, "none")

        patched.setattr(os, "open", fail)
        patched.setattr(socket.socket, "accept", fail)
        with pytest.raises(OSError, match="none"):
            sock.accept()  # as asyncio does it without us
    assert sock._reserve is None
    with pytest.raises(BlockingIOError):
        sock.accept()  # nobody is there
    assert sock._reserve is not None
    sock.close()


async def test_no_host_is_every_address_of_the_machine():
    socks = await listen(None, 0)
    assert {sock.getsockname()[0] for sock in socks} in ({"0.0.0.0"}, {"0.0.0.0", "::"})
    for sock in socks:
        sock.close()
