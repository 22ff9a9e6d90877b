"""The web configuration: TLS, passwords and headers, in the file format of Prometheus' exporters.

What that format has and Python's TLS has not is refused, not passed over: nobody is to rely on it.
https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PlainValidator, SecretStr

from monitor import regular_file
from monitor.config import document
from monitor.config.document import Document, Mistake
from monitor.config.fitting import fitted
from monitor.config.schema import Block
from monitor.config.values import Text, wrong
from monitor.web import Access, passwords, tls

SIZE_LIMIT = 1024 * 1024
"""Bytes."""

EXAMPLE = "deploy/web/web.example.yml"

_NOT_HERE = {
    ("tls_server_config", "cert"): "not here: put the certificate into a file, and name it in cert_file",
    ("tls_server_config", "key"): "not here: put the key into a file, and name it in key_file",
    ("tls_server_config", "client_ca"): "not here: put the CA into a file, and name it in client_ca_file",
    ("tls_server_config", "curve_preferences"): "not here: Python leaves the choice of curves to OpenSSL",
    ("rate_limit",): "not here: wrong passwords and connections are limited without it",
}
"""Keys of the format that we cannot serve, or do otherwise."""

_NEVER_VERIFIED = "not here: Python verifies every certificate that it asks for; take"
_CLIENT_AUTH = {
    "NoClientCert": "",
    "RequestClientCert": f"{_NEVER_VERIFIED} VerifyClientCertIfGiven",
    "RequireAnyClientCert": f"{_NEVER_VERIFIED} RequireAndVerifyClientCert",
    "VerifyClientCertIfGiven": "",
    "RequireAndVerifyClientCert": "",
}

_HEADERS: dict[str, frozenset[str]] = {
    "Content-Security-Policy": frozenset(),
    "Strict-Transport-Security": frozenset(),
    "X-Content-Type-Options": frozenset({"nosniff"}),
    "X-Frame-Options": frozenset({"deny", "sameorigin"}),
    "X-XSS-Protection": frozenset(),
}
"""The headers that the format knows, and their values where they are counted."""


def _client_auth(value: object) -> str:
    why = _CLIENT_AUTH.get(value) if isinstance(value, str) else None
    if why is None:
        raise wrong(f"must be one of {', '.join(name for name, text in _CLIENT_AUTH.items() if not text)}")
    if why:
        raise wrong(why)
    return str(value)


def _version(value: object) -> ssl.TLSVersion:
    if value in {"TLS10", "TLS11"}:
        raise wrong("not here: TLS before 1.2 is broken; write TLS12 or TLS13")
    if not isinstance(value, str) or value not in tls.VERSIONS:
        raise wrong("must be TLS12 or TLS13")
    return tls.VERSIONS[value]


def _cipher(value: object) -> str:
    if not isinstance(value, str) or value not in tls.CIPHERS:
        raise wrong(f"not here; for TLS 1.2 there are {', '.join(sorted(tls.CIPHERS))}")
    return tls.CIPHERS[value]


def _hash(value: object) -> str:
    if not isinstance(value, str):
        raise wrong(passwords.mistake("") or "")
    mistake = passwords.mistake(value)
    if mistake:
        raise wrong(mistake)
    return value


def _user(name: str) -> str:
    if not name or ":" in name or not name.isprintable():
        raise wrong("not a name that can be sent: it must not be empty, nor hold `:` or control characters")
    return name


def _headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        allowed = _HEADERS.get(name)
        if allowed is None:
            raise wrong(f"holds a header that cannot be set; there are {', '.join(sorted(_HEADERS))}")
        if allowed and text not in allowed:
            raise wrong(f"{name} must be {' or '.join(sorted(allowed))}")
        if not text.isascii() or (text and not text.isprintable()):
            raise wrong(f"{name} must be printable ASCII, on one line")
    return value


class _TlsServer(Block):
    """How TLS is served."""

    cert_file: Text
    key_file: Text
    client_auth_type: Annotated[str, PlainValidator(_client_auth)] = "NoClientCert"
    client_ca_file: Text | None = None
    client_allowed_sans: Annotated[list[Text], Field(min_length=1)] | None = None
    min_version: Annotated[ssl.TLSVersion, PlainValidator(_version)] = ssl.TLSVersion.TLSv1_2
    max_version: Annotated[ssl.TLSVersion, PlainValidator(_version)] = ssl.TLSVersion.TLSv1_3
    cipher_suites: list[Annotated[str, PlainValidator(_cipher)]] | None = None
    prefer_server_cipher_suites: bool = True


class _HttpServer(Block):
    """How HTTP is served: always 1.1."""

    http2: bool = False
    headers: Annotated[dict[str, str], AfterValidator(_headers)] | None = None


class _File(Block):
    """The whole file."""

    tls_server_config: _TlsServer | None = None
    http_server_config: _HttpServer = _HttpServer()
    basic_auth_users: (
        Annotated[
            dict[Annotated[str, AfterValidator(_user)], Annotated[str, PlainValidator(_hash)]],
            Field(min_length=1),
        ]
        | None
    ) = None


@dataclass(frozen=True, slots=True)
class WebFile:
    """What was read: usable when there are no mistakes."""

    path: Path
    access: Access
    mistakes: tuple[Mistake, ...] = ()
    secrets: tuple[SecretStr, ...] = ()  # hashes, and where the key lies
    sources: tuple[Path, ...] = ()


def read(path: Path) -> WebFile:
    """Read a web configuration and the files it names, relative to it. Nothing is raised."""
    try:
        content = regular_file.content(path, SIZE_LIMIT)
    except (OSError, ValueError) as error:
        text = f"cannot be read: {getattr(error, 'strerror', None) or 'no file has such a name'}"
        return WebFile(path, Access(), (Mistake(1, 1, "", text),), sources=(path,))
    found = document.parse(content, None, example=EXAMPLE)
    _set_apart(found)
    file = fitted(_File, found)
    if file is None:
        return WebFile(path, Access(), tuple(sorted(set(found.mistakes))), sources=(path,))
    block, users = file.tls_server_config, file.basic_auth_users or {}
    settings = None if block is None else _tls(found, block, path.parent)
    made = None
    if settings is not None and not found.mistakes:
        try:
            made = tls.load(settings)
        except tls.TlsError as error:
            found.mistake(("tls_server_config", error.key), str(error))
    named = () if settings is None else (settings.cert_file, settings.key_file, settings.client_ca_file)
    secrets = [*users.values(), *([str(settings.key_file)] if settings else [])]
    return WebFile(
        path,
        Access(made, users, file.http_server_config.headers or {}),
        tuple(sorted(set(found.mistakes))),
        tuple(map(SecretStr, secrets)),
        (path, *(one for one in named if one is not None)),
    )


def _set_apart(found: Document) -> None:
    """Tell of what is not here and of what is left empty, and take it out."""
    if not isinstance(found.data, dict):
        return
    for path, text in _NOT_HERE.items():
        holder = found.data if len(path) == 1 else found.data.get(path[0])
        if isinstance(holder, dict) and path[-1] in holder:
            found.mistake(path, text, at_key=True)
            del holder[path[-1]]
    for key, value in found.data.items():
        if value is None and key in _File.model_fields:
            # A list of users that somebody commented out must not open the door.
            found.mistake((key,), "is empty: fill it, or leave the key out", at_key=True)


def _tls(found: Document, block: _TlsServer, folder: Path) -> tls.Settings:
    at = ("tls_server_config",)
    asked = block.client_auth_type != "NoClientCert"
    required = block.client_auth_type == "RequireAndVerifyClientCert"
    if asked and block.client_ca_file is None:
        found.mistake(
            (*at, "client_auth_type"), "needs client_ca_file: who is to have signed the certificates?"
        )
    if not asked and block.client_ca_file is not None:
        found.mistake(
            (*at, "client_ca_file"),
            "needs client_auth_type: RequireAndVerifyClientCert, or VerifyClientCertIfGiven",
            at_key=True,
        )
    if block.client_allowed_sans is not None and not required:
        found.mistake(
            (*at, "client_allowed_sans"), "needs client_auth_type: RequireAndVerifyClientCert", at_key=True
        )
    if block.min_version > block.max_version:
        found.mistake((*at, "min_version"), "is above max_version")
    return tls.Settings(
        folder / block.cert_file,
        folder / block.key_file,
        None if block.client_ca_file is None or not asked else folder / block.client_ca_file,
        required,
        tuple(block.client_allowed_sans or ()),
        block.min_version,
        block.max_version,
        tuple(block.cipher_suites or ()),
        block.prefer_server_cipher_suites,
    )
