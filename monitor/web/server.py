"""Routes and their handlers. What takes long is made on another thread: it must not stop the polling."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import HttpVersion11, hdrs, web

from monitor import choice
from monitor.metrics import PIECE, Instruments, pieces
from monitor.web import answers, notifications, page
from monitor.web.access import SAFE_METHODS, Access, Guard, Handler
from monitor.web.connection import Connection
from monitor.web.connections import Connections
from monitor.web.surface import ReloadRefusedError, Surface

logger = logging.getLogger(__name__)

_FRESH = {hdrs.CACHE_CONTROL: "no-store"}
_BREATH = 0.0005
"""Seconds, before each piece of a scrape, in which the loop has the interpreter to itself. Without it the loop waits for
the interpreter at each of its writes, up to 5 ms: with eight who scrape, 50 ms in a row."""

_REQUEST_BODY_LIMIT = 4096
"""Bytes. What is asked here is short."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to listen. `host` "" means every address; `external_url` is how people reach the page."""

    host: str = ""
    port: int = 10042
    external_url: str | None = None
    read_only: bool = False  # nothing can be changed over HTTP


class Serving:
    """What listens. `addresses` are where."""

    def __init__(
        self, runner: web.AppRunner, guard: Guard, connections: Connections, scrapes: ThreadPoolExecutor
    ) -> None:
        self._runner = runner
        self._guard = guard
        self._connections = connections
        self._scrapes = scrapes

    @property
    def addresses(self) -> list[Any]:
        """The sockets' names."""
        return self._connections.addresses

    def open(self) -> None:
        """Answer from now on, those first who have come before."""
        self._connections.open()

    def use(self, access: Access) -> None:
        """A web configuration that was read anew holds from now on; who is connected stays."""
        self._guard.use(access)
        self._connections.use(access.tls)

    async def cleanup(self) -> None:
        """End it; requests under way have two seconds."""
        await self._connections.refuse()
        await self._runner.cleanup()
        await self._connections.close()
        self._guard.close()
        self._scrapes.shutdown(wait=False)


def _application(
    surface: Surface, instruments: Instruments, guard: Guard, scrapes: ThreadPoolExecutor
) -> web.Application:
    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = request.protocol
        if not isinstance(connection, Connection):
            return await guard(request, handler)
        if request.method in SAFE_METHODS:
            connection.begin()
            return await guard(request, handler)

        async def begun(request: web.Request) -> web.StreamResponse:
            connection.begin()
            return await handler(request)

        connection.expect_body()
        return await guard(request, begun)

    app = web.Application(client_max_size=_REQUEST_BODY_LIMIT, middlewares=[_in_json, guarded])
    app.add_routes(
        [
            web.get("/", partial(page.overview, surface)),
            web.get("/batches/{batch_id}", partial(page.batch, surface)),
            web.get("/static/{name}", page.asset),
            web.get("/favicon.ico", page.favicon),
            web.get("/metrics", partial(_metrics, surface, instruments, scrapes)),
            web.get("/api/v1/batches", partial(_batches, surface)),
            web.get("/api/v1/alerts", partial(_alerts, surface)),
            web.get("/api/v1/explain", partial(_explain, surface)),
            web.get("/api/v1/notifications", partial(notifications.notifications, surface)),
            web.get("/api/v1/mutes", partial(notifications.mutes, surface)),
            web.post("/api/v1/mutes", partial(notifications.mute, surface)),
            web.post("/api/v1/test-alert", partial(notifications.test_alert, surface)),
            web.get("/api/v1/handover", partial(_handover, surface)),
            web.get("/-/healthy", partial(_healthy, surface)),
            web.get("/-/ready", partial(_ready, surface)),
            web.post("/-/reload", partial(_reload, surface)),
        ]
    )
    return app


_REFUSALS = {
    404: ("not_found", "there is nothing at this address"),
    405: ("not_allowed", "this address is asked in another way: see the header Allow"),
    413: (
        "bad_data",
        f"the body is too long: {_REQUEST_BODY_LIMIT} bytes are enough for all that is asked here",
    ),
}


