"""A peer: what any Python program must pay that polls. GET and json.loads, paced, nothing else.

Run as `python -m benchmarks.bare URL --rate 200 --agents 6000`, each agent with one batch, which is asked for by its id;
with `--pages`, all batches of each are read, page after page. Asks until it is killed.
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
    parser.add_argument("--rate", type=float, required=True, help="batches, or lists, a second")
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument("--pages", action="store_true", help="lists instead of single batches")
    options = parser.parse_args()
    headers, under_way, loop = {"X-API-Key": api_key(0)}, set(), asyncio.get_running_loop()
    async with aiohttp.ClientSession(options.url, headers=headers) as session:

        async def ask(number: int) -> None:
            path = f"/api/agents/{agent_id(number)}/scheduled_batches"
            following = path if options.pages else f"{path}/{batch_id(number)}"
            while following:
                async with session.get(following) as answer:
                    found = json.loads(await answer.read())
                _, _, query = (found.get("next") or "").partition("?")
                following = query and f"{path}?{query}"

        due = loop.time()
        for turn in itertools.count():
            task = asyncio.create_task(ask(turn % options.agents))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += 1 / options.rate
            await asyncio.sleep(due - loop.time())


if __name__ == "__main__":
    asyncio.run(main())
