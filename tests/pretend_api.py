"""An Ultravox on a loopback socket that answers what a test writes down, and what an error gives away."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from pydantic import SecretStr
from samples import BATCH

from monitor.clock import utc_now
from monitor.ultravox import ApiSettings, Client

API_KEY = "Zk3hQ9aB.0123456789abcdef0123456789abcdef"
SECRET = "whsec-planted-in-every-answer"
GOOD = {
    "batchId": BATCH,
    "created": "2026-11-23T09:00:00Z",
    "totalCount": 400,
    "completedCount": 118,
    "endedAt": None,
    "windowStart": "2026-11-23T10:00:00.123456789+01:00",
    "windowEnd": None,
    "paused": True,
    "throttle": "gentle",
    "webhookUrl": "https://customer.example/hook",
    "webhookSecret": SECRET,
    "someFutureField": {"deep": [1, 2]},
}


async def serve(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> tuple[web.AppRunner, str]:
    """A server that answers everything with `handler`: how to end it, and its base URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def printed(error: BaseException) -> str:
    """All that could be printed of an error: also what a traceback leaves out, and a crash reporter does not."""
    text = "".join(traceback.format_exception(error))
    link: BaseException | None = error
    while link is not None:
        text += f"{link!r} {link} {link.__dict__}"
        link = link.__cause__ or link.__context__
    return text


@dataclass
class PretendApi:
    """Answers with `answer(request)`, awaited where that can be: a status, or a body; None is a connection that is cut."""

    answer: Callable[[web.Request], Any] = lambda _: 500
    asked: list[web.Request] = field(default_factory=list)
    url: str = ""
    runner: web.AppRunner | None = None
    clients: list[Client] = field(default_factory=list)

    async def start(self) -> None:
        self.runner, self.url = await serve(self._answer)

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        if self.runner is not None:
            await self.runner.cleanup()

    def client(self, **options: Any) -> Client:
        settings = ApiSettings("main", SecretStr(API_KEY), self.url, max_requests_per_second=100_000)
        self.clients.append(Client(settings, **{"clock": utc_now} | options))
        return self.clients[-1]

    @property
    def queries(self) -> list[dict[str, str]]:
        return [dict(request.query) for request in self.asked]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        answer = self.answer(request)
        if isawaitable(answer):
            answer = await answer
        if isinstance(answer, web.Response):
            return answer
        if answer is None and request.transport is not None:
            request.transport.abort()
        if isinstance(answer, int):
            return web.json_response({"detail": SECRET}, status=answer)
        return web.json_response(answer)


def following(cursor: str, base: str = "https://api.ultravox.ai/api/agents") -> str:
    """The address of the next page, as the API writes it."""
    return f"{base}?{urlencode({'cursor': cursor})}"


def listing(*pages: Any, next_page: Callable[[str], Any] = following) -> Callable[[web.Request], Any]:
    """A list of these pages: each its results, or what is answered in its place."""

    def answer(request: web.Request) -> Any:
        number = int(request.query.get("cursor", "page-0").removeprefix("page-"))
        page = pages[number]
        if not isinstance(page, list):
            return page
        more = next_page(f"page-{number + 1}") if number + 1 < len(pages) else None
        total = sum(len(one) for one in pages if isinstance(one, list))
        return {"results": page, "next": more, "previous": None, "total": total}

    return answer
