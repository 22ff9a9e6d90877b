"""Apprise: chats, mail, pagers and 180 other services, each under one URL. https://github.com/caronc/apprise

Apprise blocks, tells little more than that it failed, and its log holds parts of URLs. So each send has a thread
of its own, for which the end of the process does not wait; its log is overheard and goes no further, and of
what is overheard only numbers and known words are used.

Apprise is imported when a URL of it is first looked at: that takes half a second and 16 MB.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any

from pydantic import SecretStr

from monitor import words
from monitor.model import Message
from monitor.notify.channel import SendError, SendFailure, Wire, failure_of
from monitor.notify.text import BODY_LIMIT, TITLE_LIMIT, Text, render

DEFAULT_TIMEOUT = timedelta(seconds=30)
"""For one send, which may take several requests. The single ones have Apprise's own limits (`cto` and `rto` in the URL)."""

_SCHEME = re.compile(r"([A-Za-z0-9]{1,32})://")
_HTTP_STATUS = re.compile(r"\berror=([3-5]\d\d)\b")
_SMTP_STATUS = re.compile(r"\(([45]\d\d), b['\"]")

_SOCKET = "Socket Exception"
"""So begin the records in which Apprise's services tell what went wrong below HTTP."""

_NO_TLS = ": no TLS connection: its certificate is not accepted, or it speaks no TLS"
_KNOWN_WORDS: tuple[tuple[str, SendFailure, str], ...] = (
    ("NameResolutionError", SendFailure.CONNECTION, ": its host's name cannot be resolved"),
    ("Name or service not known", SendFailure.CONNECTION, ": its host's name cannot be resolved"),
    ("SSLError", SendFailure.CONNECTION, _NO_TLS),
    ("[SSL", SendFailure.CONNECTION, _NO_TLS),
    ("ConnectTimeout", SendFailure.TIMEOUT, " cannot be connected to in time"),
    ("timed out", SendFailure.TIMEOUT, " has not answered in time"),
    ("NewConnectionError", SendFailure.CONNECTION, ": no connection"),
    ("Connection refused", SendFailure.CONNECTION, ": no connection"),
    ("BadStatusLine", SendFailure.BAD_RESPONSE, ": its answer is not HTTP"),
)
"""What those records may hold, and what it means; the first that is found counts."""

_LOGGERS = (
    *("urllib3", "requests", "requests_oauthlib", "oauthlib", "charset_normalizer", "MARKDOWN"),
    *("slixmpp", "smpplib", "gntp", "paho"),  # of services whose packages are optional
)
"""Who besides Apprise may write addresses, answers or what is sent into the log, at one level or another."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One Apprise URL."""

    url: SecretStr
    timeout: timedelta = DEFAULT_TIMEOUT

    @property
    def group_by(self) -> tuple[str, ...]:
        """People read it: everything that is due is one message."""
        return ()

    async def send(self, wire: Wire, message: Message) -> None:
        """Send it; SendError when it was not accepted, or when that is not known."""
        place = (wire.receiver, self.url)
        if (earlier := _tries.get(place)) is not None:
            same = earlier.message == message.id
            if not earlier.outcome.done():
                text = f"{wire.receiver} is still busy with an earlier try"
                raise SendError(SendFailure.TIMEOUT, text, may_have_arrived=same)
            del _tries[place]
            if same and earlier.outcome.result() is None:
                return  # it was taken after all, when nobody waited for it any more
        current = _tries[place] = _Try(message.id, Future())
        current.begin(self.url, message)
        patience = self.timeout.total_seconds()
        try:
            failure = await asyncio.wait_for(asyncio.wrap_future(current.outcome), patience)
        except TimeoutError:
            text = f"{wire.receiver} has not taken it within {patience:g} s"
            raise SendError(SendFailure.TIMEOUT, text, may_have_arrived=True) from None
        del _tries[place]
        if failure is not None:
            raise SendError(failure.reason, f"{wire.receiver}{failure.text}", status=failure.status)


