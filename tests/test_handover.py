"""An account that moves from one shard to another: with all that is remembered of it, and nothing is told twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import aiohttp
import bcrypt
import pytest
import yaml
from receivers import HANG
from several import EARLY, EVERY_BATCH_ONCE, LATE, MOVERS, NAMES, Several, once

from monitor import config, handover, schedule
from monitor.app import App
from monitor.handover import ShardError, Sharding
from monitor.heartbeat import why_silent
from monitor.model import Mute
from monitor.notify import alertmanager
from monitor.shards import Shard, owner
from monitor.simulator import Fault, FaultKind
from monitor.store import Store


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(handover, "ASK_EVERY", 0.02)
    monkeypatch.setattr(schedule, "CLOCK_CHECK", 3600)  # that the clock is moved is none of its business
    monkeypatch.setattr(schedule, "TICK", timedelta(hours=1))  # nor is polling: tests do it, when it is time


@pytest.fixture
async def several(tmp_path, server):
    made = Several(tmp_path, server)
    await made.pretend.start()
    yield made
    await made.stop()
    await made.pretend.stop()


async def test_three_shards_watch_every_batch_exactly_once(several):
    for ordinal in range(3):
        await several.start(ordinal, 3)
    await several.settled()
    assert several.watched() == EVERY_BATCH_ONCE
    assert all(app.book.accounts for app in several.apps.values())
    await several.poll(40)
    assert several.told() == once(NAMES, EARLY)


async def test_from_two_to_three_nothing_is_told_twice_and_each_end_once(several):
    """As a StatefulSet does it: the new pod first, then the highest of the old ones, then the next."""
    for ordinal in range(2):
        await several.start(ordinal, 2)
    await several.settled()
    await several.poll(40)
    assert several.told() == once(NAMES, EARLY)

    new = await several.start(2, 3)
    assert new.surface.ready(), "else the old ones would never be replaced"
    assert new.handover.arriving == set(MOVERS)
    assert several.watched() == EVERY_BATCH_ONCE, "the old ones go on"
    for ordinal in (1, 0):
        await several.stop(ordinal)
        await several.start(ordinal, 3)
    await several.settled()
    assert several.watched() == EVERY_BATCH_ONCE
    assert set(new.book.accounts) == set(MOVERS)

    await several.poll(80)
    assert several.told() == once(NAMES, EARLY + LATE)


ONE = MOVERS[0]
"""An account that moves from an old shard to the new one."""

OLD = owner(ONE, 2)
STAYS = next(name for name in NAMES if owner(name, 2) == OLD == owner(name, 3))


@pytest.fixture
async def pair(tmp_path, server):
    """Two accounts of one shard, of which one moves when there are three."""
    made = Several(tmp_path, server, [ONE, STAYS])
    await made.pretend.start()
    yield made
    await made.stop()
    await made.pretend.stop()


async def two(pair):
    for ordinal in range(2):
        await pair.start(ordinal, 2)
    await pair.settled()
    await pair.look()


async def three(pair, *, but=()):
    """All of them anew, with the new number."""
    await pair.stop()
    for ordinal in range(3):
        if ordinal not in but:
            await pair.start(ordinal, 3)


async def test_a_shard_without_an_account_runs_is_ready_and_beats(pair, server, caplog):
    caplog.set_level("INFO")
    pair.more["heartbeat"] = {"url": f"{server.url}/beat", "every": "10s"}
    app = await pair.start(1 - OLD, 2)
    await pair.start(OLD, 2)
    await pair.settled()
    assert app.book.accounts == {}
    said = [record.shard for record in caplog.records if record.message == "no account is this shard's"]
    assert said == [f"{1 - OLD}/2"]
    async with aiohttp.ClientSession(app.address) as session:
        for path in ("/-/healthy", "/-/ready", "/", "/metrics"):
            async with session.get(path) as answer:
                assert answer.status == 200
    pair.clock.move(hours=1)
    assert why_silent(app._vitals(), pair.clock()) is None, "what is not to be asked is not missed"


async def test_what_waits_for_a_receiver_that_is_down_moves_too_and_is_told_once(pair, server):
    await two(pair)
    await pair.poll(20)
    assert pair.told() == once([ONE, STAYS], EARLY[:1])
    server.script.extend([503] * 99)
    pair.clock.move(minutes=10)
    for app in pair.apps.values():
        for key in list(app.book.watches):
            await app.poller.poll_batch(key)
    await pair.until(lambda: len(server.script) < 99)
    await three(pair)
    await pair.settled()
    assert [queue.pending for app in pair.apps.values() for queue in app.delivery.queues()].count(1) == 2
    assert [queue.pending for queue in pair.apps[2].delivery.queues()] == [1]
    # Who is still being refused would wait by a clock that stands still.
    await pair.until(
        lambda: all(
            queue.failing_since
            for app in pair.apps.values()
            for queue in app.delivery.queues()
            if queue.pending
        )
    )
    server.script.clear()
    server.requests.clear()  # what was refused was not told
    pair.clock.move(hours=3)
    for app in pair.apps.values():
        app.delivery._queues["crm"].woken.set()
    await pair.sent()
    assert pair.told() == once([ONE, STAYS], EARLY[1:])


async def test_what_may_have_arrived_stays_where_it_was_sent_and_its_end_is_told_by_the_new_one(
    pair, server, monkeypatch
):
    await two(pair)
    await pair.poll(20)
    old, sent = pair.apps[OLD], len(server.requests)
    server.script.extend([HANG] * 9)
    pair.clock.move(minutes=10)
    for key in list(old.book.watches):
        await old.poller.poll_batch(key)
    await pair.until(lambda: len(server.requests) > sent)  # it is read, and not answered
    monkeypatch.setattr("monitor.app.SEND_PATIENCE", timedelta(0))
    await three(pair)  # as if it were killed: it does not know what has become of it
    await pair.settled()
    assert ONE not in pair.apps[OLD].book.accounts
    server.script.clear()
    server.released.set()
    for app in pair.apps.values():
        app.delivery._queues["crm"].woken.set()
    await pair.sent()
    keys = {
        request.headers["Idempotency-Key"]
        for request in server.requests
        for alert in request.json["alerts"]
        if (alert["labels"]["account"], alert["labels"]["batch"]) == (ONE, "stalls")
    }
    assert len(keys) == 1, "the same message, as often as it takes"
    await pair.poll(40)
    assert pair.told()[ONE, "stalls", "BatchStalled", "resolved"] == 1
    await pair.stop(OLD)
    store = Store(pair.folder / str(OLD) / "monitor.db", clock=pair.clock)
    left = await store.open()
    await store.close()
    assert {record.account for record in left.batches} == {record.name for record in left.accounts} == {STAYS}
    of_one = [row for row in left.notifications if dict(row.alert.labels)["account"] == ONE]
    assert [row.one_shot for row in of_one if not row.one_shot] == [], (
        "nothing that would be held to fire for ever"
    )


async def test_an_alertmanager_is_told_all_the_time_that_it_fires_and_once_that_it_is_over(pair, server):
    pair.more["receivers"] = [{"name": "am", "alertmanager": {"urls": [server.url]}}]
    await two(pair)
    await pair.poll(40)

    def posted(since=0):
        return [
            (alert["startsAt"], alert["endsAt"] <= alertmanager.rfc3339(pair.clock()))
            for request in server.requests[since:]
            for alert in request.json
            if (alert["labels"]["account"], alert["labels"]["alertname"]) == (ONE, "BatchStalled")
        ]

    async def minute():
        before = len(server.requests)
        pair.clock.move(minutes=1)
        for app in pair.apps.values():
            if queue := app.delivery._queues.get("am"):
                queue.woken.set()
        await pair.until(lambda: posted(before))
        await asyncio.sleep(0.05)  # in which nothing else is to come
        return posted(before)

    [(since, over)] = await minute()
    assert not over
    await pair.start(2, 3)
    assert await minute() == [(since, False)], "the old one goes on while it is awaited"
    await pair.stop(0, 1)
    for ordinal in range(2):
        await pair.start(ordinal, 3)
    await pair.settled()
    assert await minute() == [(since, False)], "one of them, and it is the same alert"
    before = len(server.requests)
    await pair.poll(20)
    assert {at for at, over in posted(before) if over} == {since}
    assert [over for _, over in await minute()] == [True], "repeated, as Prometheus does, by the new one"


async def test_batches_that_were_found_move_as_those_that_are_configured(pair):
    pair.finds = True
    await two(pair)
    await pair.poll(40)

    def told():
        return sorted(
            (account, alert, status, times) for (account, _, alert, status), times in pair.told().items()
        )

    early = sorted((name, alert, status, 1) for name in (ONE, STAYS) for _, alert, status in EARLY)
    assert told() == early
    await three(pair)
    await pair.settled()
    found = [key for key, watch in pair.apps[2].book.watches.items() if watch.target.account == ONE]
    assert len(found) == 3, "those that are remembered, before any list was read"
    await pair.poll(80)
    late = sorted((name, alert, status, 1) for name in (ONE, STAYS) for _, alert, status in LATE)
    assert told() == sorted(early + late)


async def test_without_a_configuration_one_shard_has_the_account(pair, tmp_path):
    environ = {"ULTRAVOX_API_KEY": pair.environ["KEY_0"], "ULTRAVOX_BASE_URL": pair.pretend.base_url}
    apps = []
    for ordinal in range(2):
        settings = config.load_default(environ, listen_address="127.0.0.1:0")
        settings = replace(settings, storage_path=tmp_path / f"{ordinal}.db")
        app = App(settings, load=None, clock=pair.clock, sharding=Sharding(Shard(ordinal, 2)))
        await app.start()
        apps.append(app)
    try:
        assert [set(app.book.accounts) for app in apps] == [set(), {"default"}]
    finally:
        for app in apps:
            await app.shut_down()


async def test_a_mute_moves_too(pair):
    await two(pair)
    key = next(key for key, watch in pair.apps[OLD].book.watches.items() if watch.target.account == ONE)
    mute = Mute(key.batch_id, pair.clock() + timedelta(hours=5))
    await pair.apps[OLD].delivery.mute(mute)
    await three(pair)
    await pair.settled()
    assert pair.apps[2].delivery.mutes() == (mute,)
    await pair.stop(2)
    assert (await pair.start(2, 3)).delivery.mutes() == (mute,), "it was committed"


@pytest.mark.parametrize("count", [2, 1])
async def test_those_that_go_hand_over_before_they_go(pair, count):
    """First all are told the new number, then the last are taken away."""
    for ordinal in range(3):
        await pair.start(ordinal, 3)
    await pair.settled()
    await pair.poll(40)
    assert set(pair.apps[2].book.accounts) == {ONE}
    for ordinal in (2, 1, 0):
        await pair.stop(ordinal)
        await pair.start(ordinal, count)
    await pair.settled()
    assert set(pair.apps[owner(ONE, count)].book.accounts) == {ONE, STAYS}
    assert pair.apps[2].book.accounts == {}
    assert pair.apps[2].surface.ready()
    for gone in range(count, 3):
        await pair.stop(gone)
        app = await pair.start(gone, count)  # once more, before it is taken away
        assert not app.handover.moving
        assert app.surface.ready()
        async with aiohttp.ClientSession(app.address) as session, session.get("/metrics") as answer:
            assert "ultravox_monitor_shards{" not in await answer.text(), "it is none of them"
    await pair.poll(80)
    assert pair.told() == once([ONE, STAYS], EARLY + LATE)


async def test_an_ordinal_too_high_is_refused_where_nothing_can_be_handed_over(pair, caplog):
    with pytest.raises(ShardError, match=r"^--shard 3/3: ordinals begin at 0, of 3 shards the last is 2$"):
        await pair.start(3, 3, peers=False)
    with pytest.raises(ShardError, match="of 1 shard the last is 0"):
        await pair.start(1, 1, peers=False)
    await pair.start(3, 3)
    assert "this shard is about to go, it watches nothing: of 3 shards the last is 2" in caplog.text


async def test_killed_between_taking_it_and_watching_it_the_new_one_goes_on_with_what_it_took(
    pair, monkeypatch
):
    await two(pair)
    await pair.poll(40)
    with monkeypatch.context() as patched:
        patched.setattr(handover.Handover, "_let_go", never)
        await three(pair)
        await pair.until(lambda: ONE in pair.apps[2].handover._taken)
        assert ONE not in pair.apps[2].book.accounts, "it waits until the old one has let go"
        await pair.stop(2)
    await pair.start(2, 3)
    await pair.settled()
    assert ONE in pair.apps[2].book.accounts
    await pair.poll(80)
    assert pair.told() == once([ONE, STAYS], EARLY + LATE)


async def never(*_):
    """Do nothing."""


async def test_killed_before_it_let_go_the_old_one_offers_it_again_and_lets_go_then(pair, monkeypatch):
    await two(pair)
    await pair.poll(40)
    with monkeypatch.context() as patched:
        patched.setattr(handover.Handover, "_let_go", never)
        await three(pair)
        await pair.until(lambda: ONE in pair.apps[2].handover._taken)
        await pair.stop(OLD)
    await pair.start(OLD, 3)
    await pair.settled()
    assert pair.apps[OLD].book.remembered_account(ONE) is None
    await pair.stop(OLD)
    await pair.start(OLD, 3)
    assert pair.apps[OLD].handover.leaving == set(), "its state file has forgotten it, too"
    await pair.poll(80)
    assert pair.told() == once([ONE, STAYS], EARLY + LATE)


async def test_a_disk_that_does_not_forget_is_asked_again(pair, monkeypatch):
    await two(pair)
    await pair.poll(40)
    refusals, forget = [OSError("full")] * 2, Store.forget

    async def stubborn(store, state):
        return await forget(store, state) if not refusals else not refusals.pop()

    monkeypatch.setattr(Store, "forget", stubborn)
    await three(pair)
    await pair.settled()
    assert refusals == []
    await pair.stop(OLD)
    await pair.start(OLD, 3)
    assert pair.apps[OLD].handover.leaving == set()
    await pair.poll(80)
    assert pair.told() == once([ONE, STAYS], EARLY + LATE)


async def test_a_shard_that_does_not_answer_is_waited_for_and_then_the_account_begins_anew(
    pair, monkeypatch, caplog
):
    await two(pair)
    await pair.poll(40)
    await three(pair, but=[OLD])
    await asyncio.sleep(0.1)  # some questions, none of them answered
    assert pair.apps[2].handover.arriving == {ONE}
    await pair.stop(2)
    monkeypatch.setattr(handover, "PATIENCE", 0.05)
    await pair.start(2, 3)
    await pair.settled()
    [line] = [record for record in caplog.records if "not every shard could be asked" in record.message]
    assert (line.levelname, line.account, line.with_its_past) == ("WARNING", ONE, False)
    await pair.poll(20)
    ends = pair.told()[ONE, "over", "BatchEnded", "firing"]
    assert ends == 1, "history is not told anew"


async def test_as_long_as_another_one_watches_it_nobody_loses_patience(pair, monkeypatch):
    monkeypatch.setattr(handover, "PATIENCE", 0.05)
    await two(pair)
    new = await pair.start(2, 3)
    await asyncio.sleep(0.2)
    assert new.handover.arriving == {ONE}
    assert ONE in pair.apps[OLD].book.accounts
    until = new.handover._waits_until[ONE]
    await pair.until(
        lambda: new.handover._waits_until[ONE] > until
    )  # it begins when that one is seen no more


async def test_an_alert_about_the_account_itself_moves_and_is_resolved_once(pair):
    await two(pair)
    pair.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, account=ONE, to="25m", **{"from": 0}))
    await pair.poll(20)
    fired = once([ONE], [(None, "AccountUnreachable", "firing")])
    assert pair.told() == once([STAYS], EARLY[:1]) + fired
    await three(pair)
    await pair.settled()
    assert pair.told() == once([STAYS], EARLY[:1]) + fired
    await pair.poll(30)
    about = {what: times for what, times in pair.told().items() if what[2] == "AccountUnreachable"}
    assert about == fired + once([ONE], [(None, "AccountUnreachable", "resolved")])


async def test_what_waited_when_no_shard_took_it_over_is_told_with_its_end(pair, server, monkeypatch):
    await two(pair)
    await pair.poll(20)
    server.script.extend([503] * 99)
    pair.clock.move(minutes=10)
    for key in list(pair.apps[OLD].book.watches):
        await pair.apps[OLD].poller.poll_batch(key)
    await pair.stop()
    monkeypatch.setattr(handover, "KEEP", 0.0)
    app = await pair.start(OLD, 3)
    await pair.until(lambda: [queue.pending for queue in app.delivery.queues()] == [3])
    server.script.clear()
    server.requests.clear()
    pair.clock.move(hours=1)
    app.delivery._queues["crm"].woken.set()
    await pair.sent()
    assert pair.told() == once([STAYS], EARLY[1:]) + once([ONE], LATE[:1])


async def test_what_no_shard_takes_over_is_closed_after_a_day_and_not_before(pair, monkeypatch):
    await two(pair)
    await pair.poll(40)
    await pair.stop()
    await pair.start(OLD, 3)
    await asyncio.sleep(0.1)
    assert pair.told() == once([ONE, STAYS], EARLY)
    await pair.stop()
    monkeypatch.setattr(handover, "KEEP", 0.0)
    await pair.start(OLD, 3)
    await pair.until(lambda: pair.told() == once([ONE, STAYS], EARLY) + once([ONE], LATE[:1]))
    assert "no longer watched" in pair.receiver.requests[-1].body.decode()


async def test_without_peers_an_account_that_moves_is_no_longer_watched_here_and_begins_anew_there(pair):
    for ordinal in range(2):
        await pair.start(ordinal, 2, peers=False)
    await pair.poll(40)
    await pair.stop()
    for ordinal in range(3):
        await pair.start(ordinal, 3, peers=False)
    await pair.sent()
    assert not any(app.handover.moving for app in pair.apps.values())
    assert set(pair.apps[2].book.accounts) == {ONE}
    assert pair.told() == once([ONE, STAYS], EARLY) + once([ONE], LATE[:1])


async def test_a_reload_leaves_an_account_alone_that_is_awaited_and_takes_out_one_that_is_gone(pair):
    await two(pair)
    new = await pair.start(2, 3)
    await new.reload.run(asked_for=True)
    assert new.book.accounts == {}
    assert new.handover.arriving == {ONE}
    pair.names = [STAYS]
    (pair.folder / "2" / "config.yaml").write_text(yaml.safe_dump(pair.document()))
    await new.reload.run(asked_for=True)
    assert new.handover.arriving == set()
    pair.names = [ONE, STAYS]
    (pair.folder / "2" / "config.yaml").write_text(yaml.safe_dump(pair.document()))


async def test_a_lost_state_file_is_no_reason_to_ask_and_its_ends_are_told_again(pair):
    await two(pair)
    await pair.poll(40)
    await pair.stop()
    (pair.folder / str(OLD) / "monitor.db").write_bytes(b"nothing that SQLite knows" * 100)
    app = await pair.start(OLD, 2)
    assert set(app.book.accounts) == {ONE, STAYS}
    await pair.poll(20)
    assert pair.told()[ONE, "over", "BatchEnded", "firing"] == 2, "twice is better than never"


async def test_what_another_version_wrote_is_not_taken_and_is_waited_for_no_longer_than_a_dead_shard(
    pair, monkeypatch, caplog
):
    await two(pair)
    await pair.poll(40)
    monkeypatch.setattr(handover.Handover, "offer", lambda *_: lambda: {"account": {"name": 7}})
    await three(pair)
    await pair.until(lambda: "the past of an account cannot be read" in caplog.text)
    assert pair.apps[2].handover.arriving == {ONE}
    await pair.stop(2)
    monkeypatch.setattr(handover, "PATIENCE", 0.05)
    await pair.start(2, 3)
    await pair.settled()
    assert set(pair.apps[2].book.accounts) == {ONE}


async def test_an_error_of_our_own_leaves_no_account_unwatched(pair, monkeypatch, caplog):
    await two(pair)
    failures, ask = [1, 2, 3], handover.Handover._ask_all

    async def stumbling(self, session):
        if failures:
            raise RuntimeError(f"number {failures.pop()}")
        return await ask(self, session)

    monkeypatch.setattr(handover.Handover, "_ask_all", stumbling)
    await three(pair)
    await pair.settled()
    assert set(pair.apps[2].book.accounts) == {ONE}
    assert "handing over stumbled" in caplog.text


async def test_a_password_is_asked_for_here_as_everywhere_and_given_to_the_peers_alone(pair, tmp_path):
    access = tmp_path / "web.yml"
    hashed = bcrypt.hashpw(b"between us", bcrypt.gensalt(4)).decode()
    access.write_text(yaml.safe_dump({"basic_auth_users": {"shard": hashed}}))
    given = {"authorization": aiohttp.encode_basic_auth("shard", "between us")}
    for ordinal in range(2):
        await pair.start(ordinal, 2, access=access, **given)
    await pair.settled()
    await pair.stop()
    for ordinal in range(2):
        await pair.start(ordinal, 3, access=access, **given)
    async with (
        aiohttp.ClientSession(pair.apps[OLD].address) as session,
        session.get("/api/v1/handover") as answer,
    ):
        assert answer.status == 401
    new = await pair.start(2, 3, access=access)
    await asyncio.sleep(0.1)
    assert new.handover.arriving == {ONE}, "it cannot ask"
    await pair.stop(2)
    new = await pair.start(2, 3, access=access, **given)
    await pair.settled()
    assert set(new.book.accounts) == {ONE}
