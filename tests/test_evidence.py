"""What an alert is told with: outcomes before an end, classes of failed calls, caps and throttles; late or never too."""

from __future__ import annotations

import asyncio
import json

import pytest
from polled import World
from receivers import MovedClock

from monitor.model import CallError, Outcomes, State
from monitor.poller import evidence
from monitor.simulator import Fault, FaultKind

STORY = """
accounts:
  - name: main
    allowed_concurrent_calls: 5
    call_duration: 1m
    throttles:
      - {name: gentle, rules: [{max_calls: 10, window: 40m}]}
      - {name: other, rules: [{max_calls: 10, window: 40m}]}
    agents:
      - name: renewals
        batches:
          - name: dead-trunk
            calls: 40
            pace: 60/h
            jitter: 0
            failing: {share: 1.0, error: "SIP 503 Service Unavailable"}
          - {name: good, calls: 20, pace: 60/h, jitter: 0}
          - name: late
            calls: 100
            pace: 60/h
            jitter: 0
            window: {end: 50m}
            script: [{at: 20m, do: fail, share: 0.5, error: "SIP 486 Busy Here"}, {at: 30m, do: pause}, {at: 35m, do: resume}]
          - {name: slow, calls: 100, pace: 120/h, jitter: 0, throttle: gentle, script: [{at: 30m, do: stall}]}
          - {name: unread-throttle, calls: 100, pace: 120/h, jitter: 0, throttle: other, script: [{at: 5m, do: stall}]}
"""


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path, MovedClock(), STORY)
    await made.pretend.start()
    yield made
    await made.stop()
    await made.pretend.stop()


def message(world, alertname):
    [found] = [one for one in world.delivered if dict(one.alert.labels)["alertname"] == alertname]
    return dict(found.alert.labels) | dict(found.alert.annotations)


async def watch(world, name):
    await world.start(world.keys[name], name=name)
    return world.keys[name]


async def test_a_dead_trunk_that_completes_everything_has_ended_incomplete(world):
    key = await watch(world, "dead-trunk")
    await world.poll(45, key)
    assert world.told() == [("firing", "BatchEndedIncomplete")]
    told = message(world, "BatchEndedIncomplete")
    assert told["severity"] == "critical"
    assert told["summary"] == "dead-trunk has ended with 40 calls (100 %) failed: 40 of 40 done"
    assert told["report"].startswith(
        "40 calls in all, 0 succeeded, 40 failed, 0 expired, 0 not made, took 40 min"
    )
    assert told["cause"] == "calls fail, most often: provider (40 of 40 looked at)"
    assert f"batch-monitor uncalled {key.batch_id}" in told["description"]


async def test_a_good_end_says_what_came_of_it(world):
    key = await watch(world, "good")
    await world.poll(25, key)
    assert world.told() == [("firing", "BatchEnded")]
    told = message(world, "BatchEnded")
    assert told["description"] == "It reached people as it should."
    assert told["report"].startswith("20 calls in all, 20 succeeded, 0 failed, ")


async def test_an_end_carries_its_report(world):
    key = await watch(world, "late")
    await world.poll(55, key)
    told = message(world, "BatchEndedIncomplete")
    seen = world.book.statuses[key].final_outcomes
    assert seen.error > 5
    assert told["report"] == (
        f"100 calls in all, {seen.success} succeeded, {seen.error} failed, {seen.expired} expired, "
        f"{seen.expired} not made, took 50 min, mean pace {(100 - seen.expired) * 6 / 5:.0f} calls/h, paused for 4 min, used 100 % of its window"
    )


@pytest.mark.parametrize("kind", [FaultKind.SERVER_ERROR, FaultKind.WRONG_TYPES, FaultKind.NOT_FOUND])
async def test_where_outcomes_cannot_be_read_the_counts_decide_and_the_message_says_so(world, kind):
    key = await watch(world, "dead-trunk")
    world.pretend.add_fault(Fault(kind=kind, endpoint="scheduled_calls"))
    await world.poll(45, key)
    assert world.told() == [("firing", "BatchEnded")]
    told = message(world, "BatchEnded")
    assert "could not be read" in told["description"]
    assert "outcomes unknown" in told["report"]


async def test_outcomes_that_hang_delay_an_end_by_their_patience_and_no_more(world, monkeypatch):
    monkeypatch.setattr(evidence, "OUTCOMES_PATIENCE", 0.05)
    monkeypatch.setattr(evidence, "EVIDENCE_PATIENCE", 0.05)
    key = await watch(world, "late")
    await world.poll(50, key)
    world.pretend.add_fault(Fault(kind=FaultKind.HANG, endpoint="scheduled_calls"))
    async with asyncio.timeout(5):
        await world.poll(3, key)
    assert "BatchEndedIncomplete" in [name for _, name in world.told()]
    assert "outcomes unknown" in message(world, "BatchEndedIncomplete")["report"]
    await world.poller.stop()


async def test_a_poll_that_comes_while_evidence_is_gathered_moves_nothing(world, monkeypatch):
    key = await watch(world, "dead-trunk")
    await world.poll(40, key)
    asked, gate = world.client.get_outcomes, asyncio.Event()

    async def slowly(key, **options):
        await gate.wait()
        return await asked(key, **options)

    monkeypatch.setattr(world.client, "get_outcomes", slowly)
    world.clock.move(minutes=1)
    first = asyncio.create_task(world.poller.poll_batch(key))
    await asyncio.sleep(0.05)
    assert await world.poller.poll_batch(key)
    assert world.told() == []
    gate.set()
    assert await first
    assert world.told() == [("firing", "BatchEndedIncomplete")]