def scheme_of(url: SecretStr) -> str:
    """The scheme of a URL, if Apprise can use that URL. ValueError, safe to show, with what is wrong with it."""
    found = _SCHEME.match(url.get_secret_value())
    if found is None:
        raise ValueError("not an Apprise URL: those begin with a scheme, like slack:// or mailto://")
    scheme, services = found[1].lower(), _apprise().NotificationManager()
    if (service := _service(url)) is not None:
        # A service's own address, like https://hooks.slack.com/…, goes by the scheme that Apprise has for it.
        return scheme if scheme in services else str(service.url().partition("://")[0])
    if scheme in {"http", "https"}:
        raise ValueError(
            "an address that Apprise does not know: use the scheme of the service, like slack://, "
            "or jsons:// for whatever takes JSON"
        )
    if scheme not in services:
        near = words.nearest(scheme, services.schemas())
        hint = f"did you mean {near}://?" if near else "they are listed at https://appriseit.com/services/"
        raise ValueError(f"{scheme}:// is no scheme that Apprise knows; {hint}")
    kind = services[scheme]
    if not kind.enabled:
        needed = kind.requirements.get("packages_required") or "something that is not there on this system"
        names = needed if isinstance(needed, str) else ", ".join(needed)
        raise ValueError(f"{scheme}:// needs what is not installed: {names}")
    raise ValueError(f"not what a URL with {scheme}:// must be: see {kind.setup_url}")


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a message was not taken. The text goes on after the receiver's name."""

    reason: SendFailure
    text: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class _Try:
    """One send, in a thread of its own. Its outcome is None where the message was taken."""

    message: str  # its id
    outcome: Future[_Failure | None]

    def begin(self, url: SecretStr, message: Message) -> None:
        self.outcome.set_running_or_notify_cancel()  # whoever stops waiting does not cancel it
        # A daemon: the end of the process waits for no other threads, and Apprise can wait for very long.
        threading.Thread(target=self._work, args=(url, message), name="apprise", daemon=True).start()

    def _work(self, url: SecretStr, message: Message) -> None:
        heard: list[logging.LogRecord] = []
        _overheard.records = heard
        try:
            outcome = _notify(url, message, heard)
        except BaseException as error:  # noqa: BLE001  180 services: a thread that dies would look busy for ever
            outcome = _Failure(SendFailure.BAD_RESPONSE, f": Apprise failed with {type(error).__name__}")
        self.outcome.set_result(outcome)


_tries: dict[tuple[str, SecretStr], _Try] = {}
"""By receiver and URL, beyond the life of a Settings: tries under way, and those that nobody waited for."""

_overheard = threading.local()
"""`records`: what Apprise has logged in this thread."""


def _notify(url: SecretStr, message: Message, heard: list[logging.LogRecord]) -> _Failure | None:
    service = _service(url)
    if service is None:
        return _Failure(SendFailure.REFUSED, ": Apprise cannot use its URL")
    said = _fitted(message, service)
    # Not Apprise.notify: that has retries, time limits and a pool of threads which the end of the process waits for.
    taken = service.notify(
        title=said.title if said.body else "",
        body=said.body or said.title,
        notify_type=said.kind.value,
        body_format=_apprise().NotifyFormat.TEXT,
    )
    return None if taken else _understood(heard)


def _fitted(message: Message, service: Any) -> Text:
    """The message as the service can take it in one piece: what is too long it refuses, or cuts anywhere."""
    titled = service.title_maxlen > 0
    title_limit = min(TITLE_LIMIT, service.title_maxlen if titled else service.body_maxlen)
    body_limit = service.body_maxlen
    if not titled or service.overflow_amalgamate_title:  # the title is part of the body
        body_limit -= title_limit + len("\r\n")
    return render(message, title_limit=title_limit, body_limit=min(BODY_LIMIT, body_limit))


def _understood(heard: Iterable[logging.LogRecord]) -> _Failure:
    """Why it failed, as far as the log of it tells."""
    told = [record.getMessage() for record in heard if record.levelno >= logging.WARNING]
    below = [record.getMessage() for record in heard if record.getMessage().startswith(_SOCKET)]
    for line in reversed(told):
        if found := _HTTP_STATUS.search(line):
            status = int(found[1])
            return _Failure(failure_of(status), f" answered {status}", status)
    for line in below:
        if found := _SMTP_STATUS.search(line):
            reason = SendFailure.REFUSED if found[1].startswith("5") else SendFailure.SERVER_ERROR
            return _Failure(reason, f": its mail server answered {found[1]}")
        for known, reason, text in _KNOWN_WORDS:
            if known in line:
                return _Failure(reason, text)
    if below:
        return _Failure(SendFailure.CONNECTION, ": the connection was lost before an answer came")
    return _Failure(SendFailure.BAD_RESPONSE, " has not taken it, and Apprise does not say why")


def _service(url: SecretStr) -> Any:
    """What Apprise makes of a URL; None: nothing."""
    apprise = _apprise()
    asset = apprise.AppriseAsset(
        app_id="Ultravox Batch Monitor",
        app_desc="Watches outbound call batches",
        http_redirects=False,  # addresses and messages are meant for one host
    )
    return apprise.Apprise.instantiate(url.get_secret_value(), asset=asset)


def _apprise() -> ModuleType:
    """Apprise, silenced."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    logging.getLogger("apprise").setLevel(logging.DEBUG)
    logging.getLogger("apprise").addFilter(_overhear)
    # requests would send passwords out of ~/.netrc: what is sent comes from the configuration alone.
    os.environ["NETRC"] = os.devnull
    # Where a URL asks for TLS without a look at the certificate, it warns with the host's name.
    warnings.filterwarnings("ignore", module="urllib3")
    import apprise  # noqa: PLC0415  see the head of this file

    return apprise


def _overhear(record: logging.LogRecord) -> bool:
    """Keep a record for the thread that it comes from, and from everybody else."""
    if (records := getattr(_overheard, "records", None)) is not None:
        records.append(record)
    return False
