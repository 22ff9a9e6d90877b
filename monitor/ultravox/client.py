"""What can be asked of Ultravox, as values of our own. How it is asked is in transport.py.

Lists are read page by page, to the end, by the cursor alone: the rest of `next` is an address that
somebody else wrote, and the key is sent to no such address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import parse_qs, quote, urlsplit

from monitor.clock import Clock
from monitor.model import (
    BatchKey,
    CallError,
    CallStatus,
    FailureReason,
    Observation,
    Outcomes,
    Throttle,
    ThrottleRule,
    Urgency,
)
from monitor.ultravox import payload
from monitor.ultravox.call_errors import classes
from monitor.ultravox.transport import ApiSettings, Transport, UltravoxError

ENDPOINTS = (
    "get_batch",
    "list_batches",
    "scheduled_calls",
    "list_agents",
    "get_agent",
    "accounts_me",
    "list_throttles",
)
"""Label values of `endpoint`."""

PAGE_SIZE = 100
"""Entries that are asked for at once. The API may give fewer."""

MOST_PAGES = 10_000
"""A list that has still not ended after so many pages is not believed to end."""


@dataclass(frozen=True, slots=True)
class AccountAnswer:
    """What `accounts/me` tells."""

    name: str
    active_calls: int
    allowed_concurrent_calls: int | None  # None: no hard cap
    clock_skew: timedelta | None  # the API's clock minus ours; None: it told no time


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """An agent of the account."""

    agent_id: str
    name: str  # "": it has none


@dataclass(frozen=True, slots=True)
class BatchPage:
    """A page of an agent's batches: what was seen of each, or why it could not be read."""

    batches: dict[str, Observation | UltravoxError]  # by batch id
    entries: int  # on this page, those that cannot be read and those met before included
    total: int | None  # batches of the agent, by the API's count
    last: bool  # whether the list ends here


@dataclass(frozen=True, slots=True)
class Call:
    """One scheduled call: who was to be called. For the terminal of the one who asked, and nowhere else."""

    status: CallStatus
    error: str | None
    destination: str | None
    metadata: tuple[tuple[str, str], ...]


_Item = TypeVar("_Item", bound=payload.Payload)
_Page = TypeVar("_Page", bound=payload.Page)


