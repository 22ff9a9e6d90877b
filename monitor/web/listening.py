"""Sockets to listen on that stay calm when the process has no file descriptor left for who comes.

asyncio tries again and again then, more often with every try, with a line in the log for each. Here one descriptor is
kept in reserve: it is given up to take the caller, to hang up on him, and is taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from typing import Any

logger = logging.getLogger(__name__)

_NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE})


class Listening(socket.socket):
    """A listening socket. One line in the log when callers are turned away, one when they are taken again."""

    _reserve: int | None = None
    _full = False

    def accept(self) -> tuple[socket.socket, Any]:
        """The loop's question. BlockingIOError: nobody is there, or who was there has been turned away."""
        if self._reserve is None:
            self._take_reserve()
        try:
            taken = super().accept()
        except OSError as error:
            if error.errno not in _NONE_LEFT or self._reserve is None:
                raise
            self._turn_away()
            raise BlockingIOError from error
        if self._full:
            logger.info("connections are taken again")
        self._full = False
        return taken

    def close(self) -> None:
        """Give the reserve back, too."""
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
        super().close()

    def _take_reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _turn_away(self) -> None:
        if not self._full:
            logger.error(
                "no file descriptor is left, connections are turned away; raise the limit (ulimit -n)"
            )
        self._full = True
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
        with contextlib.suppress(OSError):
            super().accept()[0].close()
        self._take_reserve()


async def listen(host: str | None, port: int) -> list[Listening]:
    """Bind as asyncio does: every address of this host, None: of this machine. OSError when one cannot be had."""
    loop = asyncio.get_running_loop()
    bound = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    try:
        return [Listening(one.family, one.type, one.proto, os.dup(one.fileno())) for one in bound.sockets]
    finally:
        bound.close()
