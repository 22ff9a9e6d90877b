"""The whole daemon while something is down: a receiver, over a reload; the disk, during a delivery."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from receivers import notification
from test_app import Daemon

from monitor import simulator
from monitor.clock import utc_now
from monitor.model import MessageKind
from monitor.store import Change

STORY = """
accounts:
  - name: main
    agents:
      - name: renewals
        batches: [{name: one, calls: 1000, pace: 60/h}]
"""


@pytest.fixture
async def daemon(tmp_path):
    pretend = simulator.Simulator(simulator.load(STORY), clock=utc_now)
    await pretend.start()
    yield Daemon(tmp_path, pretend)
    await pretend.stop()


def receivers(server, *names, **more):
    return [
        {"name": name, "webhook": {"url": f"{server.url}/{name}"}, "group_wait": "0s"} | more
        for name in names
    ]


async def fire(daemon, number, **changes):
    """What a poll does that has decided to speak: commit, then hand over."""
    rows = (notification(number, created_at=utc_now(), **changes),)
    await daemon.app.store.commit(Change(notifications=rows))
    daemon.app.delivery.enqueue(rows)


def said(server):
    return [
        alert["annotations"]["summary"] for request in server.requests for alert in request.json["alerts"]
    ]


def waiting(daemon):
    return [row.notification.id for row in daemon.app.delivery.records() if row.waits_for is not None]


async def test_a_reload_while_messages_wait_drops_and_repeats_nothing(daemon, server):
    daemon.write("one", receivers=receivers(server, "crm"))
    async with daemon.running():
        await fire(daemon, 1, batch_id="b1")
        await daemon.until(lambda: said(server) == ["message 1"])
        server.script.append((503, {"Retry-After": "3000"}))
        await fire(daemon, 2, batch_id="b2")
        await daemon.until(lambda: daemon.app.delivery.queues()[0].failing_since is not None)
        daemon.write("one", receivers=receivers(server, "crm", severity_at_least="critical"))
        await daemon.app.surface.reload()
        assert waiting(daemon) == ["id-2"], "other filters: what was decided is told all the same"
        daemon.write("one")
        await daemon.app.surface.reload()
        [queue] = daemon.app.delivery.queues()
        assert (queue.receiver, queue.pending, queue.configured) == ("crm", 1, False), "reported, not deleted"
        await fire(daemon, 3, batch_id="b1", kind=MessageKind.RESOLVED)
        daemon.write("one", receivers=receivers(server, "crm"))
        await daemon.app.surface.reload()
        await daemon.until(lambda: not waiting(daemon))
    told = [
        [(alert["annotations"]["summary"], alert["status"]) for alert in request.json["alerts"]]
        for request in server.requests
    ]
    assert told == [
        [("message 1", "firing")],
        [("message 2", "firing"), ("message 1", "firing")],  # refused
        [("message 2", "firing"), ("message 3", "resolved")],  # composed anew: it stands otherwise by now
    ]


@contextlib.asynccontextmanager
async def trouble(store, kind):
    """SQLite's own: the disk is full; the file may only be read."""

    def begin(db: sqlite3.Connection) -> None:
        if kind == "full":
            [pages] = db.execute("PRAGMA page_count").fetchone()
            db.execute(f"PRAGMA max_page_count = {pages}")
        else:
            db.execute("PRAGMA query_only = ON")

    def end(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA max_page_count = 1073741823")
        db.execute("PRAGMA query_only = OFF")

    on_its_thread = store._thread.submit
    on_its_thread(begin, store._file._db).result()
    yield
    on_its_thread(end, store._file._db).result()


@pytest.mark.parametrize("kind", ["full", "read-only"])
async def test_while_the_disk_is_in_trouble_everything_goes_on_and_nothing_is_claimed(daemon, server, kind):
    daemon.write("one", receivers=receivers(server, "crm"), poll={"interval": "1s"})
    writable = "ultravox_monitor_store_writable"
    async with daemon.running():
        await daemon.until(daemon.app.surface.ready)
        assert await daemon.metric(writable) == 1
        long = "x" * 20_000 if kind == "full" else ""
        async with trouble(daemon.app.store, kind):
            polls = await daemon.metric('ultravox_monitor_polls_total{account="main"}')
            server.script.append(503)
            await fire(daemon, 1, batch_id=f"b1{long}")
            await daemon.until(lambda: not waiting(daemon))
            assert await daemon.metric(writable) == 0
            async with daemon.session.get("/") as answer:
                assert "The state file cannot be written" in await answer.text()
            assert said(server) == ["message 1", "message 1"], "in memory, with its second try"
            while await daemon.metric('ultravox_monitor_polls_total{account="main"}') < polls + 2:
                await daemon.until(lambda: True)
            on_disk = sqlite3.connect(daemon.folder / "monitor.db")
            assert on_disk.execute("SELECT count(*) FROM notifications").fetchone() == (0,), (
                "nothing is claimed"
            )
        await daemon.until(lambda: daemon.app.store.writable)  # with the next poll
        assert await daemon.metric(writable) == 1
        stored = on_disk.execute("SELECT settled_at IS NOT NULL, record FROM notifications").fetchall()
        assert [settled for settled, _ in stored] == [1], (
            "what became of it is known on disk, now that it can be"
        )
        assert on_disk.execute("SELECT count(*) FROM messages").fetchone() == (0,)
        on_disk.close()
