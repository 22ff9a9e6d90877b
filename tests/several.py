"""Several shards of one monitor, in one process: real sockets, a state file each, one pretend Ultravox, a moved clock."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from contextlib import ExitStack, suppress

import yaml
from receivers import MovedClock

from monitor import config, simulator
from monitor.app import App
from monitor.clock import utc_now
from monitor.handover import Sharding
from monitor.shards import Shard, owner

NAMES = [f"agency-{number}" for number in range(12)]
MOVERS = [name for name in NAMES if owner(name, 2) != owner(name, 3)]

STORY = """
accounts:
"""
ACCOUNT = """
  - name: @NAME@
    agents:
      - name: team
        batches:
          - {name: over, calls: 10, pace: 120/h, jitter: 0}
          - {name: ends, calls: 90, pace: 60/h, jitter: 0}
          - {name: stalls, calls: 900, pace: 120/h, jitter: 0, script: [{at: 5m, do: stall}, {at: 60m, do: recover}]}
"""


def ports(count):
    """The first of so many free ports that differ in their last digit alone, without that digit."""
    while True:
        stem = random.randrange(1100, 3200)
        with ExitStack() as held, suppress(OSError):
            for digit in range(count):
                listening = held.enter_context(socket.socket())
                listening.bind(("127.0.0.1", int(f"{stem}{digit}")))
            return stem


class Several:
    """The shards by ordinal. Their configuration is one; each has a folder for its state."""

    def __init__(self, folder, receiver, names=NAMES, clock=None):
        self.folder = folder
        self.receiver = receiver
        self.names = names
        self.clock = clock or MovedClock(utc_now())
        story = STORY + "".join(ACCOUNT.replace("@NAME@", name) for name in names)
        self.pretend = simulator.Simulator(simulator.load(story), clock=self.clock)
        self.stem = ports(5)
        self.apps: dict[int, App] = {}
        self.more: dict[str, object] = {}
        self.finds = False  # no batch is configured

    @property
    def peers(self):
        return f"http://127.0.0.1:{self.stem}{{shard}}"

    def document(self):
        accounts = [
            {
                "name": account.name,
                "api_key": f"${{KEY_{number}}}",
                "base_url": self.pretend.base_url,
                "max_requests_per_second": 200,
                "discover": {} if self.finds else None,
                "batches": [
                    {"agent_id": str(agent.agent_id), "batch_id": str(batch.batch_id), "name": batch.name}
                    for agent in account.agents
                    for batch in agent.batches
                    if not self.finds
                ],
            }
            for number, account in enumerate(self.pretend.scenario.accounts)
            if account.name in self.names
        ]
        receivers = [{"name": "crm", "webhook": {"url": f"{self.receiver.url}/crm"}, "group_wait": "0s"}]
        return {
            "accounts": accounts,
            "poll": {"interval": "10m"},
            "receivers": receivers,
            "storage": {"path": "monitor.db"},
        } | self.more

    @property
    def environ(self):
        return {
            f"KEY_{number}": account.api_key for number, account in enumerate(self.pretend.scenario.accounts)
        }

    def write(self, folder):
        """The configuration, in a folder for one shard's state."""
        folder.mkdir(exist_ok=True)
        file = folder / "config.yaml"
        file.write_text(yaml.safe_dump(self.document()))
        return file

    async def start(self, ordinal, count, *, peers=True, access=None, **sharding):
        """Start this shard, on the state that it left."""
        file = self.write(self.folder / str(ordinal))
        address = f"127.0.0.1:{self.stem}{ordinal}"

        def load():
            return config.load(file, self.environ, listen_address=address, web_config_file=access)

        settings = Sharding(Shard(ordinal, count), self.peers if peers else None, **sharding)
        app = App(load(), load=load, clock=self.clock, sharding=settings)
        try:
            await app.start()
        except BaseException:
            await app.shut_down()
            raise
        self.apps[ordinal] = app
        return app

    async def stop(self, *ordinals):
        for ordinal in ordinals or tuple(self.apps):
            await self.apps.pop(ordinal).shut_down()

    async def poll(self, minutes):
        """Look at every batch each ten minutes, for so long."""
        for _ in range(0, minutes, 10):
            self.clock.move(minutes=10)
            for app in self.apps.values():
                for name in list(app.book.accounts):
                    await app.poller.probe_account(name)
                    await app.rounds._discovery.run(name)
            await self.look()
            await self.sent()

    async def look(self):
        """Look at every batch once: turns come by this clock, which stands still."""
        for app in self.apps.values():
            for key in list(app.book.watches):
                await app.poller.poll_batch(key)

    async def sent(self):
        """Until nothing waits that a receiver would take."""
        await self.until(
            lambda: not any(queue.pending for app in self.apps.values() for queue in app.delivery.queues())
        )

    async def settled(self):
        """Until no account moves any more."""
        await self.until(
            lambda: (
                not any(app.handover.moving or app.reload.under_way.locked() for app in self.apps.values())
            )
        )

    @staticmethod
    async def until(look):
        async with asyncio.timeout(20):
            while not look():  # noqa: ASYNC110 - it is looked at from outside, like a user would
                await asyncio.sleep(0.01)

    def watched(self):
        """How often each account's batches are watched."""
        return Counter(
            (watch.target.account, watch.target.name)
            for app in self.apps.values()
            for watch in app.book.watches.values()
        )

    def told(self):
        """How often each thing was told."""
        return Counter(
            (labels["account"], labels.get("batch"), labels["alertname"], alert["status"])
            for request in self.receiver.requests
            if request.path == "/crm"
            for alert in request.json["alerts"]
            for labels in [alert["labels"]]
        )


EVERY_BATCH_ONCE = Counter({(name, batch): 1 for name in NAMES for batch in ("over", "ends", "stalls")})
EARLY = [("over", "BatchEnded", "firing"), ("stalls", "BatchStalled", "firing")]
LATE = [("stalls", "BatchStalled", "resolved"), ("ends", "BatchEnded", "firing")]


def once(names, told):
    """Each of these was told once of every account."""
    return Counter({(name, *what): 1 for name in names for what in told})
