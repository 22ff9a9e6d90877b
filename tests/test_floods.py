"""A real daemon under floods: its memory stays where it was, and it goes on when they are over.

Some ten seconds, so marked `hostile`.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from itertools import cycle
from pathlib import Path

import aiohttp
import pytest
import yaml
from pretend_api import API_KEY
from raw import RawServer
from samples import AGENT, BATCH
from test_bad_answers import BATCH as GOOD_BATCH
from test_bad_answers import ROWS, sized

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]

FLOODS = [
    name for name in ROWS if re.search(r"bomb|megabyte|without an end|zeros|100 KB|parts of gzip", name)
]
POLLS = 40
MAY_GROW = 48 * 1024 * 1024
"""Bytes: one answer of 8 MiB is in memory, as bytes and as a text, and heads and hints of some more."""


class Flooding(RawServer):
    """One flood after the other; `met`: how many requests were given one."""

    floods = cycle(FLOODS)
    over = False

    async def _serve(self, reader, writer):
        answer = sized(GOOD_BATCH) if self.over else ROWS[next(self.floods)][0]
        await super()._serve(reader, writer, answer)


def largest(process) -> int:
    """The most bytes that the process has had in memory."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+([0-9]+) kB", text)[1]) * 1024


async def until(look):
    while not look():  # noqa: ASYNC110 - it is looked at from outside
        await asyncio.sleep(0.02)


async def test_floods_cost_no_memory_and_nothing_is_forgotten(tmp_path, capsys):
    server = Flooding()
    await server.start()
    batch = {"agent_id": AGENT, "batch_id": BATCH, "name": "spring"}
    account = {"name": "main", "api_key": "${KEY}", "base_url": server.url, "batches": [batch]}
    hook = {"name": "crm", "webhook": {"url": server.url + "/hook", "timeout": "300ms"}}
    config = {
        "accounts": [account | {"max_requests_per_second": 100}],
        "poll": {"interval": "1s", "timeout": "300ms", "account_interval": "1s", "outcomes_interval": "1s"},
        "receivers": [hook],
        "storage": {"path": None},
        "web": {"listen_address": "127.0.0.1:0"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    log = tmp_path / "daemon.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "monitor", "run", "--config.file", "config.yaml",
            stdout=out, stderr=out, cwd=tmp_path, env={"KEY": API_KEY, "PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip
    try:
        async with asyncio.timeout(100):
            await until(lambda: b"address=" in log.read_bytes())
            url = re.search(rb"address=(\S+)", log.read_bytes())[1].decode()
            server.over = True
            async with aiohttp.ClientSession(url) as session:

                async def told(name):
                    async with session.get("/metrics") as answer:
                        found = re.findall(rf"^{name}.* (\S+)$", await answer.text(), flags=re.MULTILINE)
                    return sum(map(float, found))

                while await told("ultravox_batch_calls{") != 400:  # noqa: ASYNC110 - it is looked at from outside
                    await asyncio.sleep(0.02)
                before, server.over = largest(process), False
                while sum(one.startswith(b"GET ") for one in server.asked) < POLLS:
                    async with session.post("/api/v1/test-alert", json={}) as answer:
                        assert answer.status == 200
                after = largest(process)
                assert await told("ultravox_monitor_poll_failures_total") > 10
                assert await told("ultravox_batch_calls{") == 400
                async with session.get("/-/healthy") as answer:
                    assert answer.status == 200
                server.over = True
                async with session.post("/-/reload") as answer:
                    assert answer.status == 200
                while await told("ultravox_batch_up{") != 1:  # noqa: ASYNC110 - the same
                    await asyncio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await server.stop()
    assert b"Traceback" not in log.read_bytes()
    assert after - before < MAY_GROW
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(server.asked)} requests, {len(FLOODS)} kinds of flood, {server.sent // 2**20} MiB sent: "
            f"the daemon grew from {before // 2**20} to {after // 2**20} MiB\n"
        )
