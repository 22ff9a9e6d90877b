"""End to end, with nothing pretended but Ultravox: real processes, real sockets, real Prometheus and Alertmanager.

Slow (a minute or two), so marked `stack`: `make test-stack`. Everything listens on loopback, on free ports.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from samples import PROMETHEUS_3

from monitor import simulator
from monitor.clock import utc_now

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

STALL_AFTER = 4


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def program(name: str) -> str:
    """The path of a program that this suite cannot do without."""
    found = shutil.which(name)
    assert found, f"{name} is not on PATH: install Debian's prometheus and prometheus-alertmanager"
    return found


async def eventually(what: str, look: Callable[[], Any], *, within: float) -> Any:
    """The first true result of `look`, which may be awaitable; fails by the name of what did not come."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within
    while True:
        found = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert loop.time() < until, f"not within {within} s: {what}"
        await asyncio.sleep(0.1)


@dataclass
class Inbox:
    """A webhook receiver: takes Alertmanager's JSON and remembers it."""

    url: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def told(self, alertname: str) -> list[str]:
        """In order, what was said of this alert: `firing`, `resolved`."""
        return [
            alert["status"]
            for message in self.messages
            for alert in message["alerts"]
            if alert["labels"]["alertname"] == alertname
        ]


@asynccontextmanager
async def inbox():
    box = Inbox()

    async def take(request: web.Request) -> web.Response:
        box.messages.append(await request.json())
        box.keys.append(request.headers.get("Idempotency-Key"))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    box.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield box
    finally:
        await runner.cleanup()


@asynccontextmanager
async def process(folder: Path, name: str, *command: str, env: dict[str, str] | None = None):
    """A real process, ended with SIGTERM; its output is in FOLDER/NAME.log."""
    with folder.joinpath(f"{name}.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=os.environ | (env or {})
        )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
            await asyncio.wait_for(child.wait(), 20)


SCENARIO = """
seed: 1
accounts:
  - name: main
    agents:
      - name: renewals
        batches:
          - name: spring
            calls: 300
            created: 0s
            window: {start: 0s, end: @END@}
            pace: 18000/h
            jitter: 0
            script:
              - {at: 6s, do: stall}
              - {at: @RECOVER@, do: recover}
"""


@dataclass
class Stage:
    """The simulator, and a daemon's configuration that watches its one batch."""

    folder: Path
    account: Any
    agent: Any
    batch: Any
    config: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def daemon(self):
        command = (
            sys.executable,
            "-m",
            "monitor",
            "run",
            "--config.file",
            str(self.config),
            "--log.level",
            "debug",
        )
        return process(self.folder, "daemon", *command, env={"KEY": self.account.api_key})

    async def firing(self) -> list[str]:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/api/v1/alerts") as answer:
                alerts = (await answer.json())["data"]["alerts"]
        except aiohttp.ClientConnectionError:
            return []
        return [alert["alertname"] for alert in alerts if alert["state"] == "firing"]


@asynccontextmanager
async def stage(folder: Path, *, end: str, recover: str, receivers: list[dict[str, Any]]):
    text = SCENARIO.replace("@END@", end).replace("@RECOVER@", recover)
    path = folder / "scenario.yaml"
    path.write_text(text)
    scenario = simulator.load(path)
    pretend = simulator.Simulator(scenario, clock=utc_now)
    base_url = await pretend.start()
    [account] = scenario.accounts
    [agent] = account.agents
    [batch] = agent.batches
    port = free_port()
    config = folder / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "accounts": [
                    {
                        "name": "main",
                        "api_key": "${KEY}",
                        "base_url": base_url,
                        "batches": [
                            {
                                "agent_id": str(agent.agent_id),
                                "batch_id": str(batch.batch_id),
                                "name": "spring",
                            }
                        ],
                    }
                ],
                "poll": {"interval": "1s", "timeout": "1s"},
                "alerts": {"stalled": {"after": f"{STALL_AFTER}s"}},
                "receivers": receivers,
                "storage": {"path": str(folder / "monitor.db")},
                "web": {"listen_address": f"127.0.0.1:{port}"},
            }
        )
    )
    try:
        yield Stage(folder, account, agent, batch, config, port)
    finally:
        await pretend.stop()


