"""A poller on a real state file, asking the pretend Ultravox on a real socket, on a moved clock."""

from __future__ import annotations

from pydantic import SecretStr

from monitor import simulator, ultravox
from monitor.alerts import Policy
from monitor.metrics import Instruments
from monitor.model import BatchKey, Target
from monitor.poller import Book, Poller
from monitor.routing import Receiver
from monitor.store import Store
from monitor.targets import Watch
from monitor.ultravox import ApiSettings, Client

STORY = """
accounts:
  - name: main
    agents:
      - name: renewals
        batches:
          - name: spring
            calls: 100
            pace: 60/h
            jitter: 0
            window: {end: 2h}
            script: [{at: 10m, do: stall}, {at: 40m, do: recover}]
          - {name: done, created: -1h, calls: 10, pace: 60/h, script: [{at: 30m, do: delete}]}
"""


class World:
    """The pretend Ultravox, and a poller that can be killed and started again."""

    def __init__(self, folder, clock, story=STORY):
        self.clock = clock
        self.scenario = simulator.load(story)
        self.pretend = simulator.Simulator(self.scenario, clock=clock)
        self.path = folder / "monitor.db"
        [account] = self.scenario.accounts
        [agent] = account.agents
        self.api_key = account.api_key
        self.keys = {
            batch.name: BatchKey(str(agent.agent_id), str(batch.batch_id)) for batch in agent.batches
        }
        self.spring, self.done = self.keys.get("spring"), self.keys.get("done")
        self.delivered = []

    async def start(self, *keys, name="spring", ends=True):
        """A fresh process: a new poller on whatever the state file holds."""
        self.instruments = Instruments(endpoints=ultravox.ENDPOINTS, send_failures=(), now=self.clock())
        self.store = Store(self.path, clock=self.clock)
        contents = await self.store.open()
        self.book = Book(
            store=self.store,
            instruments=self.instruments,
            clock=self.clock,
            deliver=self.delivered.extend,
            receivers=(Receiver("chat"),),
        )
        self.poller = Poller(self.book)
        self.book.restore(contents)
        settings = ApiSettings(
            "main", SecretStr(self.api_key), self.pretend.base_url, max_requests_per_second=10_000
        )
        self.client = Client(settings, clock=self.clock)
        await self.book.watch_account("main", self.client, Policy())
        for key in keys:
            self.book.watch(Watch(Target("main", key, name=name)))
        await self.book.close_unwatched()

    async def stop(self):
        await self.client.close()
        await self.store.close()

    async def poll(self, minutes, *keys, step=1):
        """Poll each minute for so long."""
        for _ in range(0, minutes, step):
            self.clock.move(minutes=step)
            for key in keys or (self.spring,):
                await self.poller.poll_batch(key)

    def told(self):
        return [(one.kind.value, dict(one.alert.labels)["alertname"]) for one in self.delivered]

    def count(self, name, **labels):
        return self.instruments.registry.get_sample_value(
            f"ultravox_monitor_{name}", {"account": "main"} | labels
        )
