"""The daemon as one process: it starts, reloads and stops as its user would have it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest
import yaml

from monitor import app as app_module
from monitor import config, simulator
from monitor import reload as reload_module
from monitor.app import App
from monitor.clock import utc_now
from monitor.simulator import Fault, FaultKind
from monitor.store import StoreError
from monitor.web import ReloadRefusedError

STORY = """
accounts:
  - name: main
    agents:
      - name: renewals
        batches:
          - {name: one, calls: 1000, pace: 60/h}
          - {name: two, calls: 1000, pace: 60/h}
          - {name: three, calls: 1000, pace: 60/h}
  - {name: other, agents: [{name: a, batches: [{name: far, calls: 10}]}]}
"""


class Daemon:
    """A configuration file, and the daemon that runs on it."""

    def __init__(self, folder, pretend):
        self.folder = folder
        self.path = folder / "config.yaml"
        self.pretend = pretend
        self.accounts = pretend.scenario.accounts
        self.environ = {f"KEY_{account.name}": account.api_key for account in self.accounts}
        self.app = None

    def write(self, *names, **more):
        """Configure these batches of the first account, and of others by `account/name`."""
        accounts = {}
        for name in names:
            owner, _, batch_name = name.rpartition("/")
            account = next(one for one in self.accounts if one.name == (owner or "main"))
            batches = accounts.setdefault(account.name, [])
            batches += [
                {"agent_id": str(agent.agent_id), "batch_id": str(batch.batch_id), "name": batch.name}
                for agent in account.agents
                for batch in agent.batches
                if batch.name == batch_name
            ]
        document = {
            "accounts": [
                {
                    "name": name,
                    "api_key": f"${{KEY_{name}}}",
                    "base_url": self.pretend.base_url,
                    "batches": batches,
                    "discover": None,
                }
                for name, batches in (accounts or {"main": []}).items()
            ],
            "web": {"listen_address": "127.0.0.1:0"},
        }
        self.path.write_text(yaml.safe_dump(document | more))

    def load(self):
        return config.load(self.path, self.environ)

    @asynccontextmanager
    async def running(self):
        self.app = App(self.load(), load=self.load, clock=utc_now)
        task = asyncio.create_task(self.app.run())
        started = asyncio.create_task(self.app.started.wait())
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        try:
            async with aiohttp.ClientSession(self.app.address) as session:
                self.session = session
                yield self
        finally:
            self.app.stop()
            await asyncio.wait_for(task, 15)

    def watched(self):
        return {status.batch for status in self.app.book.statuses.values()}

    async def until(self, look):
        async with asyncio.timeout(10):
            while not look():  # noqa: ASYNC110 - it is looked at from outside, like a user would
                await asyncio.sleep(0.01)

    async def metric(self, name):
        async with self.session.get("/metrics") as answer:
            found = re.search(rf"^{re.escape(name)} (.*)$", await answer.text(), flags=re.MULTILINE)
        return float(found[1]) if found else None


@pytest.fixture
async def daemon(tmp_path):
    pretend = simulator.Simulator(simulator.load(STORY), clock=utc_now)
    await pretend.start()
    made = Daemon(tmp_path, pretend)
    made.write("one", "two")
    yield made
    await pretend.stop()


LOADED = "ultravox_monitor_config_last_reload_successful"


async def test_it_polls_at_once_and_is_ready_when_every_batch_was_tried(daemon):
    async with daemon.running():
        async with daemon.session.get("/-/healthy") as answer:
            assert answer.status == 200
        await daemon.until(daemon.app.surface.ready)
        assert await daemon.metric('ultravox_monitor_batches{state="running"}') == 2
        assert await daemon.metric('ultravox_account_up{account="main"}') == 1
        for status in daemon.app.book.statuses.values():
            assert status.next_poll_at > status.last_poll_at
        async with daemon.session.get("/") as answer:
            assert "one" in await answer.text()


async def test_who_asks_while_it_starts_is_answered_when_all_is_watched(daemon, monkeypatch):
    begin, waiting = App._begin, []

    async def asked_before(app, accounts):
        port = app._serving.addresses[0][1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
        waiting.append((reader, writer))
        for _ in range(100):  # as often as one who is let in needs, and more
            await asyncio.sleep(0)
        await begin(app, accounts)

    monkeypatch.setattr(App, "_begin", asked_before)
    async with daemon.running():
        [(reader, writer)] = waiting
        found = await reader.read()
        writer.close()
        assert found.count(b"\nultravox_batch_info{") == 2


async def test_a_good_reload_adds_drops_and_keeps(daemon):
    async with daemon.running():
        await daemon.until(daemon.app.surface.ready)
        kept = next(status for status in daemon.app.book.statuses.values() if status.batch == "two")
        daemon.write("two", "three", "other/far")
        async with daemon.session.post("/-/reload") as answer:
            assert (answer.status, await answer.text()) == (200, "configuration reloaded\n")
        assert daemon.watched() == {"two", "three", "far"}
        assert daemon.app.book.statuses[kept.key].progress == kept.progress
        await daemon.until(lambda: all(one.progress for one in daemon.app.book.statuses.values()))
        assert await daemon.metric('ultravox_account_up{account="other"}') == 1
        daemon.write("two")
        await daemon.app.surface.reload()
        assert daemon.watched() == {"two"}
        assert await daemon.metric('ultravox_account_up{account="other"}') is None
        assert await daemon.metric('ultravox_monitor_polls_total{account="other"}') is None
        jobs = {job.id for job in daemon.app.schedule._scheduler.get_jobs()}
        assert jobs == {"canary", "outcomes:main", "probe:main", "prune", "tick"}
        assert {key.account for key in daemon.app.rounds.lists._turns._turns} == {"main"}
        assert daemon.app.rounds.looks._turns._turns.keys() <= daemon.app.book.watches.keys()


async def test_a_bad_file_leaves_everything_as_it_was_and_says_what_is_wrong(daemon):
    async with daemon.running():
        daemon.path.write_text("accounts:\n  - name: main\n")
        async with daemon.session.post("/-/reload") as answer:
            text = await answer.text()
            assert answer.status == 500
        assert "config.yaml:2:5: accounts[0].api_key: missing" in text
        assert daemon.watched() == {"one", "two"}
        assert await daemon.metric(LOADED) == 0
        daemon.write("one", "two")
        async with daemon.session.post("/-/reload") as answer:
            assert answer.status == 200
        assert await daemon.metric(LOADED) == 1


async def test_sighup_reloads(daemon):
    async with daemon.running():
        daemon.write("one", "two", "three")
        os.kill(os.getpid(), signal.SIGHUP)
        await daemon.until(lambda: daemon.watched() == {"one", "two", "three"})


async def test_a_changed_file_is_taken_over_once(daemon, monkeypatch):
    monkeypatch.setattr(reload_module, "FILE_CHECK", 0.02)
    loads = []
    load = daemon.load
    daemon.load = lambda: loads.append(1) or load()
    async with daemon.running():
        daemon.write("one", "two", "three")
        await daemon.until(lambda: daemon.watched() == {"one", "two", "three"})
        await asyncio.sleep(0.2)  # ten looks more
        assert len(loads) == 2


async def test_files_that_are_not_answered_hold_up_neither_reloads_nor_the_end(daemon, monkeypatch):
    """On a disk that has gone, say: who asks is told, what is running goes on, and the next reload is none of that one's."""
    monkeypatch.setattr(reload_module, "FILE_PATIENCE", 0.05)
    gone, back = threading.Event(), daemon.load
    async with daemon.running():
        daemon.app.reload.load = lambda: gone.wait(30) and back()
        async with daemon.session.post("/-/reload") as answer:
            assert answer.status == 500
            assert "no answer within 0.05 s" in await answer.text()
        assert daemon.watched() == {"one", "two"}
        monkeypatch.setattr(reload_module, "FILE_PATIENCE", 20)
        gone.set()
        async with daemon.session.post("/-/reload") as answer:
            assert answer.status == 200


