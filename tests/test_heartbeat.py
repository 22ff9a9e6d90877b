"""The heartbeat: somebody outside notices when the monitor dies, and is not called out for anything less."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
import test_app
from aiohttp import web
from pretend_api import serve
from pydantic import SecretStr
from receivers import GARBAGE, HANG, RESET, MovedClock, ScriptedReceiver, notification
from samples import NOW

from monitor import __version__, config, heartbeat, notify, simulator
from monitor.clock import utc_now
from monitor.config import ConfigError
from monitor.heartbeat import Heartbeat, Settings, Vitals, why_silent
from monitor.metrics import Instruments, render
from monitor.model import QueueStatus, Snapshot
from monitor.simulator import Fault, FaultKind

TOKEN = "t0k3n-in-the-path"
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
WELL = Vitals(
    scheduler_lives=True,
    store_writable=True,
    account_interval=MINUTE,
    attempts=(NOW - MINUTE,),
    since=NOW - timedelta(days=1),
    queues=(),
)


# When a ping may be sent


def failing(name, minutes):
    return QueueStatus(name, 1, failing_since=NOW - minutes * MINUTE)


NO_ATTEMPT = "nothing has been asked of Ultravox for 3 min"
NOBODY = "every receiver has failed for 10 min: "


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"scheduler_lives": False}, "the scheduler runs no jobs"),
        ({"store_writable": False}, "the state file cannot be written"),
        # Attempts
        ({"attempts": (NOW - 3 * MINUTE + SECOND,)}, None),
        ({"attempts": (NOW - 3 * MINUTE,)}, NO_ATTEMPT),
        ({"attempts": (NOW - 9 * MINUTE, NOW - MINUTE, NOW - 9 * MINUTE)}, None),
        ({"attempts": (NOW - 3 * MINUTE,), "account_interval": 5 * SECOND}, NO_ATTEMPT),
        ({"attempts": (NOW - 3 * MINUTE,), "account_interval": 61 * SECOND}, None),
        ({"attempts": (NOW - 6 * MINUTE + SECOND,), "account_interval": 2 * MINUTE}, None),
        (
            {"attempts": (NOW - 6 * MINUTE,), "account_interval": 2 * MINUTE},
            NO_ATTEMPT.replace("3 min", "6 min"),
        ),
        ({"attempts": (), "since": NOW - 3 * MINUTE + SECOND}, None),
        ({"attempts": (), "since": NOW - 3 * MINUTE}, NO_ATTEMPT),
        ({"attempts": (NOW - 4 * MINUTE,), "since": NOW}, NO_ATTEMPT),
        # The clock was set back: what lies ahead of it is no attempt.
        ({"attempts": (NOW + 60 * MINUTE, NOW - 4 * MINUTE)}, NO_ATTEMPT),
        ({"attempts": (NOW + 60 * MINUTE,), "since": NOW - MINUTE}, None),
        # Receivers
        ({"queues": (failing("crm", 10),)}, NOBODY + "crm"),
        ({"queues": (replace(failing("crm", 10), failing_since=NOW - 10 * MINUTE + SECOND),)}, None),
        ({"queues": (failing("crm", 600), QueueStatus("oncall"))}, None),
        ({"queues": (failing("crm", 600), failing("oncall", 9))}, None),
        ({"queues": (failing("crm", 600), failing("oncall", 10))}, NOBODY + "crm, oncall"),
        ({"queues": (QueueStatus("crm", 7, NOW - 60 * MINUTE),)}, None),
    ],
)
def test_why_a_ping_is_withheld(changes, why):
    assert why_silent(replace(WELL, **changes), NOW) == why


# Pings


@pytest.fixture
async def server():
    made = ScriptedReceiver()
    await made.start()
    yield made
    await made.stop()


class Bench:
    """A heartbeat whose vitals are what the test says. Beats are made by hand, unless `use` starts it."""

    def __init__(self):
        self.clock = MovedClock()
        self.vitals = WELL
        self.instruments = Instruments(endpoints=(), send_failures=notify.FAILURES, now=NOW)
        self.heartbeat = Heartbeat(lambda: self.vitals, clock=self.clock, instruments=self.instruments)

    async def beat(self, made):
        return await self.heartbeat.beat(made, self.instruments.add_heartbeat())

    def value(self, name, **labels):
        return self.instruments.registry.get_sample_value(f"ultravox_monitor_heartbeat{name}", labels)


@pytest.fixture
async def bench():
    made = Bench()
    yield made
    await made.heartbeat.stop()


def settings(url, **changes):
    """Every hour: what comes sooner has another reason."""
    return replace(Settings(SecretStr(f"{url}/ping/{TOKEN}"), every=timedelta(hours=1)), **changes)


def said(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records if "monitor" in record.name]


async def pinged(server, times):
    async with asyncio.timeout(10):
        while len(server.requests) < times:  # noqa: ASYNC110 - it is looked at from outside
            await asyncio.sleep(0.002)


async def test_a_ping_is_a_plain_get_of_exactly_this_address(bench):
    seen = []

    async def answer(request):
        seen.append((request, await request.read()))
        return web.Response(text="OK")

    runner, url = await serve(answer)
    taken = await bench.beat(Settings(SecretStr(f"{url}/api/push/{TOKEN}?status=up&msg=OK&ping=")))
    await runner.cleanup()
    assert taken
    [(request, body)] = seen
    assert (request.method, request.path_qs) == ("GET", f"/api/push/{TOKEN}?status=up&msg=OK&ping=")
    assert request.headers["User-Agent"] == f"ultravox-batch-monitor/{__version__}"
    assert "Content-Type" not in request.headers
    assert body == b""


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_every_2xx_counts(bench, server, caplog, status):
    server.script = deque([status])
    assert await bench.beat(settings(server.url))
    assert bench.value("s_total") == 1
    assert bench.value("_last_success_timestamp_seconds") == NOW.timestamp()
    assert said(caplog) == []


FAILURES = [
    (400, "refused", "heartbeat answered 400"),
    (404, "refused", "heartbeat answered 404"),
    (408, "timeout", "heartbeat answered 408"),
    ((429, {"Retry-After": "3600"}), "throttled", "heartbeat answered 429"),
    (500, "server_error", "heartbeat answered 500"),
    (
        (302, {"Location": f"/{TOKEN}/elsewhere"}),
        "bad_response",
        "heartbeat answered 302: a redirect, which is not followed",
    ),
    (RESET, "connection", "heartbeat: the connection was lost before an answer came"),
    (GARBAGE, "bad_response", "heartbeat: its answer is not HTTP"),
    (HANG, "timeout", "heartbeat has not answered within 0.2 s"),
]


def assert_failed(bench, caplog, reason, text):
    """Counted once, told once, and nothing given away."""
    assert bench.value("_failures_total", reason=reason) == 1
    assert sum(bench.value("_failures_total", reason=one) for one in notify.FAILURES) == 1
    assert bench.value("s_total") == 0
    assert bench.value("_last_success_timestamp_seconds") is None
    assert said(caplog) == [("WARNING", "heartbeat fails")]
    [record] = [record for record in caplog.records if record.getMessage() == "heartbeat fails"]
    assert (record.reason, record.error) == (reason, text)
    everything = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert TOKEN not in everything
    assert "127.0.0.1" not in everything


@pytest.mark.parametrize(("answer", "reason", "text"), FAILURES)
async def test_a_ping_that_fails_is_counted_and_told_without_its_address(
    bench, server, caplog, answer, reason, text
):
    caplog.set_level(logging.DEBUG, "monitor")
    server.script = deque([answer] * 2)  # aiohttp repeats a GET whose connection was cut
    patience = timedelta(seconds=0.2 if answer == HANG else 10)
    assert not await bench.beat(settings(server.url, timeout=patience))
    assert_failed(bench, caplog, reason, text)
    assert {request.path for request in server.requests} == {f"/ping/{TOKEN}"}


async def test_nobody_there(bench, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        assert not await bench.beat(settings(f"http://127.0.0.1:{taken.getsockname()[1]}"))
    assert_failed(bench, caplog, "connection", "heartbeat: no connection")


async def test_a_server_that_speaks_no_tls(bench, server, caplog):
    assert not await bench.beat(settings(server.url.replace("http", "https")))
    text = "heartbeat: no TLS connection: its certificate is not accepted, or it speaks no TLS"
    assert_failed(bench, caplog, "connection", text)


async def test_an_address_that_is_none(bench, caplog):
    assert not await bench.beat(Settings(SecretStr(f"http://[{TOKEN}")))
    assert_failed(bench, caplog, "refused", "heartbeat: its address is not a valid URL")


async def test_a_proxy_of_the_environment_is_used(bench, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    assert await bench.beat(settings("http://healthchecks.example"))
    assert len(server.requests) == 1


async def test_a_run_of_failures_is_told_once_and_so_is_its_end(bench, server, caplog):
    caplog.set_level(logging.INFO, "monitor")
    server.script = deque([500, 404, 500, 200, 200, 503, 200])
    taken = [await bench.beat(settings(server.url)) for _ in range(7)]
    assert taken == [False, False, False, True, True, False, True]
    assert said(caplog) == [("WARNING", "heartbeat fails"), ("INFO", "heartbeat works again")] * 2
    assert bench.value("s_total") == 3
    assert bench.value("_failures_total", reason="server_error") == 3


async def test_what_is_withheld_is_told_once_with_why_and_so_is_that_it_goes_on(bench, server, caplog):
    caplog.set_level(logging.INFO, "monitor")
    assert await bench.beat(settings(server.url))
    bench.vitals = replace(WELL, attempts=())
    for _ in range(3):
        assert not await bench.beat(settings(server.url))
        bench.clock.move(minutes=1)
    bench.vitals = replace(WELL, store_writable=False)
    assert not await bench.beat(settings(server.url))
    bench.vitals = replace(WELL, attempts=(bench.clock(),))
    assert await bench.beat(settings(server.url))
    assert await bench.beat(settings(server.url))
    assert len(server.requests) == 3
    assert said(caplog) == [
        ("WARNING", "heartbeat withheld"),
        ("WARNING", "heartbeat withheld"),  # for another reason
        ("INFO", "heartbeat goes on"),
    ]
    whys = [record.why for record in caplog.records if hasattr(record, "why")]
    assert whys == [NO_ATTEMPT, "the state file cannot be written"]
    assert bench.value("s_total") == 3
    assert sum(bench.value("_failures_total", reason=one) for one in notify.FAILURES) == 0


# One after the other


async def test_the_first_comes_at_once_and_the_others_at_their_pace(bench, server, monkeypatch):
    monkeypatch.setattr(heartbeat, "AGAIN_WITHIN", timedelta(0))
    bench.heartbeat.use(settings(server.url))
    await pinged(server, 1)
    started = asyncio.get_running_loop().time()
    bench.heartbeat.use(settings(server.url, every=timedelta(milliseconds=50)))
    await pinged(server, 5)
    assert asyncio.get_running_loop().time() - started >= 0.15


@pytest.mark.parametrize("answer", [500, RESET, GARBAGE, HANG])
async def test_after_a_ping_that_failed_comes_the_next(bench, server, monkeypatch, answer):
    """Even where pings are rare: a daily one that got lost would be missed for a day."""
    monkeypatch.setattr(heartbeat, "AGAIN_WITHIN", timedelta(milliseconds=10))
    server.script = deque([answer] * 2)
    bench.heartbeat.use(settings(server.url, timeout=timedelta(seconds=0.1)))
    async with asyncio.timeout(10):
        while not bench.value("s_total"):  # noqa: ASYNC110 - it is looked at from outside
            await asyncio.sleep(0.002)
    assert bench.value("s_total") == 1


async def test_what_hangs_holds_up_nobody(bench, server):
    server.script = deque([HANG])
    loop = asyncio.get_running_loop()
    started = loop.time()
    bench.heartbeat.use(settings(server.url))
    await pinged(server, 1)
    bench.heartbeat.use(None)
    bench.heartbeat.use(settings(server.url))
    await pinged(server, 2)
    await bench.heartbeat.stop()
    assert loop.time() - started < 5


async def test_an_error_of_our_own_is_no_ping_and_no_end(bench, server, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "AGAIN_WITHIN", timedelta(milliseconds=10))
    bench.vitals = None
    bench.heartbeat.use(settings(server.url))
    async with asyncio.timeout(10):
        while ("ERROR", "heartbeat stumbled") not in said(caplog):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.002)
    assert server.requests == []
    bench.vitals = WELL
    await pinged(server, 1)


async def test_new_settings_are_pinged_at_once_the_same_ones_are_not(bench, server):
    first = settings(f"{server.url}/first")
    bench.heartbeat.use(first)
    await pinged(server, 1)
    task = bench.heartbeat._task
    bench.heartbeat.use(replace(first, url=SecretStr(first.url.get_secret_value())))  # as a reload makes them
    assert bench.heartbeat._task is task
    bench.heartbeat.use(settings(f"{server.url}/second", every=timedelta(milliseconds=10)))
    await pinged(server, 4)
    assert [request.path.split("/")[1] for request in server.requests[:4]] == ["first"] + 3 * ["second"]


async def test_without_settings_it_ends(bench, server):
    bench.heartbeat.use(settings(server.url, every=timedelta(milliseconds=10)))
    await pinged(server, 2)
    task = bench.heartbeat._task
    bench.heartbeat.use(None)
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert bench.heartbeat._task is None


async def test_a_reload_that_comes_after_the_end_starts_nothing(bench, server):
    bench.heartbeat.use(settings(server.url))
    await pinged(server, 1)
    await bench.heartbeat.stop()
    bench.heartbeat.use(settings(f"{server.url}/other"))
    assert bench.heartbeat._task.done()


def test_series_are_there_while_a_heartbeat_is(bench):
    def exposed():
        body, _ = render(Snapshot(NOW), bench.instruments, accept="", compressed=False)
        return set(re.findall(r"^(ultravox_monitor_heartbeat\S*) ", body.decode(), flags=re.MULTILINE))

    assert exposed() == set()
    series = bench.instruments.add_heartbeat()
    failures = {f'ultravox_monitor_heartbeat_failures_total{{reason="{one}"}}' for one in notify.FAILURES}
    assert exposed() == {"ultravox_monitor_heartbeats_total", *failures}
    series.taken(NOW)
    assert bench.instruments.add_heartbeat() is series
    assert "ultravox_monitor_heartbeat_last_success_timestamp_seconds" in exposed()
    bench.instruments.remove_heartbeat()
    assert exposed() == set()
    bench.instruments.add_heartbeat()
    assert bench.value("s_total") == 0


# The configuration

KEY = "Zk3hQ9aB.0123456789abcdef0123456789abcdef"
URL = f"https://healthchecks.example/ping/{TOKEN}"


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "config.yaml"
        path.write_text("accounts: [{name: main, api_key: '${KEY}'}]\n" + text, encoding="utf-8")
        return config.load(path, {"KEY": KEY, "HEARTBEAT_URL": URL})

    return load


@pytest.mark.parametrize("text", ["", "heartbeat:\n", "heartbeat: null\n"])
def test_without_its_block_there_is_none(load, text):
    assert load(text).heartbeat is None


def test_its_address_comes_from_a_variable_or_a_file_and_is_hidden(load, tmp_path):
    tmp_path.joinpath("beat").write_text(URL + "\n")
    by_variable = load("heartbeat: {url: '${HEARTBEAT_URL}'}\n")
    by_file = load("heartbeat: {url_file: beat, every: 1d, timeout: 3s}\n")
    assert by_variable.heartbeat == Settings(SecretStr(URL))
    assert by_file.heartbeat == Settings(SecretStr(URL), timedelta(days=1), timedelta(seconds=3))
    for found in (by_variable, by_file):
        assert URL in {secret.get_secret_value() for secret in found.secrets}
        assert TOKEN not in repr(found)
    assert tmp_path / "beat" in by_file.sources


def test_the_address_in_its_file_is_checked(load, tmp_path):
    tmp_path.joinpath("beat").write_text(f"healthchecks.example/{TOKEN}")
    with pytest.raises(ConfigError, match=r"heartbeat\.url_file: not a URL") as caught:
        load("heartbeat: {url_file: beat}\n")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(("every", "fits"), [("9999ms", False), ("10s", True), ("1d", True), ("1d1s", False)])
def test_how_often(load, every, fits):
    text = f"heartbeat: {{url: '{URL}', every: {every}}}\n"
    if fits:
        assert load(text).heartbeat.every in {timedelta(seconds=10), timedelta(days=1)}
    else:
        with pytest.raises(ConfigError, match=r"heartbeat\.every: must be between 10s and 1d"):
            load(text)


# In the daemon


@pytest.fixture
async def daemon(tmp_path, server):
    pretend = simulator.Simulator(simulator.load(test_app.STORY), clock=utc_now)
    await pretend.start()
    made = test_app.Daemon(tmp_path, pretend)
    tmp_path.joinpath("beat").write_text(f"{server.url}/ping/{TOKEN}")
    yield made
    await pretend.stop()


BLOCK = {"url_file": "beat", "every": "1h"}


@asynccontextmanager
async def running(daemon, monkeypatch):
    """The daemon on a clock that a test moves, and how to make it beat."""
    clock = MovedClock(utc_now())
    monkeypatch.setattr(test_app, "utc_now", clock)

    async def beat():
        made, series = daemon.app.reload.config.heartbeat, daemon.app.instruments.add_heartbeat()
        return await daemon.app.heartbeat.beat(made, series)

    async with daemon.running():
        yield clock, beat


async def test_an_outage_of_ultravox_does_not_stop_it_but_not_asking_does(
    daemon, server, monkeypatch, caplog
):
    daemon.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR))
    daemon.write("one", heartbeat=BLOCK)
    async with running(daemon, monkeypatch) as (clock, beat):
        await pinged(server, 1)  # at once, before anything was asked
        for _ in range(12):
            clock.move(minutes=2)
            await daemon.app.poller.probe_account("main")
            assert await beat()
        account = daemon.app.book.accounts["main"]
        assert (account.status.up, account.status.last_success_at) == (False, None)
        assert len(server.requests) == 13
        clock.move(minutes=3)
        assert not await beat()
        assert [record.why for record in caplog.records if hasattr(record, "why")] == [NO_ATTEMPT]
        [key] = daemon.app.book.watches
        await daemon.app.poller.poll_batch(key)  # fails as well, and is an attempt as well
        assert daemon.app.book.statuses[key].failing
        assert await beat()
        clock.move(minutes=5)
        account.client._transport._limiter.pause(300)  # as after a 429 with Retry-After
        assert await beat()


async def test_a_state_file_that_takes_nothing_stops_it(daemon, server, monkeypatch):
    daemon.write("one", heartbeat=BLOCK)
    async with running(daemon, monkeypatch) as (_, beat):
        assert await beat()
        daemon.app.store.writable = False
        assert not await beat()
        daemon.app.store.writable = True
        monkeypatch.setattr(daemon.app.schedule, "alive", lambda: False)
        assert not await beat()


async def test_receivers_that_all_fail_stop_it_and_one_that_works_does_not(daemon, server, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        dead = {
            "name": "crm",
            "webhook": {"url": f"http://127.0.0.1:{taken.getsockname()[1]}"},
            "group_wait": "0s",
        }
        works = {"name": "chat", "webhook": {"url": f"{server.url}/chat"}}
        daemon.write("one", heartbeat=BLOCK, receivers=[dead])
        async with running(daemon, monkeypatch) as (clock, beat):

            async def later(**by):
                clock.move(**by)
                await daemon.app.poller.probe_account("main")
                return await beat()

            assert await later(minutes=11)
            daemon.app.delivery.enqueue([notification(receiver="crm", created_at=clock())])
            await daemon.until(lambda: daemon.app.delivery.queues()[0].failing_since is not None)
            assert await later(minutes=9)
            assert not await later(minutes=1)
            daemon.app.delivery.enqueue([notification(2, receiver="removed", created_at=clock())])
            assert not await later(minutes=1)  # what waits for a receiver that is not configured is no hope
            daemon.write("one", heartbeat=BLOCK, receivers=[dead, works])
            await daemon.app.surface.reload()
            assert await later(minutes=1)
            daemon.write("one", heartbeat=BLOCK, receivers=[dead])
            await daemon.app.surface.reload()
            assert not await later(minutes=1)
            daemon.write("one", heartbeat=BLOCK)
            await daemon.app.surface.reload()
            assert daemon.app.delivery.queues()  # what waits for the one that was removed
            assert await later(minutes=1)


async def test_a_reload_takes_over_its_settings_and_sigterm_ends_it(daemon, server, caplog):
    caplog.set_level(logging.INFO)
    daemon.write("one")
    async with daemon.running():
        assert await daemon.metric("ultravox_monitor_heartbeats_total") is None
        daemon.write("one", heartbeat=BLOCK)
        await daemon.app.surface.reload()
        await pinged(server, 1)
        daemon.folder.joinpath("beat").write_text(f"{server.url}/ping/{TOKEN}/other")
        await daemon.app.surface.reload()
        await pinged(server, 2)
        await daemon.app.surface.reload()  # nothing has changed: no ping
        await daemon.until(lambda: daemon.app.instruments.add_heartbeat()._taken == 2)
        assert await daemon.metric("ultravox_monitor_heartbeats_total") == 2
        daemon.write("one")
        await daemon.app.surface.reload()
        assert await daemon.metric("ultravox_monitor_heartbeats_total") is None
        daemon.write("one", heartbeat=BLOCK | {"every": "10s"})
        await daemon.app.surface.reload()
        await pinged(server, 3)
        beating = daemon.app.heartbeat._task
    assert beating.cancelled()
    assert [request.path for request in server.requests] == [
        f"/ping/{TOKEN}",
        f"/ping/{TOKEN}/other",
        f"/ping/{TOKEN}/other",
    ]
    ours = [record for record in caplog.records if record.name.startswith("monitor")]
    assert ours
    assert TOKEN not in "".join(str(vars(record)) for record in ours)
