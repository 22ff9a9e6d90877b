"""Bad days of a real daemon: stopped, out of files, of disk, of answers; it goes on as soon as it can, and ends in time.

Slow (a few minutes), so marked `days`: `make test-days`. docs/bad-days.md is the table of all bad days, with the
tests that show each.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

import pytest
from days.world import STOPPED_WITHIN, world
from receivers import HANG
from test_stack import eventually

from monitor.simulator import Fault, FaultKind

pytestmark = [pytest.mark.days, pytest.mark.timeout(120)]

BUSY = 0.5
"""Share of a core that a daemon with three batches never uses, whatever happens, were it not in a loop."""


@pytest.fixture
async def daemon(tmp_path):
    async with world(tmp_path) as made:
        yield made


def told(daemon) -> list[str]:
    return [
        alert["labels"]["alertname"]
        for request in daemon.receiver.requests
        for alert in request.json["alerts"]
    ]


WRITABLE = "ultravox_monitor_store_writable"


async def unwritable(daemon) -> bool:
    return await daemon.metric(WRITABLE) == 0


# A process that was stopped

STANDS_STILL = """
accounts:
  - name: main
    agents: [{name: renewals, batches: [{name: one, calls: 10000, pace: 2/s, script: [{at: 4s, do: stall}]}]}]
  - name: other
    agents: [{name: surveys, batches: [{name: far, calls: 10000, pace: 2/s}]}]
"""


async def test_a_process_that_was_stopped_goes_on_and_takes_its_own_sleep_for_no_stall(tmp_path):
    """The batch has stood still for longer than `after` when it wakes, and it has not watched that."""
    async with world(tmp_path, STANDS_STILL) as daemon:
        daemon.write(alerts={"stalled": {"after": "6s"}})
        await daemon.start()
        await eventually("calls are made", lambda: daemon.pretend._now() > 4, within=10)
        daemon.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(10)  # a real one
        assert not await daemon.answers("/-/healthy", within=0.5)
        daemon.process.send_signal(signal.SIGCONT)
        woken = time.monotonic()
        await daemon.goes_on(polls=2)
        slept = time.monotonic() - woken
        assert slept > 5 or "BatchStalled" not in told(daemon)
        assert await daemon.answers("/-/healthy")
        await eventually("the stall, once it was watched", lambda: "BatchStalled" in told(daemon), within=15)
        assert time.monotonic() - woken > 5
        await daemon.stop()


# Nothing answers


async def test_an_account_that_hangs_hurts_no_other_and_not_the_end(daemon):
    daemon.write()
    daemon.pretend.add_fault(Fault(kind=FaultKind.HANG, account="main"))
    await daemon.start()
    skipped = 'ultravox_monitor_polls_skipped_total{account="other"}'

    async def unhurt() -> bool:
        """Once: that a busy machine answers late for a moment is no account's fault; who hangs does it all the time."""
        before = await daemon.metric(skipped)
        await daemon.goes_on("other", polls=6, within=30)
        return await daemon.metric(skipped) == before and await daemon.up("other") == 1

    await eventually("the other account is polled on time", unhurt, within=60)
    await eventually("health is told", lambda: daemon.answers("/-/healthy", within=1), within=10)
    failures = 'ultravox_monitor_poll_failures_total{account="main",reason="timeout"}'
    assert await daemon.metric(failures) >= 2
    await daemon.stop()


async def test_connections_that_are_reset_are_failed_polls_and_leave_nothing_open(daemon):
    daemon.write()
    await daemon.start()
    before = daemon.open_files()
    daemon.pretend.add_fault(Fault(kind=FaultKind.RESET, account="main", midway=True))
    await daemon.goes_on(polls=20, within=30)
    assert await daemon.up() == 0
    daemon.pretend.clear_faults()
    await eventually("it is well again", daemon.up, within=10)
    assert daemon.open_files() <= before + 5
    await daemon.stop()


