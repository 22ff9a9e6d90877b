"""Nothing that was committed is lost, whoever is down; and nobody who is down is hammered."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from benches import GIVE_UP_AFTER, SECRET, TOKEN, am, crashed, hook
from receivers import HANG, RESET, ScriptedReceiver, labels
from receivers import notification as of_one_account
from samples import NOW

from monitor import notify
from monitor.delivery import Delivery
from monitor.delivery.turns import Turns
from monitor.metrics import Instruments
from monitor.model import MessageKind, Notification
from monitor.routing import Pacing, Receiver
from monitor.store import Change, Store

FIRING, RESOLVED, REMINDER = MessageKind.FIRING, MessageKind.RESOLVED, MessageKind.REMINDER


@pytest.fixture
async def bench(benches, server):
    made = await benches()
    made.delivery.set_receivers({"crm": hook(server)})
    return made


def notification(number: int = 1, *, batch_id: str = "b1", **changes) -> Notification:
    """Of a batch that has its account, and so its group of messages, to itself."""
    made = of_one_account(number, batch_id=batch_id, **changes)
    own = replace(made.alert, labels=labels(batch_id=batch_id, account=f"of-{batch_id}"))
    return replace(made, alert=own)


def keys(server: ScriptedReceiver) -> list[str]:
    return [request.headers["Idempotency-Key"] for request in server.requests]


def told(server: ScriptedReceiver) -> list[str]:
    """Of each request to a webhook: which notifications' words it holds."""
    return [
        "+".join(
            alert["annotations"]["summary"].rpartition("message ")[2] for alert in request.json["alerts"]
        )
        for request in server.requests
    ]


def posted(server: ScriptedReceiver) -> list[list[tuple[str, str]]]:
    """Of each post to Alertmanager: the batch and what is said of it."""
    return [
        [(alert["labels"]["batch_id"], alert["annotations"]["summary"]) for alert in request.json]
        for request in server.requests
    ]


# One message, one receiver


async def test_a_message_is_sent_once_and_marked(bench, server, clock):
    await bench.say(notification())
    assert bench.status().pending == 1
    assert await bench.turn() is None
    assert await bench.turn() is None
    assert told(server) == ["1"]
    assert (bench.status().pending, bench.value("notifications")) == (0, 1)
    [row] = bench.recent()
    assert (row.delivered_at, row.attempts, row.last_error) == (NOW, 1, None)
    assert [row.message_id] == keys(server)


async def test_the_wait_doubles_up_to_five_minutes_and_ends_with_the_first_success(
    bench, server, clock, caplog
):
    caplog.set_level(logging.INFO, "monitor")
    server.script = deque([503] * 11)
    await bench.say(notification())
    waits = []
    for _ in range(11):
        wait = await bench.turn()
        assert await bench.turn() == wait  # asking again does not send again
        waits.append(wait.total_seconds())
        clock.move(seconds=wait.total_seconds())
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert bench.status().failing_since == NOW
    assert bench.status().last_error == "crm answered 503"
    assert await bench.turn() is None
    assert len(set(keys(server))) == 1
    assert len({request.body for request in server.requests}) == 1
    assert len({request.headers["X-Ultravox-Monitor-Signature"] for request in server.requests}) == 1
    assert bench.value("notification_failures", reason="server_error") == 11
    assert bench.status().failing_since is bench.status().last_error is None
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", "receiver fails"),
        ("INFO", "receiver works again"),
    ]


@pytest.mark.parametrize(("asked_for", "wait"), [("120", 120), ("7200", 3600), ("0", 1)])
async def test_retry_after_is_honoured_up_to_an_hour(bench, server, asked_for, wait):
    server.script = deque([(429, {"Retry-After": asked_for})])
    await bench.say(notification())
    assert await bench.turn() == timedelta(seconds=wait)
    assert bench.value("notification_failures", reason="throttled") == 1


async def test_jitter_is_full(benches, server, tmp_path, clock):
    drawn = [Delivery(None, clock=clock, instruments=None)._turns.jitter(8) for _ in range(1000)]
    assert 0 <= min(drawn) < 1
    assert 7 < max(drawn) <= 8