async def test_a_batch_that_is_dropped_while_evidence_is_gathered_says_nothing(world, monkeypatch):
    key = await watch(world, "dead-trunk")
    await world.poll(40, key)

    async def meanwhile(key, **_):
        await world.book.unwatch([key])
        return Outcomes(world.clock(), 0, 0, 40, 0, 0)

    monkeypatch.setattr(world.client, "get_outcomes", meanwhile)
    world.clock.move(minutes=1)
    assert await world.poller.poll_batch(key) is False
    assert world.told() == []
    assert world.book.statuses == {}


async def test_a_failure_rate_is_told_with_the_class_of_the_errors_and_never_with_a_number(world):
    key = await watch(world, "dead-trunk")
    await world.poll(19, key)
    await world.poller.evidence.read_outcomes(key)
    await world.poll(1, key)
    assert world.told() == []  # nineteen calls are no rate
    await world.poller.evidence.read_outcomes(key)
    await world.poll(1, key)
    assert world.told() == [("firing", "BatchFailureRateHigh")]
    told = message(world, "BatchFailureRateHigh")
    assert (
        told["cause"] == "calls fail, most often: provider (21 of 21 looked at)"
    )  # it was asked a minute later
    assert world.book.statuses[key].failed_calls.classes == ((CallError.PROVIDER, 21),)
    await world.poll(30, key)
    assert world.told()[1:] == [("firing", "BatchEndedIncomplete"), ("resolved", "BatchFailureRateHigh")]
    assert world.delivered[-1].superseded_by == "BatchEndedIncomplete"  # no green message of its own
    await world.store.close()
    kept = world.path.read_bytes() + b"".join(
        part.read_bytes() for part in world.path.parent.glob(f"{world.path.name}-*")
    )
    assert b"555" not in kept.replace(json.dumps(str(key.batch_id)).encode(), b"")


async def test_outcomes_survive_a_restart(world):
    key = await watch(world, "good")
    await world.poll(10, key)
    await world.poller.evidence.read_outcomes(key)
    await world.poll(1, key)
    before = world.book.statuses[key].outcomes
    await world.stop()
    await watch(world, "good")
    assert world.book.statuses[key].outcomes == before
    assert before.success + before.pending == 10


async def test_a_batch_that_waits_for_its_throttle_is_not_stalled_until_the_throttle_lets_calls_through(
    world,
):
    key = await watch(world, "slow")
    world.clock.move(seconds=1)
    await world.poller.probe_account("main")
    await world.poll(20, key)
    status = world.book.statuses[key]
    assert (status.assessment.state, status.progress.last.completed) == (State.RUNNING, 10)
    assert status.assessment.why == "its throttle is spent: 10 calls per 40 min: 10 of 100 done"
    assert status.assessment.idle_seconds is None
    await world.poll(24, key)  # to 44 min: its calls have left the window, and it stands still since 30 min
    assert world.book.statuses[key].assessment.idle_seconds is not None
    assert world.told() == []
    await world.poll(15, key)
    assert world.told() == [("firing", "BatchStalled")]


async def test_a_throttle_whose_rules_are_not_known_is_given_a_day(world):
    key = await watch(world, "unread-throttle")
    world.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="list_throttles"))
    await world.poll(23 * 60, key, step=10)
    assert world.told() == []
    assert world.book.statuses[key].assessment.why.startswith(
        "its throttle may be spent: the rules of it are not known"
    )
    await world.poll(90, key)
    assert world.told() == [("firing", "BatchStalled")]


LONG_CALLS = """
accounts:
  - name: main
    call_duration: 10m
    agents: [{name: a, batches: [{name: burst, calls: 30, pace: 10/m, jitter: 0}, {name: tail, calls: 60, pace: 60/h, jitter: 0}]}]
"""


async def test_an_end_that_may_still_turn_out_bad_is_not_told_as_a_good_one(tmp_path):
    world = World(tmp_path, MovedClock(), LONG_CALLS)
    await world.pretend.start()
    key = await watch(world, "burst")
    await world.poll(8, key)  # ended, all thirty still under way
    assert world.book.statuses[key].final_outcomes.pending == 30
    assert world.told() == []
    await world.poll(8, key)
    await world.poller.evidence.read_moved_outcomes("main")
    await world.poll(1, key)
    assert world.told() == [("firing", "BatchEnded")]
    assert message(world, "BatchEnded")["report"].startswith(
        "30 calls in all, 30 succeeded, 0 failed, 0 expired"
    )
    await world.stop()
    await world.pretend.stop()


async def test_an_end_waits_no_longer_than_a_quarter_of_an_hour_for_calls_under_way(tmp_path):
    world = World(tmp_path, MovedClock(), LONG_CALLS.replace("10m", "200m"))
    await world.pretend.start()
    key = await watch(world, "burst")
    await world.poll(17, key)
    assert world.told() == []
    await world.poll(2, key)
    assert world.told() == [("firing", "BatchEnded")]
    assert "30 calls still under way at the end" in message(world, "BatchEnded")["description"]
    await world.stop()
    await world.pretend.stop()


async def test_a_few_calls_under_way_hold_up_no_end_and_are_read_once_more_when_they_are_over(tmp_path):
    world = World(tmp_path, MovedClock(), LONG_CALLS)
    await world.pretend.start()
    key = await watch(world, "tail")
    await world.poll(62, key)
    assert world.told() == [("firing", "BatchEnded")]
    assert world.book.statuses[key].final_outcomes.pending == 9
    await world.poll(12, key)
    await world.poller.evidence.read_moved_outcomes("main")
    assert world.book.statuses[key].final_outcomes.pending == 0
    world.pretend.requests.clear()
    await world.poller.evidence.read_moved_outcomes("main")
    assert not world.pretend.requests  # and no more after that
    await world.stop()
    await world.pretend.stop()
