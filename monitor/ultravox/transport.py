"""How the Ultravox API is asked: the one module that talks to it, and the one that wraps its errors.

Only GET, only to the account's own base URL, and no redirect is followed: the key goes nowhere else.
The API's own words are never quoted in an error: they could hold anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Generic, TypeVar

import aiohttp
from pydantic import SecretStr
from yarl import URL

from monitor import __version__
from monitor.clock import Clock
from monitor.model import FailureReason, Urgency
from monitor.proxy import proxy_for
from monitor.resolver import Resolver
from monitor.retry_after import retry_after
from monitor.ultravox import body, payload
from monitor.ultravox.hedge import Hedge
from monitor.ultravox.limiter import Limiter

CLOCK_TOLERANCE = timedelta(seconds=2)
"""`Date` has whole seconds and was written before it arrived: up to this, the API's clock counts as ours."""

CLOCK_YEARS = range(2000, 2100)
"""A `Date` outside these years tells no time: what is reckoned from it would soon leave the calendar."""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds that all requests of the account are held back after a 429 that does not say how long: doubled each time."""

RETRY_AFTER_CAP = timedelta(minutes=5)
"""An API that asks for more patience than this is asked again after this."""


class UltravoxError(Exception):
    """A request that failed. The text is safe to show: no key, no word of the API's."""

    def __init__(self, reason: FailureReason, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after

    @property
    def again_helps(self) -> bool:
        """Whether the same request may succeed later without anybody changing something."""
        return self.reason not in {
            FailureReason.UNAUTHORIZED,
            FailureReason.FORBIDDEN,
            FailureReason.NOT_FOUND,
            FailureReason.CLIENT_ERROR,
        }


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """How one account is asked."""

    account: str
    api_key: SecretStr
    base_url: str = "https://api.ultravox.ai"
    timeout: timedelta = timedelta(seconds=10)  # for a whole request: connection, answer, body
    max_requests_per_second: float = 20.0


_Model = TypeVar("_Model", bound=payload.Payload)


@dataclass(frozen=True, slots=True)
class Answer(Generic[_Model]):
    """What was answered, and when by the API's clock. `skew`: that clock minus ours; None: it told no time."""

    body: _Model
    at: datetime
    skew: timedelta | None


class Transport:
    """Asks for one account. `on_response` hears (endpoint, status or None when no answer came).

    `large`: held by who reads an answer above LARGE; all accounts share one.
    """

    def __init__(
        self,
        settings: ApiSettings,
        *,
        clock: Clock,
        on_response: Callable[[str, int | None], None] = lambda _, __: None,
        on_throttled: Callable[[float], None] = lambda _: None,
        large: asyncio.Lock | None = None,
    ) -> None:
        self._settings = settings
        self._base_url = settings.base_url.rstrip("/")
        self._clock = clock
        self._on_response = on_response
        self._limiter = Limiter(settings.max_requests_per_second, on_paused=on_throttled)
        self._hedge = Hedge()
        self._large = large or asyncio.Lock()
        self._pause = FIRST_PAUSE
        self._session: aiohttp.ClientSession | None = None
        self._proxy: str | None = None  # as the environment had it when the session began
        self._asking = 0  # requests under way, those that wait for their turn included
        self._retired = False

    @property
    def paused(self) -> bool:
        """Whether a 429 holds back all requests."""
        return self._limiter.paused

    async def close(self) -> None:
        """Close the connections. What is asked afterwards opens new ones."""
        session = self._session
        self._session = None  # before anything waits: nobody is to find one that is closing
        if session is not None:
            await session.close()

    async def retire(self) -> None:
        """Close the connections as soon, and as often, as nobody asks.

        Who has begun to ask may take long: it waits for its turn, for the end of a pause, and reads page after page.
        """
        self._retired = True
        if not self._asking:
            await self.close()

    async def get(
        self,
        endpoint: str,
        path: str,
        model: type[_Model],
        *,
        urgency: Urgency,
        query: Mapping[str, str] = MappingProxyType({}),
        hedged: bool = False,
    ) -> Answer[_Model]:
        """The answer. All errors of asking are wrapped here, once: UltravoxError.

        `hedged`: asked for once more where it is not answered soon, since others wait for it.
        """

        async def ask() -> Answer[_Model]:
            await self._limiter.acquire(urgency)
            return await self._ask(endpoint, path, model, query)

        self._asking += 1
        try:
            if not hedged:
                return await ask()
            await self._limiter.acquire(urgency)  # the time until its turn is not the API's
            return await self._hedge.first(self._ask(endpoint, path, model, query), ask)
        finally:
            self._asking -= 1
            if self._retired and not self._asking:
                await self.close()

    async def _ask(
        self, endpoint: str, path: str, model: type[_Model], query: Mapping[str, str]
    ) -> Answer[_Model]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        status: int | None = None
        try:
            url = URL(self._base_url + path, encoded=True)  # `path` is quoted
            # aiohttp repeats a GET once by itself when a kept-alive connection turns out to be dead:
            # the limits leave room for that.
            async with (
                asyncio.timeout(self._settings.timeout.total_seconds()),
                self._open().get(
                    url,
                    params=query or None,
                    # Not the session's: aiohttp tells those to a proxy as well, when it asks for a tunnel.
                    headers={"X-API-Key": self._settings.api_key.get_secret_value()},
                    allow_redirects=False,  # the headers hold the key
                    proxy=self._proxy,
                ) as response,
            ):
                status, now = response.status, self._clock()
                skew = clock_skew(response.headers.get("Date"), now, loop.time() - started)
                at = now + (skew or timedelta(0))
                if status != 200:
                    raise self._refusal(endpoint, response, at)
                answer = payload.read(model, await body.read(response, self._large))
        except (payload.MalformedError, aiohttp.ClientError, OSError, ValueError) as error:
            failure = self._failure(endpoint, error)
        else:
            self._pause = FIRST_PAUSE
            return Answer(answer, at, skew)
        finally:
            self._on_response(endpoint, status)
        # Not inside `except`: there the cause would hang on as the context, and what aiohttp raises quotes
        # the request, whose headers hold the key.
        raise failure

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._proxy = proxy_for(self._settings.base_url)
            self._session = aiohttp.ClientSession(
                # Not aiohttp's 100 connections: as many requests that hang would hold up all that do not.
                # No more are open than the limiter lets start within one timeout.
                connector=aiohttp.TCPConnector(limit=0, resolver=Resolver()),
                headers={
                    "Accept": "application/json",
                    "User-Agent": f"ultravox-batch-monitor/{__version__}",
                },
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # the whole of it is timed in one place
            )
        return self._session

    def _refusal(self, endpoint: str, response: aiohttp.ClientResponse, at: datetime) -> UltravoxError:
        """What a status other than 200 means; `at` is the API's time, which a date in Retry-After goes by."""
        status = response.status
        match status:
            case 401:
                reason, said = FailureReason.UNAUTHORIZED, "the API key was rejected"
            case 403:
                reason, said = FailureReason.FORBIDDEN, "the API key may not do this"
            case 404:
                reason, said = FailureReason.NOT_FOUND, "not found"
            case 429:
                reason, said = FailureReason.THROTTLED, "too many requests"
            case _ if status >= 500:
                reason, said = FailureReason.SERVER_ERROR, "the API is in trouble"
            case _ if 300 <= status < 400:
                reason, said = FailureReason.CLIENT_ERROR, "a redirect, which is not followed"
            case _:
                reason, said = FailureReason.CLIENT_ERROR, "unexpected answer"
        after = retry_after(response.headers.get("Retry-After"), at, RETRY_AFTER_CAP)
        if reason is FailureReason.THROTTLED:
            if after:  # "after 0 s" from one who has just refused is no advice
                self._limiter.pause(after.total_seconds())
            elif not self._limiter.paused:  # of several that were under way, one is enough
                self._limiter.pause(self._pause)
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return self.error(reason, f"{endpoint}: {said} (HTTP {status})", retry_after=after)

    def _failure(self, endpoint: str, error: Exception) -> UltravoxError:
        """What an exception means that ended a request; nothing of it is quoted but our own words."""
        match error:
            case TimeoutError():
                seconds = self._settings.timeout.total_seconds()
                reason, said = FailureReason.TIMEOUT, f"no full answer within {seconds:g} s"
            case payload.MalformedError():
                reason, said = FailureReason.BAD_RESPONSE, str(error)
            case aiohttp.ClientPayloadError():
                # Half a body, or one that cannot be unpacked: the connection broke, whatever it had carried.
                reason, said = FailureReason.CONNECTION, "the answer broke off"
            case aiohttp.ClientHttpProxyError():
                reason, said = FailureReason.CONNECTION, f"the proxy refuses it (HTTP {error.status})"
            case aiohttp.ClientResponseError():
                reason, said = FailureReason.BAD_RESPONSE, "the answer is not HTTP"
            case aiohttp.ClientSSLError():  # of which one is a ValueError, too
                reason, said = FailureReason.CONNECTION, _cause(error)
            case ValueError():  # InvalidURL, a host that is no name, a key that is no header
                reason, said = FailureReason.CLIENT_ERROR, "cannot be asked with this base URL, key and proxy"
            case _:
                reason, said = FailureReason.CONNECTION, _cause(error)
        return self.error(reason, f"{endpoint}: {said}")

    def error(
        self, reason: FailureReason, text: str, *, retry_after: timedelta | None = None
    ) -> UltravoxError:
        """An error that names the account; `text` must be safe to show."""
        return UltravoxError(reason, f"account {self._settings.account}: {text}", retry_after=retry_after)


def _cause(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "the host's name cannot be resolved"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "its certificate is not accepted, or it speaks no TLS"
        case aiohttp.ClientProxyConnectionError():
            return "no connection to the proxy"
        case aiohttp.ClientConnectorError():
            return "no connection"
        case _:
            return "the connection was lost before an answer came"


def clock_skew(date: str | None, now: datetime, elapsed: float) -> timedelta | None:
    """The API's clock minus ours, from the `Date` of an answer that came `now`, `elapsed` seconds after the question.

    Whole seconds, as `Date` has no finer ones. None: it told no time. Zero up to CLOCK_TOLERANCE. `elapsed` is loop time: a wall clock that was set, or a
    machine that slept, in the middle of a request must not be taken for half a skew.
    """
    if date is None:
        return None
    try:
        told = _instant(date)
        if told.year not in CLOCK_YEARS:
            return None
        skew = told - (now - timedelta(seconds=elapsed / 2))
    except (ValueError, OverflowError):  # a zone may be absurd
        return None
    return timedelta(0) if abs(skew) <= CLOCK_TOLERANCE else timedelta(seconds=round(skew.total_seconds()))


@lru_cache(maxsize=16)
def _instant(date: str) -> datetime:
    """All answers of one second tell the same. ValueError."""
    told = parsedate_to_datetime(date)
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)