async def test_a_receiver_that_is_down_is_not_asked_for_every_message(bench, server):
    server.script = deque([RESET] * 50)
    await bench.say(*(notification(n, batch_id=f"b{n}") for n in range(20)))
    await bench.turn()
    assert len(server.requests) == 1


async def test_a_poisonous_message_holds_up_its_own_alert_and_no_other(bench, server, clock):
    """It makes the receiver answer 500 each time: that looks like a receiver that is down."""

    def answer(request):
        return 500 if request.json["alerts"][0]["labels"]["batch_id"] == "poison" else 200

    server.script = deque([answer] * 100)
    await bench.say(
        notification(1, batch_id="poison"),
        notification(2, kind=REMINDER, batch_id="poison", created_at=NOW + timedelta(minutes=1)),
        *(notification(n, batch_id=f"b{n}") for n in range(3, 8)),
    )
    for _ in range(4):
        wait = await bench.turn()
        clock.move(seconds=wait.total_seconds())
    assert set(told(server)) == {"2", *(str(n) for n in range(3, 8))}
    assert bench.status().pending == 2


async def test_a_refused_message_is_tried_every_five_minutes_and_the_others_at_once(
    bench, server, clock, caplog
):
    def answer(request):
        return 400 if request.json["alerts"][0]["labels"]["batch_id"] == "bad" else 200

    server.script = deque([answer] * 100)
    await bench.say(notification(1, batch_id="bad"), notification(2, batch_id="good"))
    assert await bench.turn() == timedelta(minutes=5)
    assert told(server) == ["1", "2"]
    for _ in range(3):
        clock.move(minutes=5)
        assert await bench.turn() == timedelta(minutes=5)
    assert told(server) == ["1", "2", "1", "1", "1"]
    assert [record.message for record in caplog.records] == ["receiver refuses a message"]  # once
    assert caplog.records[0].error == "crm answered 400"


async def test_what_is_said_of_one_alert_is_never_reordered_not_even_across_episodes(bench, server, clock):
    server.script = deque([400])
    later = NOW + timedelta(minutes=10)
    rows = [
        notification(1),
        notification(2, kind=RESOLVED, created_at=NOW + timedelta(minutes=5)),
        notification(3, starts_at=later, created_at=later),
        notification(4, batch_id="b2", created_at=later),
    ]
    await bench.say(*rows)
    await bench.turn()
    assert told(server) == ["2", "4"]  # the first episode: beginning and end at once
    clock.move(minutes=5)
    await bench.turn()
    assert told(server) == ["2", "4", "2", "3"]


async def test_a_clock_that_is_set_back_does_not_prolong_a_wait(bench, server, clock):
    server.script = deque([503])
    await bench.say(notification())
    await bench.turn()
    clock.move(days=-30)
    assert await bench.turn() is None
    assert told(server) == ["1", "1"]


# Giving up


async def test_after_a_day_a_message_is_dropped_loudly_and_stays_on_record(
    bench, server, clock, caplog, benches
):
    server.script = deque([RESET] * 9)
    await bench.say(notification())
    await bench.turn()
    clock.move(hours=23, minutes=59)
    await bench.turn()
    assert bench.status().pending == 1
    clock.move(minutes=1)
    assert await bench.turn() is None
    assert len(server.requests) == 2
    assert (bench.status().pending, bench.value("notifications_dropped")) == (0, 1)
    loud = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [(r.message, r.receiver, r.notification, r.alert) for r in loud] == [
        ("MESSAGE DROPPED, its receiver has not taken it", "crm", "id-1", "BatchStalled")
    ]
    [dropped] = bench.recent()
    assert dropped.dropped_at == clock()
    assert "connection" in dropped.last_error
    await bench.close()
    again = await benches()
    assert again.contents.notifications == (dropped,)
    assert again.recent() == (dropped,)


async def test_what_is_old_after_a_standstill_of_ours_is_tried_before_it_is_dropped(bench, server, clock):
    await bench.say(notification())
    clock.move(hours=50)
    await bench.turn()
    assert told(server) == ["1"]
    assert bench.value("notifications_dropped") == 0


