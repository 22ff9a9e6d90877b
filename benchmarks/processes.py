"""Who takes part, each in a process of its own: the daemon as users run it, the API, peers; and what each of them uses.

CPU time is user and system time of all threads of a process, as the kernel counts it (/proc/PID/stat).
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.api import DAY, Size, account_name, agent_id, api_key, batch_id
from benchmarks.internals import write_past
from monitor.clock import utc_now

TICKS = os.sysconf("SC_CLK_TCK")
START_WITHIN = 300.0
"""Seconds in which everything that is started must be ready."""


@dataclass(frozen=True)
class Running:
    """A process, and where it listens, as host:port: "" where it does not."""

    process: subprocess.Popen[str]
    address: str = ""

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://{self.address}"

    def cpu(self) -> float:
        """Seconds of CPU time since it began."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> Mapping[str, int]:
        """KiB of memory by kind, as /proc/PID/status names them: VmRSS, RssAnon, VmHWM …"""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return {
            name: int(rest.split()[0])
            for name, _, rest in (one.partition(":") for one in lines)
            if "kB" in rest
        }

    def get(self, path: str, **headers: str) -> bytes:
        """What it answers; OSError when it does not, or with a status other than 200."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise OSError(f"HTTP {answer.status}")
        return body

    def ask(self, path: str) -> dict[str, Any]:
        """What it answers, read as JSON."""
        found: dict[str, Any] = json.loads(self.get(path))
        return found


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    """It is killed at the end: nothing of it is needed any more, and nobody waits until it has tidied up."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def started(*command: str, log: Path | None = None) -> Iterator[Running]:
    """A Python process of ours from here on, ended at the end. Without a log it prints its port first."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("w")) if log else subprocess.PIPE
        errors = output if log else None
        process = subprocess.Popen([sys.executable, *command], stdout=output, stderr=errors, text=True)  # noqa: S603 - this interpreter, with arguments of ours
        stack.enter_context(ending(process))
        address = f"127.0.0.1:{process.stdout.readline().strip()}" if process.stdout else ""
        yield Running(process, address)


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.contextmanager
def api(size: Size, *more: str) -> Iterator[Running]:
    """The API, with so many batches."""
    options = ("--accounts", size.accounts, "--agents", size.agents, "--batches", size.batches)
    with started("-m", "benchmarks.api", *map(str, options), *more) as running:
        yield running


@dataclass(frozen=True)
class Setting:
    """How the daemon is configured; the rest are its defaults."""

    size: Size
    single: bool = False  # each batch is named in the configuration; else they are found
    interval: str = "30s"
    outcomes_interval: str = "5m"
    timeout: str = "10s"
    webhook: str | None = None
    alerts: Mapping[str, object] | None = None

    def document(self, base_url: str) -> dict[str, object]:
        """The configuration file."""
        accounts = []
        for number in range(self.size.accounts):
            account: dict[str, object] = {
                "name": account_name(number),
                "api_key_file": f"key-{number}",
                "base_url": base_url,
                "max_requests_per_second": 200,
            }
            agents = range(number * self.size.agents, (number + 1) * self.size.agents)
            if self.single:
                account["batches"] = [
                    {"agent_id": agent_id(agent), "batch_id": batch_id(one)}
                    for agent in agents
                    for one in range(agent * self.size.batches, (agent + 1) * self.size.batches)
                ]
            accounts.append(account)
        document: dict[str, object] = {
            "accounts": accounts,
            "poll": {
                "interval": self.interval,
                "outcomes_interval": self.outcomes_interval,
                "timeout": self.timeout,
            },
            "storage": {"path": "monitor.db"},
            "web": {"listen_address": f"127.0.0.1:{free_port()}"},
        }
        if self.webhook:
            hook = {
                "name": "hook",
                "webhook": {"url": self.webhook},
                "group_wait": "1s",
                "max_messages_per_minute": 6000,
            }
            document["receivers"] = [hook]
        if self.alerts:
            document["alerts"] = self.alerts
        return document


@contextlib.contextmanager
def daemon(setting: Setting, base_url: str, folder: Path) -> Iterator[Running]:
    """`python -m monitor run` with a configuration file, and `monitor.db` in this folder as its state file."""
    document: Any = setting.document(base_url)
    path = folder / "config.yaml"
    path.write_text(yaml.dump(document, Dumper=yaml.CSafeDumper))
    for number in range(setting.size.accounts):
        (folder / f"key-{number}").write_text(api_key(number))
    options = ("-m", "monitor", "run", "--config.file", str(path))
    with started(*options, log=folder / "log") as running:
        yield Running(running.process, document["web"]["listen_address"])


def until(running: Running, path: str, *, holds: Callable[[bytes], bool] = lambda _: True) -> float:
    """Ask the daemon until it answers with 200 and what is wanted; how many seconds that took from now."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < START_WITHIN:
        if running.process.poll() is not None:
            raise RuntimeError("the daemon has ended")
        with contextlib.suppress(OSError):
            if holds(running.get(path)):
                return time.perf_counter() - begin
        time.sleep(0.01)
    raise RuntimeError(f"{path} does not answer as it should")


@dataclass(frozen=True)
class Scene:
    """A daemon that has looked at everything once, the API that it asks, and the folder with its files."""

    setting: Setting
    daemon: Running
    api: Running
    folder: Path
    ready_after: float  # seconds from its start


@contextlib.contextmanager
def watching(setting: Setting, *api_options: str, past: bool = True) -> Iterator[Scene]:
    """The daemon at work; with a past: started on the state file of one that has watched all of it for a day."""
    created = utc_now().timestamp() - DAY
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if past:
            asyncio.run(write_past(folder / "monitor.db", created, setting.size))
        with (
            api(setting.size, "--created", str(created), *api_options) as asked,
            daemon(setting, asked.url, folder) as running,
        ):
            yield Scene(setting, running, asked, folder, until(running, "/-/ready"))
