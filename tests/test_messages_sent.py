"""Messages as receivers get them: few, in order, halved when one is bad, repeated as they were, held by mutes."""

from __future__ import annotations

import sqlite3
from collections import deque
from dataclasses import replace
from datetime import timedelta

import pytest
from benches import TOKEN, am, crashed, hook
from receivers import RESET, notification
from samples import NOW

from monitor.model import AlertName, MessageKind, Mute
from monitor.routing import Pacing, Route, TimeInterval

WAIT = Pacing(group_wait=timedelta(seconds=30), max_messages_per_minute=6000)
MINUTE = timedelta(minutes=1)
REMINDER, RESOLVED = MessageKind.REMINDER, MessageKind.RESOLVED


@pytest.fixture
async def bench(benches, server):
    made = await benches()
    made.delivery.set_receivers({"crm": hook(server, pacing=WAIT)})
    return made


def told(server):
    """Of each request: the batches that it names, `!` for those that are over."""
    return [
        " ".join(
            one["labels"].get("batch_id", one["labels"]["alertname"])
            + ("!" if one["status"] == "resolved" else "")
            for one in request.json["alerts"]
        )
        for request in server.requests
    ]


def batches(first: int, last: int, **changes):
    return tuple(notification(n, batch_id=f"b{n}", **changes) for n in range(first, last + 1))


def over(number: int, batch_id: str, at, **changes):
    return notification(number, kind=RESOLVED, batch_id=batch_id, created_at=at, **changes)


def in_group(row, account):
    labels = tuple(sorted((dict(row.alert.labels) | {"account": account}).items()))
    return replace(row, alert=replace(row.alert, labels=labels))


async def take_turns(bench, lasting):
    """As a worker takes them, for so long."""
    end = bench.clock() + lasting
    while (wait := await bench.turn()) is not None and bench.clock() + wait <= end:
        bench.clock.now += wait
    bench.clock.now = end


# Few


async def test_what_falls_due_within_group_wait_is_one_message_and_not_before(bench, server, clock):
    await bench.say(*batches(1, 2))
    assert await bench.turn() == timedelta(seconds=30)
    clock.move(seconds=29)
    await bench.say(*batches(3, 3, created_at=clock()))
    await bench.turn()
    assert server.requests == []
    clock.move(seconds=1)
    await bench.turn()
    assert told(server) == ["b1 b2 b3"]


async def test_three_hundred_stalls_are_one_message(bench, server, clock):
    await bench.say(*batches(1, 300))
    clock.move(seconds=30)
    await bench.turn()
    assert [len(request.json["alerts"]) for request in server.requests] == [300]
    assert bench.value("notifications") == 1
    assert bench.status().pending == 0


async def test_a_reminder_waits_for_others_and_rides_with_what_is_new(bench, server, clock):
    await bench.say(*batches(1, 2))
    clock.move(seconds=30)
    await bench.turn()
    later = clock.move(hours=4)
    await bench.say(notification(11, kind=REMINDER, batch_id="b1", created_at=later))
    assert await bench.turn() == timedelta(minutes=5)
    clock.move(minutes=4)
    await bench.say(notification(12, kind=REMINDER, batch_id="b2", created_at=clock()))
    clock.move(minutes=1)
    await bench.turn()
    assert told(server)[1:] == ["b1 b2"]
    summaries = [one["annotations"]["summary"] for one in server.requests[-1].json["alerts"]]
    assert summaries == ["message 11", "message 12"]


async def test_a_receiver_is_not_sent_more_than_it_wants_to_take(bench, server, clock):
    slow = Pacing(group_wait=timedelta(0), max_messages_per_minute=6)
    bench.delivery.set_receivers({"crm": hook(server, pacing=slow)})
    rows = [
        replace(row, alert=replace(row.alert, labels=(("account", f"a{n}"), ("alertname", "BatchStalled"))))
        for n, row in enumerate(batches(1, 14))
    ]
    await bench.say(*rows)
    wait = await bench.turn()
    assert len(server.requests) == 10, "a burst"
    for expected in (11, 12, 13, 14):
        assert wait == timedelta(seconds=10)
        clock.move(seconds=10)
        wait = await bench.turn()
        assert len(server.requests) == expected


# As it stands


