"""What secrets look like once they stand in a text, and the text without them.

A secret seldom arrives as it was written: it is part of a URL, encoded for one, quoted by JSON or by Python,
or in base64 for a header. Each of these forms is looked for. Pure; costs a search per form and text.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote, urlsplit

REDACTED = "<redacted>"

_MIN_SECRET = 4
"""Shorter "secrets" would blank out half of every text; none that guards anything is that short."""

_MIN_TOKEN = 8
_LONG_TOKEN = 20
"""Parts of a secret are one, too, when they look like it: of eight characters with a digit, or of twenty."""

_MIN_BASE64 = 8
"""Shorter pieces of base64 stand in any text by chance."""


class Redactor:
    """Replaces secrets in texts. What was hidden once stays hidden."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._forms: tuple[str, ...] = ()
        self._told: set[str] = set()

    def hide(self, secrets: Iterable[str]) -> None:
        """Replace these in every text from now on."""
        told = {secret for secret in secrets if secret not in self._told}
        self._told |= told
        new = {form for secret in told for part in _parts(secret) for form in _forms(part)}
        if not new <= self._known:
            self._known |= new
            self._forms = ()  # put in order when they are needed: secrets come one by one

    def redact(self, text: str) -> str:
        """The text, secrets replaced."""
        if not self._forms:
            # The longest first: a secret that contains another must not leave its rest behind.
            self._forms = tuple(sorted(self._known, key=lambda form: (-len(form), form)))
        for form in self._forms:
            if form in text:
                text = text.replace(form, REDACTED)
        return text


def _parts(secret: str) -> Iterator[str]:
    """The secret, and those of its parts that are secrets by themselves."""
    secret = secret.strip()
    if len(secret) >= _MIN_SECRET:
        yield secret
    if "://" in secret:
        yield from _parts_of_url(secret)
    elif not secret.startswith("/"):  # the folders of a path are no secrets
        yield from (piece for piece in re.split(r"[^A-Za-z0-9_-]+", secret) if len(piece) >= _LONG_TOKEN)


def _parts_of_url(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket without its other half
        return
    userinfo, at, host = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    if at:
        yield from (one for one in (userinfo, unquote(userinfo)) if len(one) >= _MIN_SECRET)
    yield from (one for one in (password, unquote(password)) if len(one) >= _MIN_SECRET)
    # Of an Apprise URL, the first token stands where others have a host.
    named = [user] if parts.scheme in {"http", "https"} else [user, *re.split(r"[:.]", host)]
    values = [value for pair in parts.query.split("&") for value in pair.split("=")]
    tokens = [*named, *parts.path.split("/"), *values, parts.fragment]
    yield from (one for token in tokens for one in (token, unquote(token)) if _is_token(one))


def _is_token(text: str) -> bool:
    return len(text) >= _LONG_TOKEN or (len(text) >= _MIN_TOKEN and any(char.isdigit() for char in text))


def _forms(secret: str) -> set[str]:
    """Every way in which it may stand in a text."""
    raw = secret.encode(errors="surrogateescape")
    written = {
        secret,
        quote(secret, safe="", errors="surrogateescape"),
        quote(secret, safe="/:?&=@", errors="surrogateescape"),
        quote_plus(secret, errors="surrogateescape"),
        html.escape(secret),
    }
    written |= {re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), one) for one in written}
    quoted = written | {repr(one)[1:-1] for one in written} | {repr(raw)[2:-1]}
    for _ in range(2):  # JSON, and JSON that is quoted in JSON, as in a log line
        quoted |= {json.dumps(one, ensure_ascii=ascii_)[1:-1] for one in quoted for ascii_ in (True, False)}
    return quoted | set(_in_base64(raw))


def _in_base64(raw: bytes) -> Iterator[str]:
    """By itself, and wherever it stands in what was encoded: those characters that no neighbour changes."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).decode()
        inside = encoded[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]
        for text in (inside, inside.translate(str.maketrans("+/", "-_"))):
            if len(text) >= _MIN_BASE64:
                yield text
