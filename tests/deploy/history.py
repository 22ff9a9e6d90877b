"""Nearly eight hours of made-up campaigns as a Prometheus would have scraped them, for pictures of the dashboards.

The daemon is the real one, wired by app.py and asking the simulator on a real socket, but on a clock that jumps
from job to job: they take one minute. Each minute of the story its metrics are written down with that minute's
timestamp, and promtool makes a Prometheus' data of them. The same story every time; made up besides the campaigns are
how long polls take and what the process uses, which on a jumping clock mean nothing.

    python -m tests.deploy.history FOLDER    # FOLDER/data: give it to `prometheus --storage.tsdb.path`
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import yaml
from aiohttp import web
from prometheus_client.core import Metric

from monitor import app, config, metrics, simulator
from monitor.model import BatchKey
from monitor.rounds.plan import AgentKey
from monitor.schedule import SpreadTrigger

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
END = START + timedelta(hours=7, minutes=52)  # off the full hour, whose tick would be cut off at the edge
RESTARTED_AT = START + timedelta(hours=3, minutes=20)
SCRAPE = timedelta(minutes=1)
TARGET = {"job": "ultravox-batch-monitor", "instance": "monitor:10042"}

STORY = """
seed: 11
accounts:
  - name: main
    allowed_concurrent_calls: 60
    call_duration: 2m
    throttles: [{name: gentle, rules: [{max_calls: 60, window: 1h}]}]
    agents:
      - name: renewals
        batches:
          # Paused, then still for forty minutes, then faster: what the page of one campaign shows.
          - name: spring-renewals
            created: -1h
            calls: 1400
            window: {start: 1h, end: 10h}
            pace: 165/h
            failing: {share: 0.06, error: "SIP 486 Busy Here"}
            script:
              - {at: 3h, do: pause}
              - {at: 3h30m, do: resume}
              - {at: 5h10m, do: stall}
              - {at: 5h55m, do: recover}
              - {at: 5h56m, do: set_pace, pace: 260/h}
          - {name: win-back, created: 1h20m, calls: 900, window: {start: 3h, end: 11h}, pace: 84/h}
          - name: price-change-notice
            created: -20m
            calls: 1100
            window: {start: 30m, end: 10h}
            pace: 140/h
            script: [{at: 6h20m, do: pause}]
          - {name: loyalty-thanks, created: -30m, calls: 260, window: {start: 0s, end: 4h}, pace: 110/h, failing: {share: 0.03, error: "SIP 480 Temporarily Unavailable"}}
          - {name: last-minute-offer, created: 1h30m, calls: 300, window: {start: 2h, end: 5h}, pace: 75/h}
          - {name: evening-survey, created: 1h10m, calls: 350, window: {start: 9h, end: 12h}, pace: 130/h}
      - name: appointments
        batches:
          - name: dentist-reminders
            created: 1h40m
            calls: 640
            window: {start: 2h, end: 11h}
            pace: 90/h
            script: [{at: 7h12m, do: stall}]
          - {name: delivery-slots, created: 1h15m, calls: 260, window: {start: 4h, end: 7h20m}, pace: 66/h, ends_late: 3h}
          - name: callback-requests
            created: 20m
            calls: 90
            pace: 60/h
            script: [{at: 4h40m, do: add_calls, calls: 120}]
          - {name: gentle-feedback, created: 50m, calls: 480, window: {start: 1h, end: 12h}, pace: 52/h, throttle: gentle}
  - name: agency
    allowed_concurrent_calls: 11
    call_duration: 3m
    agents:
      - name: outreach
        batches:
          - {name: city-north, created: -10m, calls: 700, window: {start: 0s, end: 11h}, pace: 90/h, medium: twilio}
          - {name: city-south, created: 1h, calls: 300, window: {start: 1h30m, end: 9h}, pace: 60/h, medium: twilio}
          - name: trunk-trouble
            created: 1h30m
            calls: 420
            window: {start: 2h, end: 9h30m}
            pace: 60/h
            failing: {share: 0.04, error: "SIP 486 Busy Here"}
            script: [{at: 5h30m, do: fail, share: 0.7, error: "SIP 503 Service Unavailable"}]
faults:
  - {endpoint: get_batch, account: agency, from: 2h40m, to: 2h52m, kind: server_error, status: 503}
  - {endpoint: list_batches, account: agency, from: 2h40m, to: 2h52m, kind: server_error, status: 503}
  - {endpoint: any, account: main, from: 4h30m, to: 4h31m, kind: throttled, retry_after: 1}
  - {endpoint: any, account: main, share: 0.004, kind: html}
  - {endpoint: any, account: agency, share: 0.004, kind: server_error, status: 502}
