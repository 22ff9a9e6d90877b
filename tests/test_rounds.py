"""What is asked when: rounds on a moved clock, against the pretend Ultravox on a real socket."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from functools import partial

import pytest
from pydantic import SecretStr
from receivers import MovedClock
from samples import NOW

from monitor import simulator, ultravox
from monitor.alerts import Policy
from monitor.evaluate import Rules
from monitor.metrics import Instruments
from monitor.model import BatchKey, FailureReason, State, Target
from monitor.poller import Book, Poller
from monitor.rounds import Plan, Rounds
from monitor.rounds.lists import TRY_LISTING_EVERY
from monitor.rounds.plan import AgentKey
from monitor.schedule import SpreadTrigger
from monitor.simulator import Fault, FaultKind
from monitor.store import Store
from monitor.targets import Discovery, Watch
from monitor.ultravox import ApiSettings, Client
from monitor.ultravox import client as client_module

INTERVAL = timedelta(seconds=30)
STORY = """
accounts:
  - name: main
    agents:
      - name: many
        batches:
          - {name: a, calls: 10000}
          - {name: b, calls: 10000}
          - {name: c, calls: 10000}
          - {name: d, calls: 10000}
          - {name: vanishes, calls: 10000, script: [{at: 10m, do: delete}]}
          - {name: closes, calls: 10000, window: {end: 30m}}
      - {name: alone, batches: [{name: lone, calls: 10000}]}
      - {name: later, batches: [{name: waits, calls: 10000, window: {start: 21m, end: 9h}}]}
      - name: mixed
        batches:
          - {name: runs, calls: 10000}
          - {name: runs-too, calls: 10000}
          - {name: waits-long, calls: 10000, window: {start: 20h}}
          - {name: waits-longer, calls: 10000, window: {start: 30h}}
      - {name: sleepy, batches: [{name: sleeps, calls: 9, window: {start: 20h}}]}
      - {name: short, batches: [{name: ends, calls: 5, pace: 1/s}, {name: next, created: 10m, calls: 10000}]}
  - {name: other, agents: [{name: far, batches: [{name: x, calls: 10000}, {name: y, calls: 10000}]}]}
