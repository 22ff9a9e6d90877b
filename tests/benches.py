"""A store and a delivery to step by hand, and the settings of receivers that are servers on loopback."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import aiohttp
from pydantic import SecretStr
from receivers import MovedClock, ScriptedReceiver

from monitor import notify
from monitor.delivery import Delivery, Settings
from monitor.metrics import Instruments
from monitor.model import Notification
from monitor.notify import alertmanager, webhook
from monitor.routing import Pacing
from monitor.store import Change, Contents, Store

SECRET = "s3cr3t-of-the-crm"
TOKEN = "t0k3n-in-the-path"
AT_ONCE = Pacing(group_wait=timedelta(0), max_messages_per_minute=6000)
GIVE_UP_AFTER = AT_ONCE.give_up_after


class Bench:
    """A store and a delivery, stepped by hand: no worker runs unless a test starts one."""

    def __init__(self, path: Path, clock: MovedClock) -> None:
        self.path = path
        self.clock = clock
        self.instruments = Instruments(endpoints=(), send_failures=notify.FAILURES, now=clock())
        self.store = Store(path, clock=clock)
        self.delivery = Delivery(
            self.store, clock=clock, instruments=self.instruments, jitter=lambda top: top
        )
        self.contents = Contents()

    async def open(self, leaving: frozenset[str] = frozenset()) -> Bench:
        self.contents = await self.store.open()
        self.delivery.restore(self.contents, leaving)
        self.delivery._turns.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        self.delivery._employ = lambda queue: None
        return self

    async def close(self) -> None:
        await self.delivery.stop(timedelta(seconds=1))
        await self.store.close()

    async def say(self, *rows) -> None:
        """What the poller does: commit, then hand over."""
        await self.store.commit(Change(notifications=rows))
        self.delivery.enqueue(rows)

    async def turn(self, name: str = "crm"):
        return await self.delivery._turns.take(self.delivery._queues[name])

    def recent(self) -> tuple[Notification, ...]:
        return tuple(record.notification for record in self.delivery.records())

    def value(self, metric: str, receiver: str = "crm", **more: str) -> float:
        name = f"ultravox_monitor_{metric}_total"
        return self.instruments.registry.get_sample_value(name, {"receiver": receiver, **more}) or 0

    def status(self, name: str = "crm"):
        return next(queue for queue in self.delivery.queues() if queue.receiver == name)


def hook(server: ScriptedReceiver, timeout: float = 10, **more) -> Settings:
    channel = webhook.Settings(
        SecretStr(f"{server.url}/{TOKEN}"), SecretStr(SECRET), timedelta(seconds=timeout)
    )
    return Settings(channel, **({"pacing": AT_ONCE} | more))


def am(*servers: ScriptedReceiver, **more) -> Settings:
    return Settings(alertmanager.Settings(tuple(SecretStr(server.url) for server in servers)), **more)


def crashed(path: Path) -> Path:
    """The state file as a killed process leaves it now."""
    to = path.with_name(f"crashed-{len(list(path.parent.iterdir()))}.db")
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{to}{suffix}")
    return to
