"""Shards as real processes: each batch exactly once, a real Prometheus that notices what is wrong, TLS between them."""

from __future__ import annotations

import json
import re
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from doors import AUTHORITY, HASH, PASSWORD, write_web
from several import NAMES, Several
from test_stack import eventually, free_port, process, program

from monitor.clock import utc_now
from monitor.shards import owner

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

RULES = Path(__file__).parent.parent / "deploy/prometheus/rules/ultravox-batch-monitor.yml"
MISSING = "UltravoxMonitorShardMissing"
MISMATCHED = "UltravoxMonitorShardsMismatched"
TWICE = "UltravoxMonitorAccountWatchedTwice"


@pytest.fixture
async def several(tmp_path, server):
    made = Several(tmp_path, server, clock=utc_now)
    made.more["poll"] = {"interval": "1s", "timeout": "5s"}
    await made.pretend.start()
    yield made
    await made.pretend.stop()


@asynccontextmanager
async def shard(several, ordinal, count, *options, port=None, name=None):
    """A real process; yields it."""
    name = name or str(ordinal)
    file = several.write(several.folder / name)
    command = (
        *(sys.executable, "-m", "monitor", "run", "--config.file", str(file)),
        f"--web.listen-address=127.0.0.1:{port or f'{several.stem}{ordinal}'}",
        *(f"--shard=ultravox-batch-monitor-{ordinal}/{count}", *options),
    )
    async with process(several.folder, f"shard-{name}", *command, env=several.environ) as running:
        yield running


class Prometheus:
    """A real one, which finds its targets in a file, with the shipped rules but for their waiting times."""

    def __init__(self, folder):
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"

    def scrape(self, *ports):
        """These are the targets from now on."""
        fresh = self.folder / "targets.tmp"
        fresh.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}" for port in ports]}]))
        fresh.replace(self.folder / "targets.json")

    @asynccontextmanager
    async def running(self):
        rules = self.folder / "rules.yml"
        rules.write_text(re.sub(r"( for): \d+m", r"\1: 2s", RULES.read_text("utf-8")))
        job = {"job_name": "ultravox-batch-monitor", "file_sd_configs": [{"files": ["targets.json"]}]}
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        document = {"global": every, "rule_files": [rules.name], "scrape_configs": [job]}
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(document))
        options = (
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        )
        async with process(self.folder, "prometheus", program("prometheus"), *options):
            yield self

    async def ask(self, what, **query):
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.url}/api/v1/{what}", params=query) as answer,
            ):
                return (await answer.json())["data"]
        except (aiohttp.ClientConnectionError, aiohttp.ContentTypeError):  # it starts
            return None

    async def values(self, query):
        data = await self.ask("query", query=query)
        return [float(one["value"][1]) for one in data["result"]] if data else []

    async def firing(self):
        """What fires of shards: alert and value."""
        data = await self.ask("alerts")
        return {
            one["labels"]["alertname"]: float(one["value"])
            for one in (data or {"alerts": []})["alerts"]
            if one["state"] == "firing" and one["labels"]["alertname"] in {MISSING, MISMATCHED, TWICE}
        }


async def test_three_shards_watch_every_batch_once_and_what_goes_wrong_with_them_is_noticed(several):
    ports = [int(f"{several.stem}{ordinal}") for ordinal in range(3)]
    peers = f"--shard.peers={several.peers}"
    prometheus = Prometheus(several.folder)
    prometheus.scrape(*ports)

    async def exactly(**alerts):
        async def look():
            return await prometheus.firing() == alerts

        await eventually(f"exactly these fire: {alerts}", look, within=60)

    async def says(query, *values):
        """For a scrape that comes late, a busy machine is enough."""

        async def look():
            return sorted(await prometheus.values(query)) == [*values]

        await eventually(f"{query} is {values}", look, within=30)

    async with AsyncExitStack() as others, prometheus.running():
        for ordinal in (0, 2):
            await others.enter_async_context(shard(several, ordinal, 3, peers))
        async with shard(several, 1, 3, peers) as killed:

            async def all_seen():
                return len(await prometheus.values("ultravox_batch_up == 1")) == 3 * len(NAMES)

            await eventually("every batch is seen", all_seen, within=60)
            each = "count by (account, agent_id, batch_id) (ultravox_batch_info)"
            await says(each, *[1.0] * 3 * len(NAMES))
            await says("count(count by (instance) (ultravox_batch_info))", 3.0)
            await exactly()

            killed.kill()
            await killed.wait()
            await exactly(**{MISSING: 1.0})
            await says("up", 0.0, 1.0, 1.0)

        async with shard(several, 1, 3, peers):
            await exactly()
            prometheus.scrape(*ports[:2])
            await exactly(**{MISSING: 1.0})
            await says("up", 1.0, 1.0)  # there is no target to be down
            spare = free_port()
            prometheus.scrape(*ports, spare)
            async with shard(several, 1, 3, port=spare, name="double"):
                await exactly(**{MISMATCHED: 4.0, TWICE: 2.0})
            prometheus.scrape(*ports)
            await exactly()


async def test_shards_behind_tls_and_a_password_hand_over(several, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    web = write_web(served, tls={}, users={"prometheus": HASH})
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.cert_pem.bytes())
    (tmp_path / "password").write_text(PASSWORD)
    http = {
        "basic_auth": {"username": "prometheus", "password_file": "password"},
        "tls_config": {"ca_file": "ca.pem", "server_name": "localhost"},
    }
    (tmp_path / "http.yml").write_text(yaml.safe_dump(http))
    options = (
        f"--web.config.file={web}",
        "--web.read-only",
        f"--shard.peers={several.peers.replace('http://', 'https://')}",
        f"--shard.http.config.file={tmp_path / 'http.yml'}",
    )

    def lines(name, text):
        log = several.folder / f"shard-{name}.log"
        return {
            found[1]
            for line in log.read_text().splitlines()
            if text in line and (found := re.search(r" account=(\S+)", line))
        }

    moved = {name for name in NAMES if owner(name, 2) == 1}
    async with shard(several, 0, 1, *options):
        await eventually("all are watched", lambda: lines("0", "account arrives") == set(NAMES), within=30)
    async with shard(several, 0, 2, *options), shard(several, 1, 2, *options):
        await eventually("all have moved", lambda: lines("0", "account is handed over") == moved, within=60)
        await eventually("all are watched", lambda: lines("1", "account arrives") == moved, within=30)
    assert PASSWORD not in (several.folder / "shard-1.log").read_text()
