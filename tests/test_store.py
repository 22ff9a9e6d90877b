"""What is committed survives whatever happens, and what happens to the disk stops nobody."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from receivers import MovedClock, labels, message, notification
from samples import NOW, batch_key, observation, status

from monitor import store as store_module
from monitor.model import (
    AlertName,
    AlertState,
    Failing,
    FailureReason,
    MessageKind,
    Mute,
    Phase,
    Severity,
)
from monitor.notify import webhook
from monitor.store import (
    AccountRecord,
    AccountState,
    BatchRecord,
    Change,
    Contents,
    Store,
    StoreError,
    disk,
    records,
    schema,
)

RESOLVED = MessageKind.RESOLVED


@pytest.fixture
def path(tmp_path):
    return tmp_path / "monitor.db"


@pytest.fixture
def clock():
    return MovedClock()


@pytest.fixture
async def stores(path, clock):
    """Opens stores, and closes those that a test has left open."""
    opened = []

    async def open_one(at: Path | None = path) -> tuple[Store, Contents]:
        made = Store(at, clock=clock)
        opened.append(made)
        return made, await made.open()

    yield open_one
    for made in opened:
        await made.close()


async def reopened(store: Store, stores) -> Contents:
    """What the next start finds."""
    await store.close()
    again, contents = await stores()
    await again.close()
    return contents


def batch(number: int = 1, **changes) -> BatchRecord:
    made = BatchRecord(batch_key(number), "main", f"batch {number}", last_success_at=NOW)
    return replace(made, **changes)


def names(contents: Contents) -> set[str]:
    return {record.batch for record in contents.batches}


def ids(contents: Contents) -> set[str]:
    return {record.id for record in contents.notifications}


def after_a_crash(path: Path, to: Path) -> Path:
    """The files as a killed process leaves them at this moment, at another place."""
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{to}{suffix}")
    return to


# What survives


async def test_every_field_of_every_noun_comes_back_as_it_was(stores):
    firing = AlertState(
        AlertName.BATCH_ENDED,
        Phase.FIRING,
        NOW,
        Severity.INFO,
        clear_since=NOW,
        notified_at=NOW,
        occurrence=NOW - timedelta(microseconds=1),
        labels=(("a", "b"), ("team", 'gr"ö\ud800wth')),
        annotations=(("summary", "x\ny"),),
        receivers=("ops", "crm"),
    )
    failing = Failing(NOW, 3, 1, FailureReason.NOT_FOUND, "404")
    seen = status(observation(paused=True, throttle="night", ended_at=NOW)).progress
    known = batch(progress=seen, failing=failing, alerts=(firing,))
    account = AccountRecord("main", NOW, NOW, failing, (firing,))
    sent = notification(
        delivered_at=NOW,
        attempts=3,
        one_shot=True,
        last_error="503",
        next_attempt_at=NOW,
        held_until=NOW,
        message_id="m1",
    )
    over = notification(
        2,
        kind=RESOLVED,
        superseded_by=AlertName.BATCH_GONE,
        overtaken_at=NOW,
        overtaken="said",
        dropped_at=NOW,
    )
    told = message(
        notification(3, batch_id="b3"),
        notification(4, batch_id="b3", kind=RESOLVED, created_at=NOW + timedelta(seconds=1)),
        heard=(notification(5, batch_id="b\ud8005"),),
        external_url="https://monitor.example",
    )
    told = replace(told, attempts=2, next_attempt_at=NOW, left_out=3)
    mute = Mute("b1", NOW + timedelta(hours=1, microseconds=1))

    store, _ = await stores()
    assert await store.commit(Change((known,), (account,), (sent, over), (told,), (), (mute,))) is True
    contents = await reopened(store, stores)

    assert contents == Contents((known,), (account,), (sent, over), (told,), (mute,))
    assert webhook.render(contents.messages[0]) == webhook.render(told)


async def test_what_may_have_arrived_is_kept_until_it_is_done_with(stores):
    first, second = message(notification(1)), message(notification(2))
    store, _ = await stores()
    await store.commit(Change(messages=(first, second)))
    await store.commit(Change(messages=(replace(second, attempts=1),), done_messages=(first.id,)))
    await store.commit(Change(done_messages=("no such message",)))
    assert (await reopened(store, stores)).messages == (replace(second, attempts=1),)


async def test_the_latest_mute_of_a_batch_counts_and_one_that_is_over_is_forgotten(stores, clock):
    hour = timedelta(hours=1)
    store, _ = await stores()
    await store.commit(Change(mutes=(Mute("b1", NOW + hour), Mute("b2", NOW + hour), Mute("b3", NOW + hour))))
    await store.commit(Change(mutes=(Mute("b1", NOW + 2 * hour), Mute("b2", NOW - hour))))
    contents = await reopened(store, stores)
    assert contents.mutes == (Mute("b1", NOW + 2 * hour), Mute("b3", NOW + hour))
    clock.move(hours=1.5)
    assert (await reopened((await stores())[0], stores)).mutes == (Mute("b1", NOW + 2 * hour),)
    store, _ = await stores()
    clock.move(hours=1)
    await store.prune()
    assert await _in_the_thread(store, "SELECT * FROM mutes") == []


async def test_mutes_and_messages_that_could_not_be_written_are_written_later_the_latest_of_each(stores):
    store, _ = await stores()
    done, open_ = message(notification(1)), message(notification(2))
    await store.commit(Change(messages=(done,)))
    await _in_the_thread(store, "PRAGMA query_only = 1")
    assert await store.commit(Change(messages=(open_,), mutes=(Mute("b1", NOW),))) is False
    later = Mute("b1", NOW + timedelta(hours=1))
    assert await store.commit(Change(done_messages=(done.id,), mutes=(later,))) is False
    await _in_the_thread(store, "PRAGMA query_only = 0")
    contents = await reopened(store, stores)
    assert (contents.messages, contents.mutes) == ((open_,), (later,))


# The record of who was told what


async def test_the_record_is_searched_by_batch_receiver_and_time_the_newest_first(stores):
    def row(number, **changes):
        return notification(
            number,
            created_at=NOW + timedelta(minutes=number),
            delivered_at=NOW + timedelta(days=1),
            **changes,
        )

    rows = [
        row(1, batch_id="3c90-1"),
        row(2, batch_id="3c90-2", receiver="chat"),
        row(3, batch_id="7f6a-1"),
        row(4, batch_id="3c90-1", kind=RESOLVED),
        replace(row(5), alert=replace(notification().alert, labels=(("account", "main"),))),
    ]
    store, _ = await stores()
    await store.commit(Change(notifications=tuple(rows)))

    async def found(count=10, **wanted):
        return [int(one.id[3:]) for one in await store.history(count=count, **wanted)]

    assert await store.history(count=10) == tuple(rows[::-1])
    assert await found(2) == [5, 4]
    assert await found(batch_id="3c90-1") == [4, 1]
    assert await found(batch_id="3c90") == [4, 2, 1]  # the beginning of an id will do
    assert await found(batch_id="90-1") == []
    assert await found(batch_id="") == [4, 3, 2, 1]
    assert await found(receiver="chat") == [2]
    assert await found(batch_id="3c90", receiver="crm") == [4, 1]
    assert await found(before=NOW + timedelta(minutes=4)) == [3, 2, 1]
    assert await found(1, before=NOW + timedelta(minutes=4), batch_id="3c90") == [2]
    assert await found(receiver="nobody") == []


@pytest.mark.parametrize("odd", ["%", "3c90_1", "\ud800", "'"])
async def test_no_text_that_is_searched_for_is_more_than_a_text(stores, odd):
    store, _ = await stores()
    await store.commit(Change(notifications=(notification(batch_id="3c90-1"),)))
    assert not await store.history(batch_id=odd, count=10)
    assert not await store.history(receiver=odd, count=10)


@pytest.mark.parametrize(
    "trouble",
    ["DROP VIEW episodes|DROP TABLE notifications", "UPDATE notifications SET record = '{}'"],
    ids=["no table", "no record"],
)
async def test_a_record_that_cannot_be_read_is_none_and_the_log_says_so(stores, caplog, trouble):
    store, _ = await stores()
    await store.commit(Change(notifications=(notification(),)))
    for statement in trouble.split("|"):
        await _in_the_thread(store, statement)
    assert await store.history(count=10) is None
    assert [record.message for record in caplog.records] == ["the record cannot be read"]


async def test_after_the_end_the_record_is_empty(stores):
    store, _ = await stores()
    await store.commit(Change(notifications=(notification(),)))
    await store.close()
    assert await store.history(count=10) == ()


# A file of the version before

SCHEMA_1 = (
    """CREATE TABLE batches (
        agent_id TEXT NOT NULL, batch_id TEXT NOT NULL, dropped_at REAL, record TEXT NOT NULL,
        PRIMARY KEY (agent_id, batch_id)) WITHOUT ROWID""",
    "CREATE TABLE accounts (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE notifications (
        id TEXT PRIMARY KEY, receiver TEXT NOT NULL, episode TEXT NOT NULL, kind TEXT NOT NULL,
        one_shot INTEGER NOT NULL, created_at REAL NOT NULL, settled_at REAL,
        record TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX notifications_by_age ON notifications (created_at)",
    "CREATE INDEX notifications_by_episode ON notifications (receiver, episode)",
    """CREATE VIEW episodes AS SELECT *,
        kind = 'firing' AND NOT one_shot AS opens,
        (SELECT max(ended.settled_at) FROM notifications AS ended
            WHERE ended.receiver = notifications.receiver AND ended.episode = notifications.episode
            AND ended.kind = 'resolved') AS end_settled_at
        FROM notifications""",
    "PRAGMA application_id = 0x55424D53",
    "PRAGMA user_version = 1",
    "PRAGMA journal_mode = WAL",
)


def schema_1(path: Path, rows=(), batches=()) -> None:
    """A state file as the version before left it."""
    db = sqlite3.connect(path, isolation_level=None)
    for statement in SCHEMA_1:
        db.execute(statement)
    for row in rows:
        record = json.loads(records.encode(records.NOTIFICATION, row))
        for later in ("superseded_by", "held_until", "message_id", "overtaken_at", "overtaken"):
            del record[later]
        settled = row.settled_at and row.settled_at.timestamp()
        db.execute(
            "INSERT INTO notifications VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.id,
                row.receiver,
                row.alert.fingerprint,
                row.kind.value,
                int(row.one_shot),
                row.created_at.timestamp(),
                settled,
                json.dumps(record, separators=(",", ":")),
            ),
        )
    for known in batches:
        record = json.loads(records.encode(records.BATCH, known))
        del record["changes"]  # which no version of that schema remembered
        row = (known.key.agent_id, known.key.batch_id, json.dumps(record))
        db.execute("INSERT INTO batches VALUES (?, ?, NULL, ?)", row)
    db.close()


def stalled(batch_id: str, *more: tuple[str, str]) -> AlertState:
    """What the batch's record says while the alert of `notification(batch_id=…)` fires."""
    said = tuple(sorted((*labels(batch_id=batch_id), *more)))
    return AlertState(AlertName.BATCH_STALLED, Phase.FIRING, NOW, Severity.WARNING, labels=said)