"""

Key = BatchKey | AgentKey

CRM_IS_DOWN = (START + timedelta(hours=5, minutes=20), START + timedelta(hours=5, minutes=48))


class Clock:
    """Stands still until the story goes on."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class JobEach:
    """schedule.Turns, as a job each."""

    def __init__(self, jobs: Jumping, name: str, job: Callable[[Key], Awaitable[None]]) -> None:
        self._jobs, self._name, self._job = jobs, name, job

    def every(self, key: Key, interval: timedelta, **when: timedelta | None) -> None:
        self._jobs.every(f"{self._name}:{key}", interval, partial(self._job, key), **when)

    def once(self, key: Key, at: datetime) -> None:
        self._jobs.once(f"{self._name}:{key}", at, partial(self._job, key))

    def remove(self, key: Key) -> None:
        self._jobs.remove(f"{self._name}:{key}")

    def next_run(self, key: Key) -> datetime | None:
        return self._jobs.next_run(f"{self._name}:{key}")


class Jumping:
    """schedule.Schedule's jobs in the same order and at the same instants, on a clock that jumps to the next."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._jobs: dict[str, tuple[datetime, SpreadTrigger | None, Callable[[], Awaitable[None]]]] = {}

    def every(
        self,
        job_id: str,
        interval: timedelta,
        job: Callable[[], Awaitable[None]],
        *,
        first_after: timedelta | None = None,
        first_not_after: timedelta | None = None,
    ) -> None:
        trigger = SpreadTrigger(job_id, interval)
        due = trigger.get_next_fire_time(None, self._clock())
        if first_after is not None:
            due = self._clock() + first_after
        elif first_not_after is not None:
            due = min(due, self._clock() + first_not_after)
        self._jobs[job_id] = (due, trigger, job)

    def once(self, job_id: str, at: datetime, job: Callable[[], Awaitable[None]]) -> None:
        self._jobs[job_id] = (at, None, job)

    def remove(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)

    def next_run(self, job_id: str) -> datetime | None:
        return self._jobs[job_id][0] if job_id in self._jobs else None

    def turns(
        self, name: str, job: Callable[[Key], Awaitable[None]], *, on_skipped: Callable[[Key], None]
    ) -> JobEach:
        return JobEach(self, name, job)

    def start(self) -> None:
        pass

    def alive(self) -> bool:
        return True

    async def stop(self, patience: timedelta) -> None:
        self._jobs.clear()

    async def run_until(self, until: datetime) -> None:
        """Do what is due until then, each at its instant."""
        while self._jobs:
            job_id = min(self._jobs, key=lambda name: (self._jobs[name][0], name))
            due, trigger, job = self._jobs[job_id]
            if due > until:
                break
            self._clock.now = max(due, self._clock.now)
            if trigger is None:
                del self._jobs[job_id]
            else:
                self._jobs[job_id] = (trigger.get_next_fire_time(due, self._clock.now), trigger, job)
            await job()
        self._clock.now = until


class Durations:
    """Takes the place of the histogram of polls: how long each takes is made up."""

    def __init__(self, histogram: Any, chance: random.Random, slow: Callable[[], bool]) -> None:
        self._histogram, self._chance, self._slow = histogram, chance, slow

    def labels(self, account: str) -> Durations:
        self._of = self._histogram.labels(account)
        return self

    def observe(self, _: float) -> None:
        self._of.observe(self._chance.lognormvariate(-2.2, 0.45) * (4 if self._slow() else 1))

    def remove_by_labels(self, labels: dict[str, str]) -> None:
        self._histogram.remove_by_labels(labels)


class Daemon:
    """One process of the story."""

    def __init__(self, folder: Path, base_url: str, receivers: str, scenario: Any, clock: Clock) -> None:
        path = folder / "config.yaml"
        path.write_text(_configuration(folder, base_url, receivers, scenario))
        keys = {f"KEY_{account.name.upper()}": account.api_key for account in scenario.accounts}

        def load() -> config.Config:
            return config.load(path, os.environ | keys)

        self.clock, self.chance = clock, random.Random(str(clock()))
        app.Schedule = Jumping  # type: ignore[assignment, misc] # a class of the same shape
        self.app = app.App(load(), load=load, clock=clock)
        self.app.delivery._employ = lambda _: None
        instruments = self.app.instruments
        instruments.poll_duration = Durations(  # type: ignore[assignment] # what is used of a histogram
            instruments.poll_duration, self.chance, lambda: clock().hour == 12 and clock().minute >= 30
        )
        self.heartbeat = instruments.add_heartbeat()
        self.started_at, self.cpu = clock(), 2.1

    async def minute(self, until: datetime) -> None:
        """Live until then, a scrape's interval or less."""
        while self.clock() < until:
            await self.app.schedule.run_until(min(until, self.clock() + timedelta(seconds=10)))
            for queue in list(self.app.delivery._queues.values()):
                while (again := await self.app.delivery._turns.take(queue)) is not None and not again:
                    pass
        if self.chance.random() < 0.01:
            self.heartbeat.failed("timeout")
        else:
            self.heartbeat.taken(self.clock())
        self.cpu += self.chance.uniform(0.5, 0.9)

    def scrape(self) -> Iterator[Metric]:
        """Every family, with the process' own made up."""
        yield from metrics.families(self.app.surface.snapshot())
        for family in self.app.instruments.registry.collect():
            yield family if not family.name.startswith("process_") else self._process(family)

    def _process(self, family: Metric) -> Metric:
        age = (self.clock() - self.started_at) / timedelta(hours=1)
        made_up = {
            "process_resident_memory_bytes": (66 + 3 * min(age, 1) + self.chance.uniform(0, 0.8)) * 2**20,
            "process_virtual_memory_bytes": 310 * 2**20,
            "process_start_time_seconds": self.started_at.timestamp(),
            "process_cpu_seconds": self.cpu,
            "process_open_fds": 19 + self.chance.randrange(4),
            "process_max_fds": 1024,
        }
        for index, sample in enumerate(family.samples):
            family.samples[index] = sample._replace(value=made_up[family.name])
        return family


