"""What a channel is, and what all of them share: one way to post, one error.

No channel's own format belongs here, and no retry: delivery.py decides when to try again.
An error's text names the receiver and what happened, never an address or a body: receivers' URLs
are secrets, and answers quote what was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr

from monitor import __version__
from monitor.model import Labels, Message, Notification
from monitor.outbox import LONGEST_WAIT
from monitor.proxy import proxy_for
from monitor.retry_after import retry_after

DEFAULT_TIMEOUT = timedelta(seconds=10)
"""For one post, from the look-up of the host's name to the status line of the answer."""

RETRY_AFTER_CAP = LONGEST_WAIT
"""A receiver that asks for more patience than this is asked again after this."""

_TOO_MUCH = frozenset({400, 413, 422})
_UNWELCOME = frozenset({401, 403, 404, 405, 410})
_PASSED_ON = frozenset({502, 504})  # a gateway answers: what is behind it may have taken the message

_USER_AGENT = f"ultravox-batch-monitor/{__version__}"


class SendFailure(StrEnum):
    """Why a message was not taken. A closed set: label values of metrics, present at 0 from the start."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    THROTTLED = "throttled"
    REFUSED = "refused"  # the same again would be refused again
    SERVER_ERROR = "server_error"
    BAD_RESPONSE = "bad_response"


class SendError(Exception):
    """A post that was not accepted. The text is safe to show."""

    def __init__(
        self,
        reason: SendFailure,
        message: str,
        *,
        status: int | None = None,
        retry_after: timedelta | None = None,
        may_have_arrived: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        self.may_have_arrived = may_have_arrived  # it is not known whether the message was taken

    @property
    def again_helps(self) -> bool:
        """Whether the very same post may be accepted later without anybody changing something."""
        return self.reason is not SendFailure.REFUSED

    @property
    def too_much(self) -> bool:
        """Whether it may be one of several alerts that is refused, or that they are many."""
        return self.status in _TOO_MUCH

    @property
    def unwelcome(self) -> bool:
        """Whether it is refused whatever it says: the address or its credentials are wrong."""
        return self.status in _UNWELCOME


@dataclass(frozen=True, slots=True)
class Wire:
    """What a channel sends through, to whom and when."""

    session: aiohttp.ClientSession
    receiver: str
    now: datetime
    external_url: str | None = None  # under which people reach the monitor's own page


class MessageChannel(Protocol):
    """A receiver that is sent messages, each once."""

    @property
    def group_by(self) -> tuple[str, ...]:
        """The labels that its messages are grouped by. Without any, what is due is one message."""

    async def send(self, wire: Wire, message: Message) -> None:
        """Send it; SendError when it was not accepted."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of telling a receiver the state of things."""

    accepted: frozenset[str] = frozenset()  # notifications that are delivered by it
    refused: Mapping[str, SendError] = field(default_factory=dict)  # notifications that were not, alone
    failures: tuple[SendError, ...] = ()  # every post that failed, also where another address took it
    needed: frozenset[str] = frozenset()  # notifications that still have something to say later
    down: SendError | None = None  # no address took anything


@runtime_checkable
class StateChannel(Protocol):
    """A receiver that is told, again and again, what fires and what has ended."""

    @property
    def resend_every(self) -> timedelta:
        """How often it wants to hear what it has already heard."""

    async def tell(self, wire: Wire, notifications: Iterable[Notification], *, all_of_it: bool) -> Told:
        """Post what these amount to now; without `all_of_it` only what it has not accepted yet. Never raises."""


Channel = MessageChannel | StateChannel


async def post(
    wire: Wire, url: SecretStr, body: bytes, headers: Mapping[str, str], patience: timedelta
) -> None:
    """POST some JSON. 2xx is success; anything else is a SendError. Not one byte of the answer's body is read."""
    await request(wire, "POST", url, patience, {"Content-Type": "application/json", **headers}, body)


