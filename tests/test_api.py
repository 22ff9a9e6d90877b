"""A real daemon is asked whatever docs/openapi.yaml allows, and what it does not: no 5xx, nothing the document does not say.

Slow (a minute), so marked `api`: `make test-api`. Schemathesis makes the questions up from the document, each time
others; it is told a seed, so that what it found can be found again: SEED=… make test-api.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import contract
import pytest
import yaml
from test_stack import eventually, free_port, inbox, process

from monitor import simulator
from monitor.clock import utc_now

pytestmark = [pytest.mark.api, pytest.mark.timeout(180)]

SPEED = 120  # of the simulator's afternoon: an hour in half a minute
EXAMPLES = 40  # for each operation
LONGEST = 45  # seconds that asking may take
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


@asynccontextmanager
async def daemon(folder):
    """One that watches the simulator's afternoon, with a receiver that takes its messages and one that does not."""
    scenario = simulator.shipped()
    pretend = simulator.Simulator(scenario, speed=SPEED, clock=utc_now)
    base_url, port = await pretend.start(), free_port()
    keys = {f"KEY_{account.name.upper()}": account.api_key for account in scenario.accounts}
    config = folder / "config.yaml"
    async with inbox() as box:
        document = {
            "accounts": [
                {
                    "name": account.name,
                    "api_key": f"${{KEY_{account.name.upper()}}}",
                    "base_url": base_url,
                    "discover": {"interval": "1s"},
                }
                for account in scenario.accounts
            ],
            "poll": {"interval": "1s", "timeout": "1s", "account_interval": "1s", "outcomes_interval": "2s"},
            "alerts": {
                "stalled": {"after": "3s"},
                "overdue": {"for": "1s"},
                "paused_too_long": {"for": "3s"},
            },
            "receivers": [
                {"name": "crm", "webhook": {"url": box.url}, "group_wait": "0s"},
                {"name": "ops", "webhook": {"url": f"http://127.0.0.1:{free_port()}/"}, "group_wait": "0s"},
            ],
            "storage": {"path": str(folder / "monitor.db")},
            "web": {"listen_address": f"127.0.0.1:{port}"},
        }
        config.write_text(yaml.safe_dump(document))
        command = (sys.executable, "-m", "monitor", "run", "--config.file", str(config))
        try:
            async with process(folder, "daemon", *command, env=keys) as running:
                yield f"http://127.0.0.1:{port}", box, running
        finally:
            await pretend.stop()


async def rich(url: str) -> str | None:
    """The id of a batch, once the daemon has something to tell of everything."""
    try:
        async with aiohttp.ClientSession(url) as session:
            async with session.get("/-/ready") as answer:
                ready = answer.status == 200
            async with session.get("/api/v1/batches") as answer:
                data = (await answer.json())["data"]
            async with session.get("/api/v1/notifications") as answer:
                told = (await answer.json())["data"]["notifications"]
    except aiohttp.ClientConnectionError:
        return None
    there = ready and data["firing"] and {one["status"] for one in told} >= {"waiting", "delivered"}
    return data["batches"][0]["batch_id"] if there else None


def document_for(batch_id: str) -> dict:
    """The document with this batch for an example: a batch that is made up is always 404."""
    text = contract.PATH.read_text(encoding="utf-8")
    return yaml.safe_load(
        text.replace("value: 3c90c3cc}", f"value: {batch_id}}}").replace(
            "{batch_id: 3c90c3cc,", f"{{batch_id: {batch_id},"
        )
    )


async def test_nothing_that_can_be_asked_is_answered_but_as_the_document_says(tmp_path):
    seed = os.environ.get("SEED") or str(random.randrange(2**32))
    async with daemon(tmp_path) as (url, box, running):
        batch_id = await eventually("there is something to tell", lambda: rich(url), within=40)
        path = tmp_path / "openapi.yaml"
        path.write_text(yaml.safe_dump(document_for(batch_id)))
        # One worker: on Python 3.11 two that parse source at the same time fail now and then, in the interpreter.
        asking = await asyncio.create_subprocess_exec(
            SCHEMATHESIS,
            "--no-color",
            "run",
            str(path),
            *("--url", url, "--checks", "all", "--mode", "all", "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", str(EXAMPLES), "--max-time", str(LONGEST), "--seed", seed),
            *(
                "--continue-on-failure",
                "--warnings",
                "off",
                "--report",
                "ndjson",
                "--report-ndjson-path",
                "report.ndjson",
            ),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await asking.communicate())[0].decode()
        assert running.returncode is None, "the daemon died"
    log = tmp_path.joinpath("daemon.log").read_text()
    assert asking.returncode == 0, f"SEED={seed}\n{said}"
    assert "level=error" not in log, log
    assert box.told("TestAlert"), "no test alert was ever sent"
    missing = {
        (f"{method.upper()} {path}", int(code))
        for path, method, operation in contract.operations()
        for code in operation["responses"]
        if code not in {"413", "415", "500", "503"}  # nothing it would send, and what must not come
    } - given(tmp_path / "report.ndjson")
    assert missing == set(), "answers that were never got: then the questions were too tame"


def given(report: Path) -> set[tuple[str, int]]:
    """Which operation gave which answer."""
    found = set()
    for line in report.read_text().splitlines():
        scenario = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for one in scenario.get("interactions", {}).values():
            if one.get("response"):
                found.add((scenario["label"], one["response"]["status_code"]))
    return found
