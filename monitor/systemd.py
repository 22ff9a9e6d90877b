"""Telling systemd how the service does: ready, reloading, stopping, alive (sd_notify(3)). Elsewhere nothing happens.

The watchdog is fed while the scheduler runs its jobs: a daemon that answers and polls nothing is one to restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, MutableMapping

logger = logging.getLogger(__name__)

BEAT = 10.0
"""Seconds between two lines of status, or half of the watchdog's time if that is less."""


class Systemd:
    """The service manager that started this process, if it was one that wants to be told.

    `environment`: its variables are taken out, so that no child process speaks for this one.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        ours = environment.pop("WATCHDOG_PID", "") in {"", str(os.getpid())}
        self._address = "\0" + address[1:] if address.startswith("@") else address  # @: no file has this name
        self._watched = ours and microseconds.isdecimal() and int(microseconds) > 0
        self._every = min(BEAT, int(microseconds) / 2e6) if self._watched else BEAT

    def ready(self) -> None:
        """It serves, with the configuration it was given last."""
        self._tell("READY=1")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """It reads its configuration, and is ready again whatever comes of it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self.ready()

    def stopping(self) -> None:
        """It finishes what is under way."""
        self._tell("STOPPING=1", "STATUS=stopping")

    async def beat(self, alive: Callable[[], bool], status: Callable[[], str]) -> None:
        """Say what `status` says, and feed the watchdog while `alive`, until cancelled."""
        while self._address:
            lines = ["STATUS=" + status()]
            if self._watched and alive():
                lines.append("WATCHDOG=1")
            self._tell(*lines)
            await asyncio.sleep(self._every)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.setblocking(False)
                to.connect(self._address)
                to.send("\n".join(lines).encode())
        except OSError as error:  # the daemon's work does not depend on it; the watchdog notices
            logger.warning("systemd could not be told", extra={"error": str(error)})