async def test_a_file_that_lost_its_batches_needs_somebody_who_means_it(daemon):
    async with daemon.running():
        daemon.write()
        with pytest.raises(ReloadRefusedError, match="would drop 2 of 2 watched batches"):
            await daemon.app.reload.run(asked_for=False)
        assert daemon.watched() == {"one", "two"}
        assert await daemon.metric(LOADED) == 0
        await daemon.app.surface.reload()
        assert daemon.watched() == set()
        assert await daemon.metric(LOADED) == 1


async def test_a_key_that_was_rotated_is_used_from_the_next_poll_on(daemon):
    good = daemon.environ["KEY_main"]
    daemon.environ["KEY_main"] = "WRONGKEY." + "0" * 32
    async with daemon.running():
        await daemon.until(daemon.app.surface.ready)
        assert all(status.failing for status in daemon.app.book.statuses.values())
        daemon.environ["KEY_main"] = good
        await daemon.app.surface.reload()
        for status in daemon.app.book.statuses.values():
            await daemon.app.poller.poll_batch(status.key)
        assert not any(status.failing for status in daemon.app.book.statuses.values())


async def test_large_answers_of_all_accounts_wait_for_one_another(daemon):
    """What that is good for is told in test_bad_answers.py, of clients that share it."""
    daemon.write("one", "other/far")
    async with daemon.running():
        locks = {account.client._transport._large for account in daemon.app.book.accounts.values()}
        assert len(daemon.app.book.accounts) == 2
        assert len(locks) == 1


