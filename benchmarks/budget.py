"""`python -m benchmarks.budget`: how many requests a realistic account costs, by endpoint, and the peer beside it.

The daemon, with the defaults, watches one account of the pretend Ultravox in real time, by the key alone:
1,000 batches of ten agents, 5 % running, 10 % waiting, 85 % ended within the last day. The peer is what
polling each batch at the same interval asks, as an exporter with one target for each batch does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from pathlib import Path

import yaml

from monitor import config, simulator
from monitor.app import App
from monitor.clock import utc_now
from monitor.model import State

AGENTS = 10


def scenario(batches: int) -> str:
    """The account, as the simulator reads it."""
    agents = []
    for agent in range(AGENTS):
        made = []
        for number in range(batches // AGENTS):
            share = number / (batches // AGENTS)
            batch: dict[str, object] = {"name": f"b{agent}-{number}", "calls": 200, "jitter": 0.5}
            if share < 0.05:
                batch |= {"created": "-1h", "window": {"start": "-1h", "end": "4h"}, "pace": "60/h"}
            elif share < 0.15:
                batch |= {"created": f"-{1 + number % 5}h", "window": {"start": "3h", "end": "9h"}}
            else:
                batch |= {
                    "created": f"-{6 + number % 16}h",
                    "calls": 20,
                    "pace": "60/h",
                    "window": {"end": "-2h"},
                }
            made.append(batch)
        agents.append({"name": f"agent-{agent}", "batches": made})
    return yaml.safe_dump({"accounts": [{"name": "main", "call_duration": "1m", "agents": agents}]})


async def measure(batches: int, minutes: float) -> dict[str, object]:
    """Requests a minute by endpoint, once the first minute (finding everything) is over."""
    pretend = simulator.Simulator(simulator.load(scenario(batches)), clock=utc_now)
    base_url = await pretend.start()
    [account] = pretend.scenario.accounts
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "accounts": [{"name": "main", "api_key": "${KEY}", "base_url": base_url}],
                    "web": {"listen_address": "127.0.0.1:0"},
                }
            )
        )

        def load() -> config.Config:
            return config.load(path, {"KEY": account.api_key or ""})

        app = App(load(), load=load, clock=utc_now)
        running = asyncio.create_task(app.run())
        await app.started.wait()
        await asyncio.sleep(60)
        found, states = len(pretend.requests), app.surface.snapshot().batches
        first = Counter(request.endpoint for request in pretend.requests)
        await asyncio.sleep(minutes * 60)
        steady = Counter(request.endpoint for request in list(pretend.requests)[found:])
        interval = load().interval
        app.stop()
        await running
    await pretend.stop()
    by_state = Counter(status.assessment.state for status in states)
    return {
        "batches": {state.value: by_state[state] for state in State if by_state[state]},
        "first_minute": dict(first),
        "requests_per_minute": {
            endpoint: round(count / minutes, 1) for endpoint, count in steady.most_common()
        },
        "total_per_minute": round(sum(steady.values()) / minutes, 1),
        "each_batch_by_itself_per_minute": round(len(states) * 60 / interval.total_seconds(), 1),
    }


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10, help="after the first minute; real time")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = asyncio.run(measure(asked.batches, asked.minutes))
    if asked.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name.replace('_', ' ')}: {value}")


if __name__ == "__main__":
    main()
