"""A running daemon, asked over HTTP: what the commands and the terminal's views read.

Nothing but the standard library, so that short questions stay quick. It prints nothing and decides nothing.
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIMEOUT = 10.0
"""Seconds a daemon has for its answer, unless the caller has less patience."""

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})

NO_PROXY = urllib.request.ProxyHandler({})
"""A proxy knows another localhost."""


@dataclass(slots=True)
class _Introduction:
    """How this process presents itself to every daemon, and whom it believes to be one."""

    authorization: str | None = None  # the header
    context: ssl.SSLContext | None = None  # None: the system's authorities


_OURS = _Introduction()


def introduce(authorization: str | None, context: ssl.SSLContext | None) -> None:
    """From now on every daemon is asked like this."""
    _OURS.authorization, _OURS.context = authorization, context


class NoAnswerError(Exception):
    """There is no answer to work with. The text says why and what to do; `reason` says why in a few words."""

    def __init__(self, text: str, reason: str) -> None:
        self.reason = reason
        super().__init__(text)


def ask(
    url: str,
    what: str,
    query: Mapping[str, str] | None = None,
    *,
    body: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT,
) -> dict[str, Any]:
    """The `data` of the answer of `/api/v1/WHAT`. With a body it is POSTed."""
    request = urllib.request.Request(  # noqa: S310 - address() lets through nothing but http and https
        address(url, f"/api/v1/{what}") + (f"?{urllib.parse.urlencode(query)}" if query else ""),
        data=None if body is None else json.dumps(body).encode(),
        headers={} if body is None else {"Content-Type": "application/json"},
    )
    try:
        with opened(request, timeout=timeout, proxies=not _is_local(url)) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
            data.keys()  # AttributeError: it is none of ours
    except urllib.error.HTTPError as error:
        with error:
            said = _told(error)
            strange = f"{url} answers {error.code} {error.reason}: is it a batch monitor?"
            raise NoAnswerError(said or strange, said or f"it answers {error.code} {error.reason}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, http.client.HTTPException) as error:
        reason = reason_of(error)
        raise NoAnswerError(
            f"no daemon answers at {url} ({reason}); start one with `batch-monitor run`, or name it with --url",
            reason,
        ) from None
    return data


def address(url: str, path: str) -> str:
    """Where a daemon at this URL has the path."""
    if not url.startswith(("http://", "https://")):
        text = f"{url} is no address of a daemon: write it as http://HOST:PORT"
        raise NoAnswerError(text, text)
    return url.rstrip("/") + path


def reason_of(error: Exception) -> str:
    """Why nobody answers: `Connection refused`, `timed out`."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return str((inner.strerror if isinstance(inner, OSError) else None) or inner or type(inner).__name__)


def opened(request: urllib.request.Request | str, *, timeout: float, proxies: bool) -> Any:
    """The answer, as `urlopen` has it. `proxies`: through those of the environment, if there are any."""
    if isinstance(request, str):
        request = urllib.request.Request(request)  # noqa: S310 - address() lets through nothing but http and https
    if _OURS.authorization is not None:
        request.add_unredirected_header("Authorization", _OURS.authorization)  # for this address alone
    handlers: list[urllib.request.BaseHandler] = [] if proxies else [NO_PROXY]
    if _OURS.context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=_OURS.context))
    return urllib.request.build_opener(*handlers).open(request, timeout=timeout)


def _is_local(url: str) -> bool:
    try:
        return urllib.parse.urlsplit(url).hostname in _LOCAL
    except ValueError:  # what is wrong with it is told when it is opened
        return False


def _told(answer: urllib.error.HTTPError) -> str | None:
    """What the daemon itself says is wrong with the question."""
    try:
        text = json.load(answer)["error"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return text if isinstance(text, str) else None