"""


class Jobs:
    """The face of Schedule on a moved clock: every job runs at its own instant, and is awaited there."""

    def __init__(self, clock):
        self.clock = clock
        self.jobs = {}  # [when next, its trigger (None: once), what]
        self.not_awaited = lambda job_id: False
        self.running = {}
        self.skipped = []
        self.on_skipped = {}

    def every(self, job_id, interval, job, *, place=None, first_after=None, first_not_after=None):
        trigger, now = SpreadTrigger(place or job_id, interval), self.clock()
        at = trigger.get_next_fire_time(None, now)
        if first_after is not None:
            at = now + first_after
        elif first_not_after is not None:
            at = min(at, now + first_not_after)
        self.jobs[job_id] = [at, trigger, job]

    def once(self, job_id, at, job):
        self.jobs[job_id] = [at, None, job]

    def remove(self, job_id):
        self.jobs.pop(job_id, None)

    def next_run(self, job_id):
        return self.jobs[job_id][0] if job_id in self.jobs else None

    def turns(self, name, job, *, on_skipped):
        self.on_skipped[name] = on_skipped
        return JobEach(self, name, job)

    async def until(self, at):
        """Let time pass, and every job have its turns."""
        while self.jobs:
            job_id = min(self.jobs, key=lambda each: (self.next_run(each), str(each)))
            due, trigger, job = self.jobs[job_id]
            if due > at:
                break
            self.clock.now = max(self.clock.now, due)
            if trigger is None:
                del self.jobs[job_id]
            else:
                self.jobs[job_id][0] = trigger.get_next_fire_time(due, self.clock.now)
            if not self.not_awaited(job_id):
                await job()
            elif job_id in self.running:
                self.skipped.append(job_id)
            else:
                self.running[job_id] = asyncio.create_task(job())
        self.clock.now = max(self.clock.now, at)

    async def stop(self):
        for task in self.running.values():
            task.cancel()
        await asyncio.gather(*self.running.values(), return_exceptions=True)


class JobEach:
    """The face of Turns: here each key has a job of its own, whose id it is."""

    def __init__(self, jobs, name, job):
        self.jobs, self.name, self.job = jobs, name, job
        self.once = lambda key, at: jobs.once(key, at, partial(job, key))
        self.remove, self.next_run = jobs.remove, jobs.next_run

    def every(self, key, interval, **when):
        self.jobs.every(key, interval, partial(self.job, key), place=f"{self.name}:{key}", **when)


class World:
    """Rounds over accounts of the pretend Ultravox."""

    def __init__(self, clock):
        self.clock = clock
        self.pretend = simulator.Simulator(simulator.load(STORY), clock=clock)
        self.accounts = {account.name: account for account in self.pretend.scenario.accounts}
        self.keys = {
            batch.name: BatchKey(str(agent.agent_id), str(batch.batch_id))
            for account in self.accounts.values()
            for agent in account.agents
            for batch in agent.batches
        }
        self.schedule = Jobs(clock)
        self.delivered = []
        self.clients = []

    async def start(self):
        await self.pretend.start()
        self.instruments = Instruments(endpoints=ultravox.ENDPOINTS, send_failures=(), now=self.clock())
        self.store = Store(None, clock=self.clock)
        self.book = Book(
            store=self.store,
            instruments=self.instruments,
            clock=self.clock,
            deliver=self.delivered.extend,
        )
        self.book.restore(await self.store.open())
        self.poller = Poller(self.book)
        self.rounds = Rounds(self.schedule, self.poller, clock=self.clock)

    async def stop(self):
        await self.schedule.stop()
        await self.poller.stop()
        for client in self.clients:
            await client.close()
        await self.store.close()
        await self.pretend.stop()

    async def watch_account(self, name="main", *, of=None, discovery=None, interval=INTERVAL):
        """Watch an account; `of`: the one whose key it has."""
        key = SecretStr(self.accounts[of or name].api_key)
        settings = ApiSettings(name, key, self.pretend.base_url, max_requests_per_second=10_000)
        self.clients.append(Client(settings, clock=self.clock))
        await self.book.watch_account(name, self.clients[-1], Policy())
        hours = timedelta(hours=100)
        self.rounds.watch_account(name, Plan(interval, hours, hours, 10_000, discovery))

    async def watch(self, *names, account="main", of=None):
        """Watch these batches as if they were configured, and an account for them."""
        if account not in self.book.accounts:
            await self.watch_account(account, of=of)
        for name in names:
            self.rounds.watch(Watch(Target(account, self.keys[name], name=name)), found=False)

    async def pass_time(self, **by):
        """Let time pass; what was asked meanwhile, by endpoint."""
        self.pretend.requests.clear()
        await self.schedule.until(self.clock() + timedelta(**by))
        return Counter(seen.endpoint for seen in self.pretend.requests if seen.endpoint in LOOKS)

    async def settle(self):
        """Two intervals, after which it is known which pages pay."""
        await self.pass_time(minutes=1)

    def asked(self, name):
        """How often this batch was asked for by its id since time last passed."""
        path = f"/scheduled_batches/{self.keys[name].batch_id}"
        return sum(seen.path.endswith(path) for seen in self.pretend.requests)

    def status(self, name):
        return self.book.statuses[self.keys[name]]

    def age(self, name):
        """How long ago it was last looked at."""
        return self.clock() - self.status(name).last_poll_at

    def job(self, name):
        return self.keys[name]

    def account_of(self, job_id):
        """Whom this job asks for batches, one or a page of them."""
        match job_id:
            case BatchKey():
                return self.book.watches[job_id].target.account
            case AgentKey():
                return job_id.account

    def round(self, name, account="main"):
        return AgentKey(account, self.keys[name].agent_id)

    def polls(self, account="main"):
        return self.instruments.registry.get_sample_value(
            "ultravox_monitor_polls_total", {"account": account}
        )

    def spoil_list(self, spoil):
        """Have each list of batches pass through this before it is sent."""
        routes = self.pretend._api._routes
        routes["list_batches"] = lambda asked, made=routes["list_batches"]: spoil(made(asked))


LOOKS = {"get_batch", "list_batches", "list_agents"}


@pytest.fixture
async def world():
    made = World(MovedClock())
    await made.start()
    yield made
    await made.stop()


# Pages


async def test_running_batches_on_one_page_are_looked_at_by_one_request_an_interval(world):
    await world.watch("a", "b", "c", "d")
    await world.settle()
    before = world.polls()
    assert await world.pass_time(minutes=5) == {"list_batches": 10}
    assert world.polls() - before == 40
    for name in "abcd":
        assert world.age(name) <= INTERVAL
        assert world.status(name).next_poll_at == world.schedule.next_run(world.round(name))
        assert world.schedule.next_run(world.job(name)) is None


async def test_no_batch_waits_longer_than_an_interval_for_its_first_look(world):
    await world.watch("a", "b", "c", "d", "lone", "waits")
    assert not world.rounds.attempted_all()
    await world.pass_time(seconds=30)
    assert world.rounds.attempted_all()
    assert all(world.status(name).progress for name in ("a", "b", "c", "d", "lone", "waits"))


async def test_a_batch_alone_of_its_agent_is_asked_for_by_its_id(world):
    await world.watch("lone")
    await world.settle()
    assert await world.pass_time(minutes=5) == {"get_batch": 10}


async def test_a_list_of_one_batch_has_no_turn_but_two_have_and_what_is_left_of_them_is_looked_at(world):
    await world.watch("a")
    assert world.schedule.next_run(world.round("a")) is None
    await world.watch("b", "c")
    await world.settle()
    assert await world.pass_time(minutes=5) == {"list_batches": 10}
    await world.rounds.unwatch([world.keys["b"], world.keys["c"]])
    assert (
        world.schedule.next_run(world.round("a")) is not None
    )  # the page that has covered it, until it covers it no more
    await world.settle()
    assert world.schedule.next_run(world.round("a")) is None
    assert await world.pass_time(minutes=5) == {"get_batch": 10}
    await world.watch("b")
    await world.settle()
    assert await world.pass_time(minutes=5) == {"list_batches": 10}


async def test_a_batch_alone_that_discovery_looks_at_is_looked_at_next_when_discovery_is(world):
    await world.watch_account(discovery=SLEEPY)
    await world.pass_time(minutes=10)
    assert world.status("sleeps").next_poll_at == world.schedule.next_run("discover:main") > world.clock()
    assert await world.pass_time(minutes=10) == {"list_agents": 5, "list_batches": 5}


async def test_a_batch_that_is_missing_from_its_page_is_asked_for_by_its_id(world):
    await world.watch("a", "b", "vanishes")
    await world.pass_time(minutes=9)
    assert await world.pass_time(seconds=30) == {"list_batches": 1}
    await world.pass_time(seconds=60)
    assert world.status("vanishes").failing.reason is FailureReason.NOT_FOUND
    assert world.asked("vanishes") >= 1
    await world.pass_time(minutes=2)
    assert world.status("vanishes").assessment.state is State.GONE
    assert world.asked("a") == world.asked("b") == 0
    assert world.age("a") <= INTERVAL
    asked = await world.pass_time(hours=1)
    assert (asked["list_batches"], world.asked("vanishes") < 8) == (120, True)


async def test_batches_missing_from_their_page_are_not_believed_gone_for_that(world):
    await world.watch("a", "b", "c")
    await world.settle()
    hidden = world.keys["b"].batch_id

    def without(page):
        return page | {"results": [one for one in page["results"] if one["batchId"] != hidden]}

    world.spoil_list(without)
    await world.pass_time(minutes=3)
    assert world.asked("b") >= 6
    assert world.asked("a") == world.asked("c") == 0
    assert (world.status("b").failing, world.status("b").assessment.state) == (None, State.RUNNING)
    assert world.age("b") <= INTERVAL


async def test_a_list_that_fails_is_a_failed_poll_of_all_that_it_covers_and_nothing_more_is_asked(world):
    await world.watch("a", "b", "c")
    await world.settle()
    world.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="list_batches"))
    assert await world.pass_time(seconds=60) == {"list_batches": 2}
    for name in "abc":
        failing = world.status(name).failing
        assert (failing.count, failing.reason) == (2, FailureReason.SERVER_ERROR)
    world.pretend.clear_faults()
    assert await world.pass_time(seconds=30) == {"list_batches": 1}
    assert not any(world.status(name).failing for name in "abc")


@pytest.mark.parametrize("kind", [FaultKind.NOT_FOUND, FaultKind.HTML])
async def test_a_list_that_is_no_list_is_no_failed_poll_the_batches_are_asked_for_by_their_ids(world, kind):
    await world.watch("a", "b", "c")
    await world.settle()
    world.pretend.add_fault(Fault(kind=kind, endpoint="list_batches"))
    for _ in range(4):
        await world.pass_time(seconds=30)
        assert all(world.asked(name) in {1, 2} for name in "abc")  # twice where the list is given up
        assert not any(world.status(name).failing for name in "abc")
        assert all(world.age(name) <= INTERVAL for name in "abc")


async def test_an_entry_that_cannot_be_read_is_the_failed_poll_of_its_batch_alone(world):
    await world.watch("a", "b", "c")
    await world.settle()
    bad = world.keys["b"].batch_id

    def spoilt(page):
        for one in page["results"]:
            if one["batchId"] == bad:
                one["totalCount"] = "many"
        return page

    world.spoil_list(spoilt)
    assert await world.pass_time(seconds=30) == {"list_batches": 1}
    failing = world.status("b").failing
    assert (failing.count, failing.reason) == (1, FailureReason.BAD_RESPONSE)
    assert (world.status("a").failing, world.status("c").failing) == (None, None)


async def test_only_pages_that_spare_more_than_they_cost_are_read(world, monkeypatch):
    """Pages of two, in the order of the story: a and b, c and d, vanishes and closes."""
    monkeypatch.setattr(client_module, "PAGE_SIZE", 2)
    await world.watch("a", "b", "d", "lone")
    await world.settle()
    assert await world.pass_time(minutes=2) == {"list_batches": 4, "get_batch": 8}
    assert world.asked("d") == world.asked("lone") == 4


async def test_pages_that_did_not_pay_are_tried_anew_later(world, monkeypatch):
    monkeypatch.setattr(client_module, "PAGE_SIZE", 1)
    await world.watch("a", "b")
    await world.settle()
    again = world.clock() + TRY_LISTING_EVERY
    assert await world.pass_time(minutes=8) == {"get_batch": 32}
    monkeypatch.setattr(client_module, "PAGE_SIZE", 100)
    await world.schedule.until(again)
    assert await world.pass_time(minutes=2) == {"list_batches": 4}


async def test_a_page_that_has_just_been_read_is_not_read_again(world):
    await world.watch("a", "b", "c")
    await world.settle()
    name, agent_id = "main", world.keys["a"].agent_id
    await world.rounds.lists.read(name, agent_id, None)
    world.clock.move(seconds=0.9)
    world.pretend.requests.clear()
    await world.rounds.lists.turn(AgentKey(name, agent_id))
    assert not world.pretend.requests
    world.clock.move(seconds=0.2)  # else its batches would be seen so much later than each interval
    await world.rounds.lists.turn(AgentKey(name, agent_id))
    assert len(world.pretend.requests) == 1


# Phases


async def test_pages_that_come_together_are_judged_one_for_each_turn_of_the_loop(world, monkeypatch):
    order = []

    async def judged(*_):
        order.append("page")

    async def others():
        while order.count("page") < 5:
            order.append("others")
            await asyncio.sleep(0)

    monkeypatch.setattr(world.rounds.looks, "take", judged)
    await asyncio.gather(others(), *(world.rounds.lists.take("main", {}, 0.0) for _ in range(5)))
    assert order.count("page") == 5
    assert "page page" not in " ".join(order)


async def test_a_batch_that_waits_is_looked_at_seldom_and_right_when_its_window_opens(world):
    await world.watch("waits")
    await world.settle()
    assert await world.pass_time(minutes=15) == {"get_batch": 3}
    assert world.status("waits").assessment.state is State.WAITING
    opens = NOW + timedelta(minutes=21, seconds=1)
    await world.schedule.until(opens)
    assert world.status("waits").last_poll_at == opens
    assert world.status("waits").assessment.state is State.RUNNING
    assert await world.pass_time(minutes=2) == {"get_batch": 4}


async def test_a_batch_whose_window_closes_soon_gets_requests_of_its_own(world):
    await world.watch("a", "b", "c", "closes")
    await world.settle()
    await world.schedule.until(NOW + timedelta(minutes=24))
    assert await world.pass_time(seconds=30) == {"list_batches": 1}
    await world.schedule.until(NOW + timedelta(minutes=26))
    assert await world.pass_time(minutes=2) == {"list_batches": 4, "get_batch": 12}
    assert world.asked("closes") == 12


async def test_a_batch_that_has_ended_is_looked_at_each_hour_for_a_day_and_then_no_more(world):
    await world.watch("ends")
    await world.pass_time(minutes=20)  # its calls have come to their outcomes, and its end is told
    assert world.status("ends").assessment.state is State.ENDED
    assert await world.pass_time(hours=10) == {"get_batch": 11}  # one when its end has been told for an hour
    await world.pass_time(hours=17)
    assert await world.pass_time(hours=24) == {}
    assert world.schedule.next_run(world.job("ends")) is None
    assert world.status("ends").next_poll_at is None


async def test_an_ended_batch_among_running_ones_costs_no_page(world):
    await world.watch("ends", "lone")
    await world.pass_time(minutes=20)
    assert await world.pass_time(minutes=5) == {"get_batch": 10}
    assert world.asked("lone") == 10


async def test_another_interval_is_taken_over_by_pages_too(world):
    await world.watch("a", "b", "c", "lone")
    await world.settle()
    await world.watch_account(interval=timedelta(seconds=10))
    for name in ("a", "b", "c", "lone"):
        rules = Rules(interval=timedelta(seconds=10))
        world.rounds.watch(Watch(Target("main", world.keys[name], name=name), rules), found=False)
    await world.settle()
    assert await world.pass_time(minutes=1) == {"list_batches": 6, "get_batch": 6}


# Accounts


async def test_an_account_that_hangs_delays_no_other(world):
    await world.watch("a", "b", "c", "lone")
    await world.watch("x", "y", account="other")
    await world.settle()
    world.pretend.add_fault(Fault(kind=FaultKind.HANG, account="other"))
    world.schedule.not_awaited = lambda job_id: world.account_of(job_id) == "other"
    stuck = world.status("x").last_poll_at
    for _ in range(6):
        asked = await world.pass_time(seconds=30)
        assert (asked["list_batches"], asked["get_batch"]) == (1, 1)
        assert all(world.age(name) <= INTERVAL for name in ("a", "b", "c", "lone"))
    assert world.status("x").last_poll_at == stuck
    assert {world.account_of(job_id) for job_id in world.schedule.skipped} == {"other"}


async def test_a_batch_goes_from_one_account_to_another_with_its_history_and_nothing_of_it_stays(world):
    await world.watch("a", "b", "c")
    await world.pass_time(minutes=2)
    before = world.status("b").progress
    await world.watch("b", account="second", of="main")
    assert world.status("b").progress == before
    assert world.account_of(world.job("b")) == "second"
    polls = world.polls()
    await world.pass_time(minutes=2)
    assert world.polls() - polls == 8
    assert world.polls("second") == world.asked("b") in {4, 5}  # and one at once
    assert world.age("b") <= INTERVAL


async def test_what_an_account_sees_of_a_batch_that_has_just_left_it_counts_for_nothing(world):
    await world.watch("a", "b", "c")
    await world.settle()
    listing, before = world.clients[0].list_batches, world.status("b").last_poll_at

    async def left_meanwhile(agent_id, **options):
        async for page in listing(agent_id, **options):
            await world.watch("b", account="second", of="main")
            yield page

    world.clients[0].list_batches = left_meanwhile
    await world.pass_time(seconds=30)
    world.clock.move(seconds=20)
    await world.rounds.lists.turn(world.round("a"))
    assert world.age("a") == timedelta(0)
    assert world.age("b") > timedelta(0)
    assert world.polls("second") == world.asked("b")
    assert world.status("b").last_poll_at >= before


async def test_a_last_batch_that_goes_to_another_account_leaves_no_job_behind(world):
    await world.watch("a", "b", "c")
    await world.settle()
    await world.watch("a", "b", "c", account="second", of="main")
    assert world.round("a") not in world.schedule.jobs
    assert world.round("a", "second") in world.schedule.jobs
    before = world.polls()
    await world.settle()
    assert await world.pass_time(minutes=2) == {"list_batches": 4}
    assert world.polls() == before


async def test_a_turn_that_is_skipped_counts_for_the_account_whose_batch_it_is(world):
    await world.watch("a")
    await world.watch("x", account="other")
    world.schedule.on_skipped["batch"](world.keys["x"])
    world.schedule.on_skipped["round"](world.round("x", "other"))
    world.schedule.on_skipped["batch"](world.keys["lone"])  # watched no longer
    world.schedule.on_skipped["round"](AgentKey("gone", world.keys["x"].agent_id))
    skipped = world.instruments.registry.get_sample_value
    assert skipped("ultravox_monitor_polls_skipped_total", {"account": "other"}) == 2
    assert skipped("ultravox_monitor_polls_skipped_total", {"account": "gone"}) is None
    assert skipped("ultravox_monitor_polls_skipped_total", {"account": "main"}) == 0


async def test_what_is_watched_no_longer_is_asked_for_no_longer(world):
    await world.watch("a", "b", "c", "lone")
    await world.settle()
    await world.rounds.unwatch([world.keys["a"], world.keys["lone"]])
    await world.settle()
    assert await world.pass_time(minutes=2) == {"list_batches": 4}
    assert set(world.book.statuses) == {world.keys["b"], world.keys["c"]}
    await world.rounds.unwatch([world.keys["b"], world.keys["c"]])
    assert await world.pass_time(minutes=2) == {}
    assert set(world.schedule.jobs) == {"probe:main", "outcomes:main"}


# Discovery


async def test_an_account_that_is_watched_no_longer_leaves_no_job_behind(world):
    await world.watch_account("other", discovery=Discovery())
    await world.settle()
    assert set(world.book.watches) == {world.keys["x"], world.keys["y"]}
    await world.rounds.unwatch(list(world.book.watches))
    world.rounds.unwatch_account("other")
    assert world.schedule.jobs == {}


async def test_discovery_that_is_turned_off_leaves_no_job_behind(world):
    await world.watch_account("other", discovery=Discovery())
    await world.settle()
    await world.rounds.unwatch(list(world.book.watches))
    await world.watch_account("other")
    assert set(world.schedule.jobs) == {"probe:other", "outcomes:other"}


async def test_found_batches_cost_no_request_more_than_their_pages(world):
    """Six agents, two of them with more than one running batch; the others' pages are read by discovery, and some once
    to see whether they pay.
    """
    await world.watch_account(discovery=Discovery())
    await world.pass_time(minutes=14)  # what vanishes has vanished
    assert set(world.book.watches) >= {world.keys[name] for name in ("a", "lone", "waits", "ends")}
    asked = await world.pass_time(minutes=4)
    assert asked["list_agents"] == 2
    assert asked["list_batches"] <= 2 * 8 + 2 * 6 + 3
    assert world.asked("a") == world.asked("waits") == world.asked("ends") == 0
    assert world.asked("lone") <= 8
    assert all(world.age(name) <= INTERVAL for name in ("a", "b", "c", "d", "lone"))
    assert all(world.age(name) <= timedelta(minutes=2) for name in ("waits", "ends"))


DISCOVERY = Discovery(agents=("mixed",))
SLEEPY = Discovery(agents=("sleepy",))  # whose one batch waits, so that nothing but discovery reads its list


async def test_what_only_discovery_looks_at_is_not_missed_on_pages_that_it_is_not_on(world, monkeypatch):
    """Pages of two: those that run on the first, read each interval, those that wait on the second."""
    monkeypatch.setattr(client_module, "PAGE_SIZE", 2)
    await world.watch_account(discovery=DISCOVERY)
    await world.pass_time(minutes=10)
    assert world.status("waits-long").assessment.state is State.WAITING
    asked = await world.pass_time(minutes=4)
    assert asked["get_batch"] == 0
    assert asked["list_batches"] <= 8 + 2 * 2
    world.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="list_batches"))
    await world.rounds.lists.turn(world.round("runs"))
    assert world.status("runs").failing.count == 1
    assert world.status("waits-long").failing is None


ADOPTED = ("a", "b", "runs", "lone", "waits-long")


async def adopt(world):
    """As after a restart: what discovery had found is watched before its list is read."""
    await world.watch_account(discovery=Discovery())
    for name in ADOPTED:
        world.rounds.watch(Discovery().watch("main", world.keys[name]), found=True, soon=False)
    for name in ADOPTED:
        first = world.schedule.next_run(world.job(name))
        assert INTERVAL <= first - world.clock() <= 2 * INTERVAL
        assert world.status(name).next_poll_at == first


async def test_what_was_found_before_a_restart_is_looked_at_by_the_first_reading_and_by_no_request_of_its_own(
    world,
):
    await adopt(world)
    asked = await world.pass_time(seconds=1)
    assert (asked["list_agents"], asked["get_batch"]) == (1, 0)
    assert all(world.status(name).progress for name in ADOPTED)
    assert all(world.status(name).next_poll_at > world.clock() for name in ADOPTED)
    await world.settle()
    assert all(world.age(name) <= INTERVAL for name in ("a", "b", "runs", "lone"))


@pytest.mark.parametrize("discovery", [None, SLEEPY])
async def test_what_was_found_before_a_restart_and_is_configured_before_its_list_is_read_is_looked_at(
    world, discovery
):
    await adopt(world)
    world.rounds.watch(Watch(Target("main", world.keys["lone"])), found=False)
    await world.watch_account(discovery=discovery)
    await world.pass_time(minutes=5)
    assert world.status("lone").progress
    assert world.age("lone") <= INTERVAL


@pytest.mark.parametrize("endpoint", ["list_agents", "list_batches"])
async def test_what_was_found_before_a_restart_is_looked_at_by_itself_where_the_lists_cannot_be_read(
    world, endpoint
):
    world.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint=endpoint))
    await adopt(world)
    await world.settle()
    assert all(world.status(name).progress for name in ADOPTED)
    assert all(world.age(name) <= INTERVAL for name in ("a", "b", "runs", "lone"))


async def test_a_name_that_is_not_known_yet_drops_nothing(world):
    """A reload after a restart, before the agents could be listed: their names decide what is wanted."""
    await world.watch_account(discovery=DISCOVERY)
    world.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR))
    world.rounds.watch(DISCOVERY.watch("main", world.keys["runs"]), found=True, soon=False)
    await world.settle()
    assert world.rounds.found({"main": DISCOVERY}).keys() == {world.keys["runs"]}
    world.pretend.clear_faults()
    await world.pass_time(minutes=2)
    assert world.rounds.found({"main": DISCOVERY}).keys() == set(world.book.watches)
    assert len(world.book.watches) == 4
    assert world.rounds.found({"main": Discovery(agents=("none of them",))}) == {}
    assert world.rounds.found({"main": None}) == {}


async def test_a_reading_that_waited_while_its_account_was_dropped_asks_nothing(world):
    await world.watch("a", "b", "c")
    await world.settle()
    agent_id = world.keys["a"].agent_id
    under_way = world.rounds.lists._under_way["main", agent_id] = asyncio.Lock()
    async with under_way:
        waiting = asyncio.create_task(world.rounds.lists.read("main", agent_id, None))
        await asyncio.sleep(0)
        await world.rounds.unwatch(list(world.book.watches))
        world.rounds.unwatch_account("main")
        await world.book.unwatch_account("main")
    world.pretend.requests.clear()
    assert (await waiting).seen == {}
    assert not world.pretend.requests


async def test_an_agent_that_is_wanted_no_longer_is_over_no_limit(world):
    """`alone` and `later` are found first and take all the room, `mixed` is over the limit as a whole."""
    await world.watch("runs", "runs-too")
    await world.rounds.unwatch([world.keys["runs"], world.keys["runs-too"]])
    await world.watch_account(discovery=Discovery(agents=("alone",), max_batches=1))
    await world.settle()
    await world.watch_account(discovery=Discovery(agents=("alone", "mixed"), max_batches=1))
    await world.settle()
    assert world.rounds.discoveries()[0].over_limit == 4
    await world.watch_account(discovery=Discovery(agents=("alone",), max_batches=1))
    await world.settle()
    assert world.rounds.discoveries()[0].over_limit == 0
    assert world.round("runs") not in world.schedule.jobs


async def test_no_more_than_may_be_are_watched_when_one_makes_room_for_two(world):
    """What ended a day ago leaves; two agents that are read at once each have one for its place."""
    hour = timedelta(hours=1)
    await world.watch_account(discovery=Discovery(agents=("short",), interval=hour, max_batches=1))
    await world.settle()
    assert set(world.book.watches) == {world.keys["ends"]}
    both = Discovery(agents=("short", "mixed"), interval=hour, max_batches=1)
    await world.watch_account(discovery=both)
    await world.pass_time(hours=23)
    assert set(world.book.watches) == {world.keys["ends"]}
    assert world.rounds.discoveries()[0].over_limit == 5
    commit, listing = world.store.commit, world.clients[-1].list_batches

    async def drops_slowly(change):
        if any(record.dropped_at for record in change.batches):
            await asyncio.sleep(0.1)
        await commit(change)

    async def mixed_lists_later(agent_id, **options):
        if agent_id == world.keys["runs"].agent_id:
            await asyncio.sleep(0.03)
        async for page in listing(agent_id, **options):
            yield page

    world.store.commit, world.clients[-1].list_batches = drops_slowly, mixed_lists_later
    await world.pass_time(hours=2)
    assert set(world.book.watches) == {world.keys["next"]}
    assert world.rounds.discoveries()[0].over_limit == 4


async def test_a_list_of_agents_that_fails_leaves_no_batch_unseen(world):
    """What discovery alone looks at gets requests of its own, until discovery succeeds again."""
    await world.watch_account(discovery=SLEEPY)
    await world.pass_time(minutes=4)
    world.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="list_agents"))
    await world.pass_time(minutes=2)
    await world.pass_time(minutes=20)
    assert world.asked("sleeps") == 4
    world.pretend.clear_faults()
    await world.pass_time(minutes=2)
    assert (await world.pass_time(minutes=20))["get_batch"] == 0
    assert world.age("sleeps") <= timedelta(minutes=2)


@pytest.mark.parametrize(
    "discovery", [None, Discovery(agents=("many",)), Discovery(interval=timedelta(hours=1))]
)
async def test_what_discovery_looks_at_no_more_is_looked_at_by_itself(world, discovery):
    await world.watch_account(discovery=SLEEPY)
    await world.pass_time(minutes=4)
    await world.watch("sleeps")
    await world.pass_time(minutes=4)
    assert world.schedule.next_run(world.job("sleeps")) == NOW + timedelta(hours=20, seconds=1)
    await world.watch_account(discovery=discovery)
    await world.pass_time(minutes=20)
    assert world.asked("sleeps") == 4


async def test_a_deleted_agent_s_batches_are_looked_at_by_themselves(world):
    await world.watch_account(discovery=SLEEPY)
    await world.pass_time(minutes=4)
    routes = world.pretend._api._routes
    routes["list_agents"] = lambda asked: {"next": None, "previous": None, "results": [], "total": 0}
    await world.pass_time(minutes=2)
    await world.pass_time(minutes=20)
    assert world.asked("sleeps") == 4


async def test_what_was_found_before_a_restart_is_looked_at_by_itself_where_its_agent_is_deleted(world):
    routes = world.pretend._api._routes
    routes["list_agents"] = lambda asked: {"next": None, "previous": None, "results": [], "total": 0}
    await adopt(world)
    await world.settle()
    assert all(world.status(name).progress for name in ADOPTED)
    assert (await world.pass_time(minutes=5))["get_batch"] >= 20
    assert all(world.age(name) <= INTERVAL for name in ("a", "b", "runs", "lone"))


async def test_a_batch_that_is_being_closed_is_in_nobody_s_way(world):
    """Between its end in the book and the end of its jobs, its agent's pages may be read."""
    await world.watch_account(discovery=DISCOVERY)
    await world.pass_time(minutes=4)
    closing = [world.keys["waits-long"], world.keys["runs"]]
    hidden = {key.batch_id for key in closing}

    def without(page):
        left = [one for one in page["results"] if one["batchId"] not in hidden]
        return page | {"results": left, "total": len(left)}

    world.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="list_batches"))
    await world.book.unwatch(closing)
    await world.rounds.lists.read("main", world.keys["runs"].agent_id, None)
    world.pretend.clear_faults()
    world.spoil_list(without)
    assert (await world.rounds.lists.read("main", world.keys["runs"].agent_id, None)).quiet
    assert world.age("runs-too") == timedelta(0)