async def test_a_file_of_the_version_before_is_taken_over_and_kept_beside(path, tmp_path, stores):
    account_s = notification(3, delivered_at=NOW, one_shot=True)
    account_s = replace(
        account_s, alert=replace(account_s.alert, labels=(("account", "ma\ud800in"), ("team", 'gr"ö')))
    )
    rows = (notification(1, batch_id="3c90-1"), notification(2, batch_id="7f6a-2", attempts=4), account_s)
    known = batch(1, alerts=(stalled("3c90-1"),))
    schema_1(path, rows, (known,))
    before = content_of(path)

    store, contents = await stores()
    assert contents == Contents((known,), (), rows)
    assert await store.history(batch_id="3c90", count=9) == rows[:1]
    assert await _in_the_thread(store, "SELECT id, batch_id FROM notifications ORDER BY id") == [
        ("id-1", "3c90-1"),
        ("id-2", "7f6a-2"),
        ("id-3", None),
    ]
    assert await store.commit(
        Change(messages=(message(rows[0]),), mutes=(Mute("b1", NOW + timedelta(hours=1)),))
    )
    contents = await reopened(store, stores)
    assert len(contents.messages) == len(contents.mutes) == 1

    [kept] = tmp_path.glob("*.schema-*")
    assert kept.name == "monitor.db.schema-1"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert content_of(kept) == before


