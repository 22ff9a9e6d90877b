"""What is true around a batch, through failed probes, restarts and reloads: caps and throttles are not forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from polled import World
from receivers import MovedClock

from monitor.alerts import Policy
from monitor.model import State, Target
from monitor.simulator import Fault, FaultKind
from monitor.targets import Watch

STORY = """
accounts:
  - name: main
    allowed_concurrent_calls: 5
    call_duration: 300m
    throttles:
      - {name: gentle, rules: [{max_calls: 10, window: 40m}]}
      - {name: wide, rules: [{max_calls: 100, window: 10m}]}
    agents:
      - name: renewals
        batches:
          - {name: capped, calls: 100, pace: 60/h, jitter: 0}
"""
THROTTLED = """
accounts:
  - name: main
    throttles:
      - {name: gentle, rules: [{max_calls: 10, window: 40m}]}
      - {name: wide, rules: [{max_calls: 100, window: 10m}]}
    agents:
      - name: renewals
        batches:
          - {name: slow, calls: 100, pace: 12/h, jitter: 0, throttle: gentle, script: [{at: 30m, do: stall}]}
          - {name: fast, calls: 100, pace: 120/h, jitter: 0, throttle: gentle}
"""


async def a_world(tmp_path, story):
    made = World(tmp_path, MovedClock(), story)
    await made.pretend.start()
    return made


@pytest.fixture
async def capped(tmp_path):
    world = await a_world(tmp_path, STORY)
    await world.start(world.keys["capped"], name="capped")
    for _ in range(40):
        await world.poller.probe_account("main")
        await world.poll(1, world.keys["capped"])
    assert assessed(world, "capped").stall_after_seconds == 3600
    yield world
    await world.stop()
    await world.pretend.stop()


@pytest.fixture
async def throttled(tmp_path):
    world = await a_world(tmp_path, THROTTLED)
    yield world
    await world.stop()
    await world.pretend.stop()


def assessed(world, name):
    return world.book.statuses[world.keys[name]].assessment


async def test_a_probe_that_fails_makes_no_stall_of_a_batch_at_the_cap(capped):
    capped.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="accounts_me"))
    for _ in range(4):
        await capped.poller.probe_account("main")
        await capped.poll(1, capped.keys["capped"])
    assert assessed(capped, "capped").state is State.RUNNING
    assert assessed(capped, "capped").stall_after_seconds == 3600
    assert "BatchStalled" not in [name for _, name in capped.told()]


async def test_a_restart_makes_no_stall_of_a_batch_at_the_cap_before_the_probe_answers(capped):
    await capped.stop()
    capped.clock.move(seconds=10)
    await capped.start(capped.keys["capped"], name="capped")
    await capped.poller.poll_batch(capped.keys["capped"])
    assert assessed(capped, "capped").state is State.RUNNING
    assert "BatchStalled" not in [name for _, name in capped.told()]


async def test_a_stall_under_a_throttle_is_told_once_whatever_restarts(throttled):
    key = throttled.keys["slow"]
    await throttled.start(key, name="slow")
    await throttled.poll(60, key)
    assert throttled.told() == [("firing", "BatchStalled")]
    await throttled.stop()
    await throttled.start(key, name="slow")
    await throttled.poll(20, key)
    assert assessed(throttled, "slow").state is State.STALLED
    assert throttled.told() == [("firing", "BatchStalled")]


async def test_rules_that_cannot_be_read_after_a_restart_end_no_stall(throttled):
    key = throttled.keys["slow"]
    await throttled.start(key, name="slow")
    await throttled.poll(60, key)
    await throttled.stop()
    throttled.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="list_throttles"))
    await throttled.start(key, name="slow")
    await throttled.poll(20, key)
    assert throttled.told() == [("firing", "BatchStalled")]


async def test_the_rules_are_asked_for_once_and_waited_for_by_all_that_are_judged_first(throttled):
    await throttled.start(throttled.keys["slow"], throttled.keys["fast"], name=None)
    throttled.clock.move(minutes=1)
    asked, gate = throttled.client.get_throttles, asyncio.Event()

    async def slowly():
        await gate.wait()
        return await asked()

    throttled.client.get_throttles = slowly
    polls = [
        asyncio.create_task(throttled.poller.poll_batch(throttled.keys[name])) for name in ("slow", "fast")
    ]
    await asyncio.sleep(0.05)
    assert assessed(throttled, "slow").state is assessed(throttled, "fast").state is State.UNKNOWN
    gate.set()
    assert all(await asyncio.gather(*polls))
    assert "not known" not in assessed(throttled, "slow").why + assessed(throttled, "fast").why
    asked_for = [seen.endpoint for seen in throttled.pretend.requests]
    assert asked_for.count("list_throttles") == 1


async def test_a_reload_while_the_rules_are_read_loses_none(throttled):
    await throttled.start(throttled.keys["slow"], name="slow")
    throttled.clock.move(minutes=1)
    asked = throttled.client.get_throttles

    async def meanwhile():
        found = await asked()
        await throttled.book.watch_account("main", throttled.client, Policy())
        return found

    throttled.client.get_throttles = meanwhile
    await throttled.poll(1, throttled.keys["slow"])
    assert throttled.book.accounts["main"].throttle("gentle") is not None


def named(world, name, throttle):
    """The batch as it would be seen if it named this throttle."""
    key = world.keys[name]
    status = world.book.statuses[key]
    seen = replace(
        status.progress.last, at=status.progress.last.at + timedelta(seconds=30), throttle=throttle
    )
    return status, seen


async def two_polled(world, minutes):
    await world.start(world.keys["slow"], world.keys["fast"], name=None)
    await world.poll(minutes, world.keys["slow"], world.keys["fast"])
    return world.book.accounts["main"]


async def test_a_throttle_is_one_whether_it_is_named_by_name_or_by_id(throttled):
    account = await two_polled(throttled, 15)
    [throttle_id] = [one.throttle_id for one in account.throttles if one.name == "gentle"]
    by_name = account.around(*named(throttled, "slow", "gentle"), throttled.book.statuses)
    by_id = account.around(*named(throttled, "slow", throttle_id), throttled.book.statuses)
    assert by_name.throttle_spent
    assert by_id.throttle_spent


async def test_a_batch_that_names_another_throttle_or_none_counts_no_longer(throttled):
    account = await two_polled(throttled, 15)
    fast = throttled.book.statuses[throttled.keys["fast"]]
    for throttle in (None, "wide"):
        last = replace(fast.progress.last, throttle=throttle)
        account.note_throttle(replace(fast, progress=replace(fast.progress, last=last)))
        assert throttled.keys["fast"] not in account.throttled["gentle"]


async def test_marks_begin_anew_with_another_throttle(throttled):
    from monitor import evaluate

    await two_polled(throttled, 15)
    status, seen = named(throttled, "slow", "wide")
    after = evaluate.observe(status.progress, seen, evaluate.Rules())
    assert [mark.at for mark in after.marks] == [seen.at]


async def test_a_batch_that_moved_to_another_account_spoils_nobody_s_throttle(throttled):
    account = await two_polled(throttled, 5)
    await throttled.book.watch_account("second", throttled.client, Policy())
    throttled.book.watch(Watch(Target("second", throttled.keys["fast"])))
    assert throttled.keys["fast"] not in account.throttled["gentle"]
    await throttled.book.unwatch([throttled.keys["fast"]])
    assert await throttled.poller.poll_batch(throttled.keys["slow"])