async def request(
    wire: Wire,
    method: str,
    url: SecretStr,
    patience: timedelta,
    headers: Mapping[str, str] = MappingProxyType({}),
    body: bytes | None = None,
) -> None:
    """What `post` does, by any method."""
    try:
        async with wire.session.request(
            method,
            url.get_secret_value(),
            data=body,
            headers={"User-Agent": _USER_AGENT, **headers},
            timeout=aiohttp.ClientTimeout(
                total=patience.total_seconds(), sock_connect=patience.total_seconds() / 2
            ),
            allow_redirects=False,  # the address is a secret and meant for one host
            auto_decompress=False,  # of a body that is not read, a small bomb or an unknown packing is no harm
            proxy=proxy_for(url.get_secret_value()),
        ) as response:
            if 200 <= response.status < 300:
                return
            failure = _status_error(wire, response)
    except TimeoutError as error:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            text = f"{wire.receiver} cannot be connected to within {patience.total_seconds() / 2:g} s"
            failure = SendError(SendFailure.TIMEOUT, text)
        else:
            text = f"{wire.receiver} has not answered within {patience.total_seconds():g} s"
            failure = SendError(SendFailure.TIMEOUT, text, may_have_arrived=True)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        reason, text = _connection_failure(error)
        not_even_connected = isinstance(
            error,
            aiohttp.ClientConnectorError
            | aiohttp.ClientHttpProxyError
            | aiohttp.InvalidURL
            | aiohttp.NonHttpUrlClientError,
        )
        failure = SendError(reason, f"{wire.receiver}: {text}", may_have_arrived=not not_even_connected)
    # Not inside `except`: there the cause would hang on as the context, and what aiohttp raises quotes the address.
    raise failure


def _connection_failure(error: Exception) -> tuple[SendFailure, str]:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return SendFailure.CONNECTION, "its host's name cannot be resolved"
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            return (
                SendFailure.CONNECTION,
                "no TLS connection: its certificate is not accepted, or it speaks no TLS",
            )
        case aiohttp.ClientProxyConnectionError():
            return SendFailure.CONNECTION, "no connection to the proxy"
        case aiohttp.ClientConnectorError():
            return SendFailure.CONNECTION, "no connection"
        case aiohttp.ClientHttpProxyError():
            return SendFailure.CONNECTION, f"the proxy refuses it with {error.status}"
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return SendFailure.REFUSED, "its address is not a valid URL"
        case aiohttp.ClientConnectionError() | OSError():
            return SendFailure.CONNECTION, "the connection was lost before an answer came"
        case _:
            return SendFailure.BAD_RESPONSE, "its answer is not HTTP"


def failure_of(status: int) -> SendFailure:
    """What an HTTP status other than 2xx means."""
    match status:
        case 408:
            return SendFailure.TIMEOUT
        case 425 | 429:
            return SendFailure.THROTTLED
        case _ if 400 <= status < 500:
            return SendFailure.REFUSED
        case _ if status >= 500:
            return SendFailure.SERVER_ERROR
        case _:  # a redirect, mostly; nobody follows it with our secrets
            return SendFailure.BAD_RESPONSE


def _status_error(wire: Wire, response: aiohttp.ClientResponse) -> SendError:
    status = response.status
    what = ": a redirect, which is not followed" if 300 <= status < 400 else ""
    return SendError(
        failure_of(status),
        f"{wire.receiver} answered {status}{what}",
        status=status,
        retry_after=retry_after(response.headers.get("Retry-After"), wire.now, RETRY_AFTER_CAP),
        may_have_arrived=status in _PASSED_ON,
    )


def still_to_wait(until: datetime | None, now: datetime) -> timedelta:
    """How long from now until then. No wait of ours is longer than RETRY_AFTER_CAP: past that, a clock was set back."""
    left = timedelta(0) if until is None else until - now
    return left if timedelta(0) < left <= RETRY_AFTER_CAP else timedelta(0)


def present(pairs: Labels) -> dict[str, str]:
    """Labels without the empty ones: to Alertmanager and Prometheus an empty label is no label."""
    return {name: value for name, value in pairs if value}


def rfc3339(at: datetime) -> str:
    """`2026-11-23T09:30:00Z`, as Go's JSON writes and reads it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def web_url(text: str | None) -> str:
    """The URL if it is one that people and Alertmanager can use (http or https), else nothing."""
    if not text or not text.isprintable() or any(char.isspace() for char in text):
        return ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        _ = parts.port  # raises when it is none
    except ValueError:
        return ""
    return text if usable else ""