def content_of(path: Path) -> list:
    db = sqlite3.connect(path, isolation_level=None)
    found = [db.execute(f"PRAGMA {name}").fetchone() for name in ("user_version", "application_id")]
    for table in ("batches", "accounts", "notifications"):
        found += db.execute(f"SELECT * FROM {table}").fetchall()
    db.close()
    return found


async def test_what_the_version_before_told_no_end_of_does_not_fire_for_ever(path, stores):
    """It had no row for the end of what was superseded: by its receiver's queue alone, it fires on."""
    rows = tuple(
        replace(row, delivered_at=row.created_at, message_id=None)
        for row in (
            notification(1, batch_id="b1"),  # still fires
            notification(2, batch_id="b2"),  # was superseded
            notification(3, batch_id="b3"),
            notification(4, batch_id="b3", kind=RESOLVED),
            notification(5, batch_id="b5", one_shot=True),
            notification(6, batch_id="b2", receiver="oncall"),
            notification(7, batch_id="b2", receiver="oncall", kind=RESOLVED),
            notification(8, batch_id="b8"),  # this firing was superseded, and it fires again
        )
    )
    waiting = notification(9, batch_id="b9")
    again = replace(stalled("b8"), since=NOW + timedelta(hours=1))
    known = batch(1, alerts=(stalled("b1"), replace(stalled("b2"), phase=Phase.PENDING), again))
    schema_1(path, (*rows, waiting), (known,))
    store, contents = await stores()
    made = [row for row in contents.notifications if row not in (*rows, waiting)]
    assert [(row.alert.fingerprint, row.receiver) for row in made] == [
        (rows[1].alert.fingerprint, "crm"),
        (rows[7].alert.fingerprint, "crm"),
    ]
    for row in made:
        assert (row.kind, row.overtaken_at, row.delivered_at) == (RESOLVED, NOW, None)
        assert (row.alert.ends_at, row.overtaken) == (NOW, "the version before told no end of it")
    assert await _in_the_thread(
        store, "SELECT count(*) FROM episodes WHERE opens AND end_settled_at IS NULL"
    ) == [(2,)]  # b1 and b9
    assert (await reopened(store, stores)).notifications == contents.notifications


