"""What one value alone cannot tell: secrets and where they come from, what must be unique, each receiver's channel.

These look at the raw data, so that they speak even when something else is wrong with it.
"""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from monitor.config import document, schema
from monitor.config.document import Document, Steps
from monitor.config.texts import explained
from monitor.notify import alertmanager, apprise, webhook
from monitor.notify.channel import DEFAULT_TIMEOUT, Channel

SECRET_LIMIT = 64 * 1024
"""Bytes of a file with a secret in it."""

Hide = Callable[[Iterable[str]], None]
"""Told of every secret as it is read, so that from then on nothing shows it, whatever goes wrong."""

_API_KEY = re.compile(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}")


@dataclass(slots=True)
class Secrets:
    """Reads secrets, and remembers which there were and where they came from."""

    document: Document
    folder: Path
    hide: Hide
    found: list[SecretStr] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)

    def keep(self, value: str) -> SecretStr:
        self.hide((value,))
        secret = SecretStr(value)
        self.found.append(secret)
        return secret

    def one_of(
        self, at: Steps, block: Any, key: str, *, needed: bool, literal: bool = False
    ) -> SecretStr | None:
        """`key` or `key_file` of a block. A secret that stands in the file itself is a mistake, unless `literal`."""
        path, key_file = (*at, key), f"{key}_file"
        value, file = block.get(key), block.get(key_file)
        if value is not None and file is not None:
            self.document.mistake((*at, key_file), f"give {key} or {key_file}, not both", at_key=True)
        elif isinstance(file, str) and file:
            return self._from_file((*at, key_file), file)
        elif isinstance(value, str):
            return self._given(path, value, key_file, literal=literal)
        elif needed and value is None and file is None:
            self.document.mistake(
                path, f"missing: give {key}_file, or {key}: ${{NAME}} for an environment variable"
            )
        return None

    def several(self, at: Steps, block: Any, key: str) -> list[tuple[Steps, str, SecretStr]]:
        """What `key` of a block lists, or `key_file`, one a line: its path, its line in words, the secret."""
        path, key_file = (*at, key), f"{key}_file"
        listed, file = block.get(key), block.get(key_file)
        if listed is not None and file is not None:
            self.document.mistake((*at, key_file), f"give {key} or {key_file}, not both", at_key=True)
        elif isinstance(file, str) and file:
            return self._lines((*at, key_file), file)
        elif isinstance(listed, list):
            texts = [((*path, place), one) for place, one in enumerate(listed) if isinstance(one, str)]
            given = [(here, self._given(here, one, key_file)) for here, one in texts]
            return [(here, "", secret) for here, secret in given if secret is not None]
        elif listed is None and file is None:
            self.document.mistake(
                path, f"missing: give {key_file}, or {key}: [${{NAME}}] for environment variables"
            )
        return []

    def _given(self, path: Steps, value: str, key_file: str, *, literal: bool = False) -> SecretStr | None:
        if not literal and path not in self.document.from_environment:
            self.document.mistake(
                path,
                f"a secret must not stand in this file: use {key_file}, or ${{NAME}} for an environment variable",
            )
        elif not value:
            return None  # from an empty variable, which has been told of
        elif not literal and (not value.isprintable() or " " in value):  # else the schema tells
            self.document.mistake(path, "must not hold blanks or control characters")
        return self.keep(value)

    def _from_file(self, path: Steps, name: str) -> SecretStr | None:
        shown, text = self._read(path, name)
        text = text.strip()
        if not text:
            return None
        if not text.isprintable() or " " in text:
            self.document.mistake(path, f"{shown} must hold one line, without blanks")
            return None
        return self.keep(text)

    def _lines(self, path: Steps, name: str) -> list[tuple[Steps, str, SecretStr]]:
        """One a line; lines that are empty or begin with # are skipped."""
        found = []
        shown, text = self._read(path, name)
        for number, line in enumerate(text.split("\n"), 1):
            one = line.strip()
            where = f"{shown}, line {number}: "
            if not one or one.startswith("#"):
                continue
            if not one.isprintable() or " " in one:
                self.document.mistake(path, f"{where}must not hold blanks or control characters")
            found.append((path, where, self.keep(one)))
        if text and not found:
            self.document.mistake(path, f"{shown} holds none: write one a line")
        return found

    def _read(self, path: Steps, name: str) -> tuple[str, str]:
        """What the file is called, and its text: none where it is a mistake."""
        if not name.isprintable():
            return "", ""  # the schema tells
        if _API_KEY.fullmatch(Path(name).name) or "://" in name:  # the secret itself: it must not be shown
            self.document.mistake(path, "must be the path of a file; this is what should stand in that file")
            return "", ""
        file = self.folder / name
        # As written, where a variable is in it: people put the secret itself into `*_file: ${NAME}`.
        shown = str(self.document.from_environment.get(path, file))
        self.sources.append(file)
        try:
            if not stat.S_ISREG(file.stat().st_mode) and not file.is_dir():
                raise OSError(0, "it is no regular file")
            with file.open("rb") as opened:
                content = opened.read(SECRET_LIMIT + 1)
            text = content.decode()
        except OSError as error:
            self.document.mistake(path, f"{shown} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            self.document.mistake(path, f"{shown} is not text")
        else:
            if len(content) > SECRET_LIMIT:
                self.document.mistake(path, f"{shown} is larger than 64 KiB: no secret is")
            elif not text.strip():
                self.document.mistake(path, f"{shown} is empty")
            else:
                return shown, text
        return shown, ""


def checked(
    found: Document, secrets: Secrets
) -> tuple[list[SecretStr | None], list[dict[str, Channel]], SecretStr | None]:
    """The accounts' keys, each receiver's channels by the names of their queues, the heartbeat's address."""
    keys = []
    for at, account in _blocks(found.data, "accounts"):
        keys.append(secrets.one_of(at, account, "api_key", needed=True))
        _unique(found, _blocks(account, "agents", at), ("agent_id",), "this agent")
    _unique(found, _blocks(found.data, "accounts"), ("name",), "an account of this name")
    batches = [
        one for at, account in _blocks(found.data, "accounts") for one in _blocks(account, "batches", at)
    ]
    _unique(found, batches, ("agent_id", "batch_id"), "this batch")
    receivers = _blocks(found.data, "receivers")
    _unique(found, receivers, ("name",), "a receiver of this name")
    for at, receiver in receivers:
        _routing(found, at, receiver)
    channels = [_channels(found, secrets, at, receiver) for at, receiver in receivers]
    heartbeat = found.data.get("heartbeat") if isinstance(found.data, dict) else None
    beat_url = _address(found, secrets, ("heartbeat",), heartbeat) if isinstance(heartbeat, dict) else None
    return keys, channels, beat_url


def _blocks(data: Any, key: str, at: Steps = ()) -> list[tuple[Steps, dict[str, Any]]]:
    listed = data.get(key) if isinstance(data, dict) else None
    return [
        ((*at, key, number), block)
        for number, block in enumerate(listed if isinstance(listed, list) else [])
        if isinstance(block, dict)
    ]


def _unique(
    found: Document, blocks: list[tuple[Steps, dict[str, Any]]], keys: tuple[str, ...], what: str
) -> None:
    first: dict[tuple[str, ...], Steps] = {}
    for at, block in blocks:
        value = tuple(str(block[key]).lower() for key in keys if isinstance(block.get(key), str))
        if len(value) < len(keys):
            continue
        if value in first:
            there = f"{document.written(first[value])}, line {found.line(first[value])}"
            found.mistake((*at, keys[-1]), f"{what} is there already: {there}")
        first.setdefault(value, at)


def _channels(found: Document, secrets: Secrets, at: Steps, receiver: dict[str, Any]) -> dict[str, Channel]:
    given = [name for name in ("alertmanager", "apprise", "webhook") if receiver.get(name) is not None]
    if len(given) != 1:
        found.mistake(at, "must have exactly one channel: alertmanager, apprise or webhook")
        return {}
    [kind] = given
    block, here, name = receiver[kind], (*at, kind), str(receiver.get("name"))
    if not isinstance(block, dict):
        return {}
    if kind == "apprise":
        return _apprise(found, secrets, here, block, name)
    channel = _channel(found, secrets, here, block)
    return {} if channel is None else {name: channel}


def _channel(found: Document, secrets: Secrets, here: Steps, block: dict[str, Any]) -> Channel | None:
    if here[-1] == "alertmanager":
        urls = block.get("urls")
        timeout = _timeout(block)
        kept = (
            tuple(secrets.keep(url) for url in urls if isinstance(url, str)) if isinstance(urls, list) else ()
        )
        return alertmanager.Settings(kept, timeout) if kept else None
    url = _address(found, secrets, here, block)
    secret = secrets.one_of(here, block, "secret", needed=False)
    return None if url is None else webhook.Settings(url, secret, _timeout(block))


_NOT_FOR_ALERTMANAGER = {
    "group_wait": "means nothing to Alertmanager, which groups by its own group_wait: leave it out",
    "max_messages_per_minute": "means nothing to Alertmanager, which is told all that holds each minute: leave it out",
}


def _routing(found: Document, at: Steps, receiver: dict[str, Any]) -> None:
    """What a receiver is told, and how fast."""
    for key, text in _NOT_FOR_ALERTMANAGER.items():
        if receiver.get("alertmanager") is not None and receiver.get(key) is not None:
            found.mistake((*at, key), text, at_key=True)
    for place, interval in _blocks(receiver, "mute_time_intervals", at):
        if interval.get("times") is None and interval.get("weekdays") is None:
            found.mistake(place, "must have times or weekdays: without either it would mute for ever")
        for here, times in _blocks(interval, "times", place):
            if isinstance(times.get("start_time"), str) and times["start_time"] == times.get("end_time"):
                found.mistake((*here, "end_time"), "is the start: for a whole day, leave out `times`")


def _address(found: Document, secrets: Secrets, here: Steps, block: dict[str, Any]) -> SecretStr | None:
    """`url` or `url_file` of a block. An address from a file was not seen by the schema."""
    url = secrets.one_of(here, block, "url", needed=True, literal=True)
    if url is not None and block.get("url") is None:
        try:
            schema.Webhook(url=url.get_secret_value())
        except ValidationError as error:
            for one in error.errors(include_url=False):
                found.mistake((*here, "url_file"), explained(one))
    return url


def _apprise(
    found: Document, secrets: Secrets, here: Steps, block: dict[str, Any], name: str
) -> dict[str, Channel]:
    """A channel for each URL: a service that is down must not make the others hear everything again and again."""
    channels: dict[str, Channel] = {}
    known: set[SecretStr] = set()
    schemes: Counter[str] = Counter()
    given = secrets.several(here, block, "urls")
    if len(given) > schema.MOST_URLS:  # of a list in the file itself the schema tells, too
        found.mistake(here, f"more than {schema.MOST_URLS} URLs: name several receivers", at_key=True)
    for path, where, url in given[: schema.MOST_URLS]:
        try:
            scheme = apprise.scheme_of(url)
        except ValueError as error:
            found.mistake(path, f"{where}{error}")
            continue
        if url in known:
            found.mistake(path, f"{where}this URL is there already")
        known.add(url)
        schemes[scheme] += 1
        queue = f"{name}/{scheme}" if schemes[scheme] == 1 else f"{name}/{scheme}-{schemes[scheme]}"
        channels[queue] = apprise.Settings(url, _timeout(block, apprise.DEFAULT_TIMEOUT))
    return channels


def _timeout(block: dict[str, Any], default: timedelta = DEFAULT_TIMEOUT) -> timedelta:
    if "timeout" not in block:
        return default
    try:
        return schema.Webhook(timeout=block["timeout"]).timeout
    except ValidationError:  # the schema tells of it, in its place
        return timedelta(0)