async def test_a_name_server_that_does_not_answer_hurts_no_other_and_not_the_end(daemon):
    daemon.write(
        base_urls={"main": "http://ultravox.example"},
        heartbeat={"url": "http://heartbeat.example", "every": "10s"},
        receivers=[
            {"name": "crm", "webhook": {"url": "http://crm.example", "timeout": "1s"}, "group_wait": "0s"}
        ],
    )
    await daemon.start({"names": True})
    await daemon.goes_on("other", polls=6, within=30)
    await eventually("a scrape is answered", lambda: daemon.answers("/metrics", within=2), within=10)
    assert await daemon.metric('ultravox_monitor_poll_failures_total{account="main",reason="timeout"}') >= 2
    await daemon.stop()


async def test_a_name_that_does_not_resolve_is_told_and_polling_goes_on_once_it_does(daemon):
    # RFC 6761: no such name, ever. What says so may take its time.
    daemon.write(
        base_urls={"main": "http://ultravox.invalid"},
        poll={"interval": "1s", "timeout": "10s", "account_interval": "1s", "outcomes_interval": "1d"},
    )
    await daemon.start()
    await daemon.goes_on("other")
    assert await daemon.up() == 0
    assert "the host's name cannot be resolved" in daemon.log
    daemon.write()
    daemon.process.send_signal(signal.SIGHUP)
    await eventually("it is asked at its new address", daemon.up, within=10)
    await daemon.stop()


# Nothing is left


async def test_without_file_descriptors_it_neither_ends_nor_spins_and_recovers(daemon):
    daemon.write()
    await daemon.start()
    daemon.limit(resource.RLIMIT_NOFILE, daemon.open_files() + 3)
    with ExitStack() as held:
        for _ in range(60):
            held.enter_context(closing(socket.create_connection(("127.0.0.1", daemon.port))))
        before, since = daemon.processor(), time.monotonic()
        # Its connections to the API are kept; they go with these answers, and no new ones are to be had.
        daemon.pretend.add_fault(Fault(kind=FaultKind.RESET))
        await asyncio.sleep(2)
        daemon.pretend.clear_faults()
        await asyncio.sleep(4)  # before those that hold on are cut off, who have sent no head
        used = (daemon.processor() - before) / (time.monotonic() - since)
        assert used < BUSY, f"{used:.2f} of a core"
        assert daemon.process.returncode is None
        assert "poll failed" in daemon.log
    daemon.limit(resource.RLIMIT_NOFILE, -1)
    await eventually("it is well again", daemon.up, within=20)
    await daemon.goes_on()
    assert 1 <= daemon.log.count("no connection can be accepted") <= 4, "said, and not for each try"
    daemon.process.send_signal(signal.SIGHUP)
    await eventually("it reloads", lambda: 'msg="configuration loaded"' in daemon.log, within=10)
    await daemon.stop()


@asynccontextmanager
async def no_more_to_write(daemon, tmp_path):
    """No file of its may grow any further: what a full disk is to SQLite, without a disk to fill."""
    daemon.limit(resource.RLIMIT_FSIZE, 1)
    yield
    daemon.limit(resource.RLIMIT_FSIZE, -1)


