"""The whole daemon while clocks are set and machines sleep: it goes on polling, and takes nobody's sleep for a stall.

Days that need a process of their own are in test_days.py; docs/bad-days.md is the table of all.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from test_app import Daemon

from monitor import schedule, simulator
from monitor.clock import utc_now
from monitor.model import State

STORY = """
accounts:
  - name: main
    agents:
      - name: renewals
        batches:
          - {name: goes on, calls: 100000, pace: 5/s}
          - {name: stands still, calls: 1000, pace: 1/h, window: {end: 60d}}
"""
POLL = {"interval": "1s", "timeout": "1s", "account_interval": "1s", "outcomes_interval": "1d"}


@asynccontextmanager
async def travelling(folder, server, *, with_the_api: bool, **more):
    """A daemon at a time that can be moved, its API's with it or not; the loop's time goes on as ever."""
    loop = asyncio.get_running_loop()
    start, began = utc_now(), loop.time()
    clock = utc_now if with_the_api else lambda: start + timedelta(seconds=loop.time() - began)
    with time_machine.travel(start, tick=True) as traveller:
        pretend = simulator.Simulator(simulator.load(STORY), clock=clock)
        await pretend.start()
        daemon = Daemon(folder, pretend)
        receivers = [{"name": "crm", "webhook": {"url": server.url}, "group_wait": "0s"}]
        daemon.write("goes on", "stands still", poll=POLL, receivers=receivers, **more)
        async with daemon.running():
            await daemon.until(daemon.app.surface.ready)
            yield daemon, lambda by: traveller.move_to(utc_now() + by)
        await pretend.stop()


async def goes_on(daemon, polls: int = 6) -> None:
    name = 'ultravox_monitor_polls_total{account="main"}'
    before = await daemon.metric(name)
    async with asyncio.timeout(15):
        while await daemon.metric(name) < before + polls:  # noqa: ASYNC110 - looked at as a scrape does
            await asyncio.sleep(0.05)


def states(daemon) -> dict[str, State]:
    return {status.batch: status.assessment.state for status in daemon.app.book.statuses.values()}


RUNNING = {"goes on": State.RUNNING, "stands still": State.RUNNING}


@pytest.mark.days
@pytest.mark.parametrize(
    "by", [timedelta(hours=-1), timedelta(days=7), timedelta(days=-400)], ids=["back", "forward", "far back"]
)
async def test_our_clock_is_set_and_everything_goes_on_by_the_new_one(tmp_path, server, by, caplog):
    async with travelling(tmp_path, server, with_the_api=False) as (daemon, move):
        move(by)
        await goes_on(daemon)
        assert states(daemon) == RUNNING
        assert all(not status.alerts for status in daemon.app.book.statuses.values())
        assert (
            abs(
                await daemon.metric('ultravox_account_clock_skew_seconds{account="main"}')
                + by.total_seconds()
            )
            < 3
        )
        async with daemon.session.get("/-/healthy") as answer:
            assert answer.status == 200
        move(-by)
        await goes_on(daemon)
        assert states(daemon) == RUNNING
        assert daemon.app.store.writable
    assert server.requests == [], "nobody is told anything of it"
    said = [record.message for record in caplog.records if record.name == schedule.__name__]
    assert len(said) in {1, 2}, "one, when it was set again before the first was noticed"


@pytest.mark.days
async def test_a_machine_that_slept_ten_minutes_has_watched_no_stall(tmp_path, server):
    """Both batches had calls to make all the while, and one of them has made none for longer than `after`."""
    alerts = {"stalled": {"after": "8m"}}
    async with travelling(tmp_path, server, with_the_api=True, alerts=alerts) as (daemon, move):
        move(timedelta(minutes=10))
        await goes_on(daemon)
        assert states(daemon) == RUNNING
        move(timedelta(minutes=10))
        await goes_on(daemon)
        assert states(daemon) == RUNNING, "a second nap adds nothing to the first"
    assert server.requests == []


async def test_the_health_of_a_scheduler_is_told_by_the_loop_s_clock(tmp_path, server):
    """A canary that was last heard "in a week" would be believed for a week."""
    async with travelling(tmp_path, server, with_the_api=False) as (daemon, move):
        move(timedelta(days=7))
        daemon.app.schedule._canary_at -= schedule.CANARY_DEAD_AFTER
        assert not daemon.app.surface.healthy()


# The table of them


def rows() -> list[tuple[str, str]]:
    """(file, test) of everything that docs/bad-days.md points to."""
    text = (Path(__file__).parents[1] / "docs/bad-days.md").read_text()
    found = []
    for file, tests in re.findall(r"`(test_\w+\.py)`: ((?:`test_\w+`(?:, )?)+)", text):
        found += [(file, name) for name in re.findall(r"`(\w+)`", tests)]
    return found


def test_the_table_points_to_many_tests():
    assert len(rows()) > 40


@pytest.mark.parametrize(("file", "name"), rows(), ids=lambda part: part.removeprefix("test_"))
def test_what_the_table_points_to_is_there(file, name):
    assert f"def {name}(" in (Path(__file__).parent / file).read_text()
