"""Finding the batches of an account: the daemon as one process, against the pretend Ultravox on a real socket.

The pretend API's clock is put forward by the tests: the daemon judges batches by it, and runs on its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import yaml
from test_app import Daemon

from monitor import config, simulator
from monitor.clock import utc_now
from monitor.model import BatchKey, FailureReason, Phase, State
from monitor.simulator import Fault, FaultKind
from monitor.ultravox import UltravoxError
from monitor.ultravox import client as client_module
from monitor.web import ReloadRefusedError

STORY = """
accounts:
  - name: main
    agents:
      - name: renewals-de
        batches:
          - {name: one, calls: 1000, pace: 60/h, window: {start: -1h}, created: -3h}
          - {name: two, calls: 1000, pace: 60/h, created: -2h, script: [{at: 10m, do: stall}]}
          - {name: three, calls: 1000, pace: 60/h, created: -1h}
          - {name: done, calls: 10, pace: 60/s, created: -30m}
      - name: Renewals-FR
        batches:
          - {name: waits, calls: 10, window: {start: 90h}}
          - {name: new, calls: 10000, pace: 60/h, created: 2h}
      - {name: surveys, batches: [{name: survey, calls: 1000, pace: 60/h}]}
      - {name: idle}
"""
KEPT = {"one", "two", "three", "waits", "survey"}
QUIET = {"interval": "1h", "account_interval": "1h", "outcomes_interval": "1d"}


class Finder(Daemon):
    """A daemon that finds its batches."""

    def __init__(self, folder, story=STORY):
        self.ahead = timedelta(0)
        super().__init__(
            folder, simulator.Simulator(simulator.load(story), clock=lambda: utc_now() + self.ahead)
        )
        [account] = self.accounts
        self.names = {
            BatchKey(str(agent.agent_id), str(batch.batch_id)): batch.name
            for agent in account.agents
            for batch in agent.batches
        }
        self.keys = {name: key for key, name in self.names.items()}
        self.agents = {agent.name: str(agent.agent_id) for agent in account.agents}

    def discover(self, *, batches=(), poll=QUIET, account=None, stored=False, **discover):
        """Configure this; with `batches` alone nothing is found. Unless `interval` is given, no discovery comes by itself."""
        found = {"interval": "1h"} | discover if discover or not batches else None
        block = {
            "name": "main",
            "api_key": "${KEY_main}",
            "base_url": self.pretend.base_url,
            "batches": list(batches),
            "discover": found,
            "max_requests_per_second": 150,
        }
        web = {"listen_address": "127.0.0.1:0"}
        document = {"accounts": [block | (account or {})], "poll": poll, "web": web}
        if not stored:
            document["storage"] = {"path": None}
        self.path.write_text(yaml.safe_dump(document))

    @asynccontextmanager
    async def running(self):
        async with super().running():
            await self.until(self.app.surface.ready)
            yield self

    def watched(self):
        return {self.names[key] for key in self.app.book.statuses}

    def status(self, name):
        return self.app.book.statuses[self.keys[name]]

    async def look(self):
        """One discovery, now; what it asked."""
        self.pretend.requests.clear()
        await self.app.rounds._discovery.run("main")
        return Counter(seen.endpoint for seen in self.pretend.requests if seen.endpoint.startswith("list_"))

    async def pass_time(self, *, steps=1, **by):
        for _ in range(steps):
            self.ahead += timedelta(**by)
            await self.look()

    async def stall(self):
        """Let time pass until `two` has stalled, and that was told."""
        await self.pass_time(steps=6, minutes=10)
        assert self.status("two").assessment.state is State.STALLED
        assert self.firing("two") == {"BatchStalled"}

    def firing(self, name):
        return {state.name.value for state in self.status(name).alerts if state.phase is Phase.FIRING}

    def answer(self, endpoint, change):
        """Have each answer of this endpoint pass through this."""
        routes = self.pretend._api._routes
        routes[endpoint] = lambda asked, made=routes[endpoint]: change(made(asked))


@pytest.fixture
async def finder(tmp_path):
    made = Finder(tmp_path)
    await made.pretend.start()
    made.discover()
    yield made
    await made.pretend.stop()


def said(caplog, text):
    return [record for record in caplog.records if record.getMessage() == text]


@pytest.mark.parametrize("changed", [{}, {"max_batches": 500}])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_reload_while_agents_are_listed_does_not_lose_the_first_discovery(
    finder, monkeypatch, changed, fails
):
    listing, begun, held = client_module.Client.list_agents, asyncio.Event(), asyncio.Event()

    async def first_is_held(client):
        if not begun.is_set():
            begun.set()
            await held.wait()
            if fails:
                raise UltravoxError(FailureReason.TIMEOUT, "no full answer within 10 s")
        return await listing(client)

    monkeypatch.setattr(client_module.Client, "list_agents", first_is_held)
    async with Daemon.running(finder):
        await begun.wait()
        finder.discover(**changed, interval="59m" if changed else "1h")
        await finder.app.surface.reload()
        held.set()
        if fails and not changed:  # the same plan: it has been tried, and the interval goes on
            await finder.until(finder.app.surface.ready)
            await finder.look()
        await finder.until(lambda: finder.watched() >= KEPT)
        await finder.until(finder.app.surface.ready)


# What is found


async def test_everything_is_found_by_one_list_of_agents_and_one_list_of_batches_for_each(finder):
    async with finder.running():
        asked = Counter(seen.endpoint for seen in finder.pretend.requests)
        assert (asked["list_agents"], asked["list_batches"]) == (1, 4)
        assert finder.watched() == KEPT | {"done"}
        assert all(status.progress for status in finder.app.book.statuses.values())
        assert await finder.look() == {"list_agents": 1, "list_batches": 4}
        assert await finder.metric('ultravox_monitor_batches_over_limit{account="main"}') == 0
        found_at = await finder.metric(
            'ultravox_monitor_discovery_last_success_timestamp_seconds{account="main"}'
        )
        assert abs(found_at - utc_now().timestamp()) < 60


async def test_lists_are_read_to_their_last_page(finder, monkeypatch):
    monkeypatch.setattr(client_module, "PAGE_SIZE", 2)
    async with finder.running():
        assert await finder.look() == {"list_agents": 2, "list_batches": 2 + 1 + 1 + 1}
        assert finder.watched() == KEPT | {"done"}


async def test_without_a_file_the_account_of_the_key_is_watched_whole(finder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    environ = {"ULTRAVOX_API_KEY": finder.accounts[0].api_key, "ULTRAVOX_BASE_URL": finder.pretend.base_url}
    finder.load = lambda: config.load_default(environ, listen_address="127.0.0.1:0")
    async with finder.running():
        assert finder.watched() == KEPT | {"done"}
        assert {status.target.account for status in finder.app.book.statuses.values()} == {"default"}
        async with finder.session.get("/") as answer:
            assert "renewals-de" in await answer.text()


async def test_a_batch_that_is_created_appears_within_an_interval(tmp_path):
    finder = Finder(
        tmp_path, "accounts: [{name: main, agents: [{name: a, batches: [{name: b, created: 2s, calls: 9}]}]}]"
    )
    await finder.pretend.start()
    finder.discover(interval="1s")
    async with finder.running():
        assert finder.watched() == set()
        await finder.until(lambda: finder.watched() and finder.status("b").progress)
        seen = finder.status("b").progress.last
        assert seen.at - seen.created < timedelta(seconds=3)
    await finder.pretend.stop()


async def test_a_batch_that_is_created_is_found_with_the_next_discovery(finder):
    async with finder.running():
        await finder.pass_time(minutes=100)
        assert "new" not in finder.watched()
        await finder.pass_time(minutes=21)
        assert "new" in finder.watched()
        assert finder.status("new").progress is not None


async def test_what_has_ended_leaves_when_it_has_been_over_for_long_and_stays_away(finder):
    finder.discover(keep_ended_for="6h")
    async with finder.running():
        assert "done" in finder.watched()
        assert finder.status("done").progress.last.ended_at is not None
        ended = finder.status("done").progress.last.ended_at
        finder.ahead += ended + timedelta(hours=5, minutes=50) - finder.pretend._clock()
        await finder.look()
        assert "done" in finder.watched()
        await finder.pass_time(minutes=20)
        assert "done" not in finder.watched()
        await finder.look()
        assert "done" not in finder.watched()


async def test_an_ended_batch_that_is_deleted_leaves(finder):
    async with finder.running():
        gone = finder.keys["done"].batch_id

        def without(page):
            left = [one for one in page["results"] if one["batchId"] != gone]
            return page | {"results": left, "total": len(left)}

        finder.answer("list_batches", without)
        await finder.look()
        assert finder.watched() == KEPT


async def test_batches_created_too_long_ago_are_left_alone(finder):
    finder.discover(max_age="150m")
    async with finder.running():
        assert finder.watched() == KEPT - {"one"} | {"done"}


async def test_found_batches_have_the_names_of_their_agents_their_start_and_their_id(finder):
    async with finder.running():
        for name, agent in (("one", "renewals-de"), ("two", "renewals-de"), ("survey", "surveys")):
            status = finder.status(name)
            seen = status.progress.last
            start = (seen.window_start or seen.created).strftime("%Y-%m-%d %H:%M")
            assert status.agent == agent
            assert status.batch == f"{agent} {start} {status.key.batch_id[:8]}"
        assert [seen for seen in finder.pretend.requests if seen.endpoint == "get_agent"] == []


async def test_agents_are_chosen_by_patterns_of_their_names_in_any_case_and_by_id(finder):
    finder.discover(agents=["RENEWALS-f*", finder.agents["surveys"].upper()])
    async with finder.running():
        assert finder.watched() == {"waits", "survey"}
        assert await finder.look() == {"list_agents": 1, "list_batches": 2}


# Configured ones


def configured(finder, batch, **more):
    key = finder.keys[batch]
    return {"agent_id": key.agent_id, "batch_id": key.batch_id} | more


async def test_a_batch_that_is_configured_keeps_its_name_its_labels_and_its_alerts(finder):
    settings = {"name": "mine", "labels": {"team": "growth"}, "alerts": {"stalled": {"after": "7m"}}}
    agents = [{"agent_id": finder.agents["renewals-de"], "name": "Renewals", "labels": {"country": "de"}}]
    finder.discover(
        batches=[configured(finder, "one", **settings)], account={"agents": agents}, keep_ended_for="24h"
    )
    async with finder.running():
        await finder.look()
        one, two = finder.status("one"), finder.status("two")
        assert (one.batch, dict(one.target.labels)) == ("mine", {"country": "de", "team": "growth"})
        assert finder.app.book.watches[one.key].rules.stall_after == timedelta(minutes=7)
        assert two.batch.startswith("Renewals 20")
        assert dict(two.target.labels) == {"country": "de"}
        assert finder.app.book.watches[two.key].rules.stall_after == timedelta(minutes=15)
        assert finder.watched() == KEPT | {"done"}


async def test_a_configured_batch_counts_for_no_limit_and_does_not_leave_when_it_has_ended(finder):
    finder.discover(batches=[configured(finder, "done")], max_batches=5, keep_ended_for="1s")
    async with finder.running():
        await finder.pass_time(hours=1)
        assert finder.watched() == KEPT | {"done"}
        assert await finder.metric('ultravox_monitor_batches_over_limit{account="main"}') == 0


async def test_a_found_batch_may_be_configured_and_a_configured_one_found_and_nothing_is_closed(
    finder, caplog
):
    caplog.set_level("INFO")
    async with finder.running():
        await finder.stall()
        for batches in ([configured(finder, "two", name="mine")], []):
            finder.discover(batches=batches, keep_ended_for="24h")
            await finder.app.surface.reload()
            assert finder.firing("two") == {"BatchStalled"}
            await finder.look()
            assert finder.firing("two") == {"BatchStalled"}
            assert (finder.status("two").batch == "mine") is bool(batches)
        assert len(said(caplog, "alert firing")) == 1
        assert said(caplog, "alert resolved") == []


# Limits


OVER = "MORE BATCHES THAN MAY BE WATCHED"


async def test_more_batches_than_may_be_watched_are_said_loudly_everywhere_once(finder, caplog):
    finder.discover(max_batches=2, agents=["renewals-de", "surveys"])
    async with finder.running():
        await finder.look()
        assert len(finder.watched()) == 2
        loud = [record for record in caplog.records if record.getMessage().startswith(OVER)]
        assert [record.levelname for record in loud] == ["ERROR"]
        assert await finder.metric('ultravox_monitor_batches_over_limit{account="main"}') == 3
        async with finder.session.get("/") as answer:
            assert "3 batches of account main are not watched: discover.max_batches is reached" in (
                await answer.text()
            )
        finder.discover(agents=["renewals-de", "surveys"])
        await finder.app.surface.reload()
        await finder.until(lambda: len(finder.watched()) == 5)
        await finder.look()
        assert await finder.metric('ultravox_monitor_batches_over_limit{account="main"}') == 0
        async with finder.session.get("/") as answer:
            assert "are not watched" not in await answer.text()


async def test_where_there_is_no_room_for_all_the_newest_that_have_not_ended_are_watched(finder):
    finder.discover(max_batches=2, agents=["renewals-de"])
    async with finder.running():
        await finder.look()
        assert finder.watched() == {"two", "three"}


# What fails


async def test_a_list_of_agents_that_fails_drops_nothing_and_is_said_once(finder, caplog):
    caplog.set_level("INFO")
    async with finder.running():
        finder.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="list_agents"))
        for _ in range(3):
            await finder.look()
        assert finder.watched() == KEPT | {"done"}
        assert len(said(caplog, "discovery fails")) == 1
        finder.pretend.clear_faults()
        for _ in range(2):
            await finder.look()
        assert len(said(caplog, "discovery succeeds again")) == 1


async def test_a_list_of_batches_that_fails_drops_nothing_and_is_said_once(finder, caplog):
    caplog.set_level("INFO")
    async with finder.running():
        before = finder.app.rounds.discoveries()[0].last_success_at
        finder.pretend.add_fault(Fault(kind=FaultKind.NOT_FOUND, endpoint="list_batches"))
        for _ in range(2):
            await finder.look()
        assert finder.watched() == KEPT | {"done"}
        assert len(said(caplog, "discovery is incomplete")) == 1
        assert finder.app.rounds.discoveries()[0].last_success_at == before
        finder.pretend.clear_faults()
        await finder.look()
        assert len(said(caplog, "discovery succeeds again")) == 1
        assert finder.app.rounds.discoveries()[0].last_success_at > before


async def test_it_is_ready_when_discovery_was_tried_and_not_before(finder):
    finder.pretend.add_fault(Fault(kind=FaultKind.LATENCY, seconds=0.3, endpoint="list_batches"))
    async with Daemon.running(finder):
        assert not finder.app.surface.ready()
        async with finder.session.get("/-/ready") as answer:
            assert answer.status == 503
        await finder.until(finder.app.surface.ready)
        assert finder.watched() == KEPT | {"done"}


async def test_a_discovery_that_failed_was_tried(finder):
    finder.pretend.add_fault(Fault(kind=FaultKind.UNAUTHORIZED))
    async with Daemon.running(finder):
        await finder.until(finder.app.surface.ready)
        assert finder.watched() == set()
        assert finder.app.rounds.discoveries()[0].last_success_at is None
        name = 'ultravox_monitor_discovery_last_success_timestamp_seconds{account="main"}'
        assert await finder.metric(name) is None


# Restarts and reloads


async def test_after_a_restart_found_batches_are_watched_on_and_nothing_is_told_again(finder, caplog):
    caplog.set_level("INFO")
    finder.discover(stored=True)
    async with finder.running():
        await finder.stall()
        before = finder.status("two")
    finder.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="list_agents"))
    async with finder.running():
        assert finder.watched() == KEPT | {"done"}
        assert finder.status("two").alerts == before.alerts
        finder.pretend.clear_faults()
        await finder.look()
        await finder.pass_time(minutes=10)
        assert finder.firing("two") == {"BatchStalled"}
        assert finder.status("two").batch == before.batch
    assert len(said(caplog, "alert firing")) == 1
    assert said(caplog, "alert resolved") == []


async def test_a_reload_before_the_agents_could_be_listed_anew_closes_nothing(finder, caplog):
    caplog.set_level("INFO")
    finder.discover(agents=["renewals-*"], stored=True)
    async with finder.running():
        await finder.stall()
    finder.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR))
    async with finder.running():
        await finder.app.surface.reload()
        assert finder.firing("two") == {"BatchStalled"}
    assert said(caplog, "alert resolved") == []


async def test_a_reload_without_discovery_closes_what_was_found_and_needs_somebody_who_means_it(
    finder, caplog
):
    caplog.set_level("INFO")
    async with finder.running():
        await finder.stall()
        finder.discover(batches=[configured(finder, "survey", name="mine")])
        with pytest.raises(ReloadRefusedError, match="would drop 5 of 6 watched batches"):
            await finder.app.reload.run(asked_for=False)
        assert finder.watched() == KEPT | {"done"}
        await finder.app.surface.reload()
        assert finder.watched() == {"survey"}
        assert [record.batch_id for record in said(caplog, "alert resolved")] == [finder.keys["two"].batch_id]
        assert "no longer watched" in said(caplog, "alert resolved")[0].summary
        assert finder.app.rounds.discoveries() == ()
        left = {job.id.partition(":")[0] for job in finder.app.schedule._scheduler.get_jobs()}
        assert left == {"canary", "outcomes", "probe", "prune", "tick"}
        text = await (await finder.session.get("/metrics")).text()
        assert finder.keys["two"].batch_id not in text


async def test_a_reload_that_wants_other_agents_finds_theirs_at_once(finder):
    finder.discover(agents=["surveys"])
    async with finder.running():
        assert finder.watched() == {"survey"}
        finder.discover(agents=["renewals-fr"])
        await finder.app.surface.reload()
        await finder.until(lambda: finder.watched() == {"waits"})


async def test_a_reload_that_changes_nothing_of_it_asks_for_no_discovery(finder):
    async with finder.running():
        finder.pretend.requests.clear()
        await finder.app.surface.reload()
        await asyncio.sleep(0.05)
        assert [seen for seen in finder.pretend.requests if seen.endpoint.startswith("list_")] == []
        assert finder.watched() == KEPT | {"done"}


# Agents that change


async def test_an_agent_whose_new_name_is_not_wanted_takes_its_batches_with_it(finder):
    finder.discover(agents=["renewals-*"])

    def renamed(page):
        for one in page["results"]:
            one["name"] = {"renewals-de": "retired", "surveys": "renewals-uk"}.get(one["name"], one["name"])
        return page

    async with finder.running():
        assert finder.watched() == {"one", "two", "three", "done", "waits"}
        finder.answer("list_agents", renamed)
        await finder.look()
        assert finder.watched() == {"waits", "survey"}
        assert finder.status("survey").agent == "renewals-uk"
        wanted = {("main", finder.agents[name]) for name in ("Renewals-FR", "surveys")}
        assert finder.app.rounds.lists.agents.keys() == wanted
        assert not finder.app.rounds.lists._turns._turns  # each has one batch: their lists spare no request


async def test_a_renamed_agent_s_batches_are_spoken_of_by_its_new_name(finder):
    async with finder.running():
        finder.answer(
            "list_agents",
            lambda page: (
                page | {"results": [one | {"name": f"new {one['name']}"} for one in page["results"]]}
            ),
        )
        await finder.look()
        await finder.look()
        assert finder.status("one").agent == "new renewals-de"
        assert finder.status("one").batch.startswith("new renewals-de 20")


async def test_an_agent_that_is_deleted_takes_no_batch_with_it_until_they_are_gone_themselves(finder):
    gone = finder.agents["surveys"]

    def without(page):
        left = [one for one in page["results"] if one["agentId"] != gone]
        return page | {"results": left, "total": len(left)}

    async with finder.running():
        finder.answer("list_agents", without)
        assert await finder.look() == {"list_agents": 1, "list_batches": 3}
        assert "survey" in finder.watched()
        finder.pretend.add_fault(Fault(kind=FaultKind.NOT_FOUND, endpoint="get_batch"))
        for _ in range(3):
            await finder.app.rounds.looks.poll(finder.keys["survey"])
        assert finder.status("survey").assessment.state is State.GONE