def _configuration(folder: Path, base_url: str, receivers: str, scenario: Any) -> str:
    return yaml.safe_dump(
        {
            "accounts": [
                {
                    "name": account.name,
                    "api_key": "${KEY_" + account.name.upper() + "}",
                    "base_url": base_url,
                    "max_requests_per_second": 200,
                    "discover": {"agents": "all"},
                    "batches": [
                        {
                            "agent_id": str(agent.agent_id),
                            "batch_id": str(batch.batch_id),
                            "name": batch.name,
                            "labels": {"team": "growth" if account.name == "main" else "partners"},
                        }
                        for agent in account.agents
                        for batch in agent.batches
                    ],
                    "agents": [
                        {"agent_id": str(agent.agent_id), "name": agent.name} for agent in account.agents
                    ],
                }
                for account in scenario.accounts
            ],
            "receivers": [
                {"name": "oncall", "alertmanager": {"urls": [receivers]}},
                {"name": "crm", "webhook": {"url": f"{receivers}/crm"}},
            ],
            "storage": {"path": str(folder / "monitor.db")},
            "web": {"listen_address": "127.0.0.1:0"},
        }
    )


def _write(out: TextIO, families: Iterator[Metric], target: dict[str, str], at: datetime) -> None:
    """What a scrape of this target would leave in Prometheus."""
    samples = [(one.name, one.labels, one.value) for family in families for one in family.samples]
    for name, labels, value in [*samples, ("up", {}, 1)]:
        pairs = ",".join(f'{key}="{text}"' for key, text in (labels | target).items())
        out.write(f"{name}{{{pairs}}} {float(value)} {at.timestamp():.0f}\n")


async def _receivers(clock: Clock) -> tuple[web.AppRunner, str]:
    """An Alertmanager that takes everything, and a webhook that is down for a while."""

    async def take(request: web.Request) -> web.Response:
        down = request.path == "/crm" and CRM_IS_DOWN[0] <= clock() < CRM_IS_DOWN[1]
        return web.Response(status=503 if down else 200)

    served = web.Application()
    served.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(served, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


Look = Callable[[app.App], Awaitable[None]]
"""What somebody wants to see of the daemon at the end of the story, while its page is served."""


async def tell(folder: Path, after_restart: dict[str, str], look: Look | None = None) -> Path:
    """The story, as OpenMetrics with timestamps."""
    clock = Clock()
    scenario = simulator.load(STORY)
    pretend = simulator.Simulator(scenario, clock=clock)
    base_url = await pretend.start()
    runner, receivers = await _receivers(clock)
    path = folder / "history.om"
    with path.open("w") as out:
        for until, target in ((RESTARTED_AT, TARGET), (END, after_restart)):
            daemon = Daemon(folder, base_url, receivers, scenario, clock)
            await daemon.app.start()
            while clock() < until:
                await daemon.minute(clock() + SCRAPE)
                _write(out, daemon.scrape(), target, clock())
            if look is not None and until is END:
                await look(daemon.app)
            await daemon.app.shut_down()
        out.write("# EOF\n")
    await runner.cleanup()
    await pretend.stop()
    return path


def make(folder: Path, *, after_restart: dict[str, str] = TARGET, look: Look | None = None) -> Path:
    """A Prometheus' data folder that holds the story. `after_restart`: what the second process is scraped as."""
    folder.mkdir(parents=True, exist_ok=True)
    path = asyncio.run(tell(folder, after_restart, look))
    data = folder / "data"
    command = ("promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(path), str(data))
    subprocess.run(command, check=True)
    path.unlink()
    return data


@contextmanager
def prometheus(folder: Path, data: Path) -> Iterator[str]:
    """A Prometheus that has this data and scrapes nothing; its URL."""
    settings = folder / "prometheus.yml"
    settings.write_text("global: {}\n")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    command = (
        "prometheus",
        f"--config.file={settings}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address={address}",
        "--log.level=error",
    )
    process = subprocess.Popen(command)
    try:
        for _ in range(100):
            with suppress(OSError), urllib.request.urlopen(f"http://{address}/-/ready"):
                break
            time.sleep(0.1)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    logging.disable()  # what the daemon says of the story's mishaps
    make(Path(sys.argv[1]))
