"""The limiter: never faster than allowed, the most urgent first, nobody starved, and patient after a 429.

Loop time is moved, not waited for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moved import run
from pydantic import SecretStr
from samples import AGENT, NOW

from monitor.model import Urgency
from monitor.ultravox import ApiSettings, Client
from monitor.ultravox.limiter import HEAD_START, Limiter


async def starts_of(limiter, loop, count):
    """When each of so many requests that ask at once may start, in the order of asking."""
    return [(number, at) for number, _, at in await starts(limiter, loop, [(0, Urgency.POLL)] * count)]


async def starts(limiter, loop, requests):
    """Requests that ask at (seconds, urgency): number, urgency, and when it starts; in the order of starting."""
    started = []

    async def request(number, seconds, urgency):
        await asyncio.sleep(seconds)
        await limiter.acquire(urgency)
        started.append((number, urgency, loop.time()))

    await asyncio.gather(*(request(number, *asked) for number, asked in enumerate(requests)))
    return started


def never_faster(times, rate, count):
    for first in times:
        assert sum(first <= at < first + 1 - 1e-6 for at in times) <= rate + 1
    assert times[-1] <= (count - 1) / rate + 1e-6


@settings(max_examples=30, deadline=None)
@given(rate=st.integers(1, 200), count=st.integers(1, 300))
def test_no_second_sees_more_than_the_rate_and_one(rate, count):
    async def work(loop):
        return [at for _, at in await starts_of(Limiter(rate), loop, count)]

    never_faster(run(work), rate, count)


def test_first_come_first_served():
    async def work(loop):
        return [number for number, _ in await starts_of(Limiter(10), loop, 20)]

    assert run(work) == list(range(20))


ALARM, POLL, LATER = Urgency


def test_among_those_that_wait_the_most_urgent_goes_first():
    async def work(loop):
        asked = [(0, POLL), (0, LATER), (0, POLL), (0, ALARM), (0, LATER), (0, ALARM), (0, POLL)]
        return [(urgency, number) for number, urgency, _ in await starts(Limiter(10), loop, asked)]

    first, *waited = run(work)
    assert first == (POLL, 0)  # it did not wait: there was nobody else yet
    assert waited == [(ALARM, 3), (ALARM, 5), (POLL, 2), (POLL, 6), (LATER, 1), (LATER, 4)]


HEAD_STARTS = [
    (ALARM, POLL, HEAD_START),
    (POLL, LATER, HEAD_START),
    (ALARM, LATER, 2 * HEAD_START),
]


@pytest.mark.parametrize("more", [-0.5, 0, 0.5])
@pytest.mark.parametrize(("urgent", "patient", "head_start"), HEAD_STARTS)
def test_a_step_of_urgency_is_worth_its_head_start_of_waiting(urgent, patient, head_start, more):
    """At exactly as much, the one who came first goes first."""

    async def work(loop):
        limiter = Limiter(1)
        limiter.pause(30)
        asked = [(0, patient), (head_start + more, urgent)]
        return [urgency for _, urgency, _ in await starts(limiter, loop, asked)]

    assert run(work) == ([urgent, patient] if more < 0 else [patient, urgent])


asking = st.lists(st.tuples(st.floats(0, 60), st.sampled_from(Urgency)), min_size=1, max_size=80)


@settings(max_examples=50, deadline=None)
@given(rate=st.integers(1, 20), requests=asking)
def test_whatever_is_asked_nobody_starves_and_all_start_once_and_in_order(rate, requests):
    """Nobody goes after somebody who asked longer after than the head start of their urgencies is worth."""

    async def work(loop):
        return await starts(Limiter(rate), loop, requests)

    started = run(work)
    assert Counter(number for number, _, _ in started) == Counter(range(len(requests)))
    for place, (number, urgency, at) in enumerate(started):
        asked_at, _ = requests[number]
        assert at >= asked_at
        for other, its_urgency, its_start in started[:place]:
            if asked_at < its_start:  # both waited: there was a choice
                assert requests[other][0] <= asked_at + (urgency - its_urgency) * HEAD_START + 1e-6


@settings(max_examples=50, deadline=None)
@given(rate=st.integers(1, 50), requests=asking)
def test_urgent_or_not_no_second_sees_more_than_the_rate_and_one(rate, requests):
    async def work(loop):
        return await starts(Limiter(rate), loop, requests)

    times = [at for _, _, at in run(work)]
    assert times == sorted(times)
    assert all(after - before >= 1 / rate - 1e-6 for before, after in itertools.pairwise(times))


@settings(max_examples=50, deadline=None)
@given(rate=st.integers(1, 50), requests=asking)
def test_no_place_is_left_free_while_somebody_waits(rate, requests):
    async def work(loop):
        return await starts(Limiter(rate), loop, requests)

    free_at, started = 0.0, run(work)
    for place, (_, _, at) in enumerate(started):
        waiting_since = min(requests[number][0] for number, _, _ in started[place:])
        assert at == pytest.approx(max(free_at, waiting_since))
        free_at = at + 1 / rate


def test_a_stream_of_alarms_does_not_keep_the_rest_from_being_asked():
    """More alarms than the rate can carry, for a minute."""

    async def work(loop):
        asked = [(0, LATER), (0, LATER), *((number / 4, ALARM) for number in range(240))]
        return {number: at for number, _, at in await starts(Limiter(2), loop, asked)}

    at = run(work)
    assert at[0] == 0
    assert 2 * HEAD_START <= at[1] <= 4 * HEAD_START + 1


# A pause


def test_a_pause_holds_everyone_back_and_is_told():
    paused = []

    async def work(loop):
        limiter = Limiter(10, on_paused=paused.append)
        limiter.pause(5)
        limiter.pause(2)  # never shorter
        return [at for _, at in await starts_of(limiter, loop, 3)]

    assert run(work) == pytest.approx([5, 5.1, 5.2])
    assert paused == pytest.approx([5])


def test_a_pause_holds_back_the_urgent_too_and_lets_them_go_first():
    async def work(loop):
        limiter = Limiter(10)
        limiter.pause(5)
        return await starts(limiter, loop, [(0, LATER), (0, POLL), (1, ALARM)])

    assert [(urgency, at) for _, urgency, at in run(work)] == [
        (ALARM, pytest.approx(5)),
        (POLL, pytest.approx(5.1)),
        (LATER, pytest.approx(5.2)),
    ]


PAUSES = {
    "nobody asked": ([(0, 5)], [], []),
    "asked after it": ([(0, 5)], [6], []),
    "asked as it ended": ([(0, 5)], [5], []),
    "asked in the middle": ([(0, 5)], [3], [2]),
    "grown while it was waited for": ([(0, 5), (4, 5)], [0], [9]),
    "one after the other": ([(0, 5), (10, 5)], [0, 12], [5, 3]),
    "waiting for the rate already": ([(0.25, 2)], [0, 0], [1.25]),
    "asked before the rate would let it start": ([(0.25, 2)], [0, 0.5], [1.25]),
    "over before the rate lets anyone start": ([(0.25, 0.5)], [0, 0], []),
}


@pytest.mark.parametrize(("pauses", "asked", "told"), PAUSES.values(), ids=PAUSES)
def test_of_a_pause_the_seconds_are_told_in_which_it_alone_let_nobody_start(pauses, asked, told):
    """The rate is one a second."""
    heard = []

    async def work(loop):
        limiter = Limiter(1, on_paused=heard.append)
        for at, seconds in pauses:
            loop.call_at(at, limiter.pause, seconds)
        await asyncio.sleep(0)  # one that begins now has begun
        await starts(limiter, loop, [(at, POLL) for at in asked])

    run(work)
    assert heard == pytest.approx(told)


def test_a_pause_that_begins_while_the_first_waits_for_the_rate_holds_it_too():
    async def work(loop):
        limiter = Limiter(1)
        loop.call_at(0.5, limiter.pause, 10)
        return [at for _, _, at in await starts(limiter, loop, [(0, POLL), (0, POLL), (0, ALARM)])]

    assert run(work) == pytest.approx([0, 10.5, 11.5])


# Waiters that are cancelled


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


@pytest.mark.parametrize("urgency", Urgency)
def test_many_that_are_cancelled_hold_nobody_up(urgency):
    async def work(loop):
        limiter = Limiter(1)
        await limiter.acquire()
        impatient = [asyncio.ensure_future(limiter.acquire(urgency)) for _ in range(100)]
        patient = asyncio.ensure_future(limiter.acquire(LATER))
        await asyncio.sleep(0.5)
        for one in impatient:
            one.cancel()
        await patient
        assert all(one.cancelled() for one in impatient)
        return loop.time(), limiter._waiting

    assert run(work) == (pytest.approx(1), [])


def test_when_all_are_cancelled_in_a_pause_nothing_is_told_of_it():
    heard = []

    async def work(loop):
        limiter = Limiter(1, on_paused=heard.append)
        limiter.pause(5)
        impatient = asyncio.ensure_future(limiter.acquire())
        await asyncio.sleep(1)
        impatient.cancel()
        await asyncio.sleep(10)
        await limiter.acquire()
        return loop.time()

    assert (run(work), heard) == (pytest.approx(11), [])


def test_the_timeout_of_a_request_begins_when_it_may_start(shimmed_aioresponses):
    """Half a minute of waiting after a 429 is no timeout of ten seconds."""
    told = []

    async def work(loop):
        settings = ApiSettings("main", SecretStr("key"), "https://api.example", timedelta(seconds=10))
        client = Client(settings, clock=lambda: NOW, on_throttled=told.append)
        client._transport._limiter.pause(30)
        shimmed_aioresponses.get(
            f"https://api.example/api/agents/{AGENT}", payload={"agentId": AGENT, "name": "renewals"}
        )
        name = await client.get_agent_name(AGENT)
        await client.close()
        return name, loop.time()

    assert run(work) == ("renewals", pytest.approx(30))
    assert told == pytest.approx([30])