@web.middleware
async def _in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What aiohttp itself refuses below /api/ is refused as everything there is: in JSON."""
    try:
        return await handler(request)
    except web.HTTPClientError as refused:
        if not request.path.startswith("/api/"):
            raise
        kind, text = _REFUSALS.get(refused.status, ("bad_data", "the request cannot be read"))
        allowed = {hdrs.ALLOW: refused.headers[hdrs.ALLOW]} if hdrs.ALLOW in refused.headers else {}
        return web.json_response(answers.error(kind, text), status=refused.status, headers=_FRESH | allowed)


async def _answered(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], request: web.BaseRequest
) -> web.StreamResponse:
    """What aiohttp would answer to an error of ours shows the traceback where asyncio is in its debug mode.

    And what it answers to an expectation that cannot be met quotes it, and fails where that is no ASCII.
    """
    if not request.headers.get(hdrs.EXPECT, "").isascii():
        return web.Response(status=417)
    try:
        return await handler(request)
    except (web.HTTPException, ConnectionError):
        raise
    except Exception:
        logger.exception("an answer could not be made", extra={"path": request.path})
        return web.Response(status=500, text="an error of the monitor's own, of which the log tells more\n")


async def serve(
    settings: Settings, surface: Surface, instruments: Instruments, access: Access | None = None
) -> Serving:
    """Have the address, answer from `open()` on, until `cleanup()`. OSError when the address cannot be had."""
    access = access or Access()
    guard = Guard(
        access,
        clock=asyncio.get_running_loop().time,
        external_url=settings.external_url,
        read_only=settings.read_only,
    )
    # One thread: more of them would keep the loop waiting in turn, and each would keep memory of its own.
    scrapes = ThreadPoolExecutor(1, thread_name_prefix="scrapes")
    app = _application(surface, instruments, guard, scrapes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - it is set up
    runner.server.request_handler = partial(_answered, runner.server.request_handler)
    connections = Connections(runner.server, lambda: guard.headers, access.tls)
    serving = Serving(runner, guard, connections, scrapes)
    try:
        await connections.listen(settings.host or None, settings.port)
    except OSError:
        await serving.cleanup()
        raise
    return serving


async def _metrics(
    surface: Surface, instruments: Instruments, scrapes: ThreadPoolExecutor, request: web.Request
) -> web.Response:
    compressed = page.takes_gzip(request)
    body, content_type = pieces(
        surface.snapshot(), instruments, accept=request.headers.get(hdrs.ACCEPT, ""), compressed=compressed
    )
    headers = {hdrs.CONTENT_TYPE: content_type, hdrs.VARY: "Accept, Accept-Encoding"}
    if compressed:
        headers[hdrs.CONTENT_ENCODING] = "gzip"

    async def following() -> bytes:
        return await asyncio.get_running_loop().run_in_executor(scrapes, _next, body)

    async def streamed(piece: bytes) -> AsyncIterator[bytes]:
        while piece:
            yield piece
            piece = await following()

    first = await following()
    if len(first) < PIECE:  # it is the last
        return web.Response(body=first, headers=headers)
    answer = web.Response(body=streamed(first), headers=headers)
    if request.version < HttpVersion11:
        answer.force_close()  # nothing else tells the end
    return answer


def _next(body: Iterator[bytes]) -> bytes:
    """The next piece; b"" after the last."""
    time.sleep(_BREATH)
    return next(body, b"")


async def _batches(surface: Surface, request: web.Request) -> web.Response:
    try:
        wanted = choice.asked(request.query)
    except ValueError as error:
        return web.json_response(answers.error("bad_data", str(error)), status=400, headers=_FRESH)
    snapshot = surface.snapshot()
    return await _json(request, lambda: answers.batches(snapshot, choice.choose(snapshot.batches, wanted)))


async def _alerts(surface: Surface, request: web.Request) -> web.Response:
    try:
        phase, limit = choice.asked_alerts(request.query)
    except ValueError as error:
        return web.json_response(answers.error("bad_data", str(error)), status=400, headers=_FRESH)
    snapshot = surface.snapshot()
    return await _json(request, lambda: answers.alerts(snapshot, phase, limit))


async def _json(request: web.Request, answer: Callable[[], dict[str, Any]]) -> web.Response:
    """On a thread of its own, as a scrape is: there may be thousands of batches in it."""
    body = await asyncio.to_thread(lambda: _written(answer()).encode())
    response = web.Response(body=body, content_type="application/json", headers=_FRESH)
    return await page.compressed(request, response)


def _written(value: Any) -> str:
    """As json.dumps writes it, one entry of a list at a time: while it writes, no other thread goes on, nor the loop."""
    if isinstance(value, list):
        return f"[{', '.join([json.dumps(one) for one in value])}]"
    if isinstance(value, dict):
        return f"{{{', '.join([f'{json.dumps(name)}: {_written(one)}' for name, one in value.items()])}}}"
    return json.dumps(value)


async def _explain(surface: Surface, request: web.Request) -> web.Response:
    batch_id = request.query.get("batch_id", "")
    found = surface.explain(batch_id) if batch_id else []
    if len(found) == 1:
        [(status, explanations)] = found
        answer, code = answers.explanations(status, explanations, surface.snapshot().at), 200
    elif found:
        answer, code = (
            answers.error("bad_data", f"{len(found)} batches' ids begin like this: give more of it"),
            400,
        )
    elif batch_id:
        answer, code = answers.error("not_found", "no watched batch has this id"), 404
    else:
        answer, code = answers.error("bad_data", "say which: ?batch_id=…, or the beginning of it"), 400
    return web.json_response(answer, status=code, headers={"Cache-Control": "no-store"})


async def _handover(surface: Surface, request: web.Request) -> web.Response:
    account = request.query.get("account", "")
    state = surface.offer(account) if account else None
    if account and state is None:
        text = "no account of this name is kept here for another shard"
        return web.json_response(answers.error("not_found", text), status=404, headers=_FRESH)
    view = surface.handover()
    data = {"watches": sorted(view.watches), "offers": sorted(view.offers)}
    return await _json(request, lambda: answers.success(data | {"state": state() if state else None}))


async def _healthy(surface: Surface, _: web.Request) -> web.Response:
    if surface.healthy():
        return web.Response(text="healthy\n")
    return web.Response(status=503, text="unhealthy: the scheduler runs no jobs\n")


async def _ready(surface: Surface, _: web.Request) -> web.Response:
    if surface.ready():
        return web.Response(text="ready\n")
    return web.Response(status=503, text="not ready: the first round of polls is under way\n")


async def _reload(surface: Surface, _: web.Request) -> web.Response:
    try:
        await surface.reload()
    except ReloadRefusedError as error:
        return web.Response(status=500, text=f"configuration not reloaded, the old one goes on:\n{error}\n")
    return web.Response(text="configuration reloaded\n")
