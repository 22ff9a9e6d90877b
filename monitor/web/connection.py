"""One connection: cut off when it keeps us waiting for a request, or does not take its answer.

aiohttp has no timeout for heads and for answers. Whom we accept is connections.py's business.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping

from aiohttp import web

HEAD_TIMEOUT = 10.0
"""Seconds from the connection, or from a request's first byte, until its head is complete."""

IDLE_TIMEOUT = 125.0
"""Seconds between two requests: Prometheus keeps its connection when it scrapes every two minutes or more often."""

ANSWER_TIMEOUT = 30.0
"""Seconds for an answer to be taken."""

GOODBYE_TIMEOUT = 2.0
"""Seconds for what an answered request still sends, and for TLS to be closed."""

HEAD_LINE = 8190
HEAD_LINES = 64
"""Bytes of the first line, and of each header; how many headers."""

_PIECE = 64 * 1024
"""Bytes from which an answer is written in pieces: over TLS, asyncio buffers whatever is written in one go."""


class Connection(web.RequestHandler):
    """A connection that is cut off when it keeps us waiting. asyncio and aiohttp call this."""

    def __init__(
        self, server: web.Server, *, loop: asyncio.AbstractEventLoop, headers: Callable[[], Mapping[str, str]]
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None is what turns it off
            lingering_time=GOODBYE_TIMEOUT,
            max_line_size=HEAD_LINE,
            max_field_size=HEAD_LINE,
            max_headers=HEAD_LINES,
            auto_decompress=False,  # nobody compresses what is sent here, but for who wants it to burst
        )
        self.closed = loop.create_future()
        self.since = loop.time()  # it has been waited for since
        self.asking = False
        self._headers = headers
        self._wire: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._first_byte = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._wire = transport
        # An answer is written when it has left, not when it is buffered. Not 0: asyncio's TLS would pause at nothing.
        transport.set_write_buffer_limits(high=1, low=0)
        self._wait(HEAD_TIMEOUT)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        if data and not self.asking and not self._first_byte:
            self._wait(HEAD_TIMEOUT)
            self._first_byte = True
        super().data_received(data)

    def begin(self) -> None:
        """The head of a request has come."""
        self.asking = True
        self._stop_waiting()

    def expect_body(self) -> None:
        """The head has come, and a body is to: whoever keeps us waiting for it may have to make room."""
        self._stop_waiting()
        self.since = self._loop.time()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer, with the headers that all have; cut off who does not take it."""
        self.asking = True
        self._stop_waiting()
        for name, value in self._headers().items():
            resp.headers.setdefault(name, value)
        body = resp.body if isinstance(resp, web.Response) else None
        if isinstance(resp, web.Response) and isinstance(body, bytes) and len(body) > _PIECE:
            resp.body = io.BytesIO(body)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            self.cut()
            return resp, True
        finally:
            self.asking = self._first_byte = False
            self._wait(IDLE_TIMEOUT)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What cannot be read is not repeated, neither in the log nor in the answer: it may hold a password.

        Nor is it worth a line that somebody left in the middle of a request.
        """
        if status != 400 and not isinstance(exc, ConnectionError):
            return super().handle_error(request, status, exc, message)
        answer = web.Response(status=400, text="this is no HTTP request\n")
        answer.force_close()
        return answer

    def leave(self) -> None:
        """End it: now when nothing is asked, else after the answer."""
        if self.asking:
            self.close()
        else:
            self.force_close()

    def cut(self) -> None:
        """End it at once, whatever is still to be sent."""
        self._stop_waiting()
        if self._wire is not None:
            self._wire.abort()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self.since = self._loop.time()
        if not self.closed.done():
            self._patience = self._loop.call_later(seconds, self.cut)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
