"""Whom we accept: how many at once, how many of one address, and over which TLS.

asyncio's servers have no limit, and keep the TLS context they began with; so sockets are accepted here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from monitor.web.connection import GOODBYE_TIMEOUT, Connection
from monitor.web.passwords import network
from monitor.web.tls import Tls

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 256
"""At once; a process usually may have 1024 files open. Who comes then takes the place of the one that asked for nothing longest."""

MOST_OF_ONE = 64
"""Connections of one address. The health check comes from another one than whoever floods us."""

BACKLOG = 128

PAUSE = 1.0
"""Seconds after a connection that could not be accepted, before the next is tried."""

HANDSHAKE_TIMEOUT = 5.0
"""Seconds for TLS to be agreed on."""


@dataclass(eq=False, slots=True)
class _Guest:
    """One of those who are connected, or about to be."""

    address: str
    since: float
    task: asyncio.Task[None] | None = None
    connection: Connection | None = None

    @property
    def waited_for(self) -> float | None:
        """Since when nothing has been asked; None while something is."""
        if self.connection is None:
            return self.since
        return None if self.connection.asking else self.connection.since


class Connections:
    """Everybody who is connected. `use` says with what the next ones are greeted."""

    def __init__(self, server: web.Server, headers: Callable[[], Mapping[str, str]], tls: Tls | None) -> None:
        self._server = server
        self._headers = headers
        self._tls = tls
        self._guests: dict[_Guest, None] = {}
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self.addresses: list[Any] = []  # the names of the sockets that listen

    async def listen(self, host: str | None, port: int) -> None:
        """Have the address; who comes waits until `open`. OSError when it cannot be had."""
        loop = asyncio.get_running_loop()
        # asyncio knows which sockets a host and a port mean; it is not to accept on them.
        bound = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
        for one in bound.sockets:
            listening = one.dup()
            listening.setblocking(False)
            listening.listen(BACKLOG)
            self._sockets.append(listening)
            self.addresses.append(listening.getsockname())
        bound.close()

    def open(self) -> None:
        """Accept from now on."""
        self._accepting = [asyncio.create_task(self._accept(listening)) for listening in self._sockets]

    def use(self, tls: Tls | None) -> None:
        """Handshakes are made with this from now on.

        Who is connected stays, unless other clients are to be trusted now: then nobody is by what held before.
        """
        before, self._tls = self._tls, tls
        if _trust(before) != _trust(tls):
            for guest in list(self._guests):
                if guest.connection is not None:
                    guest.connection.leave()
                elif guest.task is not None:
                    guest.task.cancel()

    async def refuse(self) -> None:
        """Accept nobody any more. Who is connected stays."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listening in self._sockets:
            listening.close()

    async def close(self) -> None:
        """Cut off whoever is left."""
        tasks = [guest.task for guest in self._guests if guest.task is not None]
        for guest in list(self._guests):
            if guest.connection is not None:
                guest.connection.cut()
            elif guest.task is not None:
                guest.task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        broken = False
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except Exception as error:  # noqa: BLE001 - no files left, for one; whatever it is, others are to be accepted
                if not broken:
                    said = getattr(error, "strerror", None) or repr(error)
                    logger.error("no connection can be accepted", extra={"error": said})  # noqa: TRY400 - the machine's
                broken = True
                await asyncio.sleep(PAUSE)
                continue
            broken = False
            address = network(peer[0])
            if not self._room_for(address):
                accepted.close()
                continue
            guest = _Guest(address, loop.time())
            self._guests[guest] = None
            guest.task = asyncio.create_task(self._receive(guest, accepted))
            guest.task.add_done_callback(partial(self._gone, guest))

    def _gone(self, guest: _Guest, _: asyncio.Task[None]) -> None:
        self._guests.pop(guest, None)

    def _room_for(self, address: str) -> bool:
        """Whether there is room for one more of them, or room can be made."""
        among = list(self._guests)
        if Counter(guest.address for guest in among)[address] >= MOST_OF_ONE:
            among = [guest for guest in among if guest.address == address]
        elif len(among) < MOST_CONNECTIONS:
            return True
        waiting = [
            (since, place) for place, guest in enumerate(among) if (since := guest.waited_for) is not None
        ]
        if not waiting:
            return False
        _, place = min(waiting)
        leaving = among[place]
        self._guests.pop(leaving)
        if leaving.connection is not None:
            leaving.connection.cut()
        elif leaving.task is not None:
            leaving.task.cancel()
        return True

    async def _receive(self, guest: _Guest, accepted: socket.socket) -> None:
        loop, tls = asyncio.get_running_loop(), self._tls
        connection = Connection(self._server, loop=loop, headers=self._headers)
        try:
            await loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=None if tls is None else tls.context,
                ssl_handshake_timeout=None if tls is None else HANDSHAKE_TIMEOUT,
                ssl_shutdown_timeout=None if tls is None else GOODBYE_TIMEOUT,
            )
        except OSError:  # it left, or TLS could not be agreed on
            return
        guest.connection = connection
        if _trust(tls) != _trust(self._tls):  # what is asked of clients changed during the handshake
            connection.cut()
        with contextlib.suppress(asyncio.CancelledError):
            await connection.closed


def _trust(tls: Tls | None) -> str | None:
    return None if tls is None else tls.trust
