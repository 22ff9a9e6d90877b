"""Receivers on loopback sockets that are up, down, slow or broken by turns, and remember what they took.

Written on bare sockets: what is wanted are resets, half answers and ports that are closed, and to know
exactly what had arrived before.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from monitor.clock import utc_now

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: closing sends a reset
_HANG = 30.0


class Mood(StrEnum):
    """How a receiver behaves for a while."""

    UP = "up"
    SLOW = "slow"  # takes it, and answers seconds later
    DOWN = "down"  # its port is closed
    THROTTLED = "429"
    ERROR = "500"
    UNAVAILABLE = "503"
    REFUSED = "400"
    GATEWAY = "504, taken"
    RESET_UNREAD = "reset before reading"
    RESET_READ = "reset after reading, taken"
    HALF_AN_ANSWER = "half a status line, taken"
    HANG = "hang"


_TAKEN = frozenset({Mood.UP, Mood.SLOW, Mood.GATEWAY, Mood.RESET_READ, Mood.HALF_AN_ANSWER})
_STATUS = {
    Mood.THROTTLED: "429 Too Many Requests\r\nRetry-After: 1",
    Mood.ERROR: "500 Internal Server Error",
    Mood.UNAVAILABLE: "503 Service Unavailable",
    Mood.REFUSED: "400 Bad Request",
    Mood.GATEWAY: "504 Gateway Timeout",
}
_WEIGHTS = {Mood.UP: 12, Mood.SLOW: 2, Mood.DOWN: 2, Mood.REFUSED: 0.5}  # the others: 1


@dataclass(frozen=True)
class Post:
    """One request that was taken: it was read to its end, and will not be forgotten, whatever was answered."""

    at: datetime
    path: str
    key: str | None  # Idempotency-Key
    body: bytes
    mood: Mood
    up_since: datetime | None  # None: the receiver was not well


@dataclass
class Receiver:
    """`on_taken` is called between reading a request and answering it."""

    name: str
    path: str
    chance: random.Random
    on_taken: Callable[[], None] = lambda: None
    mood: Mood = Mood.UP
    posts: list[Post] = field(default_factory=list)
    port: int = 0
    _up_since: datetime | None = field(default_factory=utc_now)
    _server: asyncio.Server | None = None
    _weather: asyncio.Task[None] | None = None
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        await self._listen()
        self._weather = asyncio.create_task(self._change())

    async def clear_up(self) -> None:
        """Be well from now on."""
        await self._end_weather()
        await self._turn(Mood.UP)

    async def stop(self) -> None:
        await self._end_weather()
        await self._close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _end_weather(self) -> None:
        if self._weather is not None:
            self._weather.cancel()
            await asyncio.gather(self._weather, return_exceptions=True)

    async def _change(self) -> None:
        moods = list(Mood)
        while True:
            await asyncio.sleep(self.chance.uniform(0.5, 5))
            await self._turn(self.chance.choices(moods, [_WEIGHTS.get(mood, 1) for mood in moods])[0])

    async def _turn(self, mood: Mood) -> None:
        if mood is Mood.DOWN:
            await self._close()
        elif self._server is None:
            await self._listen()
        if mood is not Mood.UP:
            self._up_since = None
        elif self.mood is not Mood.UP:
            self._up_since = utc_now()
        self.mood = mood

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        # A daemon that was killed leaves half a request, and nobody to answer; `stop` cuts off what is slow.
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._serve(reader, writer)
        with suppress(ConnectionError):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mood = self.mood
        if mood is Mood.HANG:
            with suppress(TimeoutError):  # until the other side has had enough
                await asyncio.wait_for(_gone(writer), _HANG)
            return
        if mood is Mood.RESET_UNREAD:
            _reset(writer)
            return
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        body = await reader.readexactly(int(headers["content-length"]))
        key = headers.get("idempotency-key")
        if mood is Mood.REFUSED and key is not None and any(one.key == key for one in self.posts):
            mood = (
                Mood.UP
            )  # what it took once cannot be wrong: the monitor believes who refuses what a message says
        if mood in _TAKEN and head[0].split()[1] == self.path:
            self.posts.append(Post(utc_now(), self.path, key, body, mood, self._up_since))
            self.on_taken()
        if mood is Mood.SLOW:
            await asyncio.sleep(self.chance.uniform(0.2, 3))
        if mood is Mood.RESET_READ:
            _reset(writer)
            return
        if mood is Mood.HALF_AN_ANSWER:
            writer.write(b"HTTP/1.1 2")
        else:
            status = _STATUS.get(mood, "200 OK")
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()


async def _gone(writer: asyncio.StreamWriter) -> None:
    """Until the other side has closed, without reading what it sends."""
    while not writer.transport.is_closing():
        sock = writer.get_extra_info("socket")
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        if info[0] != 1:  # TCP_ESTABLISHED
            return
        await asyncio.sleep(0.1)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
