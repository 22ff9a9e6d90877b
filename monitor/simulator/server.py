"""The pretend Ultravox on a real socket: GET only, its shapes, its limits, and its bad days.

Answers keep to the API's OpenAPI document. What the campaigns do is in campaign.py.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from monitor.simulator.api import Api, Question, RefusedError
from monitor.simulator.campaign import World
from monitor.simulator.scenario import Fault, FaultKind, Scenario

REQUESTS_PER_SECOND = 200
"""What the real API allows a key, over all endpoints."""

_HANG = 3600.0
_REMEMBERED_REQUESTS = 10_000


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked and answered, for those who look afterwards. status None: no answer was sent."""

    endpoint: str
    account: str | None
    status: int | None
    path: str


class Simulator:
    """One pretend Ultravox. `clock` tells real time; the scenario runs `speed` times faster."""

    def __init__(
        self, scenario: Scenario, *, speed: float | None = None, clock: Callable[[], datetime]
    ) -> None:
        self.scenario = scenario
        self.speed = speed or scenario.speed
        self.base_url = ""
        self.requests: deque[Request] = deque(maxlen=_REMEMBERED_REQUESTS)
        self._clock = clock
        self._started_at = clock()
        self._api = Api(self._started_at, self.speed)
        self._faults: list[Fault] = list(scenario.faults)
        self._worlds = {account.api_key: World(account, scenario.seed) for account in scenario.accounts}
        self._asked: dict[str, deque[datetime]] = {key: deque() for key in self._worlds if key}
        self._chance = random.Random(scenario.seed)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; returns the base URL. OSError when the address cannot be had."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.base_url = f"http://{host}:{self._runner.addresses[0][1]}"
        return self.base_url

    async def stop(self) -> None:
        """Stop listening; requests under way are cut off."""
        if self._runner is not None:
            await self._runner.cleanup()

    def add_fault(self, fault: Fault) -> None:
        """One more fault, from now on; its `from` and `to` count as those of the scenario do."""
        self._faults.append(fault)

    def clear_faults(self) -> None:
        """No fault any more."""
        self._faults.clear()

    def _now(self) -> float:
        return (self._clock() - self._started_at).total_seconds() * self.speed

    # Requests

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        endpoint, parts = _endpoint(request.path)
        world = self._worlds.get(request.headers.get("X-API-Key", ""))
        account = world.account.name if world else None
        fault = self._fault(endpoint, account, parts.get("batch_id"))
        try:
            response = await self._respond(request, endpoint, parts, world, fault)
        except BaseException:
            self.requests.append(Request(endpoint, account, None, request.path_qs))
            raise
        self.requests.append(Request(endpoint, account, response.status, request.path_qs))
        return response

    async def _respond(
        self,
        request: web.Request,
        endpoint: str,
        parts: dict[str, str],
        world: World | None,
        fault: Fault | None,
    ) -> web.StreamResponse:
        try:
            if request.method != "GET":
                raise RefusedError(405, f'Method "{request.method}" not allowed.')
            if world is None:
                raise RefusedError(401, "Invalid API key.")
            self._limit(world.account.api_key or "")
            world.advance(self._now())
            if fault is not None:
                await self._before(fault, request)
            body = self._api.answer(endpoint, Question(world, parts, request.url))
        except RefusedError as error:
            return self._json({"detail": str(error)}, status=error.status, fault=fault)
        if fault is not None:
            return await self._damaged(fault, request, body)
        return self._json(body)

    def _limit(self, key: str) -> None:
        now = self._clock()
        asked = self._asked[key]
        while asked and asked[0] <= now - timedelta(seconds=1):
            asked.popleft()
        if len(asked) >= REQUESTS_PER_SECOND:
            raise RefusedError(429, "Request was throttled.")
        asked.append(now)

    def _json(self, body: Any, *, status: int = 200, fault: Fault | None = None) -> web.Response:
        at = self._clock()
        headers = {}
        if fault is not None and fault.kind is FaultKind.SKEW:
            at += timedelta(seconds=fault.seconds)
        if fault is not None and fault.kind is FaultKind.THROTTLED and fault.retry_after is not None:
            headers["Retry-After"] = str(fault.retry_after)
        headers["Date"] = format_datetime(at, usegmt=True)
        return web.json_response(body, status=status, headers=headers)

    # Faults

    def _fault(self, endpoint: str, account: str | None, batch_id: str | None) -> Fault | None:
        now = self._now()
        for fault in self._faults:
            if fault.endpoint not in {"any", endpoint} or (fault.account not in {None, account}):
                continue
            if fault.batch is not None and batch_id not in self._ids(fault.batch):
                continue
            if now < fault.from_ or (fault.to is not None and now >= fault.to):
                continue
            if self._chance.random() < fault.share:
                return fault
        return None

    def _ids(self, name: str) -> set[str]:
        return {
            batch_id
            for world in self._worlds.values()
            for batch_id, campaign in world.campaigns.items()
            if campaign.plan.name == name
        }

    async def _before(self, fault: Fault, request: web.Request) -> None:
        """Faults that keep the answer from being made."""
        match fault.kind:
            case FaultKind.LATENCY:
                await asyncio.sleep(fault.seconds)
            case FaultKind.HANG:
                await asyncio.sleep(_HANG)
            case FaultKind.RESET:
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError
            case FaultKind.THROTTLED:
                raise RefusedError(429, "Request was throttled.")
            case FaultKind.SERVER_ERROR:
                raise RefusedError(fault.status, "Server error.")
            case FaultKind.UNAUTHORIZED:
                raise RefusedError(401, "Invalid API key.")
            case FaultKind.FORBIDDEN:
                raise RefusedError(403, "You do not have permission to perform this action.")
            case FaultKind.NOT_FOUND:
                raise RefusedError(404, "Not found.")
            case _:
                pass

    async def _damaged(self, fault: Fault, request: web.Request, body: Any) -> web.StreamResponse:
        """Faults of the answer itself."""
        match fault.kind:
            case FaultKind.TRUNCATED:
                text = json.dumps(body).encode()
                response = web.StreamResponse(headers={"Content-Type": "application/json"})
                response.content_length = len(text)
                await response.prepare(request)
                await response.write(text[: len(text) // 2])
                if request.transport is not None:
                    request.transport.close()
                return response
            case FaultKind.HTML:
                return web.Response(
                    text="<html><body>Service temporarily unavailable</body></html>", content_type="text/html"
                )
            case FaultKind.WRONG_TYPES:
                return self._json(_distorted(body))
            case FaultKind.SHRINK:
                return self._json(_shrunk(body))
            case _:
                return self._json(body, fault=fault)


async def serve(
    scenario: Scenario,
    *,
    speed: float | None,
    host: str,
    port: int,
    clock: Callable[[], datetime],
    on_ready: Callable[[str], None],
) -> None:
    """Run one until cancelled; `on_ready` is told the base URL."""
    simulator = Simulator(scenario, speed=speed, clock=clock)
    on_ready(await simulator.start(host, port))
    try:
        await asyncio.Event().wait()
    finally:
        await simulator.stop()


_PATHS: tuple[tuple[str, Sequence[str]], ...] = (
    ("get_batch", ("agents", "{agent_id}", "scheduled_batches", "{batch_id}")),
    ("list_batches", ("agents", "{agent_id}", "scheduled_batches")),
    ("scheduled_calls", ("agents", "{agent_id}", "scheduled_batches", "{batch_id}", "scheduled_calls")),
    ("created_calls", ("agents", "{agent_id}", "scheduled_batches", "{batch_id}", "created_calls")),
    ("list_agents", ("agents",)),
    ("get_agent", ("agents", "{agent_id}")),
    ("accounts_me", ("accounts", "me")),
    ("list_throttles", ("call_throttles",)),
    ("get_throttle", ("call_throttles", "{throttle_id}")),
)


def _endpoint(path: str) -> tuple[str, dict[str, str]]:
    """Which endpoint a path means, and the ids in it."""
    steps = path.strip("/").split("/")
    for name, pattern in _PATHS:
        if len(steps) != len(pattern) + 1 or steps[0] != "api":
            continue
        pairs = list(zip(pattern, steps[1:], strict=True))
        if all(wanted.startswith("{") or wanted == step for wanted, step in pairs):
            return name, {wanted.strip("{}"): step for wanted, step in pairs if wanted.startswith("{")}
    return "unknown", {}


def _distorted(body: Any) -> Any:
    """The answer with a wrong type in each place that is easily believed to be right."""
    wrong = {"totalCount": "400", "created": 1763900000, "activeCalls": None, "name": 7, "results": {}}
    return {name: wrong.get(name, value) for name, value in body.items()}


def _shrunk(body: Any) -> Any:
    """The answer with totals that are smaller than they were."""
    smaller = {"totalCount", "completedCount", "total"}
    return {name: value // 2 if name in smaller else value for name, value in body.items()}
