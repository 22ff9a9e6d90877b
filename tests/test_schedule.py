"""When things run: spread out, on the grid, never twice at once, whatever the clock does."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from monitor import schedule
from monitor.clock import utc_now
from monitor.schedule import Schedule, SpreadTrigger, Turns, spread

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
INTERVAL = timedelta(seconds=30)


@given(
    key=st.text(),
    interval=st.timedeltas(timedelta(seconds=1), timedelta(days=1)),
    previous=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
    late=st.timedeltas(timedelta(0), timedelta(days=30)),
)
def test_the_next_turn_is_later_than_both_the_last_one_and_now_and_at_most_an_interval_away(
    key, interval, previous, late
):
    previous = previous.replace(tzinfo=UTC)
    now = previous + late
    turn = SpreadTrigger(key, interval).get_next_fire_time(previous, now)
    assert now < turn <= now + interval


def test_turns_lie_on_a_grid_and_do_not_drift():
    trigger = SpreadTrigger("a", INTERVAL)
    first = trigger.get_next_fire_time(None, NOON)
    turn = first
    for _ in range(1000):
        turn = trigger.get_next_fire_time(turn, turn + timedelta(milliseconds=137))
    assert turn == first + 1000 * INTERVAL


def test_a_thousand_batches_are_no_herd():
    tenths = Counter(spread(f"batch:{number}", INTERVAL) // (INTERVAL / 10) for number in range(1000))
    assert len(tenths) == 10
    assert max(tenths.values()) < 150


def test_a_key_keeps_its_place_over_restarts():
    assert spread("batch:a/b", INTERVAL) == timedelta(seconds=21, microseconds=343400)


@pytest.fixture
async def running():
    made = Schedule(clock=utc_now)
    made.start()
    yield made
    await made.stop(timedelta(0))


async def test_a_job_runs_at_once_when_asked_and_has_its_next_turn_on_the_grid(running):
    ran = asyncio.Event()

    async def job():
        ran.set()

    running.every("a", INTERVAL, job, first_after=timedelta(0))
    await asyncio.wait_for(ran.wait(), 5)
    turn = running.next_run("a")
    assert (turn - datetime(1970, 1, 1, tzinfo=UTC)) % INTERVAL == spread("a", INTERVAL)


async def test_a_removed_job_is_due_no_more(running):
    async def job():
        pytest.fail("it was removed")

    running.every("a", INTERVAL, job)
    running.remove("a")
    running.remove("a")
    assert running.next_run("a") is None


async def test_a_clock_that_was_set_back_does_not_stop_polling(running):
    async def job():
        pass

    with time_machine.travel(NOON, tick=True) as clock:
        running.every("a", INTERVAL, job)
        assert running.next_run("a") <= NOON + INTERVAL + timedelta(seconds=1)
        clock.move_to(NOON - timedelta(hours=1))
        running.clock_was_set(timedelta(hours=-1))
        assert running.next_run("a") <= NOON - timedelta(hours=1) + INTERVAL + timedelta(seconds=1)


async def test_the_guard_notices_a_clock_that_was_set(monkeypatch):
    """The wall clock is an argument: here it jumps ahead of the loop's while the guard sleeps."""
    monkeypatch.setattr(schedule, "CLOCK_CHECK", 0.01)
    offset = timedelta(0)
    noticed = asyncio.get_running_loop().create_future()
    made = Schedule(clock=lambda: utc_now() + offset)
    monkeypatch.setattr(made, "clock_was_set", lambda by: noticed.done() or noticed.set_result(by))
    made.start()
    await asyncio.sleep(0.02)
    assert not noticed.done()
    offset = timedelta(days=7)
    by = await asyncio.wait_for(noticed, 5)
    assert abs(by - timedelta(days=7)) < timedelta(seconds=1)
    await made.stop(timedelta(0))


async def test_a_clock_that_was_set_forward_and_back_between_two_looks_is_noticed_by_what_ran_meanwhile(
    monkeypatch,
):
    """Both looks show the same clock; what ran between them is due in a week."""
    monkeypatch.setattr(schedule, "CLOCK_CHECK", 0.01)
    made = Schedule(clock=utc_now)
    made.start()

    async def job():
        pass

    made.every("a", INTERVAL, job)
    for due in made._scheduler.get_jobs():
        due.modify(next_run_time=due.next_run_time + timedelta(days=7))
    async with asyncio.timeout(5):
        while made.next_run("a") > utc_now() + INTERVAL:  # noqa: ASYNC110 - the guard tells nobody
            await asyncio.sleep(0.01)
    await made.stop(timedelta(0))


async def test_it_lives_while_the_canary_sings(running):
    assert running.alive()
    running._canary_at -= schedule.CANARY_DEAD_AFTER
    assert not running.alive()
    await running._canary()
    assert running.alive()


async def test_it_does_not_live_before_it_was_started():
    assert not Schedule(clock=utc_now).alive()


async def test_stopping_waits_for_what_runs(running):
    done, started = [], asyncio.Event()

    async def job():
        started.set()
        await asyncio.sleep(0.05)
        done.append(1)

    running.every("a", INTERVAL, job, first_after=timedelta(0))
    await started.wait()
    await running.stop(timedelta(seconds=5))
    assert done == [1]


