"""Who may ask what: client certificates, passwords, requests that other sites have browsers send, what is switched off.

A middleware before all routes. The two about health are open to everybody: they tell no data.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from monitor.web import answers, tls
from monitor.web.passwords import Passwords, Verdict
from monitor.web.tls import Tls

OPEN = frozenset({"/-/healthy", "/-/ready"})

BODY_TIMEOUT = 10.0
"""Seconds for a body to come. It has a few hundred bytes."""

SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_TRACE})
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="batch-monitor", charset="UTF-8"'}

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # pages bring their own
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "batch-monitor",  # not which Python
}
"""On every answer that does not say otherwise, and unless the web configuration does."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Access:
    """What the web configuration says. Without one: no TLS, no password."""

    tls: Tls | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)  # names and bcrypt hashes
    headers: Mapping[str, str] = field(default_factory=dict)


class Guard:
    """The middleware, and what holds now. `clock`: seconds that only run on."""

    def __init__(
        self, access: Access, *, clock: Callable[[], float], external_url: str | None, read_only: bool
    ) -> None:
        self._origin = None if external_url is None else _origin(external_url)
        self._read_only = read_only
        self._passwords = Passwords(clock)
        self.use(access)

    def use(self, access: Access) -> None:
        """From the next request on this holds."""
        self.access = access
        self.headers = {name: value for name, value in {**HEADERS, **access.headers}.items() if value}
        self._passwords.use(access.users)

    def close(self) -> None:
        """Nothing is checked any more."""
        self._passwords.close()

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request through to its handler, or say why not."""
        resource = request.match_info.route.resource
        if resource is not None and resource.canonical in OPEN:
            return await handler(request)
        refused = self._certificate(request) or await self._password(request) or self._change(request)
        if refused is not None:
            return refused
        if request.method not in SAFE_METHODS:
            try:
                async with asyncio.timeout(BODY_TIMEOUT):
                    await request.read()
            except (TimeoutError, web.RequestPayloadError) as error:
                late = isinstance(error, TimeoutError)
                ended = _refusal(
                    request, 408 if late else 400, f"the body {'did not come' if late else 'is broken'}"
                )
                ended.force_close()
                return ended
        return await handler(request)

    def _certificate(self, request: web.Request) -> web.Response | None:
        if self.access.tls is None:
            return None
        transport = request.transport
        certificate = None if transport is None else transport.get_extra_info("peercert")
        why = tls.refused(self.access.tls, certificate)
        return None if why is None else _refusal(request, 403, why)

    async def _password(self, request: web.Request) -> web.Response | None:
        if not self.access.users:
            return None
        given = credentials(request.headers.get(hdrs.AUTHORIZATION, ""))
        if given is None:
            return _refusal(request, 401, "a name and a password are needed", _CHALLENGE)
        match await self._passwords.check(*given, request.remote):
            case Verdict.RIGHT:
                return None
            case Verdict.WRONG:
                return _refusal(request, 401, "the name or the password is wrong", _CHALLENGE)
            case Verdict.TOO_MANY_TRIES:
                wait = self._passwords.wait(request.remote)
                text = f"too many wrong passwords from this address: try again in {wait} s"
                return _refusal(request, 429, text, {"Retry-After": str(wait)})
            case Verdict.BUSY:
                text = "too many passwords to check at once: try again in a second"
                return _refusal(request, 503, text, {"Retry-After": "1"})

    def _change(self, request: web.Request) -> web.Response | None:
        """What changes something is not taken from other sites, and not at all where it is switched off."""
        if request.method in SAFE_METHODS:
            return None
        if foreign(request.headers, self._origin):
            return _refusal(request, 403, "this was sent by a page of another site: nothing was done")
        if self._read_only:
            return _refusal(request, 403, "read only: nothing can be changed over HTTP (--web.read-only)")
        return None


def credentials(header: str) -> tuple[str, bytes] | None:
    """Name and password of an Authorization header; None when it has none that can be read."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (name.decode(errors="surrogateescape"), password) if colon else None


def foreign(headers: Mapping[str, str], origin: tuple[str, str, int | None] | None) -> bool:
    """Whether a page of another site had a browser send this. `origin`: where people reach us, if that is known.

    Browsers say so, by Sec-Fetch-Site or Origin; whoever says neither (curl, Prometheus' tools) is no browser.
    An Origin that is just the Host is not enough: a foreign name may point to our address (DNS rebinding).
    """
    if headers.get("Sec-Fetch-Site", "none").lower() not in {"none", "same-origin"}:
        return True
    given = headers.get(hdrs.ORIGIN)
    if given is None:
        return False
    found = _origin(given)
    if found is None or found == origin:
        return found is None
    host = _origin(f"{found[0]}://{headers.get(hdrs.HOST, '')}")
    return host != found or not _cannot_be_rebound(found[1])


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port; None for what is no origin, like `null`."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname:
            return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
    return None


def _cannot_be_rebound(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def _refusal(
    request: web.Request, status: int, text: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """In the form of the answers around it."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    if not request.path.startswith("/api/"):
        return web.Response(status=status, text=f"{text}\n", headers=headers)
    kind = {401: "unauthorized", 403: "forbidden"}.get(status, "unavailable")
    return web.json_response(answers.error(kind, text), status=status, headers=headers)
