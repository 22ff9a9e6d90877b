"""A receiver on a loopback socket that answers as it is told, and messages to send to it."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from samples import NOW

from monitor import outbox
from monitor.model import Alert, Labels, Message, MessageKind, Notification

RESET = "reset"
HANG = "hang"
GARBAGE = "garbage"


class MovedClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> datetime:
        self.now += timedelta(**by)
        return self.now


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ScriptedReceiver:
    """Answers each request with the next of `script`, then with 200 for ever.

    An answer is a status, (status, headers), RESET, GARBAGE, HANG, or a function of the request.
    """

    script: deque[Any] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    runner: web.ServerRunner | None = None
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        self.runner = web.ServerRunner(web.Server(self._answer))
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def stop(self) -> None:
        self.released.set()
        if self.runner is not None:
            await self.runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Request(request.path, dict(request.headers), await request.read())
        self.requests.append(seen)
        answer = self.script.popleft() if self.script else 200
        if callable(answer):
            answer = answer(seen)
        if answer == HANG:
            await self.released.wait()
            answer = 200
        if answer in (RESET, GARBAGE) and request.transport is not None:
            if answer == GARBAGE:
                request.transport.write(b"220 mail.example ready\r\n\r\n")
            request.transport.close()
            answer = 200
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        return web.Response(status=status, headers=headers, text="what was sent is quoted here")


def labels(**pairs: str) -> Labels:
    return tuple(
        sorted(({"alertname": "BatchStalled", "severity": "warning", "account": "main"} | pairs).items())
    )


def notification(
    number: int = 1,
    *,
    kind: MessageKind = MessageKind.FIRING,
    created_at: datetime = NOW,
    starts_at: datetime = NOW,
    receiver: str = "crm",
    batch_id: str = "b1",
    **changes: Any,
) -> Notification:
    ends_at = created_at if kind is MessageKind.RESOLVED else None
    said = (("summary", f"message {number}"),)
    alert = Alert(labels(batch_id=batch_id), said, starts_at, ends_at)
    return Notification(f"id-{number}", receiver, kind, alert, created_at, **changes)


def message(
    *rows: Notification, heard: tuple[Notification, ...] = (), group_by=("account", "alertname"), **more: Any
) -> Message:
    """What a receiver that has heard of `heard` is sent when these fall due."""
    known = {row.alert.fingerprint: row.alert for row in heard}
    standing = outbox.Standing(rows[0].receiver, rows, known)
    made = outbox.compose(
        standing, outbox.Manner(timedelta(0), group_by, **more), NOW + timedelta(days=1)
    ).message
    assert made is not None
    return made
