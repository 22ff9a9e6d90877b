"""What one value alone cannot tell: secrets and where they come from, what must be unique, what goes with a channel.

These look at the raw data, so that they speak even when something else is wrong with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from monitor.config import document, schema
from monitor.config.document import Document, Steps
from monitor.config.texts import explained
from monitor.notify import alertmanager, webhook
from monitor.notify.channel import Channel

SECRET_LIMIT = 64 * 1024
"""Bytes of a file with a secret in it."""

_API_KEY = re.compile(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}")


@dataclass(slots=True)
class Secrets:
    """Reads secrets, and remembers which there were and where they came from."""

    document: Document
    folder: Path
    found: list[SecretStr] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)

    def keep(self, value: str) -> SecretStr:
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
        elif needed and value is None and file is None:
            self.document.mistake(
                path, f"missing: give {key}_file, or {key}: ${{NAME}} for an environment variable"
            )
        return None

    def _from_file(self, path: Steps, name: str) -> SecretStr | None:
        if not name.isprintable():
            return None  # the schema tells
        if _API_KEY.fullmatch(Path(name).name) or "://" in name:  # the secret itself: it must not be shown
            self.document.mistake(path, "must be the path of a file; this is what should stand in that file")
            return None
        file = self.folder / name
        # As written, where a variable is in it: people put the secret itself into `*_file: ${NAME}`.
        shown = self.document.from_environment.get(path, file)
        self.sources.append(file)
        try:
            with file.open("rb") as opened:
                content = opened.read(SECRET_LIMIT + 1)
            text = content.decode().strip()
        except OSError as error:
            self.document.mistake(path, f"{shown} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            self.document.mistake(path, f"{shown} is not text")
        else:
            if len(content) > SECRET_LIMIT:
                self.document.mistake(path, f"{shown} is larger than 64 KiB: no secret is")
            elif not text:
                self.document.mistake(path, f"{shown} is empty")
            elif not text.isprintable() or " " in text:
                self.document.mistake(path, f"{shown} must hold one line, without blanks")
            else:
                return self.keep(text)
        return None


def checked(
    found: Document, secrets: Secrets
) -> tuple[list[SecretStr | None], list[Channel | None], SecretStr | None]:
    """The accounts' keys, the receivers' channels, the heartbeat's address; None for what is a mistake."""
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
    channels = [_channel(found, secrets, at, receiver) for at, receiver in receivers]
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


def _channel(found: Document, secrets: Secrets, at: Steps, receiver: dict[str, Any]) -> Channel | None:
    given = [name for name in ("alertmanager", "webhook") if receiver.get(name) is not None]
    if len(given) != 1:
        found.mistake(at, "must have exactly one channel: alertmanager or webhook")
        return None
    [name] = given
    block, here = receiver[name], (*at, name)
    if not isinstance(block, dict):
        return None
    if name == "alertmanager":
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


def _timeout(block: dict[str, Any]) -> timedelta:
    try:
        return schema.Webhook(timeout=block.get("timeout", "10s")).timeout
    except ValidationError:  # the schema tells of it, in its place
        return timedelta(0)
