"""Apprise: chats, mail, pagers and some 150 other services, each by one URL. https://github.com/caronc/apprise

Apprise blocks, says no more than that it failed, and writes parts of URLs into its log. So a send has a thread of
its own, which nothing waits for at the end of the process; what its log says is overheard, and of that only
numbers and known words are used; and nothing that it logs goes any further.

Apprise is imported when the first URL is looked at, and not before: it costs time and memory.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any

from pydantic import SecretStr

from monitor.model import Message
from monitor.notify import text
from monitor.notify.channel import SendError, SendFailure, Wire, failure_of

DEFAULT_TIMEOUT = timedelta(seconds=30)
"""For one send. A service may be reached by several requests, and each has time limits of Apprise's own."""

_SCHEME = re.compile(r"([A-Za-z0-9]{1,32})://")
_STATUS = re.compile(r"\berror=(\d{3})\b")

_CHATTY = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib", "charset_normalizer", "MARKDOWN")
"""Loggers that write addresses, answers or messages, some only at level debug."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One Apprise URL."""

    url: SecretStr
    timeout: timedelta = DEFAULT_TIMEOUT

    @property
    def group_by(self) -> tuple[str, ...]:
        """Everything that is due is one message: people read it."""
        return ()

    async def send(self, wire: Wire, message: Message) -> None:
        """Send it; SendError when it was not accepted, or when it is not known whether it was."""
        place = (wire.receiver, self.url)
        earlier = _tries.get(place)
        if earlier is not None and not earlier.sending.done():
            raise SendError(
                SendFailure.TIMEOUT,
                f"{wire.receiver} is still busy with an earlier try",
                may_have_arrived=earlier.message == message.id,
            )
        if earlier is not None:
            del _tries[place]
            if earlier.message == message.id and earlier.sending.result() is None:
                return  # it was taken after we had given up waiting
        current = _tries[place] = _Try(message.id)
        current.start(self.url, text.render(message))
        try:
            failure = await asyncio.wait_for(
                asyncio.wrap_future(current.sending), self.timeout.total_seconds()
            )
        except TimeoutError:
            raise SendError(
                SendFailure.TIMEOUT,
                f"{wire.receiver} has not taken it within {self.timeout.total_seconds():g} s",
                may_have_arrived=True,
            ) from None
        del _tries[place]
        if failure is not None:
            raise SendError(
                failure.reason, f"{wire.receiver} {failure.text}", status=failure.status
            )


def scheme_of(url: SecretStr) -> str:
    """The scheme of a URL that Apprise can use. ValueError with what is wrong, which is safe to show."""
    apprise = _apprise()
    said = _SCHEME.match(url.get_secret_value())
    if said is None:
        raise ValueError("not an Apprise URL: it begins with a scheme, like slack:// or mailto://")


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: SendFailure
    text: str
    status: int | None = None
