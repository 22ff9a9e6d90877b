"""The limiter: never faster than allowed, fair, and patient after a 429. Loop time is moved, not waited for."""

from __future__ import annotations

import asyncio
import heapq
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from samples import AGENT, NOW

from monitor.ultravox import ApiSettings, Client
from monitor.ultravox.limiter import Limiter


class MovedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self):
        super().__init__()
        self.moved = 0.0

    def time(self):
        return self.moved

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.moved = max(self.moved, heapq.nsmallest(1, self._scheduled)[0].when())
        super()._run_once()


def run(work):
    loop = MovedLoop()
    try:
        return loop.run_until_complete(work(loop))
    finally:
        loop.close()


async def starts_of(limiter, loop, count):
    """When each of so many requests that ask at once may start, in the order of asking."""
    starts = []

    async def request(number):
        await limiter.acquire()
        starts.append((number, loop.time()))

    await asyncio.gather(*(request(number) for number in range(count)))
    return starts


@settings(max_examples=30, deadline=None)
@given(rate=st.integers(1, 200), count=st.integers(1, 300))
def test_no_second_sees_more_than_the_rate_and_one(rate, count):
    async def work(loop):
        return [at for _, at in await starts_of(Limiter(rate), loop, count)]

    starts = run(work)
    for first in starts:
        assert sum(first <= at < first + 1 - 1e-6 for at in starts) <= rate + 1
    assert starts[-1] <= (count - 1) / rate + 1e-6


def test_first_come_first_served():
    async def work(loop):
        return [number for number, _ in await starts_of(Limiter(10), loop, 20)]

    assert run(work) == list(range(20))


def test_a_pause_holds_everyone_back_and_is_told():
    paused = []

    async def work(loop):
        limiter = Limiter(10, on_paused=paused.append)
        limiter.pause(5)
        limiter.pause(2)  # never shorter
        return [at for _, at in await starts_of(limiter, loop, 3)]

    assert run(work) == pytest.approx([5, 5.1, 5.2])
    assert paused == pytest.approx([5])


def test_a_waiter_that_is_cancelled_takes_no_place():
    async def work(loop):
        limiter = Limiter(1)
        await limiter.acquire()
        impatient = asyncio.ensure_future(limiter.acquire())
        await asyncio.sleep(0.5)
        impatient.cancel()
        await limiter.acquire()
        return loop.time()

    assert run(work) == pytest.approx(1)


def test_the_timeout_of_a_request_begins_when_it_may_start(shimmed_aioresponses):
    """Half a minute of waiting after a 429 is no timeout of ten seconds."""
    told = []

    async def work(loop):
        settings = ApiSettings("main", SecretStr("key"), "https://api.example", timedelta(seconds=10))
        client = Client(settings, clock=lambda: NOW, on_throttled=told.append)
        client._limiter.pause(30)
        shimmed_aioresponses.get(
            f"https://api.example/api/agents/{AGENT}", payload={"agentId": AGENT, "name": "renewals"}
        )
        name = await client.get_agent_name(AGENT)
        await client.close()
        return name, loop.time()

    assert run(work) == ("renewals", pytest.approx(30))
    assert told == pytest.approx([30])
