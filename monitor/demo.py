"""The demonstration: the simulator, a daemon with a configuration made for it, and a live view of both.

It uses the daemon as everyone else does: a configuration file, the HTTP API.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from monitor import clock, config, log, simulator, top
from monitor.alerts import KINDS, default_rule
from monitor.app import App
from monitor.evaluate import Rules
from monitor.remote import NoAnswerError

POLL = timedelta(seconds=1)
REFRESH = 0.5
"""Seconds between two pictures."""


def configuration(
    scenario: simulator.Scenario, base_url: str, *, speed: float, port: int, folder: Path
) -> str:
    """A configuration, as YAML, that watches every batch of the scenario; all durations `speed` times shorter."""

    def fast(duration: timedelta) -> str:
        return f"{max(1000, round(duration / speed / timedelta(milliseconds=1)))}ms" if duration else "0s"

    rules = Rules()
    alerts: dict[str, dict[str, Any]] = {
        kind.key: {
            "for": fast(default_rule(name).hold),
            "keep_firing_for": fast(default_rule(name).keep_firing_for),
        }
        for name, kind in KINDS.items()
        if not kind.one_shot
    }
    alerts["stalled"] |= {"after": fast(rules.stall_after), "after_at_cap": fast(rules.stall_after_at_cap)}
    accounts = [
        {
            "name": account.name,
            "api_key": "${" + _variable(account.name) + "}",
            "base_url": base_url,
            "max_requests_per_second": 50,
            "discover": {"interval": "2s"},  # what is named below keeps its name
            "batches": [
                {"agent_id": str(agent.agent_id), "batch_id": str(batch.batch_id), "name": batch.name}
                for agent in account.agents
                for batch in agent.batches
            ],
            "agents": [{"agent_id": str(agent.agent_id), "name": agent.name} for agent in account.agents],
        }
        for account in scenario.accounts
    ]
    document = {
        "accounts": accounts,
        "poll": {"interval": "1s", "timeout": "2s", "account_interval": "1s", "outcomes_interval": "3s"},
        "alerts": alerts,
        "storage": {"path": str(folder / "monitor.db")},
        "web": {"listen_address": f"127.0.0.1:{port}"},
    }
    return yaml.safe_dump(document, sort_keys=False)


def _variable(account: str) -> str:
    return "DEMO_KEY_" + "".join(char if char.isalnum() else "_" for char in account).upper()


async def run(*, speed: float, seconds: float | None, port: int) -> None:
    """Run it until cancelled, or for so many seconds. OSError when the port is taken."""
    console, drawn = top.console()
    live = sys.stdout.isatty() and not console.is_dumb_terminal
    log.set_up("critical" if live else "info", "logfmt")
    scenario = simulator.shipped()
    pretend = simulator.Simulator(scenario, speed=speed, clock=clock.utc_now)
    base_url = await pretend.start()
    try:
        with tempfile.TemporaryDirectory(prefix="batch-monitor-demo-") as name:
            folder = Path(name)
            path = folder / "config.yaml"
            path.write_text(configuration(scenario, base_url, speed=speed, port=port, folder=folder))
            keys = {_variable(account.name): account.api_key or "" for account in scenario.accounts}

            def load() -> config.Config:
                return config.load(path, os.environ | keys)

            app = App(load(), load=load, clock=clock.utc_now)
            await _show(app, console, drawn, base_url, speed=speed, seconds=seconds, live=live)
    finally:
        await pretend.stop()


async def _show(
    app: App,
    console: Console,
    drawn: top.Marks,
    base_url: str,
    *,
    speed: float,
    seconds: float | None,
    live: bool,
) -> None:
    daemon = asyncio.create_task(app.run())
    started = asyncio.create_task(app.started.wait())
    try:
        await asyncio.wait({daemon, started}, return_when=asyncio.FIRST_COMPLETED)
        if not daemon.done():
            console.print(_head(app.address, base_url, speed))
            last = await _follow(app, daemon, console, drawn, speed=speed, seconds=seconds, live=live)
            if last.data:
                top.print_whole(console, last, top.View(), drawn)
    finally:
        started.cancel()
        app.stop()
        await daemon


async def _follow(
    app: App,
    daemon: asyncio.Task[None],
    console: Console,
    drawn: top.Marks,
    *,
    speed: float,
    seconds: float | None,
    live: bool,
) -> top.Known:
    """Until it is left, the daemon stops (Ctrl-C) or the time is over; returns what was known last.

    Without a terminal nothing is drawn on the way: the log is what can be followed.
    """
    known, view = top.Known(app.address), top.View()
    if not live:
        await asyncio.wait({daemon}, timeout=seconds)
    else:
        note = f"Demonstration: an afternoon at {speed:g} times its speed, all of it made up. Page: {app.address}/"
        follower = top.Follower(
            app.address, console, drawn, view, interval=REFRESH, clock=clock.utc_now, note=note
        )
        daemon.add_done_callback(lambda _: follower.stop())
        following = asyncio.create_task(follower.run())
        await asyncio.wait({following}, timeout=seconds)
        follower.stop()
        await following
    with contextlib.suppress(NoAnswerError):  # it has just stopped
        known = await asyncio.to_thread(top.read, known, view, drawn, part=None, alerts=None)
    return known


def _head(address: str, base_url: str, speed: float) -> Text:
    return Text.assemble(
        ("Ultravox Batch Monitor, demonstration", "bold"),
        f": an afternoon at {speed:g} times its speed, all of it made up.\n",
        *(("page      ", "dim"), f"{address}/\n"),
        *(("metrics   ", "dim"), f"{address}/metrics\n"),
        *(("api       ", "dim"), f"{address}/api/v1/batches\n"),
        *(("ultravox  ", "dim"), f"{base_url} (pretended)\n"),
        ("Ctrl-C ends it.\n", "dim"),
    )
