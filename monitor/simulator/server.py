"""The pretend Ultravox on a real socket: GET only, who may ask, how often, and broken connections.

What is answered is in api.py, which request goes wrong in faults.py, what the campaigns do in campaign.py.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from monitor.simulator.api import Api, Question, RefusedError
from monitor.simulator.campaign import World
from monitor.simulator.faults import Faults, refuse, spoilt
from monitor.simulator.plan import Fault, FaultKind
from monitor.simulator.scenario import Scenario

REQUESTS_PER_SECOND = 200
"""What the real API allows a key, over all endpoints."""

_HANG = 3600.0
_REMEMBERED_REQUESTS = 10_000
_RESET_ON_CLOSE = struct.pack(
    "ii", 1, 0
)  # SO_LINGER of no seconds: close() sends RST and drops what is unsent


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
        self._faults = Faults(scenario.faults, scenario.seed)
        self._worlds = {account.api_key: World(account, scenario.seed) for account in scenario.accounts}
        self._asked: dict[str, deque[datetime]] = {key: deque() for key in self._worlds if key}
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; returns the base URL. OSError when the address cannot be had."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        name = f"[{host}]" if ":" in host else host
        self.base_url = f"http://{name}:{self._runner.addresses[0][1]}"
        return self.base_url

    async def stop(self) -> None:
        """Stop listening; requests under way are cut off."""
        if self._runner is not None:
            await self._runner.cleanup()

    def add_fault(self, fault: Fault) -> None:
        """One more fault, from now on; its `from` and `to` count as those of the scenario do."""
        self._faults.add(fault)

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
        try:
            response = await self._respond(request, endpoint, parts, world)
        except BaseException:  # a cancelled request, too, is one that had no answer; raised again
            self.requests.append(Request(endpoint, account, None, request.path_qs))
            raise
        self.requests.append(Request(endpoint, account, response.status, request.path_qs))
        return response

    async def _respond(
        self, request: web.Request, endpoint: str, parts: dict[str, str], world: World | None
    ) -> web.StreamResponse:
        fault = None
        try:
            if request.method != "GET":
                raise RefusedError(405, f'Method "{request.method}" not allowed.')
            if world is None:
                raise RefusedError(401, "Invalid API key.")
            self._limit(world.account.api_key or "")
            fault = self._fault(endpoint, parts, world)
            if fault is not None:
                await self._before(fault, request)
            world.advance(self._now())
            body = self._api.answer(endpoint, Question(world, parts, request.url))
        except RefusedError as error:
            return self._json({"detail": str(error)}, status=error.status, fault=fault)
        if endpoint == "list_batches":
            body["results"] = [self._entry(world, entry) for entry in body["results"]]
        if fault is None:
            return self._json(body)
        return await self._damaged(fault, request, spoilt(fault, body))

    def _limit(self, key: str) -> None:
        now = self._clock()
        asked = self._asked[key]
        while asked and asked[0] <= now - timedelta(seconds=1):
            asked.popleft()
        if len(asked) >= REQUESTS_PER_SECOND:
            raise RefusedError(429, "Request was throttled.")
        asked.append(now)

    def _json(self, body: Any, *, status: int = 200, fault: Fault | None = None) -> web.Response:
        headers = self._headers(fault)
        if status == 405:
            headers["Allow"] = "GET"
        return web.json_response(body, status=status, headers=headers)

    def _headers(self, fault: Fault | None) -> dict[str, str]:
        """A Date by the simulator's clock, which aiohttp would take from the machine's; and what a fault adds."""
        at = self._clock()
        if fault is not None and fault.kind is FaultKind.SKEW:
            at += timedelta(seconds=fault.seconds)
        headers = {"Date": format_datetime(at, usegmt=True)}
        if fault is not None and fault.kind is FaultKind.THROTTLED and fault.retry_after is not None:
            headers["Retry-After"] = str(fault.retry_after)
        return headers

    # Faults

    def _fault(self, endpoint: str, parts: dict[str, str], world: World) -> Fault | None:
        campaign = world.campaigns.get(parts.get("batch_id", ""))
        batch = campaign.plan.name if campaign else None
        return self._faults.hitting(endpoint, world.account.name, batch, self._now())

    def _entry(self, world: World, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch on a page, spoilt by a fault that names it: what is wrong with it is wrong on a list, too."""
        name = world.campaigns[batch["batchId"]].plan.name
        fault = self._faults.hitting("list_batches", world.account.name, name, self._now(), named=True)
        return batch if fault is None else spoilt(fault, batch)

    async def _before(self, fault: Fault, request: web.Request) -> None:
        """Faults that keep the answer from being made, or from being made at once."""
        match fault.kind:
            case FaultKind.LATENCY:
                await asyncio.sleep(fault.seconds)
            case FaultKind.HANG:
                await asyncio.sleep(_HANG)
            case FaultKind.RESET if not fault.midway:
                _reset(request)
                raise ConnectionResetError
            case _:
                refuse(fault)

    async def _damaged(self, fault: Fault, request: web.Request, body: Any) -> web.StreamResponse:
        """Faults of the answer on its way."""
        match fault.kind:
            case FaultKind.TRUNCATED:
                response = await self._half(fault, request, body)
                if request.transport is not None:
                    request.transport.close()
                return response
            case FaultKind.RESET:
                response = await self._half(fault, request, body)
                _reset(request)
                return response
            case FaultKind.HTML:
                text = "<html><body>Service temporarily unavailable</body></html>"
                return web.Response(text=text, content_type="text/html", headers=self._headers(fault))
            case _:
                return self._json(body, fault=fault)

    async def _half(self, fault: Fault, request: web.Request, body: Any) -> web.StreamResponse:
        """Send the whole length in the head and half of the body."""
        text = json.dumps(body).encode()
        response = web.StreamResponse(headers=self._headers(fault) | {"Content-Type": "application/json"})
        response.content_length = len(text)
        await response.prepare(request)
        await response.write(text[: len(text) // 2])
        return response


def _reset(request: web.Request) -> None:
    """Cut the connection so that the other side sees a reset, not an end."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    request.transport.abort()


async def serve(
    scenario: Scenario,
    *,
    speed: float | None,
    host: str,
    port: int,
    clock: Callable[[], datetime],
    on_ready: Callable[[str], None],
) -> None:
    """Run one until cancelled, or until SIGTERM; `on_ready` is told the base URL."""
    stopped = asyncio.Event()  # process 1 of a container is ended by no signal that it does not handle
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    simulator = Simulator(scenario, speed=speed, clock=clock)
    on_ready(await simulator.start(host, port))
    try:
        await stopped.wait()
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