async def test_a_file_of_the_version_before_is_changed_in_full_or_not_at_all(
    path, tmp_path, clock, monkeypatch
):
    schema_1(path, (notification(),))
    before = content_of(path)
    path.with_name("monitor.db.schema-1").write_bytes(b"left by an earlier try")
    monkeypatch.setattr(schema, "FROM_1", (*schema.FROM_1, "INSERT INTO nowhere VALUES (1)"))
    monkeypatch.setattr(disk, "set_aside", None)
    store = Store(path, clock=clock)
    with pytest.raises(TypeError):  # it would be set aside as damaged: that is not what this is about
        await store.open()
    await store.close()
    store._file.close()
    assert content_of(path) == before
    monkeypatch.undo()
    store = Store(path, clock=clock)
    contents = await store.open()
    assert ids(contents) == {"id-1"}
    await store.close()
    assert content_of(path.with_name("monitor.db.schema-1")) == before


async def test_a_new_file_and_one_in_memory_have_nothing_to_keep_beside(stores, tmp_path):
    for at in (None, tmp_path / "monitor.db"):
        store, _ = await stores(at)
        await store.close()
    assert not list(tmp_path.glob("*.schema-*"))


async def test_a_kill_after_the_commit_has_returned_loses_nothing(path, stores):
    child = textwrap.dedent(
        f"""
        import asyncio, os, signal
        from pathlib import Path
        from samples import NOW
        from receivers import notification
        from monitor.store import Change, Store

        async def main():
            store = Store(Path({str(path)!r}), clock=lambda: NOW)
            await store.open()
            await store.commit(Change(notifications=(notification(1), notification(2))))
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
        """
    )
    tests = Path(__file__).parent
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", child],
        env=os.environ | {"PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"},
        check=False,
    )
    assert ended.returncode == -9
    _, contents = await stores()
    assert ids(contents) == {"id-1", "id-2"}


async def test_a_change_is_on_disk_in_full_or_not_at_all(path, tmp_path, stores, clock):
    store, _ = await stores()
    await store.commit(Change((batch(1),)))
    # The last statement of the transaction fails: nothing of it may stay, and it is not given up either.
    await _in_the_thread(
        store, "CREATE TRIGGER no BEFORE INSERT ON notifications BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    assert await store.commit(Change((batch(2),), notifications=(notification(),))) is False
    await stores(after_a_crash(path, tmp_path / "crashed.db"))
    with sqlite3.connect(tmp_path / "crashed.db") as db:
        assert db.execute("SELECT count(*) FROM batches").fetchone() == (1,)
    db.close()
    await _in_the_thread(store, "DROP TRIGGER no")
    assert await store.commit(Change((batch(3),))) is True
    contents = await reopened(store, stores)
    assert names(contents) == {"batch 1", "batch 2", "batch 3"}
    assert ids(contents) == {"id-1"}


async def test_in_memory_everything_works_and_nothing_is_left(stores, tmp_path):
    store, contents = await stores(None)
    assert contents == Contents()
    assert await store.commit(Change((batch(),), notifications=(notification(),))) is True
    await store.prune()
    assert list(tmp_path.iterdir()) == []


async def test_commits_that_come_together_share_transactions_and_all_are_kept(stores, monkeypatch):
    store, _ = await stores()
    writes = []
    write = store._file.write

    def counted(*args, **kwargs):
        writes.append(1)
        write(*args, **kwargs)

    monkeypatch.setattr(store._file, "write", counted)
    answers = await asyncio.gather(*(store.commit(Change((batch(n),))) for n in range(200)))
    assert all(answers)
    assert len(writes) < 10
    assert len((await reopened(store, stores)).batches) == 200


async def test_what_is_noted_is_written_with_the_next_commit_in_one_transaction(
    stores, path, tmp_path, monkeypatch
):
    store, _ = await stores()
    written = []
    write = store._file.write
    monkeypatch.setattr(store._file, "write", lambda *args, **more: written.append(1) or write(*args, **more))
    store.note([batch(1), batch(2)])
    store.note([batch(2, batch="newer")])
    await asyncio.sleep(0)
    assert not written
    await store.commit(Change((batch(3),)))
    assert written == [1]
    crashed, contents = await stores(after_a_crash(path, tmp_path / "crashed.db"))
    assert names(contents) == {"batch 1", "newer", "batch 3"}
    await crashed.close()


async def test_what_is_noted_is_written_by_itself_before_long(stores, path, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "NOTED_WITHIN", 0.01)
    store, _ = await stores()
    for number in (1, 2):
        store.note([batch(number)])
        async with asyncio.timeout(5):
            while store._pending or not store._writer.done():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)
        copy = after_a_crash(path, tmp_path / f"crashed-{number}.db")
        crashed, contents = await stores(copy)
        assert names(contents) == {f"batch {one}" for one in range(1, number + 1)}
        await crashed.close()


