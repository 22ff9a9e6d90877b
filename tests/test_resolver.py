"""Names that resolve, that do not, and name servers that do not answer: these hold up nobody."""

from __future__ import annotations

import asyncio
import socket
import threading
from datetime import timedelta

import pytest
from aiohttp import web
from pretend_api import API_KEY, GOOD, serve
from pydantic import SecretStr
from samples import KEY

from monitor.clock import utc_now
from monitor.model import FailureReason
from monitor.resolver import Resolver
from monitor.ultravox import ApiSettings, Client, UltravoxError


@pytest.fixture
def name_server(monkeypatch):
    """One that does not answer for names that begin with `hangs`, until it is told to."""
    answered, asked, real = threading.Event(), [], socket.getaddrinfo

    def ask(host, *args, **options):
        asked.append(host)
        if str(host).startswith("hangs"):
            answered.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *args, **options)

    ask.asked, ask.answer = asked, answered.set
    monkeypatch.setattr(socket, "getaddrinfo", ask)
    yield ask
    answered.set()


def threads() -> int:
    return sum(thread.name == "resolver" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("host", "family", "expected"),
    [
        ("localhost", socket.AF_INET, {("127.0.0.1", 80, socket.AF_INET)}),
        ("::1", socket.AF_INET6, {("::1", 80, socket.AF_INET6)}),
    ],
)
async def test_a_name_has_addresses(host, family, expected):
    found = await Resolver().resolve(host, 80, family)
    assert {(one["host"], one["port"], one["family"]) for one in found} == expected
    assert {one["hostname"] for one in found} == {host}


async def test_requests_go_by_it():
    async def answer(_):
        return web.json_response(GOOD)

    runner, url = await serve(answer)
    settings = ApiSettings("main", SecretStr(API_KEY), url.replace("127.0.0.1", "localhost"))
    client = Client(settings, clock=utc_now)
    assert (await client.get_batch(KEY)).total == 400
    await client.close()
    await runner.cleanup()


async def failure(host: str, **options) -> UltravoxError:
    client = Client(ApiSettings("main", SecretStr(API_KEY), f"http://{host}", **options), clock=utc_now)
    with pytest.raises(UltravoxError) as caught:
        await client.get_batch(KEY)
    await client.close()
    return caught.value


@pytest.mark.parametrize("text", ["Name or service not known", "Temporary failure in name resolution"])
async def test_a_name_that_does_not_resolve_is_a_failed_poll(monkeypatch, text):
    def ask(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, text)

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    error = await failure("ultravox.example")
    assert error.reason is FailureReason.CONNECTION
    assert str(error) == "account main: get_batch: the host's name cannot be resolved"


async def test_a_name_server_that_does_not_answer_costs_one_thread_and_nobody_waits(name_server):
    soon = {"timeout": timedelta(seconds=0.1)}
    errors = await asyncio.gather(*(failure("hangs.example", **soon) for _ in range(50)))
    assert {error.reason for error in errors} == {FailureReason.TIMEOUT}
    assert name_server.asked == ["hangs.example"]
    assert threads() == 1
    async with asyncio.timeout(5):  # what asyncio does on its own threads goes on
        assert await asyncio.to_thread(lambda: "done") == "done"
    name_server.answer()
    async with asyncio.timeout(5):
        while threads():  # noqa: ASYNC110 - a thread tells nobody when it ends
            await asyncio.sleep(0.01)
    assert (await failure("hangs.example", **soon)).reason is FailureReason.CONNECTION, "asked anew"


async def test_without_a_thread_to_be_had_it_is_an_error_like_others(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="can't start new thread"):
            await Resolver().resolve("localhost")
    assert await Resolver().resolve("localhost"), "and nothing of it is left"
