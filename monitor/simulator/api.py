"""What the pretend Ultravox answers: the shapes of the API's OpenAPI document, drawn from the campaigns.

No socket here, and no fault: server.py serves these, and faults.py spoils them where the scenario says so.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from yarl import URL

from monitor.simulator.campaign import CallStatus, Campaign, World
from monitor.simulator.plan import Agent

DEFAULT_PAGE = 100
LARGEST_PAGE = 500
"""More is cut down to this, and not refused: the API's document names no bound."""

_CURSOR = re.compile(rb"o=(\d{1,9})")


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: by whom, for which ids of the path, with which query."""

    world: World
    parts: dict[str, str]
    url: URL


class Api:
    """Every answer. `speed`: seconds of scenario time in a real second, counted from `started_at`."""

    def __init__(self, started_at: datetime, speed: float) -> None:
        self._started_at = started_at
        self._speed = speed
        self._routes: dict[str, Callable[[Question], Any]] = {
            "get_batch": self._get_batch,
            "list_batches": self._list_batches,
            "scheduled_calls": self._scheduled_calls,
            "created_calls": self._created_calls,
            "list_agents": self._list_agents,
            "get_agent": self._get_agent,
            "accounts_me": self._accounts_me,
            "list_throttles": self._list_throttles,
            "get_throttle": self._get_throttle,
        }

    def answer(self, endpoint: str, question: Question) -> Any:
        """The body of the answer; RefusedError when it is an error."""
        route = self._routes.get(endpoint)
        if route is None:
            raise RefusedError(404, "Not found.")
        return route(question)

    def instant(self, seconds: float | None) -> str | None:
        """An instant of scenario time as the API writes it."""
        if seconds is None:
            return None
        at = self._started_at + timedelta(seconds=seconds / self._speed)
        return at.isoformat().replace("+00:00", "Z")

    def _get_batch(self, asked: Question) -> Any:
        return self._batch(_campaign(asked))

    def _list_batches(self, asked: Question) -> Any:
        agent = _agent(asked)
        found = [asked.world.campaigns[str(batch.batch_id)] for batch in agent.batches]
        present = [campaign for campaign in found if asked.world.exists(campaign)]
        present.sort(key=lambda campaign: campaign.plan.created, reverse=True)
        return self._page(asked, len(present), lambda index: self._batch(present[index]))

    def _scheduled_calls(self, asked: Question) -> Any:
        campaign = _campaign(asked)
        text = asked.url.query.get("status")
        try:
            wanted = None if text is None else CallStatus(text)
        except ValueError:
            raise RefusedError(400, f'"{text}" is not a valid choice.') from None
        duration = asked.world.account.call_duration
        indexes = campaign.indexes(wanted, asked.world.now, duration)

        def call(at: int) -> dict[str, Any]:
            index = indexes[at]
            status = campaign.status(index, asked.world.now, duration)
            error = campaign.made[index].error if status is CallStatus.ERROR else None
            return {
                "status": status.value,
                "batchId": asked.parts["batch_id"],
                "callId": _call_id(campaign, index)
                if status in {CallStatus.PENDING, CallStatus.SUCCESS}
                else None,
                "error": None if error is None else f"{error}: {_number(index)}",
                "medium": _medium(campaign, index),
                "metadata": {"customer": f"customer-{index:05d}"},
                "templateContext": {"firstName": f"Name{index}"},
                "experimentalSettings": None,
            }

        return self._page(asked, len(indexes), call)

    def _created_calls(self, asked: Question) -> Any:
        campaign = _campaign(asked)
        created = campaign.created
        return self._page(asked, len(created), lambda at: self._call(asked.world, campaign, created[at]))

    def _call(self, world: World, campaign: Campaign, index: int) -> dict[str, Any]:
        made = campaign.made[index]
        over = made.at + world.account.call_duration
        ended = over <= world.now
        agent = next(agent for agent in world.account.agents if _of(agent, campaign))
        joined = index % 7 != 0  # one person in seven does not answer
        seconds = max(1, round(world.account.call_duration / self._speed)) if joined else 0
        return {
            "callId": _call_id(campaign, index),
            "clientVersion": None,
            "created": self.instant(made.at),
            "joined": self.instant(made.at) if joined else None,
            "ended": self.instant(over) if ended else None,
            "endReason": ("hangup" if joined else "unjoined") if ended else None,
            "billedDuration": f"{seconds}s" if ended else None,
            "billedSideInputTokens": None,
            "billedSideOutputTokens": None,
            "billingStatus": "BILLING_STATUS_BILLED" if ended else "BILLING_STATUS_PENDING",
            "firstSpeaker": "FIRST_SPEAKER_USER",
            "firstSpeakerSettings": {"user": {}},
            "initialOutputMedium": "MESSAGE_MEDIUM_VOICE",
            "joinTimeout": "30s",
            "joinUrl": None,
            "maxDuration": "3600s",
            "shortSummary": None,
            "summary": None,
            "agent": {"agentId": str(agent.agent_id), "name": agent.name},
            "agentId": str(agent.agent_id),
            "experimentalSettings": {},
            "metadata": {},
            "initialState": {},
            "requestContext": {},
            "sipDetails": {
                "billedDuration": f"{seconds}s",
                "terminationReason": "SIP_TERMINATION_NORMAL" if joined else "SIP_TERMINATION_TIMEOUT",
            }
            if ended and campaign.plan.medium == "sip"
            else None,
        }

    def _list_agents(self, asked: Question) -> Any:
        search = asked.url.query.get("search", "").lower()
        found = [agent for agent in asked.world.account.agents if search in agent.name.lower()]
        return self._page(asked, len(found), lambda index: self._agent(found[index]))

    def _get_agent(self, asked: Question) -> Any:
        return self._agent(_agent(asked))

    def _accounts_me(self, asked: Question) -> Any:
        return {
            "accountId": _uuid(f"account {asked.world.account.name}"),
            "name": asked.world.account.name,
            "billingUrl": "https://billing.example/",
            "freeTimeUsed": "0s",
            "freeTimeRemaining": "0s",
            "hasActiveSubscription": True,
            "subscriptionTier": "scale",
            "subscriptionCadence": "monthly",
            "subscriptionExpiration": None,
            "subscriptionScheduledUpdate": None,
            "subscriptionRenewal": None,
            "activeCalls": asked.world.active_calls(),
            "allowedConcurrentCalls": asked.world.account.allowed_concurrent_calls,
            "allowedVoices": None,
            "allowedCorpora": None,
        }

    def _list_throttles(self, asked: Question) -> Any:
        found = asked.world.account.throttles
        return self._page(asked, len(found), lambda index: self._throttle(asked.world, found[index].name))

    def _get_throttle(self, asked: Question) -> Any:
        for throttle in asked.world.account.throttles:
            if _uuid(f"{asked.world.account.name} throttle {throttle.name}") == asked.parts["throttle_id"]:
                return self._throttle(asked.world, throttle.name)
        raise RefusedError(404, "No CallThrottle matches the given query.")

    def _throttle(self, world: World, name: str) -> dict[str, Any]:
        throttle = next(throttle for throttle in world.account.throttles if throttle.name == name)
        return {
            "throttleId": _uuid(f"{world.account.name} throttle {name}"),
            "name": name,
            "created": self.instant(-86400),
            "rules": [
                {"maxCalls": rule.max_calls, "windowSeconds": max(1, round(rule.window / self._speed))}
                for rule in throttle.rules
            ],
        }

    def _agent(self, agent: Agent) -> dict[str, Any]:
        return {
            "agentId": str(agent.agent_id),
            "publishedRevisionId": None,
            "name": agent.name,
            "created": self.instant(-86400),
            "callTemplate": None,
            "statistics": {"calls": 0},
        }

    def _batch(self, campaign: Campaign) -> dict[str, Any]:
        answer = {
            "batchId": str(campaign.plan.batch_id),
            "created": self.instant(campaign.plan.created),
            "windowStart": self.instant(campaign.window_start),
            "windowEnd": self.instant(campaign.window_end),
            "throttle": campaign.plan.throttle,
            "webhookUrl": "https://customer.example/hooks/ultravox" if campaign.plan.webhook else None,
            # planted, so that one can look whether it turns up where it must not
            "webhookSecret": f"whsec-{_uuid(str(campaign.plan.batch_id))}" if campaign.plan.webhook else None,
            "paused": campaign.paused,
            "totalCount": campaign.total,
            "completedCount": len(campaign.made),
            "endedAt": self.instant(campaign.ended_at),
        }
        if campaign.plan.omit_paused and not campaign.paused:
            del answer["paused"]
        return answer

    def _page(self, asked: Question, count: int, item: Callable[[int], Any]) -> dict[str, Any]:
        """The envelope of a list. Cursors are opaque, as the API's are."""
        size, offset = _size(asked.url), _offset(asked.url)

        def url(at: int) -> str:
            cursor = base64.urlsafe_b64encode(f"o={at}".encode()).decode()
            query = {name: value for name, value in asked.url.query.items() if name != "cursor"}
            return str(asked.url.with_query(query | {"cursor": cursor}))

        return {
            "next": url(offset + size) if offset + size < count else None,
            "previous": url(max(0, offset - size)) if offset > 0 else None,
            "results": [item(index) for index in range(offset, min(offset + size, count))],
            "total": count,
        }


