"""One poll after another against the pretend Ultravox on a real socket, into a real state file, on a moved clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from polled import World
from receivers import MovedClock, notification
from samples import NOW

from monitor.decisions import Told
from monitor.model import MessageKind, Phase, State, Target
from monitor.poller.names import NAME_RETRY, AgentNames
from monitor.simulator import Fault, FaultKind
from monitor.targets import Watch


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path, MovedClock())
    await made.pretend.start()
    yield made
    await made.stop()
    await made.pretend.stop()


async def test_a_campaign_from_its_start_to_its_end(world):
    await world.start(world.spring)
    await world.poll(24)
    assert world.book.statuses[world.spring].assessment.state is State.RUNNING
    await world.poll(1)
    status = world.book.statuses[world.spring]
    assert status.assessment.state is State.STALLED
    assert (status.progress.last.completed, status.progress.last.total) == (10, 100)
    assert status.last_success_at == status.last_poll_at == world.clock()
    await world.poll(100)
    assert world.told() == [
        ("firing", "BatchStalled"),
        ("resolved", "BatchStalled"),
        ("firing", "BatchWindowAtRisk"),  # what it lost while it stood still cannot be made up for
        ("firing", "BatchEndedIncomplete"),
        ("resolved", "BatchWindowAtRisk"),  # superseded: not told by itself
    ]
    assert world.book.statuses[world.spring].assessment.state is State.INCOMPLETE
    assert world.count("polls_total") == world.count("poll_duration_seconds_count") == 125


async def test_a_restart_says_nothing_twice_and_forgets_nothing(world):
    await world.start(world.spring)
    await world.poll(30)
    await world.stop()
    world.clock.move(minutes=2)
    await world.start(world.spring)
    await world.poll(5)
    assert world.told() == [("firing", "BatchStalled")]
    await world.poll(10)
    await world.stop()
    await world.start(world.spring)
    await world.poll(120)
    assert world.told() == [
        ("firing", "BatchStalled"),
        ("resolved", "BatchStalled"),
        ("firing", "BatchWindowAtRisk"),
        ("firing", "BatchEndedIncomplete"),
        ("resolved", "BatchWindowAtRisk"),  # superseded: not told by itself
    ]


async def test_an_end_while_we_were_away_is_told_once(world):
    await world.start(world.spring)
    await world.poll(5)
    await world.stop()
    world.clock.move(hours=5)
    for _ in range(2):
        await world.start(world.spring)
        await world.poll(5)
        await world.stop()
    await world.start()
    assert world.told() == [("firing", "BatchEndedIncomplete")]


async def test_ends_before_we_began_to_watch_are_history(world):
    await world.start(world.done)
    await world.poll(5, world.done)
    assert world.book.statuses[world.done].assessment.state is State.ENDED
    assert world.told() == []


async def test_a_state_file_that_was_lost_has_the_last_day_s_ends_told_again(world):
    world.path.write_bytes(b"this is no database" * 100)
    await world.start(world.done)
    await world.poll(5, world.done)
    assert world.told() == [("firing", "BatchEnded")]


async def test_what_is_no_longer_watched_is_closed_and_its_history_kept(world):
    await world.start(world.spring)
    await world.poll(30)
    before = world.book.statuses[world.spring]
    await world.book.unwatch([world.spring])
    assert world.told() == [("firing", "BatchStalled"), ("resolved", "BatchStalled")]
    assert dict(world.delivered[-1].alert.annotations)["resolution"] == "no longer watched"
    assert world.book.statuses == {}
    assert await world.poller.poll_batch(world.spring) is False
    world.book.watch(Watch(Target("main", world.spring, name="again")))
    status = world.book.statuses[world.spring]
    assert (status.batch, status.progress, status.alerts) == ("again", before.progress, ())


async def test_what_left_the_configuration_while_we_were_away_is_closed_once(world):
    await world.start(world.spring)
    await world.poll(30)
    await world.stop()
    for _ in range(2):
        await world.start()
        await world.stop()
    await world.start()
    assert world.told() == [("firing", "BatchStalled"), ("resolved", "BatchStalled")]


async def test_an_ended_batch_that_vanishes_is_dropped(world):
    await world.start(world.done)
    await world.poll(31, world.done)
    assert world.done in world.book.statuses
    world.clock.move(minutes=1)
    assert await world.poller.poll_batch(world.done) is False
    assert world.book.statuses == {}
    assert world.told() == []


async def test_a_batch_that_is_dropped_while_its_answer_is_awaited_comes_to_nothing(world):
    await world.start(world.spring)
    await world.poll(1)
    asked = world.client.get_batch

    async def meanwhile(key, **_):
        await world.book.unwatch([key])
        return await asked(key)

    world.client.get_batch = meanwhile
    assert await world.poller.poll_batch(world.spring) is False
    assert world.book.statuses == {}


async def test_new_settings_are_taken_over_by_a_batch_that_stays(world):
    await world.start(world.spring)
    await world.poll(1)
    world.book.watch(Watch(Target("main", world.spring, name="renamed", labels=(("team", "b"),))))
    status = world.book.statuses[world.spring]
    assert (status.batch, status.target.labels) == ("renamed", (("team", "b"),))
    assert status.progress is not None


async def test_a_disk_that_fails_does_not_stop_the_watch_nor_the_messages(world):
    await world.start(world.spring)
    await world.poll(5)
    await asyncio.get_running_loop().run_in_executor(world.store._thread, world.store._file.close)
    await world.poll(25)
    assert not world.store.writable
    assert world.told() == [("firing", "BatchStalled")]


@pytest.mark.parametrize("cut_off", [False, True])
async def test_what_is_said_first_is_handed_over_first_though_it_waits_longer_for_the_disk(
    world, monkeypatch, cut_off
):
    """An end that came before its beginning would count as one that nobody wants to hear."""
    await world.start(world.spring)
    written = [asyncio.Event(), asyncio.Event()]
    waits = iter(written)

    async def commit(change):
        return await next(waits).wait()

    monkeypatch.setattr(world.book.store, "commit", commit)
    beginning, end = notification(1), notification(2, kind=MessageKind.RESOLVED)
    tasks = [
        asyncio.create_task(world.book.commit(told=(Told(notifications=(one,)),))) for one in (beginning, end)
    ]
    await asyncio.sleep(0)
    written[1].set()
    await tasks[1]
    assert world.delivered == []
    if cut_off:  # it is in the store: the next process takes it up
        tasks[0].cancel()
    written[0].set()
    await asyncio.wait(tasks)
    assert world.delivered == ([end] if cut_off else [beginning, end])


async def test_configured_labels_with_the_names_of_a_log_record_lose_no_message(world):
    await world.start(world.spring)
    labels = tuple((name, "x") for name in ("args", "message", "module", "name", "ts"))
    world.book.watch(Watch(Target("main", world.spring, name="spring", labels=labels)))
    await world.poll(30)
    assert world.told() == [("firing", "BatchStalled")]
    assert dict(world.delivered[0].alert.labels)["module"] == "x"


async def test_an_account_that_is_dropped_while_it_is_asked_leaves_no_series(world):
    await world.start(world.spring)
    asked = world.client.get_batch

    async def meanwhile(key, **_):
        await world.book.unwatch([key])
        await world.book.unwatch_account("main")
        return await asked(key)

    world.client.get_batch = meanwhile
    await world.poller.poll_batch(world.spring)
    assert world.count("polls_total") is None
    assert world.count("poll_duration_seconds_count") is None


async def test_at_the_account_s_cap_a_stall_takes_an_hour(world):
    await world.start(world.spring)
    status = replace(world.book.accounts["main"].status, active_calls=3, allowed_concurrent_calls=3)
    world.book.accounts["main"].status = status
    await world.poll(38)
    assert world.told() == [("firing", "BatchWindowAtRisk")]
    assert dict(world.delivered[0].alert.annotations)["cause"] == (
        "the account is at its cap: 3 of 3 calls active"
    )
    assert world.book.statuses[world.spring].assessment.stall_after_seconds == 3600


async def test_a_failed_poll_is_counted_with_its_reason_and_changes_no_number(world):
    await world.start(world.spring)
    await world.poll(5)
    seen = world.book.statuses[world.spring]
    world.pretend.add_fault(Fault(kind=FaultKind.WRONG_TYPES, endpoint="get_batch"))
    await world.poll(1)
    status = world.book.statuses[world.spring]
    assert world.count("poll_failures_total", reason="bad_response") == 1
    assert (status.progress, status.last_success_at) == (seen.progress, seen.last_success_at)
    assert status.failing.count == 1
    world.pretend.clear_faults()
    await world.poll(1)
    assert world.book.statuses[world.spring].failing is None


async def test_totals_that_shrink_for_a_moment_are_no_progress(world):
    await world.start(world.spring)
    await world.poll(20)
    clock = world.book.statuses[world.spring].progress.clock_started_at
    world.pretend.add_fault(Fault(kind=FaultKind.SHRINK, endpoint="get_batch"))
    await world.poll(1)
    world.pretend.clear_faults()
    await world.poll(1)
    assert world.book.statuses[world.spring].progress.clock_started_at == clock


async def test_the_account_is_probed_and_its_key_rejected(world):
    await world.start(world.spring)
    await world.poller.probe_account("main")
    account = world.book.accounts["main"]
    assert (account.status.up, account.status.active_calls) == (True, 0)
    world.pretend.add_fault(Fault(kind=FaultKind.UNAUTHORIZED))
    for _ in range(3):
        world.clock.move(minutes=1)
        await world.poller.probe_account("main")
    assert world.told() == [("firing", "AccountKeyRejected")]
    await world.stop()
    world.pretend.clear_faults()
    await world.start(world.spring)
    assert world.book.accounts["main"].status.alerts[0].phase is Phase.FIRING
    await world.poller.probe_account("main")
    assert world.told()[1:] == [("resolved", "AccountKeyRejected")]


async def test_an_account_that_is_no_longer_configured_is_closed(world):
    await world.start()
    world.pretend.add_fault(Fault(kind=FaultKind.FORBIDDEN))
    for _ in range(3):
        world.clock.move(minutes=1)
        await world.poller.probe_account("main")
    await world.book.unwatch_account("main")
    assert [one.kind for one in world.delivered] == [MessageKind.FIRING, MessageKind.RESOLVED]
    assert world.book.accounts == {}


async def test_a_wrong_clock_is_noticed_and_batches_are_judged_by_the_api_s(world):
    await world.start(world.spring)
    world.pretend.add_fault(Fault(kind=FaultKind.SKEW, seconds=7200))
    await world.poll(1)
    await world.poller.probe_account("main")
    assert world.book.accounts["main"].status.clock_skew == timedelta(hours=2)
    assert world.book.statuses[world.spring].assessment.state is State.OVERDUE


async def test_a_batch_without_a_name_is_named_by_its_agent_its_start_and_its_id(world):
    await world.start(world.spring, name=None)
    await world.poll(2)
    assert world.book.statuses[world.spring].batch == f"renewals 2026-11-23 12:00 {world.spring.batch_id[:8]}"
    assert [seen.endpoint for seen in world.pretend.requests].count("get_agent") == 1


async def test_after_a_restart_a_batch_is_shown_as_it_was_until_it_is_looked_at(world):
    """A scrape may come first. Without its agent's name it would be another series; without its account's cap, stalled."""
    await world.start(world.spring, name=None)
    account = world.book.accounts["main"]
    account.status = replace(account.status, active_calls=5, allowed_concurrent_calls=5)
    await world.poll(30)
    before = world.book.statuses[world.spring]
    assert (before.agent, before.assessment.state) == ("renewals", State.RUNNING)
    assert before.assessment.idle_seconds == 20 * 60 < before.assessment.stall_after_seconds
    await world.stop()

    await world.start(world.spring, name=None)
    after = world.book.statuses[world.spring]
    assert (after.agent, after.batch, after.assessment) == (before.agent, before.batch, before.assessment)
    world.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="get_agent"))
    await world.poll(1)
    assert world.book.statuses[world.spring].batch == before.batch, "that nobody tells a name is no news"
    world.pretend.clear_faults()
    world.clock.move(seconds=NAME_RETRY.total_seconds())
    await world.poll(1)
    asked = [seen.endpoint for seen in world.pretend.requests].count("get_agent")
    assert asked == 3, "it is asked for all the same: agents are renamed"


async def test_a_name_that_was_remembered_gives_way_to_the_one_that_is_told():
    names = AgentNames()
    names.remember("7f6a0000-1", "renewals")
    assert (names.shown("7f6a0000-1"), names.get("7f6a0000-1")) == ("renewals", None)
    assert names.lacks("7f6a0000-1", NOW)
    names.learn("7f6a0000-1", "renewals 2027", NOW)
    assert names.shown("7f6a0000-1") == names.get("7f6a0000-1") == "renewals 2027"
    names.learn("7f6a0000-1", "", NOW)
    assert names.shown("7f6a0000-1") == "7f6a0000", "what it is called no longer is not remembered either"


async def test_an_agent_whose_name_cannot_be_had_is_asked_for_seldom(world):
    await world.start(world.spring, name=None)
    world.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="get_agent"))
    await world.poll(5)
    assert world.book.statuses[world.spring].agent == world.spring.agent_id[:8]
    assert [seen.endpoint for seen in world.pretend.requests].count("get_agent") == 1
    world.pretend.clear_faults()
    world.clock.move(seconds=NAME_RETRY.total_seconds())
    await world.poll(1)
    assert world.book.statuses[world.spring].agent == "renewals"


async def test_the_name_that_a_list_tells_is_not_asked_for_even_an_empty_one():
    asked = []

    class Client:
        async def get_agent_name(self, agent_id):
            asked.append(agent_id)
            return "renewals"

    names = AgentNames()
    names.learn("a", "", NOW)
    await names.ask("a", Client(), NOW + NAME_RETRY - timedelta(seconds=1))
    assert asked == []
    await names.ask("a", Client(), NOW + NAME_RETRY)
    assert (asked, names.get("a")) == (["a"], "renewals")


async def test_the_history_of_a_dropped_batch_is_forgotten_when_the_store_forgets_it(world):
    """Or every batch there ever was would be kept for as long as the process lives."""
    await world.start(world.spring)
    await world.poll(5)
    known = world.book.statuses[world.spring].progress
    await world.book.unwatch([world.spring])
    world.clock.move(hours=24)
    world.book.prune()
    world.book.watch(Watch(Target("main", world.spring)))
    assert world.book.statuses[world.spring].progress == known, "for a day, it may come back"
    await world.book.unwatch([world.spring])
    world.clock.move(hours=24, seconds=1)
    world.book.prune()
    assert world.book._remembered == {}
    await world.stop()