async def test_what_is_noted_at_the_end_is_written_at_the_end(stores):
    store, _ = await stores()
    store.note([batch(1)])
    assert names(await reopened(store, stores)) == {"batch 1"}


async def test_an_empty_change_costs_nothing_and_waits_for_nothing(stores):
    store, _ = await stores()
    assert await asyncio.wait_for(store.commit(Change()), 0.5) is True


# What is kept how long


async def test_a_dropped_batch_is_remembered_for_a_day_and_a_returning_one_for_good(stores, clock):
    store, _ = await stores()
    gone, back = batch(1, dropped_at=NOW), batch(2, dropped_at=NOW)
    await store.commit(Change((gone, back)))
    await store.commit(Change((replace(back, dropped_at=None),)))
    clock.move(hours=23, minutes=59)
    contents = await reopened(store, stores)
    assert names(contents) == {"batch 1", "batch 2"}
    clock.move(minutes=2)
    contents = await reopened(store, stores)
    assert names(contents) == {"batch 2"}


@pytest.mark.parametrize(
    ("rows", "age", "kept"),
    [
        ([notification()], timedelta(days=400), True),
        ([notification(delivered_at=NOW, one_shot=True)], timedelta(days=6, hours=23), True),
        ([notification(delivered_at=NOW, one_shot=True)], timedelta(days=7, hours=1), False),
        ([notification(dropped_at=NOW, one_shot=True)], timedelta(days=7, hours=1), False),
        ([notification(overtaken_at=NOW, one_shot=True)], timedelta(days=6, hours=23), True),
        ([notification(overtaken_at=NOW, one_shot=True)], timedelta(days=7, hours=1), False),
        # a reminder that was taken begins what its end is owed to, where the firing was given up
        ([notification(kind=MessageKind.REMINDER, delivered_at=NOW)], timedelta(days=89), True),
        (
            [notification(1, delivered_at=NOW), notification(2, kind=RESOLVED, overtaken_at=NOW)],
            timedelta(days=8),
            False,
        ),
        ([notification(delivered_at=NOW)], timedelta(days=89), True),  # it still fires
        ([notification(delivered_at=NOW)], timedelta(days=91), False),
        (
            [notification(1, delivered_at=NOW), notification(2, kind=RESOLVED, delivered_at=NOW)],
            timedelta(days=7, hours=1),
            False,
        ),
        # its end is still owed, so whether it was taken is still of interest
        ([notification(1, delivered_at=NOW), notification(2, kind=RESOLVED)], timedelta(days=8), True),
        # the end of another receiver's, or of another episode, is not its end
        (
            [
                notification(1, delivered_at=NOW),
                notification(2, receiver="b", kind=RESOLVED, delivered_at=NOW),
            ],
            timedelta(days=8),
            True,
        ),
        (
            [
                notification(1, delivered_at=NOW),
                notification(2, kind=RESOLVED, delivered_at=NOW, starts_at=NOW - timedelta(hours=1)),
            ],
            timedelta(days=8),
            True,
        ),
    ],
)
@pytest.mark.parametrize("by", ["open", "prune"])
async def test_how_long_a_message_is_kept(stores, clock, rows, age, kept, by):
    store, _ = await stores()
    await store.commit(Change(notifications=tuple(rows)))
    clock.move(seconds=age.total_seconds())
    if by == "prune":
        await store.prune()
        found = await _in_the_thread(store, "SELECT id FROM notifications WHERE id = 'id-1'")
        assert bool(found) is kept
    else:
        assert ("id-1" in ids(await reopened(store, stores))) is kept