async def test_a_list_that_goes_on_failing_is_replaced_by_single_requests_until_it_works_again(world):
    await world.watch("a", "b", "c")
    await world.settle()
    world.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="list_batches"))
    await world.pass_time(minutes=3)
    assert not any(world.status(name).failing for name in "abc")
    assert await world.pass_time(minutes=3) == {"get_batch": 18}  # and the list is left alone for a while
    assert all(world.age(name) <= INTERVAL for name in "abc")
    world.pretend.clear_faults()
    await world.pass_time(seconds=TRY_LISTING_EVERY.total_seconds())
    assert await world.pass_time(minutes=2) == {"list_batches": 4}


async def test_an_ended_batch_whose_entry_cannot_be_read_is_not_absent(world):
    await world.watch_account("main", discovery=Discovery())
    await world.rounds._discovery.run("main")
    await world.pass_time(minutes=5)
    assert world.status("ends").assessment.state is State.ENDED

    def spoilt(page):
        for entry in page["results"]:
            if entry["batchId"] == world.keys["ends"].batch_id:
                entry["totalCount"] = "5"
        return page

    world.spoil_list(spoilt)
    await world.rounds._discovery.run("main")
    assert world.keys["ends"] in world.book.watches


async def test_a_window_that_opens_while_only_discovery_looked_is_watched_each_interval_at_once(world):
    await world.watch_account("main", discovery=Discovery(interval=timedelta(minutes=5)))
    await world.pass_time(minutes=20)
    await world.pass_time(minutes=1, seconds=5)
    assert world.status("waits").assessment.state is State.RUNNING
    for _ in range(6):
        await world.pass_time(seconds=30)
        assert world.age("waits") <= INTERVAL
        assert world.status("waits").next_poll_at - world.clock() <= INTERVAL