async def test_a_beginning_and_its_end_that_overtook_an_outage_are_one_message_also_after_a_restart(
    bench,
    benches,
    server,
    clock,
):
    server.script = deque([503] * 4)
    await bench.say(*batches(1, 2))
    clock.move(seconds=30)
    for _ in range(3):
        wait = await bench.turn()
        clock.move(seconds=wait.total_seconds())
    after = await benches(crashed(bench.path))
    after.delivery.set_receivers({"crm": hook(server, pacing=WAIT)})
    await after.turn()
    clock.move(hours=1)
    await after.say(over(3, "b1", clock()))
    server.requests.clear()
    clock.move(minutes=5)
    await after.turn()
    assert told(server) == ["b1! b2"]
    summary = server.requests[0].json["alerts"][0]["annotations"]["summary"]
    assert summary.startswith("was over before it was told (fired 2026-11-23 12:00 UTC, over 2026-11-23 13:0")


async def test_what_may_have_arrived_is_repeated_byte_for_byte_and_what_follows_waits(
    bench,
    benches,
    server,
    clock,
):
    server.script = deque([504, RESET, 504])
    await bench.say(*batches(1, 1))
    clock.move(seconds=30)
    wait = await bench.turn()
    await bench.say(over(2, "b1", clock()), *batches(3, 3, created_at=clock()))
    clock.move(seconds=wait.total_seconds())
    await bench.turn()
    after = await benches(crashed(bench.path))
    after.delivery.set_receivers({"crm": hook(server, pacing=WAIT)})
    clock.move(minutes=1)
    wait = await after.turn()
    clock.move(seconds=wait.total_seconds())
    await after.turn()
    assert told(server) == ["b1"] * 4 + ["b1! b3"]
    first, *others = server.requests[:4]
    assert {request.body for request in others} == {first.body}
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 2


async def test_what_superseded_it_brings_its_end_and_nothing_turns_green(bench, server, clock):
    def named(row, name):
        labels = tuple(sorted((dict(row.alert.labels) | {"alertname": name}).items()))
        return replace(row, alert=replace(row.alert, labels=labels))

    await bench.say(*batches(1, 1))
    clock.move(seconds=30)
    await bench.turn()
    end = replace(over(2, "b1", clock()), superseded_by=AlertName.BATCH_OVERDUE)
    await bench.say(named(notification(3, batch_id="b1", created_at=clock()), "BatchOverdue"), end)
    clock.move(seconds=30)
    await bench.turn()
    [_, second] = server.requests
    assert [(one["labels"]["alertname"], one["status"]) for one in second.json["alerts"]] == [
        ("BatchOverdue", "firing"),
        ("BatchStalled", "resolved"),
    ]
    assert (second.json["status"], second.json["groupLabels"]["alertname"]) == ("firing", "BatchOverdue")


@pytest.mark.parametrize("restart", [False, True])
async def test_odd_characters_and_empty_labels_go_all_the_way(bench, benches, server, clock, restart):
    said = (("account", "m\ud800"), ("alertname", "BatchStalled"), ("batch_id", "b1"), ("team", ""))
    row = notification()
    row = replace(row, alert=replace(row.alert, labels=said, annotations=(("summary", "\udfff"),)))
    server.script = deque([RESET])
    await bench.say(row)
    clock.move(seconds=30)
    await bench.turn()
    if restart:
        bench = await benches(crashed(bench.path))
        bench.delivery.set_receivers({"crm": hook(server, pacing=WAIT)})
    clock.move(minutes=1)
    await bench.turn()
    first, second = server.requests
    assert first.body == second.body
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.json["groupLabels"] == {"account": "m\ud800", "alertname": "BatchStalled"}
    assert first.json["alerts"][0]["annotations"] == {"summary": "\udfff"}
    assert "team" not in first.json["alerts"][0]["labels"]
    assert bench.status().pending == 0


# Which of them is bad


@pytest.mark.parametrize("refusal", [400, 413, 422])
async def test_one_bad_alert_among_three_hundred_is_found_and_the_others_are_told(
    bench, server, clock, refusal
):
    def answer(request):
        return refusal if "b77" in told_in(request) else 200

    def told_in(request):
        return {one["labels"]["batch_id"] for one in request.json["alerts"] if one["status"] == "firing"}

    server.script = deque([answer] * 200)
    await bench.say(*batches(1, 300))
    clock.move(seconds=30)
    while (wait := await bench.turn()) < timedelta(minutes=1):
        clock.move(seconds=1)
    accepted = set().union(*(told_in(request) for request in server.requests if answer(request) == 200))
    assert accepted == {f"b{n}" for n in range(1, 301)} - {"b77"}
    assert bench.status().pending == 1
    assert timedelta(minutes=4) < wait <= timedelta(minutes=5)
    assert len(server.requests) <= 25
    asked = []
    for _ in range(4):
        clock.move(minutes=5)
        assert await bench.turn() == timedelta(minutes=5)
        asked.append(len(server.requests))
    assert asked[0] <= 35, "what fires on might have been what was refused"
    assert told(server)[asked[0] :] == ["b77"] * 3, "alone, every five minutes"


