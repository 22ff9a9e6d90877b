"""A pretend Ultravox, a receiver, and a real daemon between them that a test can trouble and look at."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import sys
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from receivers import ScriptedReceiver
from test_stack import eventually, free_port

import monitor
from monitor import simulator
from monitor.clock import utc_now

STOPPED_WITHIN = 10.0
"""Seconds after which container runtimes kill what they asked to end."""

STORY = """
accounts:
  - name: main
    agents: [{name: renewals, batches: [{name: one, calls: 10000, pace: 2/s}, {name: two, calls: 10000, pace: 2/s}]}]
  - name: other
    agents: [{name: surveys, batches: [{name: far, calls: 10000, pace: 2/s}]}]
"""


class World:
    """One daemon and what is around it. `folder` holds its configuration, its state and its log."""

    def __init__(self, folder: Path, pretend: simulator.Simulator, receiver: ScriptedReceiver) -> None:
        self.folder = folder
        self.pretend = pretend
        self.receiver = receiver
        self.port = free_port()
        self.environ: dict[str, str] = {}
        self.process: asyncio.subprocess.Process | None = None

    def write(self, *, base_urls: dict[str, str] | None = None, **more: Any) -> None:
        accounts = [
            {
                "name": account.name,
                "api_key": f"${{KEY_{account.name}}}",
                "base_url": (base_urls or {}).get(account.name, self.pretend.base_url),
                "batches": [
                    {"agent_id": str(agent.agent_id), "batch_id": str(batch.batch_id), "name": batch.name}
                    for agent in account.agents
                    for batch in agent.batches
                ],
                "discover": None,
            }
            for account in self.pretend.scenario.accounts
        ]
        document = {
            "accounts": accounts,
            "poll": {"interval": "1s", "timeout": "1s", "account_interval": "1s", "outcomes_interval": "1d"},
            "receivers": [{"name": "crm", "webhook": {"url": self.receiver.url + "/"}, "group_wait": "0s"}],
            "storage": {"path": str(self.state)},
            "web": {"listen_address": f"127.0.0.1:{self.port}"},
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(document | more))

    @property
    def state(self) -> Path:
        return self.folder / "monitor.db"

    @property
    def log(self) -> str:
        return (self.folder / "daemon.log").read_text()

    async def start(
        self, trouble: dict[str, Any] | None = None, *, until: str = "/-/ready", **environ: str
    ) -> None:
        """Start it, and wait until this path is answered with 200."""
        keys = {f"KEY_{account.name}": account.api_key or "" for account in self.pretend.scenario.accounts}
        own = {"DAYS": json.dumps(trouble or {}), "PYTHONPATH": str(Path(monitor.__file__).parents[1])}
        program = Path(__file__).with_name("daemon.py")
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(program), "run", "--config.file", str(self.folder / "config.yaml")),
                stdout=log,
                stderr=log,
                env=os.environ | keys | own | environ,
            )
        await eventually("it serves", lambda: self.answers(until), within=30)

    async def ask(self, path: str, *, within: float = 5.0) -> str | None:
        """Its answer, over a connection of its own; None: none came, or not with 200."""
        timeout = aiohttp.ClientTimeout(total=within)
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with (
                aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", timeout=timeout) as session,
                session.get(path) as answer,
            ):
                return await answer.text() if answer.status == 200 else None
        return None

    async def answers(self, path: str, *, within: float = 5.0) -> bool:
        return await self.ask(path, within=within) is not None

    async def metric(self, name: str) -> float | None:
        found = re.search(rf"^{re.escape(name)} (.*)$", await self.ask("/metrics") or "", flags=re.MULTILINE)
        return float(found[1]) if found else None

    async def polls(self, account: str = "main") -> float:
        return await self.metric(f'ultravox_monitor_polls_total{{account="{account}"}}') or 0.0

    async def up(self, account: str = "main") -> float | None:
        return await self.metric(f'ultravox_account_up{{account="{account}"}}')

    async def goes_on(self, account: str = "main", *, polls: int = 4, within: float = 15) -> None:
        """Wait for some more polls."""
        before = await self.polls(account)

        async def more() -> bool:
            return await self.polls(account) >= before + polls

        await eventually(f"polls of {account} go on", more, within=within)

    def limit(self, what: int, soft: int) -> None:
        """Move a limit of the running process; its hard one stays."""
        _, hard = resource.prlimit(self.process.pid, what)
        resource.prlimit(self.process.pid, what, (hard if soft < 0 else soft, hard))

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def processor(self) -> float:
        """Seconds of processor time so far."""
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    async def stop(self) -> float:
        """Ask it to end; after how many seconds it has, with exit code 0."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), STOPPED_WITHIN + 20)
        took = time.monotonic() - began
        assert self.process.returncode == 0, self.log[-2000:]
        assert took <= STOPPED_WITHIN, f"the end took {took:.1f} s"
        assert "raceback" not in self.log
        return took


@asynccontextmanager
async def world(folder: Path, story: str = STORY):
    pretend = simulator.Simulator(simulator.load(story), clock=utc_now)
    await pretend.start()
    receiver = ScriptedReceiver()
    await receiver.start()
    made = World(folder, pretend, receiver)
    try:
        yield made
    finally:
        if made.process is not None and made.process.returncode is None:
            made.process.kill()
            await made.process.wait()
        await receiver.stop()
        await pretend.stop()
