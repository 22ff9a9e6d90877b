"""The running daemon: wires the parts together, starts and stops them, makes of them what the configuration says.

No judgement here. A new configuration is read, validated and built in full before anything live is
touched (reload.py); what cannot be taken over leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Container, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from monitor import notify, targets, ultravox, web, words
from monitor.clients import Clients
from monitor.clock import Clock
from monitor.config import Account, Config
from monitor.delivery import Delivery
from monitor.handover import Handover, Sharding
from monitor.heartbeat import Heartbeat, Vitals
from monitor.metrics import Instruments
from monitor.model import BatchKey
from monitor.poller import Book, Poller
from monitor.reload import Reload
from monitor.rounds import Plan, Rounds
from monitor.schedule import Schedule
from monitor.store import Store
from monitor.surface import Surface
from monitor.systemd import Systemd
from monitor.web import ReloadRefusedError

logger = logging.getLogger(__name__)

POLL_PATIENCE = timedelta(seconds=1)
SEND_PATIENCE = timedelta(seconds=6)
END_WITHIN = timedelta(seconds=9)
"""How long polls, what is being sent, and all of the end may take after SIGTERM: container runtimes kill after ten
seconds. What is left of them is the disk's. A poll that is cut off is repeated after the restart.
"""

PRUNE_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class _Change:
    """What a configuration that was read anew would change."""

    wanted: dict[BatchKey, targets.Watch]
    found: Container[BatchKey]  # of these, those that were found
    plan: targets.Plan


class App:
    """One daemon, or with `sharding` one of several. `load` reads the configuration anew; it raises ConfigError."""

    def __init__(
        self,
        config: Config,
        *,
        load: Callable[[], Config],
        clock: Clock,
        sharding: Sharding | None = None,
    ) -> None:
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._serving: web.Serving | None = None
        self.started = asyncio.Event()
        self.instruments = Instruments(
            endpoints=ultravox.ENDPOINTS, send_failures=notify.FAILURES, now=clock()
        )
        self.schedule = Schedule(clock=clock)
        self.store = Store(config.storage_path, clock=clock)
        self.delivery = Delivery(
            self.store, clock=clock, instruments=self.instruments, external_url=config.web.external_url
        )
        self.book = Book(
            store=self.store, instruments=self.instruments, clock=clock, deliver=self.delivery.enqueue
        )
        self.clients = Clients(self.book)
        self.poller = Poller(self.book)
        self.rounds = Rounds(self.schedule, self.poller, clock=clock)
        self.handover = Handover(sharding or Sharding(), self.book, self.delivery, self.store)
        if sharding is not None and sharding.shard.ordinal < sharding.shard.count:
            self.instruments.sharded(sharding.shard.ordinal, sharding.shard.count)
        self.surface = Surface(
            self.book,
            self.rounds,
            self.delivery,
            self.store,
            self.schedule,
            self.handover,
            clock,
            reload=lambda: self.reload.run(asked_for=True),
            started_at=clock(),
        )
        self.heartbeat = Heartbeat(self._vitals, clock=clock, instruments=self.instruments)
        self._systemd = Systemd(os.environ)
        self.reload = Reload(
            config,
            load,
            plan=self._plan,
            apply=self._take_over,
            refused=self._refused,
            systemd=self._systemd,
        )

    # Life

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT, or until `stop` is called."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_by_signal)
        try:
            await self.start()
            await self._stopping.wait()
        finally:
            await self.shut_down()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()

    async def start(self) -> None:
        """Bring everything up. StoreError, ShardError or OSError when the state file, the shard or the address cannot be had."""
        config = self.reload.config
        contents = await self.store.open()
        self.handover.begin((account.name for account in config.accounts), contents)
        self.book.restore(contents)
        self.delivery.restore(contents, self.handover.leaving)
        self._serving = await web.serve(config.web, self.surface, self.instruments, config.access)
        self.delivery.start()
        self.schedule.start()
        self.schedule.every("prune", PRUNE_EVERY, self._prune)
        await self._begin(self._ours(config))
        self._serving.open()  # not before: the first scrape has all that is watched
        self.heartbeat.use(config.heartbeat)
        self._spawn(self.handover.run(self._arrived))
        self._spawn(self.reload.watch_files())
        self._spawn(self._systemd.beat(self.schedule.alive, self._in_a_line))
        self._systemd.ready()
        self.started.set()
        logger.info(
            "watching",
            extra={
                "accounts": len(self.book.accounts),
                "batches": len(self.book.watches),
                "address": self.address,
            },
        )

    @property
    def address(self) -> str:
        """The base URL at which this process answers, for people on the same machine."""
        host, port = self.reload.config.web.host, self.reload.config.web.port
        if self._serving is not None and self._serving.addresses:
            port = self._serving.addresses[0][1]
        scheme = "http" if self.reload.config.access.tls is None else "https"
        shown = "localhost" if host in {"", "0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
        return f"{scheme}://[{shown}]:{port}" if ":" in shown else f"{scheme}://{shown}:{port}"

    async def shut_down(self) -> None:
        """Stop polling, finish what is being sent, close everything; all of it within END_WITHIN, come what may."""
        loop = asyncio.get_running_loop()
        until = loop.time() + END_WITHIN.total_seconds()
        self._systemd.stopping()
        await self.heartbeat.stop()
        await self.schedule.stop(POLL_PATIENCE)
        await self.poller.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        closing = asyncio.create_task(self._stop_answering())
        await self.delivery.stop(SEND_PATIENCE)
        await self.clients.close()
        await closing
        await self.store.close(timedelta(seconds=until - loop.time()))
        self.reload.stop()
        logger.info("stopped")

    async def _stop_answering(self) -> None:
        if self._serving is not None:
            await self._serving.cleanup()

    # Configuration

    def _ours(self, config: Config) -> Config:
        """With those accounts alone that this process is to watch now."""
        accounts = tuple(account for account in config.accounts if self.handover.watches(account.name))
        return replace(config, accounts=accounts)

    async def _begin(self, config: Config) -> None:
        """Watch these accounts, and go on where their state in the store ends."""
        adopted: dict[BatchKey, targets.Watch] = {}
        for account in config.accounts:
            if account.discovery is not None:
                adopted |= self.rounds.adopt(account.name, account.discovery)
        await self._apply(config, adopted | _configured(config), found=adopted.keys())
        await self.book.close_unwatched(self.handover.moving)

    async def _arrived(self, name: str) -> None:
        """Watch an account that was awaited, unless a reload has taken it out meanwhile."""
        async with self.reload.under_way:
            self.handover.arriving.discard(name)
            config = self.reload.config
            accounts = tuple(account for account in config.accounts if account.name == name)
            await self._begin(replace(config, accounts=accounts))

    def _plan(self, config: Config, asked_for: bool) -> _Change:
        config = self._ours(config)
        found = self.rounds.found({account.name: account.discovery for account in config.accounts})
        wanted = found | _configured(config)
        plan = targets.plan(self.book.watches, wanted, asked_for=asked_for)
        return _Change(wanted, found.keys(), plan)

    async def _take_over(self, config: Config, change: _Change) -> None:
        before, plan = self.reload.config, change.plan
        self.handover.use(account.name for account in config.accounts)
        config = self._ours(config)
        if config.storage_path != before.storage_path or config.web != before.web:
            logger.warning("storage and web settings are taken over at the next start")
        gone = self.book.accounts.keys() - {account.name for account in config.accounts}
        for name in gone:
            self.rounds.unwatch_account(name)  # before anything waits: a list under way adds nothing now
        await self.rounds.unwatch(plan.dropped)
        await self._apply(config, change.wanted, found=change.found)
        for name in gone:
            self.rounds.unwatch_account(name)  # once more: a list whose turn came meanwhile is known again
            await self.clients.forget(name)
        if self._serving is not None:
            self._serving.use(config.access)
        self.heartbeat.use(config.heartbeat)
        self.instruments.loaded(successful=True, now=self._clock())
        self.surface.reload_error = None
        logger.info(
            "configuration loaded",
            extra={"added": len(plan.added), "kept": len(plan.kept), "dropped": len(plan.dropped)},
        )

    def _refused(self, why: str) -> None:
        self.instruments.loaded(successful=False, now=self._clock())
        self.surface.reload_error = why

    async def _apply(
        self, config: Config, wanted: dict[BatchKey, targets.Watch], *, found: Container[BatchKey]
    ) -> None:
        """Make what is running what the configuration says. Nothing here can be refused any more."""
        self.book.links = config.links
        self.book.receivers = self.delivery.set_receivers(config.receivers)
        # All at once, for one commit: what is found of the first must not be looked at before all are known again.
        await asyncio.gather(*(self._apply_account(account, config) for account in config.accounts))
        configured = _configured(config)
        for key, watch in wanted.items():
            known = key in found and key not in configured
            self.rounds.watch(watch, found=known, soon=not known)  # found ones are about to be listed

    async def _apply_account(self, account: Account, config: Config) -> None:
        await self.clients.use(account.api, account.policy)
        self.rounds.watch_account(
            account.name,
            Plan(
                config.interval,
                config.account_interval,
                config.outcomes_interval,
                account.api.max_requests_per_second,
                account.discovery,
            ),
        )

    async def _prune(self) -> None:
        self.book.prune()
        await self.store.prune()

    def _in_a_line(self) -> str:
        batches = len(self.book.watches)
        accounts = words.counted(len(self.book.accounts), "account")
        return f"watching {batches:,} {'batch' if batches == 1 else 'batches'} of {accounts}"

    def _vitals(self) -> Vitals:
        """What the heartbeat vouches for. An account that waits because the API asked for it counts as asked."""
        now, receivers = self._clock(), {receiver.name for receiver in self.book.receivers}
        accounts, batches = self.book.accounts.values(), self.book.statuses.values()
        attempts = [now if account.client.paused else account.status.last_probe_at for account in accounts]
        attempts += [status.last_poll_at for status in batches]
        if not accounts:  # all are other shards': there is nothing to ask for
            attempts.append(now)
        return Vitals(
            scheduler_lives=self.schedule.alive(),
            store_writable=self.store.writable,
            account_interval=self.reload.config.account_interval,
            attempts=tuple(at for at in attempts if at is not None),
            since=self.heartbeat.since,
            queues=tuple(queue for queue in self.delivery.queues() if queue.receiver in receivers),
        )

    def _reload_by_signal(self) -> None:
        async def reload() -> None:
            with contextlib.suppress(ReloadRefusedError):  # it has been logged
                await self.reload.run(asked_for=True)

        self._spawn(reload())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _configured(config: Config) -> dict[BatchKey, targets.Watch]:
    """The batches that the configuration names."""
    return {watch.key: watch for account in config.accounts for watch in account.watches}