async def test_who_never_heard_of_an_alert_does_not_hear_of_its_end(bench, server, clock, benches):
    server.script = deque([RESET, RESET])
    await bench.say(notification(1))
    await bench.turn()
    clock.now += GIVE_UP_AFTER
    await bench.turn()
    await bench.close()

    bench = await benches()  # and a restart does not forget it
    bench.delivery.set_receivers({"crm": hook(server)})
    server.requests.clear()
    server.script.clear()
    await bench.say(notification(2, kind=RESOLVED, created_at=clock()), notification(3, batch_id="b3"))
    await bench.turn()
    assert told(server) == ["3"]
    [untold] = [row for row in bench.recent() if row.overtaken_at is not None]
    assert (untold.id, untold.overtaken) == ("id-2", "its beginning was never told")


async def test_who_heard_a_reminder_hears_of_the_end(bench, server, clock):
    server.script = deque([RESET, RESET])
    await bench.say(notification(1))
    await bench.turn()
    clock.now += GIVE_UP_AFTER
    await bench.turn()
    server.script.clear()
    server.requests.clear()
    await bench.say(notification(2, kind=REMINDER, created_at=clock()))
    clock.move(hours=1)
    await bench.turn()
    await bench.say(notification(3, kind=RESOLVED, created_at=clock()))
    await bench.turn()
    assert told(server) == ["2", "3"]


# Crashes


async def test_a_crash_between_commit_and_send_sends_after_the_restart(bench, benches, server):
    await bench.store.commit(Change(notifications=(notification(),)))
    after = await benches(crashed(bench.path))
    after.delivery.set_receivers({"crm": hook(server)})
    await after.turn()
    assert told(server) == ["1"]


async def test_a_crash_between_send_and_mark_sends_the_same_again(bench, benches, server, monkeypatch):
    left = []

    async def dies(change: Change) -> bool:
        left.append(crashed(bench.path))  # nothing is written any more
        return False

    await bench.say(notification())
    monkeypatch.setattr(bench.store, "commit", dies)
    await bench.turn()
    after = await benches(left[0])
    after.delivery.set_receivers({"crm": hook(server)})
    await after.turn()
    first, second = server.requests
    assert first.body == second.body
    assert told(server) == ["1", "1"]
    del first.headers["Host"], second.headers["Host"]
    assert first.headers == second.headers


async def test_a_crash_after_the_mark_sends_nothing_again(bench, benches, server):
    await bench.say(notification())
    await bench.turn()
    after = await benches(crashed(bench.path))
    after.delivery.set_receivers({"crm": hook(server)})
    assert await after.turn() is None
    assert told(server) == ["1"]


async def test_what_waited_long_is_tried_at_once_after_a_restart(bench, benches, server, clock):
    server.script = deque([(503, {"Retry-After": "3600"})])
    await bench.say(notification())
    await bench.turn()
    after = await benches(crashed(bench.path))
    after.delivery.set_receivers({"crm": hook(server)})
    assert await after.turn() is None
    assert told(server) == ["1", "1"]


async def test_a_disk_that_fails_delays_no_message(bench, server, clock):
    def query_only(switch: int):
        run = asyncio.get_running_loop().run_in_executor
        return run(bench.store._thread, bench.store._file._db.execute, f"PRAGMA query_only = {switch}")

    await query_only(1)
    await bench.say(notification())
    await bench.turn()
    assert told(server) == ["1"]
    assert bench.store.writable is False
    await query_only(0)
    await bench.store.prune()
    assert bench.store.writable is True
    await bench.close()