async def test_only_what_is_still_of_use_is_loaded(stores, clock):
    store, _ = await stores()
    old = NOW - timedelta(days=3)
    unended = notification(1, delivered_at=old, created_at=old, starts_at=old)
    waiting = notification(2, created_at=old, starts_at=old, batch_id="b2")
    settled = [
        notification(n, delivered_at=old, created_at=old + timedelta(seconds=n), one_shot=True)
        for n in range(100, 400)
    ]
    await store.commit(Change(notifications=(unended, waiting, *settled)))
    contents = await reopened(store, stores)
    assert ids(contents) == {"id-1", "id-2"} | {f"id-{n}" for n in range(200, 400)}
    assert [row.created_at for row in contents.notifications] == sorted(
        row.created_at for row in contents.notifications
    )


# Trouble with the disk


async def test_a_full_disk_stops_nobody_and_everything_is_written_when_there_is_room(stores, caplog):
    store, _ = await stores()
    pages = (await _in_the_thread(store, "PRAGMA page_count"))[0][0]
    await _in_the_thread(store, f"PRAGMA max_page_count = {pages}")
    big = tuple(notification(n, last_error="x" * 1000) for n in range(50))

    assert await store.commit(Change(notifications=big)) is False
    assert await store.commit(Change((batch(1, account="old"),))) is False
    assert await store.commit(Change((batch(1, account="new"),))) is False
    assert store.writable is False
    assert [r.levelname for r in caplog.records] == ["ERROR"]  # once
    assert "full" in caplog.records[0].error

    await _in_the_thread(store, "PRAGMA max_page_count = 100000")
    caplog.set_level(logging.INFO)
    assert await store.commit(Change((batch(2),))) is True
    assert store.writable is True
    assert [r.levelname for r in caplog.records] == ["ERROR", "INFO"]
    contents = await reopened(store, stores)
    assert len(contents.notifications) == 50
    assert {(r.batch, r.account) for r in contents.batches} == {("batch 1", "new"), ("batch 2", "main")}


async def test_a_file_that_another_program_locks_is_written_by_the_next_prune_after(
    path, stores, monkeypatch
):
    monkeypatch.setattr(disk, "BUSY_TIMEOUT", 0.01)
    store, _ = await stores()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert await store.commit(Change((batch(1),))) is False
    assert store.writable is False
    other.execute("ROLLBACK")
    other.close()
    await store.prune()
    assert store.writable is True
    assert names(await reopened(store, stores)) == {"batch 1"}


async def test_a_disk_that_does_not_answer_is_waited_for_once_and_written_in_order(
    path, stores, monkeypatch, caplog
):
    monkeypatch.setattr(store_module, "COMMIT_PATIENCE", 0.05)
    monkeypatch.setattr(disk, "BUSY_TIMEOUT", 30)
    store, _ = await stores()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert await store.commit(Change((batch(1, account="first"),))) is False
    assert store.writable is False

    monkeypatch.setattr(store_module, "COMMIT_PATIENCE", 30)  # who comes later must not wait at all
    async with asyncio.timeout(1):
        assert await store.commit(Change((batch(1, account="second"),))) is False
        assert await store.commit(Change((batch(2),))) is False
    other.execute("ROLLBACK")
    other.close()
    caplog.set_level(logging.INFO)
    assert await store.commit(Change((batch(3),))) in {True, False}
    contents = await reopened(store, stores)
    assert {(r.batch, r.account) for r in contents.batches} == {
        ("batch 1", "second"),
        ("batch 2", "main"),
        ("batch 3", "main"),
    }
    assert [r.levelname for r in caplog.records] == ["ERROR", "INFO"]


async def test_what_comes_during_a_write_that_fails_is_answered_with_it_and_wins_over_the_older(
    path, stores, monkeypatch
):
    monkeypatch.setattr(disk, "BUSY_TIMEOUT", 0.2)
    monkeypatch.setattr(store_module, "COMMIT_PATIENCE", 30)
    store, _ = await stores()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    first = asyncio.create_task(store.commit(Change((batch(1, account="older"),))))
    await asyncio.sleep(0.01)  # it is with the disk now
    assert not store._pending
    async with asyncio.timeout(5):
        assert await store.commit(Change((batch(1, account="newer"),))) is False
        assert await first is False
    other.execute("ROLLBACK")
    other.close()
    contents = await reopened(store, stores)
    assert [record.account for record in contents.batches] == ["newer"]