async def test_two_daemons_do_not_share_a_state_file(daemon):
    async with daemon.running():
        second = Daemon(daemon.folder, daemon.pretend)
        with pytest.raises(StoreError, match="another monitor runs on it"):
            async with second.running():
                pass


async def test_an_address_that_is_taken_is_an_error_and_leaves_nothing_behind(daemon):
    async with daemon.running():
        port = daemon.app.address.rpartition(":")[2]
        second = Daemon(daemon.folder, daemon.pretend)
        second.write("one", storage={"path": None}, web={"listen_address": f"127.0.0.1:{port}"})
        with pytest.raises(OSError, match="address already in use"):
            async with second.running():
                pass


async def test_sigterm_ends_it(daemon):
    async with daemon.running():
        os.kill(os.getpid(), signal.SIGTERM)
        await daemon.until(daemon.app._stopping.is_set)


async def test_a_secret_that_comes_after_the_file_that_names_it_is_noticed(daemon, monkeypatch):
    monkeypatch.setattr(reload_module, "FILE_CHECK", 0.02)
    async with daemon.running():
        daemon.write("one", "two", "three")
        text = daemon.path.read_text().replace("api_key: ${KEY_main}", "api_key_file: key")
        assert "api_key_file" in text
        daemon.path.write_text(text)
        await daemon.until(lambda: daemon.folder / "key" in daemon.app.reload.sources)
        assert daemon.watched() == {"one", "two"}
        daemon.folder.joinpath("key").write_text(daemon.accounts[0].api_key)
        await daemon.until(lambda: daemon.watched() == {"one", "two", "three"})


async def test_an_error_of_our_own_while_reading_is_a_refusal_and_the_files_are_still_watched(
    daemon, monkeypatch
):
    monkeypatch.setattr(reload_module, "FILE_CHECK", 0.02)
    async with daemon.running():
        monkeypatch.setattr(daemon.app.reload, "load", lambda: 1 / 0)
        async with daemon.session.post("/-/reload") as answer:
            assert answer.status == 500
        assert await daemon.metric(LOADED) == 0
        daemon.write("one", "two", "three")
        await asyncio.sleep(0.2)  # it is read, fails again, and is looked at further
        monkeypatch.setattr(daemon.app.reload, "load", daemon.load)
        daemon.write("three", "one")
        await daemon.until(lambda: daemon.watched() == {"one", "three"})


async def test_a_poll_that_hangs_does_not_hold_up_the_end_and_is_no_error(daemon, monkeypatch, caplog):
    monkeypatch.setattr(app_module, "POLL_PATIENCE", timedelta(seconds=0.1))
    daemon.pretend.add_fault(Fault(kind=FaultKind.HANG))
    async with daemon.running():
        await daemon.until(lambda: daemon.app.schedule._running and daemon.app.rounds.looks._turns.running)
        loop = asyncio.get_running_loop()
        started = loop.time()
    assert loop.time() - started < 8  # the poll would have gone on for 10
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_what_the_store_forgets_is_forgotten_in_memory_too(daemon):
    async with daemon.running():
        await daemon.until(daemon.app.surface.ready)
        daemon.write("two")
        await daemon.app.surface.reload()
        [(key, record)] = daemon.app.book._remembered.items()
        prune = daemon.app.schedule._scheduler.get_job("prune").func
        await asyncio.create_task(prune())
        assert daemon.app.book._remembered == {key: record}
        daemon.app.book._remembered[key] = replace(record, dropped_at=utc_now() - timedelta(days=2))
        await asyncio.create_task(prune())
        assert daemon.app.book._remembered == {}
