"""Accounts that move between shards, with all that is remembered of them, so that nothing is told twice.

Who watches an account is shards.py's to say. When their number changes, the shard that finds an account of another
one in its state file keeps it for that one: it closes nothing, tells nothing new, and repeats to an Alertmanager what
fires. Both ask each other, and neither has anything changed by the other:

| the shard that is to watch it                         | the shard that watched it                        |
| ----------------------------------------------------- | ------------------------------------------------ |
| asks all others; while one still watches it, it waits | offers it                                        |
| takes what is offered into its own state file         | asks that shard; once it has it, forgets it      |
| asks again; once nobody offers it, watches it         |                                                  |

Killed anywhere between, both begin where they were: who has it in its state file never asks for it again.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from monitor import words
from monitor.delivery import Delivery
from monitor.model import HandoverView
from monitor.poller import Book
from monitor.resolver import Resolver
from monitor.shards import Shard, owner
from monitor.store import AccountState, Change, Contents, Store
from monitor.store.records import ACCOUNT_STATE

logger = logging.getLogger(__name__)

ASK_EVERY = 3.0
"""Seconds between two questions to the other shards."""

ANSWER_WITHIN = aiohttp.ClientTimeout(total=5)
STATE_WITHIN = aiohttp.ClientTimeout(total=60, connect=5)
"""Seconds: one that hangs must not hold up what the others have; an account with ten thousand batches has tens of
megabytes of state."""

PATIENCE = 300.0
"""Seconds that an account waits for shards that do not answer. A rolling restart has each back within one minute, a
pod that moves to another machine within a few; and so long nobody watches the account."""

KEEP = 24 * 3600.0
"""Seconds that an account is kept for a shard that does not take it. Then it counts as no longer watched."""


class ShardError(Exception):
    """There is no such shard. The text says which there are."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """Which shard this process is, and how it reaches the others."""

    shard: Shard = field(default_factory=Shard)
    peers: str | None = None  # a base URL with {shard} in it; None: nothing is handed over
    authorization: str | None = field(default=None, repr=False)  # the header
    tls: ssl.SSLContext | bool = True  # True: the system's authorities
    server_name: str | None = None  # of their certificates; None: the URL's


Views = Mapping[int, HandoverView | None]
"""What the other shards said, by ordinal; None: no answer."""


class Handover:
    """What this shard waits for, and what it keeps for others. `begin` it with the state file, then `run` it."""

    def __init__(self, settings: Sharding, book: Book, delivery: Delivery, store: Store) -> None:
        self.shard = settings.shard
        self.arriving: set[str] = set()  # ours, and not watched yet
        self.leaving: set[str] = set()  # another shard's, and kept for it
        self._settings = settings
        self._book = book
        self._delivery = delivery
        self._store = store
        self._ours: frozenset[str] = frozenset()
        self._taken: set[str] = set()  # of those that arrive: in our state file
        self._waits_until: dict[
            str, float
        ] = {}  # those that arrive, for shards that do not answer; loop seconds
        self._forgotten: dict[str, AccountState] = {}  # of those that leave: still in our state file

    def begin(self, accounts: Iterable[str], contents: Contents) -> None:
        """Find what has moved since the state file was written. ShardError: there is no such shard.

        `accounts`: of the configuration, whosever they are. Where something can be handed over, an ordinal that is too
        high is that of a shard that is about to go: refused, it would hold up the restart of those that stay.
        """
        names, known = set(accounts), {record.name for record in contents.accounts}
        if self._settings.peers is not None:
            self.leaving = {name for name in names & known if not self.shard.owns(name)}
            # A state file that was lost is no reason to ask: what was in it was ours.
            if contents.ends_since is None:
                self.arriving = {name for name in names - known if self.shard.owns(name)}
        self.use(names)
        if self.shard.ordinal >= self.shard.count:
            last = f"of {words.counted(self.shard.count, 'shard')} the last is {self.shard.count - 1}"
            if self._settings.peers is None:
                raise ShardError(f"--shard {self.shard}: ordinals begin at 0, {last}")
            logger.warning(
                "this shard is about to go, it watches nothing: %s", last, extra={"shard": str(self.shard)}
            )
        elif not self._ours:
            logger.info("no account is this shard's", extra={"shard": str(self.shard)})

    def use(self, accounts: Iterable[str]) -> None:
        """These are the configured accounts from now on."""
        self._ours = frozenset(name for name in accounts if self.shard.owns(name))
        self.arriving &= self._ours
        self._taken &= self._ours

    @property
    def moving(self) -> frozenset[str]:
        """Accounts that are another shard's, or not ours yet."""
        return frozenset(self.arriving | self.leaving)

    def watches(self, account: str) -> bool:
        """Whether this shard is to watch it now."""
        return self.shard.owns(account) and account not in self.arriving

    # What others are told

    def view(self) -> HandoverView:
        """What the other shards want to know."""
        return HandoverView(
            watches=self._ours - self.arriving | self._taken,
            offers=frozenset(self.leaving - self._forgotten.keys()),
        )

    def offer(self, account: str) -> Callable[[], Any] | None:
        """What is remembered of an account, for its shard: a function that makes JSON of it. None: it is not offered."""
        found = self._book.remembered_account(account) if account in self.view().offers else None
        if found is None:
            return None
        batches = {record.key.batch_id for record in found[1]}
        mutes = tuple(mute for mute in self._delivery.mutes() if mute.batch_id in batches)
        state = AccountState(*found, self._delivery.of_account(account), mutes)
        return lambda: ACCOUNT_STATE.dump_python(state, mode="json")

    # What others are asked

    async def run(self, arrived: Callable[[str], Awaitable[None]]) -> None:
        """Hand over and take over until nothing moves any more. `arrived`: watch this account from now on."""
        loop = asyncio.get_running_loop()
        keep_until = loop.time() + KEEP
        self._waits_until = dict.fromkeys(self.arriving, loop.time() + PATIENCE)
        if self.arriving or self.leaving:
            logger.info(
                "accounts move",
                extra={"awaited": ",".join(sorted(self.arriving)), "kept": ",".join(sorted(self.leaving))},
            )
        connector = aiohttp.TCPConnector(resolver=Resolver(), force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            while self.arriving or self.leaving:
                try:
                    views = await self._ask_all(session)
                    for name in sorted(self.leaving):
                        view = views.get(owner(name, self.shard.count))
                        if view is not None and name in view.watches:
                            await self._let_go(name)
                        elif loop.time() >= keep_until:
                            await self._give_back(name)
                    for name in sorted(self.arriving):
                        if any(view is not None and name in view.watches for view in views.values()):
                            self._waits_until[name] = loop.time() + PATIENCE
                            continue
                        offering = [at for at, view in views.items() if view and name in view.offers]
                        settled = not offering and all(views[ordinal] for ordinal in self._others())
                        if settled or loop.time() >= self._waits_until[name]:
                            await self._arrive(name, arrived, settled=settled)
                        elif offering and name not in self._taken:
                            await self._take(session, name, offering)
                except Exception:  # an error of our own must not leave an account unwatched
                    logger.exception("handing over stumbled")
                await asyncio.sleep(ASK_EVERY)

    async def _arrive(self, name: str, arrived: Callable[[str], Awaitable[None]], *, settled: bool) -> None:
        fields = {"account": name, "with_its_past": name in self._taken}
        if settled:
            logger.info("account arrives", extra=fields)
        else:
            logger.warning(
                "account arrives, though not every shard could be asked for its past, or has let go of it",
                extra=fields,
            )
        await arrived(name)
        self._taken.discard(name)

    async def _take(self, session: aiohttp.ClientSession, name: str, offering: list[int]) -> None:
        """Take the account over from the shard that saw it last."""
        found = []
        for ordinal in offering:
            data = await self._ask(session, ordinal, account=name)
            try:
                found.append(await asyncio.to_thread(ACCOUNT_STATE.validate_python, data["state"]))
            except (LookupError, TypeError, ValueError):  # no answer, or another version's
                logger.warning(
                    "the past of an account cannot be read", extra={"account": name, "shard": ordinal}
                )
                return
        state = max(found, key=lambda one: one.account.last_success_at or one.account.watched_since)
        self._book.remember(state.account, state.batches)
        self._taken.add(name)
        await self._store.commit(
            Change(state.batches, (state.account,), state.notifications, mutes=state.mutes)
        )
        self._delivery.take_over(state.notifications, state.mutes)

    async def _let_go(self, name: str) -> None:
        """The other shard has it."""
        if name not in self._forgotten and (known := self._book.remembered_account(name)) is not None:
            self._forgotten[name] = AccountState(*known, await self._delivery.let_go(name))
        if name not in self._forgotten or await self._store.forget(self._forgotten[name]):
            self._book.forget_account(name)
            self._forgotten.pop(name, None)
            self.leaving.discard(name)
            logger.info("account is handed over", extra={"account": name})

    async def _give_back(self, name: str) -> None:
        """Nobody has taken it."""
        logger.error("no shard has taken over an account; it is no longer watched", extra={"account": name})
        self.leaving.discard(name)
        self._delivery.keep_on(name)
        await self._book.close_unwatched(self.moving)

    def _others(self) -> list[int]:
        return [ordinal for ordinal in range(self.shard.count) if ordinal != self.shard.ordinal]

    async def _ask_all(self, session: aiohttp.ClientSession) -> Views:
        """Ask every other shard; where they became fewer, those above that are still there, too."""
        others = self._others()
        answers = await asyncio.gather(*(self._view(session, ordinal) for ordinal in others))
        views = dict(zip(others, answers, strict=True))
        above = self.shard.count
        while above != self.shard.ordinal and (view := await self._view(session, above)) is not None:
            views[above] = view
            above += 1
        return views

    async def _view(self, session: aiohttp.ClientSession, ordinal: int) -> HandoverView | None:
        data = await self._ask(session, ordinal)
        try:
            return HandoverView(frozenset(data["watches"]), frozenset(data["offers"]))
        except (LookupError, TypeError):
            return None

    async def _ask(self, session: aiohttp.ClientSession, ordinal: int, **query: str) -> Any:
        """The `data` of a shard's answer. None: it has none."""
        assert self._settings.peers is not None  # noqa: S101 - without it nothing moves
        url = self._settings.peers.replace("{shard}", str(ordinal)).rstrip("/") + "/api/v1/handover"
        given = self._settings.authorization
        try:
            async with session.get(
                url,
                params=query,
                timeout=STATE_WITHIN if query else ANSWER_WITHIN,
                headers={} if given is None else {aiohttp.hdrs.AUTHORIZATION: given},
                ssl=self._settings.tls,
                server_hostname=self._settings.server_name,
                allow_redirects=False,  # the password is for this address alone
            ) as answer:
                answer.raise_for_status()
                return (await answer.json())["data"]
        except (
            aiohttp.ClientError,
            OSError,
            ValueError,
            LookupError,
            TypeError,
        ) as error:  # TimeoutError is one
            logger.debug("shard does not answer", extra={"shard": ordinal, "error": type(error).__name__})
            return None
