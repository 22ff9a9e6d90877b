"""What all tests share: a shim for aioresponses, receivers and deliveries, and the rule that nothing is skipped in CI."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import aioresponses.core
import pytest
from benches import Bench
from hypothesis import settings
from receivers import MovedClock, ScriptedReceiver

from monitor import store

settings.register_profile("ours", deadline=None)  # a deadline is a timed assertion, and machines are shared
settings.load_profile("ours")


class _ClientResponse(aiohttp.ClientResponse):
    """aioresponses 0.7.9 does not know the argument `stream_writer` that aiohttp 3.14 needs."""

    def __init__(self, *args, **options):
        options.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **options)


@pytest.fixture
def shimmed_aioresponses(monkeypatch):
    """Aioresponses that works with the aiohttp we need."""
    monkeypatch.setattr(aioresponses.core, "ClientResponse", _ClientResponse)
    with aioresponses.aioresponses() as mocked:
        yield mocked


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where everything must run: {report.longrepr}"


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A machine that is busy with other things is no disk that fails. Tests of one that does have a patience of their own."""
    monkeypatch.setattr(store, "COMMIT_PATIENCE", 60)


@pytest.fixture
def clock():
    return MovedClock()


@pytest.fixture
async def server():
    made = ScriptedReceiver()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def other_server():
    made = ScriptedReceiver()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def benches(tmp_path, clock):
    made = []

    async def make(path: Path = tmp_path / "monitor.db", **options: Any) -> Bench:
        bench = Bench(path, clock)
        made.append(bench)
        return await bench.open(**options)

    yield make
    for bench in made:
        await bench.close()