class Client:
    """Asks for one account. `on_response` hears (endpoint, status or None when no answer came).

    `large`: held by who reads an absurdly large answer; clients that share it do so one at a time.
    """

    def __init__(
        self,
        settings: ApiSettings,
        *,
        clock: Clock,
        on_response: Callable[[str, int | None], None] = lambda _, __: None,
        on_throttled: Callable[[float], None] = lambda _: None,
        large: asyncio.Lock | None = None,
    ) -> None:
        self._transport = Transport(
            settings, clock=clock, on_response=on_response, on_throttled=on_throttled, large=large
        )

    @property
    def paused(self) -> bool:
        """Whether the API has asked for patience: until it ends, nothing is asked."""
        return self._transport.paused

    async def get_batch(self, key: BatchKey, *, urgency: Urgency = Urgency.POLL) -> Observation:
        """One batch as it is now, by the API's clock. UltravoxError."""
        answer = await self._transport.get("get_batch", _batch_path(key), payload.Batch, urgency=urgency)
        if answer.body.batch_id.lower() != key.batch_id.lower():
            raise self._transport.error(FailureReason.BAD_RESPONSE, "get_batch: answered with another batch")
        return _observation(answer.body, answer.at)

    async def list_batches(
        self, agent_id: str, *, urgency: Urgency = Urgency.POLL
    ) -> AsyncGenerator[BatchPage]:
        """The agent's batches, page by page; their order means nothing. UltravoxError at the page that fails.

        A batch that cannot be read spoils no other: it has its error in its place.
        """
        path = f"/api/agents/{quote(agent_id, safe='')}/scheduled_batches"
        pages = self._pages("list_batches", path, payload.BatchPage, urgency=urgency, hedged=True)
        async for page, at, last in pages:
            batches: dict[str, Observation | UltravoxError] = {}
            for item in page.results:
                try:
                    batch = item if isinstance(item, payload.Batch) else payload.item(payload.Batch, item)
                    batches[batch.batch_id.lower()] = _observation(batch, at)
                except payload.MalformedError as error:
                    batch_id = payload.batch_id(item)
                    if batch_id is not None:
                        batches[batch_id.lower()] = self._transport.error(
                            FailureReason.BAD_RESPONSE, f"list_batches: {error}"
                        )
            yield BatchPage(batches, len(page.results), page.total, last)

    async def list_agents(self) -> tuple[AgentAnswer, ...]:
        """Every agent of the account, each once. UltravoxError."""
        found: dict[str, AgentAnswer] = {}
        async for agents in self._items("list_agents", "/api/agents", payload.Agent):
            found |= {one.agent_id.lower(): AgentAnswer(one.agent_id.lower(), one.name) for one in agents}
        return tuple(found.values())

    async def get_agent_name(self, agent_id: str) -> str:
        """The name that people gave the agent; "" when they gave it none. UltravoxError."""
        path = f"/api/agents/{quote(agent_id, safe='')}"
        answer = await self._transport.get("get_agent", path, payload.Agent, urgency=Urgency.LATER)
        return answer.body.name

    async def get_account(self) -> AccountAnswer:
        """The account of the key: the probe of whether it can be used at all. UltravoxError."""
        answer = await self._transport.get(
            "accounts_me", "/api/accounts/me", payload.Account, urgency=Urgency.ALARM
        )
        body = answer.body
        return AccountAnswer(body.name, body.active_calls, body.allowed_concurrent_calls, answer.skew)

    async def get_throttles(self) -> tuple[Throttle, ...]:
        """Every call throttle of the account, with its rules. UltravoxError."""
        found: dict[str, Throttle] = {}
        async for throttles in self._items("list_throttles", "/api/call_throttles", payload.Throttle):
            for one in throttles:
                rules = (ThrottleRule(rule.max_calls, rule.window_seconds) for rule in one.rules)
                found[one.throttle_id] = Throttle(one.throttle_id, one.name, tuple(rules))
        return tuple(found.values())

    async def get_outcomes(self, key: BatchKey, *, urgency: Urgency = Urgency.LATER) -> Outcomes:
        """How many calls of a batch have which status, by the totals of five small pages. UltravoxError.

        The five are asked one after the other: a call that changes its status meanwhile may count twice or not.
        """
        path = f"{_batch_path(key)}/scheduled_calls"
        answers = [
            await self._transport.get(
                "scheduled_calls",
                path,
                payload.Page,
                urgency=urgency,
                query={"status": status.value, "pageSize": "1"},
            )
            for status in CallStatus
        ]
        counts: dict[str, int] = {}
        for status, answer in zip(CallStatus, answers, strict=True):
            if answer.body.total is None:
                raise self._transport.error(FailureReason.BAD_RESPONSE, "scheduled_calls: without a total")
            counts[status.name.lower()] = answer.body.total
        return Outcomes(at=min(answer.at for answer in answers), **counts)  # as old as the oldest

    async def get_failed_calls(self, key: BatchKey) -> tuple[tuple[CallError, int], ...]:
        """Why calls of a batch failed: a page of them by class, the commonest first. UltravoxError."""
        answer = await self._transport.get(
            "scheduled_calls",
            f"{_batch_path(key)}/scheduled_calls",
            payload.Page,
            urgency=Urgency.ALARM,
            query={"status": CallStatus.ERROR.value, "pageSize": str(PAGE_SIZE)},
        )
        calls = self._read("scheduled_calls", payload.ScheduledCall, answer.body)
        return classes(call.error or "" for call in calls if call.status is CallStatus.ERROR)

    async def list_calls(self, key: BatchKey, status: CallStatus) -> AsyncGenerator[Call]:
        """The batch's calls of one status, to the last. UltravoxError."""
        path = f"{_batch_path(key)}/scheduled_calls"
        async for calls in self._items(
            "scheduled_calls", path, payload.ScheduledCall, query={"status": status.value}
        ):
            for one in calls:
                yield Call(
                    one.status, one.error, payload.destination(one.medium), payload.pairs(one.metadata)
                )

    async def retire(self) -> None:
        """Another one is asked from now on: close the connections once what is under way has been answered."""
        await self._transport.retire()

    async def close(self) -> None:
        """Close the connections. What is asked afterwards opens new ones."""
        await self._transport.close()

    async def _items(
        self, endpoint: str, path: str, model: type[_Item], *, query: dict[str, str] | None = None
    ) -> AsyncIterator[list[_Item]]:
        async for page, _, _ in self._pages(endpoint, path, payload.Page, urgency=Urgency.LATER, query=query):
            yield self._read(endpoint, model, page)

    def _read(self, endpoint: str, model: type[_Item], page: payload.Page) -> list[_Item]:
        try:
            return [payload.item(model, one) for one in page.results]
        except payload.MalformedError as error:
            failure = self._transport.error(FailureReason.BAD_RESPONSE, f"{endpoint}: {error}")
        raise failure

    async def _pages(
        self,
        endpoint: str,
        path: str,
        model: type[_Page],
        *,
        urgency: Urgency,
        query: dict[str, str] | None = None,
        hedged: bool = False,
    ) -> AsyncIterator[tuple[_Page, datetime, bool]]:
        asked = {"pageSize": str(PAGE_SIZE)} | (query or {})
        cursors: set[str] = set()
        for _ in range(MOST_PAGES):
            answer = await self._transport.get(
                endpoint, path, model, urgency=urgency, query=asked, hedged=hedged
            )
            cursor = _cursor(answer.body.next)
            if answer.body.next is not None and (cursor is None or cursor in cursors):
                raise self._transport.error(
                    FailureReason.BAD_RESPONSE, f"{endpoint}: the next page leads nowhere new"
                )
            yield answer.body, answer.at, cursor is None
            if cursor is None:
                return
            cursors.add(cursor)
            asked["cursor"] = cursor
        raise self._transport.error(FailureReason.BAD_RESPONSE, f"{endpoint}: a list without an end")


def _cursor(following: str | None) -> str | None:
    """The only thing we take from the address of the next page."""
    if following is None:
        return None
    try:
        found = parse_qs(urlsplit(following).query).get("cursor")
    except ValueError:  # an address that is none
        return None
    return found[0] if found else None


def _batch_path(key: BatchKey) -> str:
    return f"/api/agents/{quote(key.agent_id, safe='')}/scheduled_batches/{quote(key.batch_id, safe='')}"


def _observation(batch: payload.Batch, at: datetime) -> Observation:
    return Observation(
        at=at,
        created=batch.created,
        total=batch.total_count,
        completed=batch.completed_count,
        ended_at=batch.ended_at,
        window_start=batch.window_start,
        window_end=batch.window_end,
        paused=bool(batch.paused),
        throttle=batch.throttle,
    )
