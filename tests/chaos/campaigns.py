"""A pretend Ultravox whose batches live by chance, and that remembers what became of each, and when.

The simulator plays what was written down before; here a round lasts as long as its kills do, so each batch lives
from chapter to chapter until `calm` is set, and then comes to its end.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from pretend_api import serve

from monitor.clock import utc_now

API_KEY = "Zk3hQ9aB.0123456789abcdef0123456789abcdef"
PACE = 5.0  # calls a second
HELD = 8.0  # seconds for which a trouble that stands at the calm's beginning is held, so that it must be told
SLOTS = 10  # batches that live at a time
CONFIGURED = 2  # of them in the configuration; the others are found


@dataclass
class Span:
    """Something that held of a batch, or of the account, for a while. `until` None: it still does."""

    what: str
    since: datetime
    until: datetime | None = None


@dataclass
class End:
    """One end of a batch. `until`: when calls were added to it."""

    at: datetime
    unmade: int
    failed_ratio: float
    until: datetime | None = None


@dataclass
class Campaign:
    """One batch as it stands, and its past."""

    agent_id: str
    batch_id: str
    created: datetime
    total: int = 10_000
    made: float = 0.0
    failed: int = 0
    flowing: bool = True
    paused: bool = False
    here: bool = True
    readable: bool = True
    window_end: datetime | None = None
    ended_at: datetime | None = None
    moved_at: datetime = field(default_factory=utc_now)
    spans: list[Span] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)

    def move(self) -> None:
        """Make the calls that were due since the last time."""
        now = utc_now()
        if self.flowing and not self.paused and self.ended_at is None:
            self.made = min(self.made + PACE * (now - self.moved_at).total_seconds(), self.total - 1)
        self.moved_at = now

    def end(self, *, unmade: int, failed_ratio: float) -> None:
        self.move()
        self.total = int(self.made) + unmade + 1
        self.made = self.total - unmade
        self.failed = int(self.made * failed_ratio)
        self.ended_at = utc_now()
        self.ends.append(End(self.ended_at, unmade, self.failed / self.made))

    def reopen(self) -> None:
        self.ended_at, self.ends[-1].until = None, utc_now()
        self.total, self.failed, self.moved_at = self.total + 10_000, 0, utc_now()
        self.window_end = None

    def json(self) -> dict[str, Any]:
        self.move()
        return {
            "batchId": self.batch_id,
            "created": _instant(self.created),
            "totalCount": self.total if self.readable else "many",
            "completedCount": int(self.made),
            "endedAt": _instant(self.ended_at),
            "windowStart": None,
            "windowEnd": _instant(self.window_end),
            "paused": self.paused,
            "throttle": None,
        }

    def count(self, status: str) -> int:
        """Its calls of this status."""
        self.move()
        unmade = self.total - int(self.made)
        return {
            "SUCCESS": int(self.made) - self.failed,
            "ERROR": self.failed,
            "FUTURE": unmade if self.ended_at is None else 0,
            "EXPIRED": unmade if self.ended_at is not None else 0,
        }.get(status, 0)


class Ultravox:
    """The API of one account. `asked_at`: when it was first asked since that was set to None."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.watched = asyncio.Event()  # before that, what happens is history: it is not told
        self.calm = asyncio.Event()
        self.url = ""
        self.asked_at: datetime | None = None
        self.agents = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(2)]
        self.campaigns: dict[str, Campaign] = {}
        self.configured = [self._begin(self.agents[0]) for _ in range(CONFIGURED)]
        self.troubles: list[Span] = []  # of the account
        self._answer: int | None = 200  # None: the connection is cut
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        self._runner, self.url = await serve(self._respond)
        self._tasks = [asyncio.create_task(self._slot(one)) for one in self.configured]
        self._tasks += [asyncio.create_task(self._slot(None)) for _ in range(SLOTS - CONFIGURED)]
        self._tasks.append(asyncio.create_task(self._account()))

    async def all_ended(self) -> None:
        """Wait until every batch has come to its end. Only after `calm`."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    # What happens

    def _begin(self, agent_id: str) -> Campaign:
        batch_id = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        self.campaigns[batch_id] = Campaign(agent_id, batch_id, utc_now())
        return self.campaigns[batch_id]

    async def _slot(self, campaign: Campaign | None) -> None:
        """One batch after the other."""
        await self.watched.wait()
        while campaign is not None or not self.calm.is_set():
            await self._live(
                campaign or self._begin(self._chance.choice(self.agents)), found=campaign is None
            )
            campaign = None
            await self._for(self._chance.uniform(0.5, 3))

    async def _live(self, campaign: Campaign, *, found: bool) -> None:
        troubles = ["stalled", "stalled", "stalled", "paused", "unreadable"] + (["gone"] if found else [])
        await self._for(self._chance.uniform(1, 4))
        for what in self._chance.choices(troubles, k=self._chance.randint(0, 3)):
            if self.calm.is_set() or campaign.ended_at is not None:
                break
            await self._trouble(campaign, what, self._chance.uniform(3, 11))
            await self._for(self._chance.uniform(1, 3))
        await self._end(campaign)
        if self._chance.random() < 0.2 and not self.calm.is_set():
            await self._for(self._chance.uniform(6, 10))
            campaign.reopen()
            await self._for(self._chance.uniform(12, 15), at_least=12)
            await self._end(campaign)

    async def _trouble(self, campaign: Campaign, what: str, seconds: float) -> None:
        def holds(*, now: bool) -> None:
            campaign.move()
            match what:
                case "stalled":
                    campaign.flowing = not now
                case "paused":
                    campaign.paused = now
                case "gone":
                    campaign.here = not now
                case "unreadable":
                    campaign.readable = not now
                case "overdue":
                    campaign.window_end = utc_now() if now else campaign.window_end

        span = Span(what, utc_now())
        campaign.spans.append(span)
        holds(now=True)
        try:
            await self._for(seconds)
            if self.calm.is_set():
                await asyncio.sleep(HELD)
        finally:
            if what == "stalled" and self._chance.random() < 0.3:
                await self._end_of(
                    campaign, self._chance.choice(["incomplete", "overdue"])
                )  # it never recovers
            holds(now=False)
            span.until = utc_now()

    async def _end(self, campaign: Campaign) -> None:
        if campaign.ended_at is None:
            how = self._chance.choice(["complete", "complete", "incomplete", "failed", "overdue"])
            await self._end_of(campaign, how)

    async def _end_of(self, campaign: Campaign, how: str) -> None:
        if how == "overdue":
            await self._trouble(campaign, "overdue", self._chance.uniform(3, 8))
        unmade = self._chance.randint(1, 40) if how in {"incomplete", "overdue"} else 0
        campaign.end(unmade=unmade, failed_ratio=0.6 if how == "failed" else 0.0)

    async def _account(self) -> None:
        """The whole account is out of reach now and then."""
        while not self.calm.is_set():
            await self._for(self._chance.uniform(8, 25))
            if self.calm.is_set():
                return
            self._answer = self._chance.choice([503, 401, None])
            self.troubles.append(Span("account", utc_now()))
            await self._for(self._chance.uniform(3, 7))
            self._answer, self.troubles[-1].until = 200, utc_now()

    async def _for(self, seconds: float, *, at_least: float = 0.0) -> None:
        """So long, or until it is calm."""
        if at_least:
            await asyncio.sleep(at_least)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.calm.wait(), max(0.0, seconds - at_least))

    # What is answered

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        self.asked_at = self.asked_at or utc_now()
        self.watched.set()
        if self._answer is None and request.transport is not None:
            request.transport.abort()
        if self._answer != 200:
            return web.json_response({"detail": "out of order"}, status=self._answer or 500)
        if request.headers.get("X-API-Key") != API_KEY or request.method != "GET":
            return web.json_response({"detail": "Invalid API key."}, status=401)
        body = self._body(request)
        return web.json_response(body or {"detail": "Not found."}, status=200 if body else 404)

    def _body(self, request: web.Request) -> Any:
        match request.path.strip("/").split("/")[1:]:
            case ["accounts", "me"]:
                return {"name": "main", "activeCalls": 1, "allowedConcurrentCalls": None}
            case ["agents"]:
                return _page([{"agentId": one, "name": f"agent {one[:4]}"} for one in self.agents])
            case ["agents", agent_id]:
                return {"agentId": agent_id, "name": f"agent {agent_id[:4]}"}
            case ["agents", agent_id, "scheduled_batches"]:
                return _page(
                    [one.json() for one in self.campaigns.values() if one.agent_id == agent_id and one.here]
                )
            case ["agents", _, "scheduled_batches", batch_id, *rest]:
                campaign = self.campaigns.get(batch_id)
                if campaign is None or not campaign.here:
                    return None
                return _calls(campaign, request.query["status"]) if rest else campaign.json()
            case _:
                return _page([])


def _page(results: list[Any], total: int | None = None) -> dict[str, Any]:
    """All of it on one page, however many."""
    return {
        "results": results,
        "next": None,
        "previous": None,
        "total": len(results) if total is None else total,
    }


def _calls(campaign: Campaign, status: str) -> dict[str, Any]:
    count = campaign.count(status)
    call = {"status": status, "error": "SIP 486 Busy Here" if status == "ERROR" else None}
    return _page([call] * min(count, 3), count)


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def within(spans: list[Span], since: datetime, until: datetime, *, margin: float = 0.0) -> bool:
    """Whether any of these held at some time in between."""
    slack = timedelta(seconds=margin)
    return any(
        one.since <= until + slack and (one.until is None or one.until >= since - slack) for one in spans
    )