@asynccontextmanager
async def locked(daemon, tmp_path):
    """Another program has opened the state file, and keeps it locked."""
    other = sqlite3.connect(daemon.state, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@pytest.mark.parametrize("trouble", [no_more_to_write, locked])
async def test_a_state_file_that_takes_nothing_stops_nothing_and_is_written_afterwards(
    daemon, tmp_path, trouble
):
    daemon.write()
    await daemon.start()
    async with trouble(daemon, tmp_path):
        await eventually("it is noticed", lambda: unwritable(daemon), within=15)
        await daemon.goes_on(polls=8)
    await eventually("it is written again", lambda: daemon.metric(WRITABLE), within=15)
    await daemon.stop()
    assert recorded(daemon) >= 3


def recorded(daemon) -> int:
    with closing(sqlite3.connect(daemon.state)) as db:
        return db.execute("SELECT count(*) FROM batches").fetchone()[0]


@contextmanager
def small_disk(folder: Path, size: str):
    """A real file system of its own, if this user may mount one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False, capture_output=True
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


async def test_a_disk_that_is_full_and_one_that_is_full_at_the_start(daemon, tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk, "8m") as real:
        if not real:  # what a full disk is to a running daemon, the test above shows without one
            return
        daemon.write(storage={"path": str(disk / "monitor.db")})
        await daemon.start()
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as out, suppress(OSError):
            while out.write(bytes(4096)):
                pass
        await eventually("the full disk is noticed", lambda: unwritable(daemon), within=30)
        await daemon.goes_on()
        await daemon.stop()
        assert "the latest state was not written before the end" in daemon.log
        for part in disk.glob("monitor.db*"):
            part.unlink()
        ballast.write_bytes(bytes(8 * 1024 * 1024 - 8192))
        refused = await run_another(daemon)
        assert refused.returncode == 1
        assert "storage.path must name a file that this user may write, on a disk with room" in refused.stderr
        ballast.unlink()
        await daemon.start()
        await daemon.stop()


async def run_another(daemon) -> subprocess.CompletedProcess[str]:
    keys = {f"KEY_{account.name}": account.api_key or "" for account in daemon.pretend.scenario.accounts}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "monitor", "run", "--config.file", str(daemon.folder / "config.yaml")],
        env=os.environ | keys,
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )


async def test_a_second_daemon_on_the_same_state_file_is_refused_and_the_first_goes_on(daemon):
    daemon.write()
    await daemon.start()
    second = await run_another(daemon)
    assert second.returncode == 1
    assert (
        second.stderr.strip()
        .splitlines()[-1]
        .endswith(
            f"state file {daemon.state}: another monitor runs on it; "
            "stop that one, or give this one a storage.path of its own"
        )
    )
    assert "raceback" not in second.stderr
    await daemon.goes_on()
    await daemon.stop()


# An event loop that does not turn


async def test_a_blocked_event_loop_answers_no_health_check_and_feeds_no_watchdog(daemon, tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        daemon.write()
        blocked = tmp_path / "blocked"
        await daemon.start({"block": str(blocked)}, NOTIFY_SOCKET=address, WATCHDOG_USEC="1000000")

        def fed() -> int:
            count = 0
            while True:
                try:
                    count += b"WATCHDOG=1" in manager.recv(4096)
                except BlockingIOError:
                    return count

        await asyncio.sleep(2)
        assert fed() >= 2
        daemon.process.send_signal(signal.SIGUSR1)
        await eventually("the loop is blocked", blocked.exists, within=15)
        fed()
        check = [sys.executable, "-m", "monitor", "healthcheck", "--url", f"http://127.0.0.1:{daemon.port}"]
        checked = await asyncio.to_thread(subprocess.run, check, check=False, capture_output=True, timeout=30)
        assert checked.returncode == 1
        assert fed() == 0
        blocked.unlink()
        await eventually("it turns again", lambda: daemon.answers("/-/healthy", within=1), within=15)
        await daemon.goes_on()
        assert fed() >= 1
        await daemon.stop()


# The end of a very bad day


async def test_with_everything_wrong_at_once_it_still_ends_in_time(daemon):
    """The API hangs, a name server too, the receiver does not answer, the disk neither, a client reads nothing."""
    daemon.write(
        base_urls={"other": "http://ultravox.example"},
        alerts={"unreachable": {"for": "1s"}, "account_unreachable": {"enabled": False}},
        poll={"interval": "1s", "timeout": "30s", "account_interval": "1s"},
    )
    daemon.receiver.script.extend([HANG] * 50)
    await daemon.start({"names": True, "write_takes": 60}, until="/-/healthy")
    await daemon.goes_on(polls=2)
    daemon.process.send_signal(signal.SIGUSR2)
    await eventually("the disk does not answer", lambda: unwritable(daemon), within=15)
    daemon.pretend.add_fault(Fault(kind=FaultKind.HANG))
    await asyncio.sleep(3)  # in which everything has been asked that is due
    with socket.create_connection(("127.0.0.1", daemon.port)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")  # and never ends its question
        took = await daemon.stop()
    assert took <= STOPPED_WITHIN
    assert "the latest state was not written before the end" in daemon.log