async def test_a_message_that_fails_while_others_are_taken_is_not_the_receiver_s_failure(
    bench, server, clock
):
    def answer(request):
        return 500 if request.json["groupLabels"]["alertname"] == "BatchGone" else 200

    server.script = deque([answer] * 100)
    poison = notification(1, batch_id="b1")
    labels = tuple(sorted((dict(poison.alert.labels) | {"alertname": "BatchGone"}).items()))
    await bench.say(replace(poison, alert=replace(poison.alert, labels=labels)))
    clock.move(seconds=30)
    waits = []
    for number in range(2, 8):
        await bench.say(*batches(number, number, created_at=clock() - MINUTE))
        clock.move(minutes=6)
        waits.append(await bench.turn())
        assert f"b{number}" in told(server)[-1] or f"b{number}" in told(server)[-2]
    assert bench.delivery._queues["crm"].paused_until is None, (
        "it is the message that waits, not the receiver"
    )


async def test_a_message_that_may_have_arrived_keeps_back_its_own_group_and_no_other(bench, server, clock):
    """It makes the receiver hang up each time: that looks like a receiver that is down."""
    server.script = deque([lambda request: RESET if b'"b1"' in request.body else 200] * 100)
    await bench.say(*batches(1, 1))
    clock.move(seconds=30)
    await bench.turn()
    await bench.say(in_group(notification(2, batch_id="b2"), "other"), *batches(3, 3))
    await take_turns(bench, timedelta(minutes=1))
    assert {row.id for row in bench.recent() if row.settled} == {"id-2"}
    await bench.say(in_group(notification(4, batch_id="b4", created_at=clock() - MINUTE), "other"))
    await take_turns(bench, timedelta(minutes=5))  # it may be paused, and then this goes first
    assert {row.id for row in bench.recent() if row.settled} == {"id-2", "id-4"}


async def test_a_receiver_that_fails_again_before_it_has_taken_everything_is_left_alone_again(
    bench, server, clock
):
    """Others were taken since each of these failed: once that is no proof that they are what is bad."""
    server.script = deque([503] * 40 + [200] * 10 + [503] * 1000)
    await bench.say(*(in_group(row, f"a{row.id}") for row in batches(1, 40)))
    clock.move(seconds=30)
    while len(server.requests) < 40:
        clock.now += await bench.turn()
    assert bench.value("notifications") == 0
    await bench.turn()
    assert bench.value("notifications") == 10
    assert len(server.requests) <= 40 + 10 + 4
    await take_turns(bench, timedelta(hours=1))
    assert len(server.requests) <= 54 + 3 * 20 + 20


@pytest.mark.parametrize("status", [401, 403, 404, 405, 410])
async def test_an_address_that_is_wrong_is_asked_every_five_minutes_whatever_there_is_to_say(
    bench,
    server,
    clock,
    status,
):
    server.script = deque([status] * 100)
    await bench.say(*batches(1, 20))
    clock.move(seconds=30)
    assert await bench.turn() == timedelta(minutes=5)
    clock.move(minutes=1)
    await bench.say(*batches(21, 40, created_at=clock() - MINUTE))
    assert await bench.turn() == timedelta(minutes=4)
    assert len(server.requests) == 1


# Giving up


