"""From a host's name to its addresses, by the system, on threads that nobody waits for.

The system's own resolver blocks, half a minute and more while no name server answers. Left to asyncio it does so on the
few threads that everything shares: some such names, and no scrape is answered, and the process ends when the
last lookup has given up. Here each name has a thread of its own, and all who ask for it meanwhile share the answer.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future

from aiohttp.abc import AbstractResolver, ResolveResult

_Place = tuple[str, int, socket.AddressFamily]

_looking: dict[_Place, Future[list[ResolveResult]]] = {}
"""What is being looked up, for all sessions of the process: a name that hangs costs one thread, not one a try."""

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Resolver(AbstractResolver):
    """For aiohttp's connectors, one of them each."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of this name. OSError when it has none or nobody can tell; ValueError when it is no name."""
        place = (host, port, family)
        if (found := _looking.get(place)) is None:
            found = _looking[place] = Future()
            found.set_running_or_notify_cancel()  # whoever stops waiting does not cancel it
            try:
                threading.Thread(target=_look_up, args=(place, found), name="resolver", daemon=True).start()
            except RuntimeError as error:  # no more threads are to be had
                del _looking[place]
                raise OSError(str(error)) from error
        return await asyncio.wrap_future(found)

    async def close(self) -> None:
        """Nothing is held."""


def _look_up(place: _Place, found: Future[list[ResolveResult]]) -> None:
    host, port, family = place
    try:
        infos = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
        )
        addresses = [_address(host, *info) for info in infos]
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is for those who wait
        del _looking[place]
        found.set_exception(error)
    else:
        del _looking[place]
        found.set_result(addresses)


def _address(
    host: str, family: int, _: int, proto: int, __: str, address: tuple[str | int, ...] | tuple[int, bytes]
) -> ResolveResult:
    # By name and not by place: a link-local address of IPv6 is complete only with its interface.
    numeric, port = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)  # type: ignore[arg-type]  # the stubs know no scope of IPv6
    return ResolveResult(
        hostname=host, host=numeric, port=int(port), family=family, proto=proto, flags=_NUMERIC
    )
