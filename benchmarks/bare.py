"""A peer: what any Python program must pay that polls. GET and json.loads, paced, nothing else.

Run as `python -m benchmarks.bare URL --rate 200 --batches 6000`, each batch of an agent of its own; asks until it
is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json

import aiohttp

from benchmarks.api import agent_id, api_key, batch_id


async def main() -> None:
    """Ask until killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--batches", type=int, default=6000)
    options = parser.parse_args()
    headers, under_way, loop = {"X-API-Key": api_key(0)}, set(), asyncio.get_running_loop()
    async with aiohttp.ClientSession(options.url, headers=headers) as session:

        async def ask(number: int) -> None:
            path = f"/api/agents/{agent_id(number)}/scheduled_batches/{batch_id(number)}"
            async with session.get(path) as answer:
                json.loads(await answer.read())

        due = loop.time()
        for turn in itertools.count():
            task = asyncio.create_task(ask(turn % options.batches))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += 1 / options.rate
            await asyncio.sleep(due - loop.time())


if __name__ == "__main__":
    asyncio.run(main())