async def test_what_is_given_up_is_told_to_the_other_receivers_once(
    bench,
    server,
    other_server,
    clock,
    caplog,
):
    picky = Route(only=frozenset({AlertName.BATCH_GONE}))
    bench.delivery.set_receivers(
        {
            "crm": hook(server, pacing=WAIT),
            "chat": hook(other_server, pacing=WAIT),
            "gone": hook(other_server, pacing=WAIT, route=picky),
        }
    )
    server.script = deque([503] * 1000)
    await bench.say(*batches(1, 2), notification(3, batch_id="b3", created_at=NOW + MINUTE))
    clock.move(minutes=2)
    await bench.turn()
    clock.now = NOW + timedelta(hours=24)
    await bench.turn()
    assert bench.value("notifications_dropped") == 2
    clock.move(seconds=30)
    await bench.turn("chat")
    [alert] = [one for request in other_server.requests for one in request.json["alerts"]]
    assert (alert["labels"]["alertname"], alert["labels"]["severity"], alert["labels"]["receiver"]) == (
        "NotificationsDropped",
        "critical",
        "crm",
    )
    assert alert["annotations"]["summary"] == "crm was not told of 2 alerts: they were dropped after 1 d"
    assert alert["annotations"]["cause"] == "crm answered 503"
    assert "2 of BatchStalled" in alert["annotations"]["description"]
    assert TOKEN not in str(alert)
    assert not [record for record in bench.delivery.records() if record.notification.receiver == "gone"]


async def test_of_a_dropped_message_about_dropped_ones_nobody_is_told(bench, server, other_server, clock):
    bench.delivery.set_receivers({"crm": hook(server, pacing=WAIT), "chat": hook(other_server, pacing=WAIT)})
    server.script, other_server.script = deque([503] * 1000), deque([503] * 1000)
    await bench.say(*batches(1, 1))
    for _ in range(4):
        for name in ("crm", "chat"):
            clock.move(minutes=1)
            await bench.turn(name)
        clock.move(hours=25)
    for name in ("crm", "chat", "crm"):
        await bench.turn(name)
    assert (bench.value("notifications_dropped"), bench.value("notifications_dropped", "chat")) == (1, 1)
    assert all(queue.pending == 0 for queue in bench.delivery.queues())


async def test_what_may_have_arrived_is_given_up_like_all_else(bench, server, clock):
    server.script = deque([504] * 1000)
    await bench.say(*batches(1, 1))
    clock.move(seconds=30)
    await bench.turn()
    clock.move(hours=24)
    assert await bench.turn() is None
    assert (bench.status().pending, bench.value("notifications_dropped")) == (0, 1)
    left = sqlite3.connect(bench.path)
    assert left.execute("SELECT count(*) FROM messages").fetchone() == (0,)
    left.close()


async def test_what_is_given_up_takes_no_company_along_out_of_a_message_that_may_have_arrived(
    bench, benches, server, clock
):
    server.script = deque([503, RESET])
    await bench.say(*batches(1, 1))
    clock.move(seconds=30)
    await bench.turn()
    await bench.say(*batches(2, 2, created_at=clock.move(hours=12)))
    await bench.turn()
    assert [len(request.json["alerts"]) for request in server.requests] == [1, 2]
    clock.now = NOW + timedelta(hours=24)
    await bench.turn()
    assert told(server)[2:] == ["b2"]
    assert {row.id for row in bench.recent() if row.dropped_at} == {"id-1"}
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 3
    assert (await benches(crashed(bench.path))).contents.messages == ()


async def test_an_end_gives_its_beginning_more_time(bench, server, clock):
    server.script = deque([503] * 2)
    await bench.say(*batches(1, 1))
    clock.move(seconds=30)
    await bench.turn()
    clock.now = NOW + timedelta(hours=23)
    await bench.say(over(2, "b1", clock()))
    await bench.turn()
    clock.now = NOW + timedelta(hours=25)
    await bench.turn()
    assert told(server)[-1] == "b1!"
    assert bench.value("notifications_dropped") == 0


# Mutes


async def test_a_mute_is_not_held_against_a_message(bench, server, clock):
    await bench.delivery.mute(Mute("b1", NOW + timedelta(hours=60)))
    await bench.say(*batches(1, 2))
    clock.move(minutes=1)
    server.script = deque([503])
    await bench.turn()  # it fails for the other one
    clock.move(hours=59)
    await bench.turn()
    assert bench.value("notifications_dropped") == 1, "the other one"
    clock.move(hours=1)
    await bench.turn()
    assert told(server) == ["b2", "b1"]