async def test_a_caller_that_is_cancelled_does_not_take_its_change_along(stores):
    store, _ = await stores()
    task = asyncio.create_task(store.commit(Change((batch(1),))))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert names(await reopened(store, stores)) == {"batch 1"}


async def test_closing_writes_what_could_not_be_written_before(stores):
    store, _ = await stores()
    await _in_the_thread(store, "PRAGMA query_only = 1")
    assert await store.commit(Change((batch(1),))) is False
    await _in_the_thread(store, "PRAGMA query_only = 0")
    assert names(await reopened(store, stores)) == {"batch 1"}


async def test_closing_without_a_disk_says_what_is_lost(stores, caplog):
    store, _ = await stores()
    await _in_the_thread(store, "PRAGMA query_only = 1")
    await store.commit(Change((batch(1),)))
    await store.close()
    assert "was not written" in caplog.records[-1].message


# A file that cannot be used


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _scribble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:4196] = b"\xa5" * 100
    path.write_bytes(content)


def _break_a_promise(path: Path) -> None:
    """A NULL where the schema allows none: every record can be read, only a check of the file finds it."""
    for old, new, then in (
        ("receiver TEXT NOT NULL", "receiver TEXT", "SELECT 1"),
        ("receiver TEXT", "receiver TEXT NOT NULL", "UPDATE notifications SET receiver = NULL"),
    ):
        _sql(
            then,
            "PRAGMA writable_schema = ON",
            f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE name = 'notifications'",
        )(path)


def _unindex(path: Path) -> None:
    """Every record can be read, and no row can be replaced."""
    index = "notifications_by_age"
    _sql(
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_master SET sql = replace(sql, '(created_at)', '(settled_at)') WHERE name = '{index}'",
    )(path)


def _garble(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"batch 7", b"b\xa5tch 7"))


def _sql(*statements: str):
    def change(path: Path) -> None:
        db = sqlite3.connect(path, isolation_level=None)
        for statement in statements:
            db.execute(statement)
        db.close()

    return change


