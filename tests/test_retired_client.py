"""A client that a reload has replaced: what it was asked is answered, however long that takes, and nothing is left open."""

from __future__ import annotations

import asyncio
import gc

import pytest
from aiohttp import web
from pretend_api import API_KEY, GOOD, PretendApi, serve
from pydantic import SecretStr
from samples import KEY

from monitor.clock import utc_now
from monitor.model import FailureReason
from monitor.ultravox import ApiSettings, Client, UltravoxError


@pytest.fixture
async def api():
    made = PretendApi(lambda _: GOOD)
    await made.start()
    yield made
    await made.stop()
    gc.collect()  # an unclosed session is a warning, and a warning fails the test


def connections(client) -> bool:
    return client._transport._session is not None


async def test_its_connections_are_closed_at_once_when_nobody_asks(api):
    client = api.client()
    await client.get_batch(KEY)
    assert connections(client)
    await client.retire()
    assert not connections(client)


async def test_who_waits_for_an_answer_gets_it():
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slow(_):
        asked.set()
        await answered.wait()
        return web.json_response(GOOD)

    runner, url = await serve(slow)
    client = Client(ApiSettings("main", SecretStr(API_KEY), url), clock=utc_now)
    asking = asyncio.create_task(client.get_batch(KEY))
    await asked.wait()
    await client.retire()
    assert connections(client)
    answered.set()
    assert (await asking).total == 400
    assert not connections(client)
    await runner.cleanup()


async def test_who_waits_for_a_turn_or_asks_on_gets_an_answer_all_the_same(api):
    client = api.client()
    limiter = client._transport._limiter
    limiter.pause(0.1)
    waiting = [asyncio.create_task(client.get_batch(KEY)) for _ in range(3)]
    await asyncio.sleep(0)
    await client.retire()
    assert [seen.total for seen in await asyncio.gather(*waiting)] == [400] * 3
    assert (await client.get_batch(KEY)).total == 400  # who read a list has not come to its end
    assert not connections(client)


async def test_who_is_cancelled_or_refused_leaves_nothing_open(api):
    client = api.client()
    client._transport._limiter.pause(60)
    waiting = asyncio.create_task(client.get_batch(KEY))
    await asyncio.sleep(0)
    await client.retire()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert client._transport._asking == 0
    refused = api.client()
    api.answer = lambda _: 500
    await refused.retire()
    with pytest.raises(UltravoxError) as caught:
        await refused.get_batch(KEY)
    assert caught.value.reason is FailureReason.SERVER_ERROR
    assert not connections(refused)
