"""One soak: a simulator and a daemon, each a process of its own, receivers that flap, reloads, scrapes, readings."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import yaml
from chaos.receivers import Receiver

import monitor
from monitor import simulator
from soak import readings
from soak.flat import Bound, Series, beside
from soak.scenario import Size, configuration, scenario

EVERY = 5.0  # seconds between two readings
SCRAPE_EVERY = 15.0  # of each path, one after another
RELOAD_EVERY = 60.0
STARTED_WITHIN = 60.0
STOPPED_WITHIN = 10.0

PATHS = ("/metrics", "/", "/api/v1/batches?per_page=500")

YARDSTICK = "yardstick, ms"

BOUNDS = {
    "memory, MiB": Bound(0.04, 4),
    "memory blocks of Python": Bound(0.05, 20_000, lows=True),
    "open files": Bound(0.1, 10),
    "threads": Bound(0, 2),
    "tasks": Bound(0.15, 15),
    "state file, MiB": Bound(0.1, 0.5),
    "its WAL, MiB": Bound(0.1, 0.5),
    "/metrics, ms": Bound(0.5, 150, timed=True),
    "page, ms": Bound(0.5, 150, timed=True),
    "API, ms": Bound(0.5, 150, timed=True),
    "latest poll of 5 s, ms late": Bound(0.5, 250, timed=True),
    "event loop, ms late": Bound(0.5, 100, timed=True),
    "polls skipped a minute": Bound(0.25, 10),
    "processor, % of a core": Bound(0.15, 3),
    "batches watched": Bound(0.05, 50),
    "messages that wait": Bound(0.5, 200),
}
"""What is read, and how far it may rise from the first third to the last, and lean in an hour."""

_NAMES = dict(zip(PATHS, ("/metrics, ms", "page, ms", "API, ms"), strict=True))


@dataclass
class World:
    """`play` it once, for so many minutes."""

    folder: Path
    minutes: float
    seed: int
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def size(self) -> Size:
        return Size.of(self.minutes)

    async def play(self) -> None:
        pretend = daemon = None
        self._began = time.monotonic()
        receivers = [
            Receiver(name, path, random.Random(f"{self.seed}/{name}"))
            for name, path in (
                ("chat", "/chat"),
                ("crm", "/crm"),
                ("oncall", "/api/v2/alerts"),
                ("desk", "/desk"),
            )
        ]
        try:
            for receiver in receivers:
                await receiver.start()
            pretend = await self._simulator()
            self._prepare(receivers)
            daemon = await self._daemon()
            async with aiohttp.ClientSession(f"http://127.0.0.1:{self._port}") as session:
                await self._answering(session, daemon)
                jobs = [
                    asyncio.create_task(job)
                    for job in (
                        self._read(daemon),
                        self._reload(daemon),
                        self._forget(receivers),
                        *(self._scrape(session, path) for path in PATHS),
                    )
                ]
                ended = asyncio.create_task(daemon.wait())
                await asyncio.wait(
                    {*jobs, ended}, timeout=60 * self.minutes, return_when=asyncio.FIRST_COMPLETED
                )
                for job in (*jobs, ended):
                    job.cancel()
                for found in await asyncio.gather(*jobs, return_exceptions=True):
                    if isinstance(found, Exception):
                        self.wrong.append(f"the soak itself stumbled: {found!r}")
            await self._end(daemon)
        finally:
            for process in (daemon, pretend):
                if process is not None and process.returncode is None:
                    process.kill()
                    await process.wait()
            for receiver in receivers:
                await receiver.stop()
        self._look_at_log()

    def series(self) -> list[Series]:
        slack = self.size.slack
        yardstick = self.points.get(YARDSTICK, [])
        found = []
        for name, bound in BOUNDS.items():
            read = self.points.get(name, [])
            allowed = replace(bound, share=slack * bound.share, amount=slack * bound.amount)
            found.append(Series(name, allowed, tuple(read), beside(read, yardstick) if bound.timed else None))
        return found

    # Processes

    async def _simulator(self) -> asyncio.subprocess.Process:
        path = self.folder / "scenario.yaml"
        path.write_text(yaml.dump(scenario(self.minutes, self.size, self.seed), Dumper=yaml.CSafeDumper))
        self._story = simulator.load(path)
        command = ("-m", "monitor", "simulate", "--scenario", str(path), "--port", "0")
        with (self.folder / "simulator.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=log, env=_environment()
            )
        first = (await process.stdout.readline()).decode()
        self._base_url = first.split()[-1]
        for _ in self._story.accounts:
            await process.stdout.readline()
        return process

    def _prepare(self, receivers: list[Receiver]) -> None:
        prompt = {"group_wait": "2s", "max_messages_per_minute": 600}
        said = [
            {"name": one.name, "alertmanager": {"urls": [one.url], "timeout": "3s"}}
            if one.name == "oncall"
            else {"name": one.name, "webhook": {"url": one.url + one.path, "timeout": "2s"}, **prompt}
            for one in receivers
        ]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._texts = [
            yaml.safe_dump(
                configuration(
                    self._story,
                    self._base_url,
                    said,
                    size=self.size,
                    state=str(self._state),
                    port=self._port,
                    odd=odd,
                )
            )
            for odd in (False, True)
        ]
        self._config.write_text(self._texts[0])

    async def _daemon(self) -> asyncio.subprocess.Process:
        own = {f"KEY_{account.name.upper()}": account.api_key or "" for account in self._story.accounts}
        own |= {"SOAK_VITALS": str(self.folder / "vitals"), "SOAK_SHORTENED": str(self.size.shortened)}
        program = Path(__file__).with_name("daemon.py")
        with (self.folder / "daemon.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, str(program), "run", "--config.file", str(self._config)),
                stdout=log,
                stderr=log,
                env=_environment() | own,
            )

    @property
    def _state(self) -> Path:
        return self.folder / "monitor.db"

    @property
    def _config(self) -> Path:
        return self.folder / "config.yaml"

    async def _answering(self, session: aiohttp.ClientSession, daemon: asyncio.subprocess.Process) -> None:
        until = time.monotonic() + STARTED_WITHIN
        while time.monotonic() < until and daemon.returncode is None:
            with suppress(aiohttp.ClientError):
                async with session.get("/-/healthy") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.2)
        raise RuntimeError(f"the daemon does not answer, see {self.folder}/daemon.log")

    async def _end(self, daemon: asyncio.subprocess.Process) -> None:
        if daemon.returncode is not None:
            self.wrong.append(f"the daemon ended by itself: {daemon.returncode}")
            return
        daemon.send_signal(signal.SIGTERM)
        began = time.monotonic()
        try:
            await asyncio.wait_for(daemon.wait(), STOPPED_WITHIN)
        except TimeoutError:
            self.wrong.append(f"SIGTERM did not end it within {STOPPED_WITHIN:g} s")
            return
        self.counts["ms to the end after SIGTERM"] = round(1000 * (time.monotonic() - began))
        if daemon.returncode != 0:
            self.wrong.append(f"it ended with {daemon.returncode}")

    # What happens all the time

    async def _reload(self, daemon: asyncio.subprocess.Process) -> None:
        """A new file each minute, and SIGHUP after every other: else it has to be noticed."""
        number = 0
        while True:
            await asyncio.sleep(RELOAD_EVERY)
            number += 1
            new = self._config.with_suffix(".new")
            new.write_text(self._texts[number % 2])
            new.replace(self._config)
            if number % 2 == 0:
                daemon.send_signal(signal.SIGHUP)
            self.counts["reloads asked for"] += 1

    async def _scrape(self, session: aiohttp.ClientSession, path: str) -> None:
        seen = {"polls": 0.0, "skipped": 0.0, "at": 0.0}
        await asyncio.sleep(PATHS.index(path) * SCRAPE_EVERY / len(PATHS))
        while True:
            started = time.monotonic()
            try:
                async with session.get(path) as answer:
                    text = await answer.text()
                    self.counts[f"answers {answer.status}"] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                self.wrong.append(f"{path}: {error!r}")
                text = ""
            self._note(_NAMES[path], 1000 * (time.monotonic() - started))
            if path == "/metrics" and text:
                found = readings.metrics(text)
                minutes = (started - seen["at"]) / 60
                if seen["at"]:  # counters of an account that was taken out begin anew
                    self._note("polls skipped a minute", max(0, found["skipped"] - seen["skipped"]) / minutes)
                self.counts["polls"] += max(0, round(found["polls"] - seen["polls"]))
                self._note("batches watched", found["batches"])
                self._note("messages that wait", found["pending"])
                seen = found | {"at": started}
            await asyncio.sleep(max(0.1, SCRAPE_EVERY - (time.monotonic() - started)))

    async def _read(self, daemon: asyncio.subprocess.Process) -> None:
        place, processor, at = 0, None, time.monotonic()
        while True:
            await asyncio.sleep(EVERY)
            found = readings.process(daemon.pid) | readings.files(self._state)
            used, now = found.pop("processor"), time.monotonic()
            if processor is not None:
                self._note("processor, % of a core", 100 * (used - processor) / (now - at))
            processor, at = used, now
            for name, value in found.items():
                self._note(name, value)
            self._note(YARDSTICK, readings.yardstick())
            said, place = readings.vitals(self.folder / "vitals", place)
            for one in said:
                self._note("tasks", one["tasks"])
                self._note("memory blocks of Python", one["blocks"])
                self._note("latest poll of 5 s, ms late", 1000 * one["poll_late"])
                self._note("event loop, ms late", 1000 * one["loop_late"])
                self.counts["full garbage collections"] = round(one["collections"])
                self.counts["uncollectable objects"] = round(one["uncollectable"])

    async def _forget(self, receivers: list[Receiver]) -> None:
        """They need not remember what they took."""
        while True:
            await asyncio.sleep(EVERY)
            for receiver in receivers:
                self.counts["messages taken"] += len(receiver.posts)
                receiver.posts.clear()

    def _note(self, name: str, value: float) -> None:
        at = time.monotonic() - self._began
        self.points.setdefault(name, []).append((at, value))
        with (self.folder / "readings").open("a") as out:
            out.write(json.dumps([round(at, 1), name, round(value, 2)]) + "\n")

    # Afterwards

    def _look_at_log(self) -> None:
        log = (self.folder / "daemon.log").read_text()
        self.counts["reloads done"] = log.count('msg="configuration loaded"')
        if (
            missing := self.counts["reloads asked for"] - self.counts["reloads done"]
        ) > 1:  # the last may be cut off
            self.wrong.append(f"{missing} reloads were not done")
        if self.counts["uncollectable objects"]:
            self.wrong.append("objects that no garbage collection can free")
        odd = [
            line
            for line in log.splitlines()
            if "raceback" in line or re.search(r"never awaited|unclosed", line.lower())
        ]
        self.wrong += [f"in the log: {line[:300]}" for line in odd[:5]]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(monitor.__file__).parents[1])}