async def test_a_found_batch_that_is_gone_is_watched_for_a_day_and_no_longer(world):
    await world.watch_account("main", discovery=Discovery(interval=timedelta(minutes=1)))
    await world.pass_time(minutes=15)
    assert world.status("vanishes").assessment.state is State.GONE
    world.clock.move(hours=23)
    await world.rounds._discovery.run("main")
    assert world.keys["vanishes"] in world.book.watches
    world.clock.move(hours=2)
    await world.rounds._discovery.run("main")
    assert world.keys["vanishes"] not in world.book.watches


async def test_a_reading_that_is_cancelled_leaves_nothing_behind(world, monkeypatch):
    await world.watch("a")
    begun, forever = asyncio.Event(), asyncio.Event()

    async def pages(reading, client, pages, urgency, found):
        found({world.keys["a"]: None})
        begun.set()
        await forever.wait()

    async def take(*_):
        await forever.wait()

    monkeypatch.setattr("monitor.rounds.lists.Reading.read", pages)
    monkeypatch.setattr(world.rounds.lists, "take", take)
    before = asyncio.all_tasks()
    reading = asyncio.create_task(world.rounds.lists.read("main", world.keys["a"].agent_id, None))
    await begun.wait()
    reading.cancel()
    await asyncio.wait({reading})
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