def everything_in(path: Path) -> bytes:
    return b"".join(Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal", "-shm"))


async def test_no_secret_is_in_the_state_file_the_log_or_the_status(bench, server, caplog):
    caplog.set_level(logging.DEBUG)
    server.script = deque([RESET, 400, (302, {"Location": f"http://127.0.0.1/{TOKEN}"}), 500])
    await bench.say(*(notification(n, batch_id=f"b{n}") for n in range(4)))
    for _ in range(8):
        await bench.turn()
        bench.clock.move(minutes=6)
    assert bench.status().pending == 0
    written = everything_in(bench.path)
    assert b"BatchStalled" in written
    ours = [record for record in caplog.records if record.name != "aiohttp.access"]  # that is the receiver
    logged = " ".join(str(vars(record)) for record in ours)
    shown = repr((bench.recent(), bench.delivery.queues(), logged))
    for private in (SECRET, TOKEN, server.url, "quoted here"):
        assert private not in shown
        assert private.encode() not in written


# Alertmanager


@pytest.fixture
async def oncall(benches, server):
    made = await benches()
    made.delivery.set_receivers({"crm": am(server)})
    return made


async def test_what_fires_is_repeated_each_minute_and_what_is_new_is_told_at_once(oncall, server, clock):
    await oncall.say(notification(1))
    assert await oncall.turn() == timedelta(minutes=1)
    clock.move(seconds=20)
    await oncall.say(notification(2, batch_id="b2"))
    assert await oncall.turn() == timedelta(seconds=40)
    clock.move(seconds=40)
    assert await oncall.turn() == timedelta(minutes=1)
    assert posted(server) == [
        [("b1", "message 1")],
        [("b2", "message 2")],
        [("b1", "message 1"), ("b2", "message 2")],
    ]
    assert (oncall.status().pending, oncall.value("notifications")) == (0, 2)


async def test_its_end_is_repeated_for_a_quarter_of_an_hour_and_then_forgotten(oncall, server, clock):
    await oncall.say(notification(1))
    await oncall.turn()
    clock.move(minutes=5)
    await oncall.say(notification(2, kind=RESOLVED, created_at=clock()))
    turns = 0
    while await oncall.turn() is not None:
        clock.move(minutes=1)
        turns += 1
        assert turns < 30
    assert posted(server) == [[("b1", "message 1")], *[[("b1", "message 2")]] * 15]
    assert [row.id for row in oncall.recent()] == ["id-2", "id-1"]  # on record all the same


async def test_a_restart_goes_on_telling(oncall, benches, server, clock):
    await oncall.say(
        notification(1), notification(2, batch_id="b2", one_shot=True), notification(3, batch_id="b3")
    )
    await oncall.turn()
    await oncall.say(notification(4, kind=RESOLVED, batch_id="b3", created_at=clock.move(minutes=1)))
    await oncall.turn()
    clock.move(minutes=8)
    after = await benches(crashed(oncall.path))
    after.delivery.set_receivers({"crm": am(server)})
    server.requests.clear()
    await after.turn()
    assert {alert for post in posted(server) for alert in post} == {
        ("b1", "message 1"),
        ("b2", "message 2"),
        ("b3", "message 4"),
    }
    clock.move(minutes=55)
    server.requests.clear()
    await after.turn()
    assert posted(server) == [[("b1", "message 1")]]  # the hour of the one-shot began before the restart


async def test_what_ended_while_its_receiver_was_not_configured_is_told_ended_when_it_comes_back(
    oncall, benches, server, clock
):
    await oncall.say(notification(1), notification(2, batch_id="b2"))
    await oncall.turn()
    oncall.delivery.set_receivers({})
    clock.move(minutes=1)
    await oncall.say(notification(3, kind=RESOLVED, created_at=clock()))
    after = await benches(crashed(oncall.path))
    for bench in (oncall, after):  # the process that lived on, and one that was started anew
        server.requests.clear()
        bench.delivery.set_receivers({"crm": am(server)})
        await bench.turn()
        assert posted(server) == [[("b1", "message 3"), ("b2", "message 2")]]
        [over, fires] = [alert["endsAt"] for alert in server.requests[0].json]
        assert over <= "2026-11-23T12:01:00Z" < fires


async def test_when_alertmanager_was_away_over_a_whole_alert_it_hears_of_it_and_then_of_its_end(
    oncall, server, clock
):
    server.script = deque([RESET] * 3)
    await oncall.say(notification(1))
    for _ in range(3):
        wait = await oncall.turn()
        clock.move(seconds=wait.total_seconds())
    await oncall.say(notification(2, kind=RESOLVED, created_at=clock()))
    while await oncall.turn() is not None:
        clock.move(minutes=1)
    said = [post[0][1] for post in posted(server)[3:]]
    assert said == ["message 1"] * 10 + ["message 2"] * 15
    assert oncall.status().pending == 0


async def test_an_alertmanager_that_is_down_is_tried_each_minute_at_most_and_hears_all_afterwards(
    oncall, server, clock, caplog
):
    caplog.set_level(logging.INFO, "monitor")
    server.script = deque([503] * 8)
    await oncall.say(notification(1))
    waits = []
    for _ in range(8):
        wait = await oncall.turn()
        waits.append(wait.total_seconds())
        clock.move(seconds=wait.total_seconds())
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert oncall.status().pending == 1
    assert oncall.recent()[0].attempts == 8
    await oncall.turn()
    assert oncall.status().pending == 0
    assert [r.message for r in caplog.records] == ["receiver fails", "receiver works again"]


async def test_a_refused_alert_waits_its_five_minutes_while_the_others_are_repeated(oncall, server, clock):
    def answer(request):
        return 400 if any(a["labels"]["batch_id"] == "bad" for a in request.json) else 200

    server.script = deque([answer] * 100)
    await oncall.say(notification(1), notification(2, batch_id="bad"))
    for _ in range(5):
        await oncall.turn()
        clock.move(minutes=1)
    tries = [post for post in posted(server) if ("bad", "message 2") in post]
    assert tries == [[("b1", "message 1"), ("bad", "message 2")], [("bad", "message 2")]]
    assert oncall.status().pending == 1
    await oncall.turn()
    assert [post for post in posted(server) if ("bad", "message 2") in post][2:] != []


async def test_what_still_fires_is_never_given_up_and_what_is_over_is(oncall, server, clock):
    server.script = deque([RESET] * 100)
    await oncall.say(
        notification(1),
        notification(2, batch_id="b2"),
        notification(3, batch_id="b2", kind=RESOLVED, created_at=clock()),
        notification(4, batch_id="b4", one_shot=True),
    )
    await oncall.turn()
    clock.move(days=3)
    await oncall.turn()
    assert oncall.value("notifications_dropped") == 3
    assert oncall.status().pending == 1
    server.script.clear()
    server.requests.clear()
    clock.move(hours=1)
    await oncall.turn()
    assert posted(server) == [[("b1", "message 1")]]


# Several receivers, and receivers that come and go


async def test_set_receivers_tells_which_of_them_hold_state(benches, server):
    bench = await benches()
    assert bench.delivery.set_receivers({"crm": hook(server), "oncall": am(server)}) == (
        Receiver("crm", holds_state=False),
        Receiver("oncall", holds_state=True),
    )
    assert [queue.receiver for queue in bench.delivery.queues()] == ["crm", "oncall"]
    assert bench.value("notifications", "oncall") == 0


async def test_a_receiver_that_is_mended_gets_what_it_refused_at_once(bench, server, other_server, clock):
    server.script = deque([401])
    await bench.say(notification())
    await bench.turn()
    bench.delivery.set_receivers({"crm": hook(server)})  # nothing has changed: it stays as it is
    await bench.turn()
    assert len(server.requests) == 1
    bench.delivery.set_receivers({"crm": hook(other_server)})
    await bench.turn()
    assert (len(server.requests), told(other_server)) == (1, ["1"])


async def test_what_waits_for_a_removed_receiver_is_reported_kept_and_given_up_after_a_day(
    bench, benches, server, clock, caplog
):
    server.script = deque([RESET])
    await bench.say(notification())
    await bench.turn()
    bench.delivery.set_receivers({})
    assert bench.status().pending == 1
    assert caplog.records[-1].message == "messages wait for a receiver that is not configured"
    assert (caplog.records[-1].receiver, caplog.records[-1].pending) == ("crm", 1)
    assert await bench.turn() == timedelta(hours=1)

    back = await benches(crashed(bench.path))
    back.delivery.set_receivers({"crm": hook(server)})
    await back.turn()
    assert told(server) == ["1", "1"]

    clock.move(hours=24)
    await bench.turn()
    assert bench.delivery.queues() == ()
    assert bench.value("notifications_dropped") == 1


async def test_a_message_for_a_receiver_that_has_just_gone_is_not_lost_on_the_way(bench, server):
    bench.delivery.set_receivers({})
    await bench.say(notification())
    assert bench.status().pending == 1
    bench.delivery.set_receivers({"crm": hook(server)})
    await bench.turn()
    assert told(server) == ["1"]


async def test_what_waits_is_shown_and_the_latest_two_hundred_of_what_was_told_the_newest_first(
    bench, server
):
    rows = [notification(n, batch_id=f"b{n}", created_at=NOW + timedelta(seconds=n)) for n in range(250)]
    await bench.say(*rows)
    bench.clock.move(minutes=10)
    while bench.status().pending:
        await bench.turn()
        bench.clock.move(seconds=1)
    await bench.say(notification(999, created_at=bench.clock()))
    recent = bench.recent()
    assert [row.id for row in recent[:3]] == ["id-999", "id-249", "id-248"]
    assert len(recent) == 1 + 200


# Workers


@pytest.fixture
async def running(tmp_path, clock):
    """A delivery as the daemon runs it, with its workers."""
    store = Store(tmp_path / "monitor.db", clock=clock)
    await store.open()
    instruments = Instruments(endpoints=(), send_failures=notify.FAILURES, now=clock())
    delivery = Delivery(store, clock=clock, instruments=instruments, jitter=lambda _: 0.001)
    delivery.start()
    yield delivery
    await delivery.stop(timedelta(seconds=0.1))
    await store.close()


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in code that knows no event of ours
            await asyncio.sleep(0.001)


async def test_a_hanging_receiver_delays_no_other(running, server, other_server):
    server.script = deque([HANG])
    running.set_receivers({"dead": hook(server), "crm": hook(other_server)})
    running.enqueue([notification(1, receiver="dead"), notification(2, receiver="crm")])
    await until(lambda: other_server.requests)
    running.enqueue([notification(3, receiver="crm", batch_id="b3")])
    await until(lambda: len(other_server.requests) == 2)
    assert {queue.receiver: queue.pending for queue in running.queues()}["dead"] == 1


async def test_workers_wake_for_what_comes_and_try_again_by_themselves(running, server, clock):
    server.script = deque([RESET])
    running.set_receivers({"crm": hook(server)})
    await asyncio.sleep(0)
    running.enqueue([notification()])
    await until(lambda: server.requests and running.queues()[0].failing_since)  # it has looked at the clock
    clock.move(seconds=1)
    await until(lambda: running.queues()[0].pending == 0)
    assert told(server) == ["1", "1"]


async def test_stopping_finishes_what_is_being_sent(running, server):
    sending = asyncio.Event()

    def slowly(request):
        sending.set()
        return HANG

    server.script = deque([slowly])
    running.set_receivers({"crm": hook(server)})
    running.enqueue([notification()])
    await sending.wait()
    stopping = asyncio.create_task(running.stop(timedelta(seconds=10)))
    await asyncio.sleep(0)
    server.released.set()
    async with asyncio.timeout(5):
        await stopping
    assert running.records()[0].notification.delivered_at is not None


async def test_stopping_sends_what_was_committed_just_before(running, server):
    server.script = deque([HANG])
    running.set_receivers({"crm": hook(server)})
    running.enqueue([notification()])
    await until(lambda: server.requests)
    stopping = asyncio.create_task(running.stop(timedelta(seconds=10)))
    await asyncio.sleep(0)
    running.enqueue([notification(2, batch_id="b2")])
    server.released.set()
    await stopping
    assert told(server) == ["1", "2"]


async def test_stopping_sends_what_waits_for_company(running, server):
    running.set_receivers({"crm": hook(server, pacing=Pacing())})
    running.enqueue([notification()])
    await asyncio.sleep(0)
    assert server.requests == []
    async with asyncio.timeout(5):
        await running.stop(timedelta(seconds=10))
    assert told(server) == ["1"]


async def test_stopping_does_not_wait_longer_than_it_may_for_a_receiver_that_hangs(running, server):
    server.script = deque([HANG])
    running.set_receivers({"crm": hook(server)})
    running.enqueue([notification()])
    await until(lambda: server.requests)
    async with asyncio.timeout(5):
        await running.stop(timedelta(seconds=0.05))
    assert running.queues()[0].pending == 1


async def test_an_error_of_our_own_ends_no_worker(running, server, monkeypatch, caplog):
    running.set_receivers({"crm": hook(server)})
    turn, failed = Turns.take, []

    async def stumbles(turns, queue):
        if not failed:
            failed.append(1)
            raise RuntimeError("ours")
        return await turn(turns, queue)

    monkeypatch.setattr(Turns, "take", stumbles)
    running.enqueue([notification()])
    await until(lambda: failed)
    running.enqueue([notification(2, batch_id="b2")])
    await until(lambda: len(server.requests) == 2)
    assert "delivery stumbled" in caplog.text
