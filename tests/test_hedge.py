"""What is not answered is asked for again, what fails is not, and no outage doubles what is asked. Loop time is moved."""

from __future__ import annotations

import asyncio

import pytest
from moved import run

from monitor.ultravox.hedge import LEAST, MOST, TIMES_USUAL, Hedge

NEVER = None


class Api:
    """Answers each request after so many seconds, in the order in which they are made; a failure is raised then."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked_at = []
        self.given_up = []

    async def ask(self):
        number, loop = len(self.asked_at), asyncio.get_running_loop()
        self.asked_at.append(loop.time())
        seconds, failure = self.answers[number] if number < len(self.answers) else (NEVER, None)
        try:
            await (loop.create_future() if seconds is NEVER else asyncio.sleep(seconds))
        except asyncio.CancelledError:
            self.given_up.append(number)
            raise
        if failure is not None:
            raise failure
        return number


async def first(api, hedge=None):
    return await (hedge or Hedge()).first(api.ask(), api.ask)


def test_what_is_answered_in_time_is_asked_once():
    api = Api((LEAST - 0.01, None))
    assert run(lambda _: first(api)) == 0
    assert api.asked_at == [0.0]
    assert api.given_up == []


def test_what_is_not_answered_is_asked_again_and_the_first_good_answer_counts():
    api = Api((NEVER, None), (0.1, None))

    async def work(loop):
        found = await first(api)
        assert loop.time() == pytest.approx(LEAST + 0.1)
        return found

    assert run(work) == 1
    assert api.asked_at == [0.0, LEAST]
    assert api.given_up == [0]


def test_the_first_may_still_win():
    api = Api((LEAST + 0.1, None), (0.2, None))
    assert run(lambda _: first(api)) == 0
    assert api.given_up == [1]


def test_what_fails_at_once_is_not_asked_again():
    api = Api((0.1, OSError("refused")))
    with pytest.raises(OSError, match="refused"):
        run(lambda _: first(api))
    assert len(api.asked_at) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_a_refusal_is_an_answer_whichever_is_refused(which):
    """Not waited out: the other may stand in a line that a refusal has stopped."""
    answers = [(LEAST + 0.1, OSError("too many")), (NEVER, None)]
    if which:
        answers = [(NEVER, None), (0.1, OSError("too many"))]
    api = Api(*answers)

    async def work(loop):
        with pytest.raises(OSError, match="too many"):
            await first(api)
        assert loop.time() == pytest.approx(LEAST + 0.1)

    run(work)
    assert (len(api.asked_at), api.given_up) == (2, [1 - which])


@pytest.mark.parametrize("which", [0, 1])
def test_of_two_that_come_together_the_good_one_counts(which):
    fails = OSError("refused")
    api = Api((2 * LEAST, fails if which else None), (LEAST, None if which else fails))
    assert run(lambda _: first(api)) == which


def test_no_outage_makes_more_than_so_many_again_at_once():
    apis, hedge = [Api() for _ in range(MOST + 2)], Hedge()

    async def work(_):
        tasks = [asyncio.create_task(first(api, hedge)) for api in apis]
        await asyncio.sleep(100 * LEAST)
        assert sorted(len(api.asked_at) for api in apis) == [1, 1] + MOST * [2]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert sum(len(api.given_up) for api in apis) == 2 * MOST + 2
        later = Api((NEVER, None), (0.0, None))
        assert await first(later, hedge) == 1  # what was given up counts no more

    run(work)


def test_who_could_not_be_asked_twice_is_when_there_is_room():
    apis, hedge = [Api((10 * LEAST, None), (NEVER, None)) for _ in range(MOST)], Hedge()
    waits = Api((NEVER, None), (0.0, None))

    async def work(loop):
        tasks = [asyncio.create_task(first(api, hedge)) for api in apis]
        await asyncio.sleep(0.1)
        assert await first(waits, hedge) == 1
        assert loop.time() >= 10 * LEAST
        await asyncio.wait(tasks)

    run(work)


def test_only_the_first_request_tells_how_long_answers_take():
    """The time of the other has a wait in it, for patience and maybe for its turn."""

    async def work(_):
        hedge = Hedge()
        for _ in range(5):
            assert await first(Api((NEVER, None), (300.0, None)), hedge) == 1
        hangs = Api((NEVER, None), (0.0, None))
        await first(hangs, hedge)
        assert hangs.asked_at[1] - hangs.asked_at[0] == pytest.approx(LEAST)

    run(work)


@pytest.mark.parametrize(("seconds", "asked"), [(0.4 * TIMES_USUAL - 0.1, 1), (0.4 * TIMES_USUAL + 0.1, 2)])
def test_an_api_that_is_slow_as_a_rule_is_not_asked_twice_as_a_rule(seconds, asked):
    async def work(_):
        hedge, usual, slower = Hedge(), [Api((0.4, None)) for _ in range(40)], Api((seconds, None))
        for api in usual:
            await first(api, hedge)
        await first(slower, hedge)
        assert {len(api.asked_at) for api in usual} == {1}
        assert len(slower.asked_at) == asked

    run(work)


def test_an_api_that_becomes_slow_is_learnt():
    async def work(_):
        hedge, asked = Hedge(), []
        for _ in range(40):
            api = Api((2.0, None), (2.0, None))
            await first(api, hedge)
            asked.append(len(api.asked_at))
        assert asked[0] == 2
        assert asked[-10:] == [1] * 10

    run(work)