class Moved:
    """Turns on a clock that is moved by hand: each tick is one."""

    def __init__(self):
        self.now, self.ran, self.skipped, self.hold = NOON, [], [], None
        self.turns = Turns("batch", self.job, clock=lambda: self.now, on_skipped=self.skipped.append)

    async def job(self, key):
        self.ran.append(key)
        if self.hold is not None:
            await self.hold.wait()

    async def tick(self, **later):
        self.now += timedelta(**later)
        self.turns.tick()
        await asyncio.sleep(0)
        return [self.ran.pop(0) for _ in list(self.ran)]


@pytest.fixture
def moved():
    return Moved()


async def test_a_turn_comes_at_the_key_s_own_place_in_each_interval(moved):
    moved.turns.every("a", INTERVAL)
    first = moved.turns.next_run("a")
    assert first == SpreadTrigger("batch:a", INTERVAL).get_next_fire_time(None, NOON)
    moved.now = first
    assert await moved.tick() == ["a"]
    assert moved.turns.next_run("a") == first + INTERVAL
    assert await moved.tick(seconds=29) == []
    assert await moved.tick(seconds=1) == ["a"]


async def test_all_that_are_due_are_started_at_one_tick(moved):
    for number in range(100):
        moved.turns.every(str(number), INTERVAL)
    assert sorted(await moved.tick(seconds=30), key=int) == [str(number) for number in range(100)]


async def test_of_many_turns_that_were_missed_one_is_made_up_for(moved):
    moved.turns.every("a", INTERVAL)
    assert await moved.tick(hours=5) == ["a"]
    assert moved.now < moved.turns.next_run("a") <= moved.now + INTERVAL
    assert await moved.tick() == []


async def test_a_turn_that_comes_while_the_one_before_is_under_way_is_skipped_and_told(moved):
    moved.hold = asyncio.Event()
    moved.turns.every("slow", INTERVAL)
    moved.turns.every("other", INTERVAL)
    assert sorted(await moved.tick(seconds=30)) == ["other", "slow"]
    assert await moved.tick(seconds=30) == []
    assert sorted(moved.skipped) == ["other", "slow"]
    moved.hold.set()
    await asyncio.gather(*moved.turns.running.values())
    assert sorted(await moved.tick(seconds=30)) == ["other", "slow"]


async def test_what_is_given_other_turns_has_no_more_of_the_old_ones(moved):
    moved.turns.every("a", INTERVAL)
    moved.turns.once("a", NOON + timedelta(hours=1))
    moved.turns.every("b", INTERVAL)
    moved.turns.remove("b")
    moved.turns.remove("b")
    assert await moved.tick(minutes=59) == []
    assert await moved.tick(minutes=1) == ["a"]
    assert moved.turns.next_run("a") is moved.turns.next_run("b") is None
    assert await moved.tick(hours=9) == []


@pytest.mark.parametrize(
    ("when", "at"),
    [
        ({"first_after": timedelta(seconds=3)}, NOON + timedelta(seconds=3)),
        ({"first_not_after": timedelta(0)}, NOON),
        ({"first_not_after": INTERVAL}, SpreadTrigger("batch:a", INTERVAL).get_next_fire_time(None, NOON)),
    ],
)
async def test_the_first_turn_may_be_asked_for(moved, when, at):
    moved.turns.every("a", INTERVAL, **when)
    assert moved.turns.next_run("a") == at


async def test_after_the_clock_was_set_each_has_its_next_turn_by_the_new_one(moved):
    moved.turns.every("a", INTERVAL)
    moved.turns.once("b", NOON + timedelta(minutes=1))
    moved.now = NOON - timedelta(days=7)
    moved.turns.clock_was_set()
    assert await moved.tick(seconds=30) == ["a"]
    assert moved.turns.next_run("b") == NOON + timedelta(minutes=1), (
        "its instant is a date, wherever the clock is"
    )


async def test_a_turn_that_fails_is_told_and_the_next_one_comes(moved, caplog):
    async def job(key):
        raise RuntimeError("no")

    moved.turns._job = job
    moved.turns.every("a", INTERVAL)
    await moved.tick(seconds=30)
    assert "error of the monitor's own" in caplog.text
    assert moved.turns.running == {}
    assert moved.turns.next_run("a") > moved.now


async def test_turns_that_are_moved_for_ever_leave_no_heap_of_old_ones(moved):
    for number in range(5000):
        moved.turns.every("a", INTERVAL, first_after=timedelta(seconds=number))
    assert len(moved.turns._heap) < 1100
    assert await moved.tick(seconds=4998) == []
    assert await moved.tick(seconds=1) == ["a"]


async def test_the_schedule_runs_turns_and_waits_for_them_at_the_end(running):
    started, ended = asyncio.Event(), []

    async def job(key):
        started.set()
        await asyncio.sleep(0.05)
        ended.append(key)

    running.turns("batch", job, on_skipped=ended.append).every("a", INTERVAL, first_after=timedelta(0))
    await asyncio.wait_for(started.wait(), 5)
    await running.stop(timedelta(seconds=5))
    assert ended == ["a"]
