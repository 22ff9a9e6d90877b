"""The outbox of an account that moves to another process: what waits goes with it, what may have arrived stays."""

from __future__ import annotations

import pytest
from benches import hook
from receivers import RESET, notification

from monitor.model import MessageKind


@pytest.fixture
async def bench(benches, server):
    made = await benches()
    made.delivery.set_receivers({"crm": hook(server)})
    return made


async def leaving(bench, benches, server):
    """The next process on the same state file, in which this account is another one's."""
    await bench.close()
    after = await benches(bench.path, leaving=frozenset({"main"}))
    after.delivery.set_receivers({"crm": hook(server)})
    return after


def told(server):
    return [
        (alert["status"], request.path) for request in server.requests for alert in request.json["alerts"]
    ]


def keys(server):
    return [request.headers["Idempotency-Key"] for request in server.requests]


async def test_what_waits_is_not_sent_but_offered_until_it_is_let_go(bench, benches, server):
    server.script.append(503)
    row = notification(1)
    await bench.say(row)
    await bench.turn()
    after = await leaving(bench, benches, server)
    await after.turn()
    assert len(server.requests) == 1
    [offered] = after.delivery.of_account("main")
    assert (offered.id, offered.settled) == (row.id, False)
    assert after.delivery.of_account("other") == ()
    assert [one.id for one in await after.delivery.let_go("main")] == [row.id]
    assert after.delivery.of_account("main") == ()


async def test_what_nobody_has_taken_is_told_after_all(bench, benches, server):
    server.script.append(503)
    await bench.say(notification(1))
    await bench.turn()
    after = await leaving(bench, benches, server)
    after.delivery.keep_on("main")
    await after.turn()
    assert len(server.requests) == 2


async def test_a_beginning_that_may_have_arrived_is_sent_again_and_is_another_ones_to_end(
    bench, benches, server
):
    server.script.append(RESET)
    await bench.say(notification(1))
    await bench.turn()
    after = await leaving(bench, benches, server)
    [offered] = after.delivery.of_account("main")
    assert offered.delivered_at is not None, "its end has to be told by who takes it"
    assert await after.delivery.let_go("main") == ()
    await after.turn()
    assert len(set(keys(server))) == 1
    assert after.delivery._queues["crm"].heard() == {}, "here it does not fire on"
    again = await leaving(after, benches, server)
    assert [row for row in again.contents.notifications if not row.one_shot] == []
    assert again.delivery._queues["crm"].heard() == {}


async def test_an_end_that_may_have_arrived_is_told_here_even_if_it_is_composed_anew(bench, benches, server):
    begun = notification(1)
    await bench.say(begun)
    await bench.turn()
    server.script.extend([RESET, 400, 200])  # perhaps, surely not, taken
    end = notification(2, kind=MessageKind.RESOLVED)
    await bench.say(end)
    await bench.turn()
    after = await leaving(bench, benches, server)
    assert {row.id: row.settled for row in after.delivery.of_account("main")} == {
        begun.id: True,
        end.id: True,
    }
    assert await after.delivery.let_go("main") == ()
    await after.turn()
    after.clock.move(hours=1)
    await after.turn()
    assert [status for status, _ in told(server)] == ["firing", *["resolved"] * 3]
    assert after.delivery._queues["crm"].rows == {}


async def test_taken_over_it_goes_on_as_if_it_had_been_told_here(bench, server, clock):
    begun = notification(1, delivered_at=clock())
    waits = notification(2, batch_id="b2")
    event = notification(4, batch_id="b4", one_shot=True, delivered_at=clock())
    bench.delivery.take_over((begun, event, waits), ())
    assert bench.delivery._queues["crm"].rows.keys() == {begun.id, waits.id}, "of an event nothing follows"
    await bench.turn()
    assert [status for status, _ in told(server)] == ["firing"] * 2, (
        "the new one, and what fires on beside it"
    )
    await bench.say(notification(3, kind=MessageKind.RESOLVED))
    await bench.turn()
    [entry] = [alert for alert in server.requests[-1].json["alerts"] if alert["labels"]["batch_id"] == "b1"]
    assert entry["status"] == "resolved"