def _size(url: URL) -> int:
    text = url.query.get("pageSize", str(DEFAULT_PAGE))
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise RefusedError(400, "A valid pageSize is a positive integer.")
    return min(int(text), LARGEST_PAGE)


def _offset(url: URL) -> int:
    text = url.query.get("cursor")
    if text is None:
        return 0
    try:
        match = _CURSOR.fullmatch(base64.b64decode(text, altchars=b"-_", validate=True))
    except ValueError:
        match = None
    if match is None:
        raise RefusedError(400, "Invalid cursor.")
    return int(match[1])


def _agent(asked: Question) -> Agent:
    for agent in asked.world.account.agents:
        if str(agent.agent_id) == asked.parts["agent_id"]:
            return agent
    raise RefusedError(404, "No Agent matches the given query.")


def _campaign(asked: Question) -> Campaign:
    campaign = asked.world.campaigns.get(asked.parts["batch_id"])
    agent = _agent(asked)
    if campaign is None or not _of(agent, campaign) or not asked.world.exists(campaign):
        raise RefusedError(404, "No ScheduledCallBatch matches the given query.")
    return campaign


def _of(agent: Agent, campaign: Campaign) -> bool:
    return any(batch is campaign.plan for batch in agent.batches)  # `in` would compare them key by key


def _uuid(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def _call_id(campaign: Campaign, index: int) -> str:
    return _uuid(f"{campaign.plan.batch_id}/{index}")


def _medium(campaign: Campaign, index: int) -> dict[str, Any]:
    """Which way the call is to be made, with numbers that belong to nobody."""
    to, caller = _number(index), "+15550100"
    match campaign.plan.medium:
        case "sip":
            return {"sip": {"outgoing": {"to": f"sip:{to}@carrier.example", "from": caller}}}
        case "twilio":
            return {"twilio": {"outgoing": {"to": to, "from": caller}}}


def _number(index: int) -> str:
    """A telephone number out of the range that belongs to nobody (555-0100 to 555-0199)."""
    return f"+1{201 + index // 100 % 700}555{100 + index % 100:04d}"