async def test_what_began_and_ended_in_a_mute_is_not_told_and_an_owed_end_is_told_after_it(
    bench, server, clock
):
    await bench.say(*batches(1, 1))
    clock.move(seconds=30)
    await bench.turn()
    for batch in ("b1", "b2", "b3"):
        await bench.delivery.mute(Mute(batch, NOW + timedelta(hours=2)))
    later = clock.move(hours=1)
    rows = batches(2, 3, created_at=later, starts_at=later)
    await bench.say(over(4, "b1", later), *rows)
    await bench.turn()
    clock.move(minutes=10)
    await bench.say(over(5, "b2", clock(), starts_at=later))
    assert await bench.turn() == NOW + timedelta(hours=2) - clock()
    assert [row.overtaken for row in bench.recent() if row.overtaken] == [
        "it was over before its mute was"
    ] * 2
    assert told(server) == ["b1"]
    clock.now = NOW + timedelta(hours=2)
    await bench.turn()
    assert told(server) == ["b1", "b1! b3"]


async def test_a_mute_that_is_lifted_early_tells_at_once_and_one_survives_a_restart(
    bench, benches, server, clock
):
    await bench.delivery.mute(Mute("b1", NOW + timedelta(hours=2)))
    await bench.say(*batches(1, 1))
    clock.move(minutes=1)
    await bench.turn()
    after = await benches(crashed(bench.path))
    after.delivery.set_receivers({"crm": hook(server, pacing=WAIT)})
    await after.turn()
    assert server.requests == []
    assert after.delivery.mutes() == (Mute("b1", NOW + timedelta(hours=2)),)
    await after.delivery.mute(Mute("b1", clock()))
    await after.turn()
    assert told(server) == ["b1"]
    clock.move(minutes=5)
    await after.say(over(2, "b1", clock()))
    clock.move(seconds=30)
    await after.turn()
    assert told(server) == ["b1", "b1!"], "it was heard of, so its end is told"


async def test_a_receiver_s_mute_interval_holds_everything_until_it_ends(bench, server, clock):
    noon_to_one = Route(mute_time_intervals=(TimeInterval(times=((12 * 60, 13 * 60),)),))
    bench.delivery.set_receivers({"crm": hook(server, pacing=WAIT, route=noon_to_one)})
    await bench.delivery.mute(Mute("b1", NOW + timedelta(minutes=30)))
    await bench.say(*batches(1, 2))
    assert await bench.turn() == timedelta(hours=1)
    clock.move(minutes=59)
    await bench.turn()
    assert server.requests == []
    clock.move(minutes=1)
    await bench.turn()
    assert told(server) == ["b1 b2"]


async def test_alertmanager_goes_on_with_what_it_knows_while_a_batch_is_muted(benches, server, clock):
    bench = await benches()
    bench.delivery.set_receivers({"crm": am(server)})
    await bench.say(*batches(1, 1))
    await bench.turn()
    for batch in ("b1", "b2"):
        await bench.delivery.mute(Mute(batch, NOW + timedelta(minutes=10)))
    clock.move(minutes=1)
    await bench.say(over(3, "b1", clock()), *batches(2, 2, created_at=clock()))

    def states():
        return [
            (one["labels"]["batch_id"], "firing" if one["endsAt"] > clock().isoformat() else "resolved")
            for one in server.requests[-1].json
        ]

    for _ in range(3):
        await bench.turn()
        assert states() == [("b1", "firing")], "it knows b1; of b2 it hears nothing yet"
        clock.move(minutes=1)
    clock.now = NOW + timedelta(minutes=10)
    await bench.turn()
    assert sorted(states()) == [("b1", "resolved"), ("b2", "firing")]


@pytest.mark.parametrize("restart", [False, True])
async def test_alertmanager_is_not_told_of_what_began_and_ended_in_a_mute(benches, server, clock, restart):
    bench = await benches()
    bench.delivery.set_receivers({"crm": am(server)})
    await bench.delivery.mute(Mute("b1", NOW + timedelta(minutes=10)))
    await bench.say(*batches(1, 1))
    await bench.turn()
    await bench.say(over(2, "b1", clock.move(minutes=1)), *batches(3, 3))
    for _ in range(3):
        await bench.turn()
        clock.move(minutes=1)
    if restart:
        bench = await benches(crashed(bench.path))
        bench.delivery.set_receivers({"crm": am(server)})
    for _ in range(20):
        await bench.turn()
        clock.move(minutes=1)
    said = {one["labels"]["batch_id"] for request in server.requests for one in request.json}
    assert said == {"b3"}
    assert bench.status().pending == 0


# The end of the process


async def test_stopping_tells_what_was_waiting_for_company(bench, server, clock):
    await bench.say(*batches(1, 2))
    bench.delivery._turns.stopping = True
    await bench.turn()
    assert told(server) == ["b1 b2"]