DAMAGES = {
    "not a database": lambda path: path.write_bytes(b"accounts: []\n" * 1000),
    "cut short": _cut,
    "overwritten in the middle": _scribble,
    "text that is no text": _garble,
    "a NULL where none may be": _break_a_promise,
    "a record that is no JSON": _sql("UPDATE batches SET record = '{\"key'"),
    "a record that is a number": _sql("UPDATE batches SET record = x'31'"),
    "a record without a bottom": _sql(f"UPDATE batches SET record = '{'[' * 100_000}'"),
    "a time that no calendar has": _sql("INSERT INTO mutes VALUES ('b1', 1e300)"),
    "a time that no clock has": _sql("INSERT INTO mutes VALUES ('b1', 1e17)"),
    "a time that is a text": _sql("INSERT INTO mutes VALUES ('b1', x'6e6f6f6e')"),
    "an index that misses a row": _unindex,
    "a record that lacks a field": _sql("UPDATE batches SET record = '{}'"),
    "a table that is missing": _sql("DROP VIEW episodes", "DROP TABLE notifications"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_is_set_aside_and_the_last_day_is_told_again(
    damage, path, tmp_path, stores, clock, caplog
):
    store, first = await stores()
    assert first.ends_since is None  # a new file is no lost file
    await store.commit(Change(tuple(batch(n) for n in range(50)), notifications=(notification(),)))
    await store.close()
    DAMAGES[damage](path)
    damaged = path.read_bytes()

    store, contents = await stores()
    assert contents == Contents(ends_since=NOW - timedelta(hours=24))
    aside = tmp_path / "monitor.db.corrupt-20261123T120000Z"
    assert aside.exists()
    if not damage.startswith("a "):
        assert aside.read_bytes() == damaged  # nothing has repaired or shortened it
    [line] = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "DAMAGED" in line.message
    assert (line.path, line.set_aside) == (path, aside)

    assert await store.commit(Change((batch(7),))) is True
    assert await reopened(store, stores) == Contents((batch(7),))  # once is enough


async def test_the_log_of_a_damaged_file_goes_aside_with_it(path, tmp_path, stores):
    store, _ = await stores()
    await store.commit(Change((batch(1),)))
    other = sqlite3.connect(path, isolation_level=None)  # as long as it is open, SQLite keeps its -wal
    other.execute("UPDATE batches SET record = '{}'")
    await store.close()
    _, contents = await stores()
    other.close()
    assert contents.ends_since is not None
    names_aside = {file.name for file in tmp_path.glob("*.corrupt-*")}
    assert {name.removeprefix("monitor.db.corrupt-20261123T120000Z") for name in names_aside} >= {"", "-wal"}


async def test_a_second_monitor_on_the_same_file_is_refused_until_the_first_has_gone(path, stores, clock):
    first, _ = await stores()
    second = Store(path, clock=clock)
    with pytest.raises(StoreError) as refused:
        await second.open()
    assert str(refused.value) == (
        f"state file {path}: another monitor runs on it; "
        "stop that one, or give this one a storage.path of its own"
    )
    await second.close()
    assert await first.commit(Change((batch(1),))) is True
    assert names(await reopened(first, stores)) == {"batch 1"}


@pytest.mark.parametrize(
    ("place", "before", "message"),
    [
        (
            "no/such/monitor.db",
            None,
            "its directory {parent} does not exist: create it, or change storage.path",
        ),
        (
            "folder",
            lambda path: path.mkdir(),
            "Is a directory; storage.path must name a file that this user may write, on a disk with room",
        ),
        (
            "other.db",
            _sql("CREATE TABLE customers (name)"),
            "it is another program's database; storage.path must name a file of its own",
        ),
        (
            "monitor.db",
            _sql("CREATE TABLE a (b)", "PRAGMA application_id = 0x55424D53", "PRAGMA user_version = 4"),
            (
                "a newer version of this monitor wrote it (schema 4, this one knows 3); "
                "run that version, or move the file away to start without it"
            ),
        ),
    ],
)
async def test_a_place_that_cannot_be_used_is_refused_with_what_to_do(
    tmp_path, clock, place, before, message
):
    path = tmp_path / place
    if before is not None:
        before(path)
    content = path.read_bytes() if path.is_file() else None
    store = Store(path, clock=clock)
    with pytest.raises(StoreError) as refused:
        await store.open()
    await store.close()
    assert str(refused.value) == f"state file {path}: " + message.format(parent=path.parent)
    assert (path.read_bytes() if path.is_file() else None) == content  # not ours to touch
    assert not list(tmp_path.glob("*corrupt*"))


async def test_a_locked_file_is_trouble_and_not_damage(path, tmp_path, stores, clock, monkeypatch):
    monkeypatch.setattr(disk, "BUSY_TIMEOUT", 0.01)
    store, _ = await stores()
    await store.commit(Change((batch(1),)))
    await store.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    blocked = Store(path, clock=clock)
    with pytest.raises(StoreError, match="locked"):
        await blocked.open()
    await blocked.close()
    other.close()
    assert not list(tmp_path.glob("*corrupt*"))
    _, contents = await stores()
    assert names(contents) == {"batch 1"}


async def test_the_files_are_for_their_owner_alone(path, tmp_path, stores):
    before = os.umask(0)
    try:
        store, _ = await stores()
        await store.commit(Change((batch(1),)))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes["monitor.db"] == modes["monitor.db-wal"] == 0o600
    assert set(modes.values()) == {0o600}


async def test_what_another_process_keeps_is_deleted_and_nothing_else(stores):
    store, _ = await stores()
    main, other = AccountRecord("main", NOW), AccountRecord("other", NOW)
    rows = [notification(number, created_at=NOW) for number in (1, 2, 3)]
    await store.commit(Change((batch(1), batch(2, account="other")), (main, other), tuple(rows)))
    assert await store.forget(AccountState(main, (batch(1),), tuple(rows[:2])))
    contents = await reopened(store, stores)
    assert names(contents) == {"batch 2"}
    assert contents.accounts == (other,)
    assert ids(contents) == {rows[2].id}


async def test_a_disk_that_does_not_delete_says_so_and_deletes_nothing(path, stores, caplog):
    store, _ = await stores()
    main = AccountRecord("main", NOW)
    await store.commit(Change((batch(1),), (main,)))
    await _in_the_thread(
        store, "CREATE TRIGGER full BEFORE DELETE ON batches BEGIN SELECT RAISE(FAIL, 'disk full'); END"
    )
    assert not await store.forget(AccountState(main, (batch(1),)))
    assert "state cannot be deleted" in caplog.text
    await _in_the_thread(store, "DROP TRIGGER full")
    contents = await reopened(store, stores)
    assert (contents.accounts, names(contents)) == ((main,), {"batch 1"})


async def _in_the_thread(store: Store, statement: str) -> list:
    def run() -> list:
        return store._file._db.execute(statement).fetchall()

    return await asyncio.get_running_loop().run_in_executor(store._thread, run)
