"""A server that answers with bytes instead of HTTP: what is written, or a flood without an end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\n"


def sized(body: bytes, *headers: bytes) -> bytes:
    """200 with this body and its length."""
    lines = [*headers, b"Content-Length: %d" % len(body)]
    return OK + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


@dataclass(frozen=True)
class Endless:
    """`head`, then `again` until nobody listens any more."""

    head: bytes
    again: bytes


@dataclass(frozen=True)
class Silence:
    """`head`, and then nothing, with the connection open."""

    head: bytes = b""


@dataclass
class RawServer:
    """Answers every request with `answer`. `sent`: bytes that the other side has let it send."""

    answer: bytes | Endless | Silence = b""
    url: str = ""
    asked: list[bytes] = field(default_factory=list)
    sent: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer=None) -> None:
        answer = self.answer if answer is None else answer
        self._tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            for part in _parts(answer):
                writer.write(part)
                await writer.drain()
                self.sent += len(part)
                await asyncio.sleep(0)
            if isinstance(answer, Silence):
                await reader.read()
        writer.close()
        self._tasks.discard(asyncio.current_task())


def _parts(answer: bytes | Endless | Silence) -> Iterator[bytes]:
    if isinstance(answer, bytes):
        yield answer
        return
    yield answer.head
    while isinstance(answer, Endless):
        yield answer.again