@asynccontextmanager
async def prometheus(folder: Path, target: str, **job: Any):
    """`job`: more of the scrape configuration."""
    port = free_port()
    config = folder / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [
                    {
                        "job_name": "monitor",
                        "static_configs": [{"targets": [target.partition("://")[2]]}],
                        **job,
                    }
                ],
            }
        )
    )
    command = (
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    async with process(folder, "prometheus", *command), aiohttp.ClientSession() as session:

        async def query(expression: str) -> float | None:
            try:
                async with session.get(
                    f"http://127.0.0.1:{port}/api/v1/query", params={"query": expression}
                ) as answer:
                    result = (await answer.json())["data"]["result"]
            except (aiohttp.ClientConnectionError, aiohttp.ContentTypeError):
                return None
            return float(result[0]["value"][1]) if result else None

        yield query


@asynccontextmanager
async def alertmanager(folder: Path, webhook: str, port: int):
    config = folder / "alertmanager.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "route": {
                    "receiver": "inbox",
                    "group_by": ["alertname", "batch_id"],
                    "group_wait": "1s",
                    "group_interval": "1s",
                    "repeat_interval": "4h",
                },
                "receivers": [
                    {"name": "inbox", "webhook_configs": [{"url": webhook, "send_resolved": True}]}
                ],
            }
        )
    )
    command = (
        program("prometheus-alertmanager"),
        f"--config.file={config}",
        f"--storage.path={folder / 'am'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    )
    async with process(folder, "alertmanager", *command):
        yield


async def test_a_batch_stalls_recovers_and_ends_incomplete_and_everyone_is_told_once(tmp_path):
    am_port = free_port()
    async with inbox() as behind_am, inbox() as own:
        receivers = [
            {"name": "oncall", "alertmanager": {"urls": [f"http://127.0.0.1:{am_port}"]}},
            {"name": "crm", "webhook": {"url": own.url}, "group_wait": "0s"},
        ]
        async with (
            alertmanager(tmp_path, behind_am.url, am_port),
            stage(tmp_path, end="45s", recover="20s", receivers=receivers) as staged,
            staged.daemon() as daemon,
            prometheus(tmp_path, staged.url) as query,
        ):
            series = (
                f'{{account="main",agent_id="{staged.agent.agent_id}",batch_id="{staged.batch.batch_id}"}}'
            )

            async def is_stalled():
                return await query(f'ultravox_batch_state{series[:-1]},state="stalled"}}') == 1

            await eventually("Prometheus sees it stalled", is_stalled, within=30)
            async with aiohttp.ClientSession() as session:
                truth = await simulated(session, staged)
                assert await query(f"ultravox_batch_paused{series}") == 0
                ratio = truth["completedCount"] / truth["totalCount"]
                assert await query(f"ultravox_batch_completion_ratio{series}") == pytest.approx(ratio)
                for name, field_name in (("start", "windowStart"), ("end", "windowEnd")):
                    bound = simulator_time(truth[field_name])
                    assert await query(
                        f"ultravox_batch_window_{name}_timestamp_seconds{series}"
                    ) == pytest.approx(bound)
                assert await query(f"sum by (batch_id) (ultravox_batch_state{series})") == 1
                assert await query(f'ultravox_batch_alert_firing{series[:-1]},alert="BatchStalled"}}') == 1
                assert await query('up{job="monitor"}') == 1
                await check_exposition(session, staged.url)

            async def is_incomplete():
                return await query(f'ultravox_batch_state{series[:-1]},state="incomplete"}}') == 1

            for box in (own, behind_am):
                await eventually(
                    "firing and resolved", lambda box=box: len(box.told("BatchStalled")) >= 2, within=30
                )
            await eventually("Prometheus sees it incomplete", is_incomplete, within=40)
            for box in (own, behind_am):
                await eventually("the end", lambda box=box: box.told("BatchEndedIncomplete"), within=15)
            await asyncio.sleep(3)  # time in which nothing may be said twice
            for box in (own, behind_am):
                assert box.told("BatchStalled") == ["firing", "resolved"]
                assert box.told("BatchEndedIncomplete") == ["firing"]
                assert {
                    alert["labels"]["alertname"] for message in box.messages for alert in message["alerts"]
                } == {
                    "BatchStalled",
                    "BatchEndedIncomplete",
                }
            assert len(set(own.keys)) == len(own.keys) == 3
            assert daemon.returncode is None
        assert daemon.returncode == 0
        assert staged.account.api_key not in tmp_path.joinpath("daemon.log").read_text()


async def simulated(session: aiohttp.ClientSession, staged: Stage) -> dict[str, Any]:
    """The batch as the API tells it."""
    base_url = yaml.safe_load(staged.config.read_text())["accounts"][0]["base_url"]
    path = f"/api/agents/{staged.agent.agent_id}/scheduled_batches/{staged.batch.batch_id}"
    async with session.get(base_url + path, headers={"X-API-Key": staged.account.api_key}) as answer:
        found: dict[str, Any] = await answer.json()
        return found


def simulator_time(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


async def check_exposition(session: aiohttp.ClientSession, url: str) -> None:
    async with session.get(f"{url}/metrics", headers={"Accept": PROMETHEUS_3}) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert (await answer.text()).endswith("# EOF\n")
    async with session.get(f"{url}/metrics") as answer:
        text = await answer.read()
    checked = await asyncio.to_thread(
        subprocess.run,
        [program("promtool"), "check", "metrics"],
        input=text,
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


async def test_kill_9_during_a_stall_says_nothing_twice_and_still_says_that_it_is_over(tmp_path):
    async with inbox() as own:
        receivers = [{"name": "crm", "webhook": {"url": own.url}, "group_wait": "0s"}]
        async with stage(tmp_path, end="1h", recover="25s", receivers=receivers) as staged:
            async with staged.daemon() as daemon:
                await eventually("the stall is told", lambda: own.told("BatchStalled"), within=30)
                await asyncio.sleep(1)
                daemon.send_signal(signal.SIGKILL)
                await daemon.wait()
            async with staged.daemon():
                await eventually("it goes on", staged.firing, within=10)
                assert await staged.firing() == ["BatchStalled"]
                assert own.told("BatchStalled") == ["firing"]
                await eventually("it is over", lambda: len(own.told("BatchStalled")) > 1, within=30)
                await asyncio.sleep(2)
                assert own.told("BatchStalled") == ["firing", "resolved"]
                assert len(own.messages) == 2


async def test_kill_9_just_before_an_end_tells_the_end_once(tmp_path):
    async with inbox() as own:
        receivers = [{"name": "crm", "webhook": {"url": own.url}, "group_wait": "0s"}]
        async with stage(tmp_path, end="10s", recover="1h", receivers=receivers) as staged:
            async with staged.daemon() as daemon, aiohttp.ClientSession() as session:

                async def nearly_over():
                    left = (
                        simulator_time((await simulated(session, staged))["windowEnd"])
                        - utc_now().timestamp()
                    )
                    return left < 0.5

                await eventually("the window's end", nearly_over, within=30)
                daemon.send_signal(signal.SIGKILL)
                await daemon.wait()
            await asyncio.sleep(2)
            assert own.told("BatchEndedIncomplete") == []
            for _ in range(2):  # and a restart after it has been told changes nothing
                async with staged.daemon() as daemon:
                    await eventually("the end", lambda: own.told("BatchEndedIncomplete"), within=15)
                    await asyncio.sleep(3)
                    daemon.send_signal(signal.SIGKILL)
                    await daemon.wait()
            assert own.told("BatchEndedIncomplete") == ["firing"]
            assert own.told("BatchEnded") == []


async def test_demo_shows_addresses_bars_and_alerts(tmp_path):
    command = (sys.executable, "-m", "monitor", "demo", "--port", "0", "--for", "20", "--speed", "400")
    async with process(tmp_path, "demo", *command) as demo:
        assert await asyncio.wait_for(demo.wait(), 60) == 0
    shown = tmp_path.joinpath("demo.log").read_text()
    for expected in ("page", "metrics", "BatchStalled", "running", "BATCH"):
        assert expected in shown
    assert "Traceback" not in shown
