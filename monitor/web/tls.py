"""TLS as the web configuration of Prometheus' exporters words it, made into what Python's `ssl` has.

Nothing is read from the configuration here, and nothing is accepted from a socket.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor import regular_file

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}

CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""Go's names, and OpenSSL's: for TLS 1.2. Those of TLS 1.3 cannot be chosen, here as in Go."""

_CERTIFICATE = (b"-----BEGIN CERTIFICATE", "holds no certificate in PEM")
_KEY = (b"PRIVATE KEY-----", "holds no private key in PEM")
"""What must stand in a file, and what is said where it does not."""


class TlsError(Exception):
    """TLS cannot be served like this. `key` is the one of `tls_server_config` to mend."""

    def __init__(self, key: str, text: str) -> None:
        self.key = key
        super().__init__(text)


SIZE_LIMIT = 1024 * 1024
"""Bytes of a certificate with its chain, of a key, of the CAs."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `tls_server_config` says. `client_ca_file` None: clients are asked for no certificate."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    client_required: bool = False  # by every guarded route; the handshake only asks for it
    client_allowed_sans: tuple[str, ...] = ()  # none: any certificate that the CA signed
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = ()  # OpenSSL's names; none: its defaults
    prefer_server_ciphers: bool = True


@dataclass(frozen=True, slots=True)
class Tls:
    """What handshakes are made with. A new one is made whenever a file changes: old session tickets end with it."""

    context: ssl.SSLContext
    client_required: bool
    client_allowed_sans: tuple[str, ...]
    trust: str  # changes with the clients' CA, and with what is asked of clients


def load(settings: Settings) -> Tls:
    """Read certificate, key and CA. TlsError when they cannot be used. Blocking."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = settings.min_version, settings.max_version
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not settings.prefer_server_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    if settings.ciphers:
        with _blamed("cipher_suites", "OpenSSL has none of these"):
            context.set_ciphers(":".join(settings.ciphers))
    _load_certificate(context, settings)
    ca = b""
    if settings.client_ca_file is not None:
        ca = _read("client_ca_file", settings.client_ca_file, *_CERTIFICATE)
        with _blamed("client_ca_file", "is damaged"):
            context.load_verify_locations(cadata=ca.decode("ascii", "replace"))
        # Optional, so that health checks need none. Who must have one is told so by the route.
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # what is in that file is trusted, root or not
    asked = repr((settings.client_required, sorted(settings.client_allowed_sans))).encode()
    return Tls(
        context,
        settings.client_required,
        settings.client_allowed_sans,
        hashlib.sha256(ca + asked).hexdigest(),
    )


def _load_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    _read("cert_file", settings.cert_file, *_CERTIFICATE)
    if b"ENCRYPTED" in _read("key_file", settings.key_file, *_KEY):
        raise TlsError("key_file", "is encrypted: nobody is there to give its passphrase")
    try:
        # The empty passphrase: without one, OpenSSL would ask for it on the terminal.
        context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError("key_file", "is not the key of the certificate in cert_file") from None
        if error.reason in {"EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"}:
            raise TlsError(
                "cert_file", "is too weak for OpenSSL: a short key, or signed with SHA-1"
            ) from None
        raise TlsError("cert_file", "is damaged, or what key_file holds is") from None
    except (OSError, ValueError):  # gone since it was looked at
        raise TlsError("cert_file", "cannot be read") from None


def _read(key: str, path: Path, needed: bytes, otherwise: str) -> bytes:
    """The file's content. What is said of it never names it: where keys lie is nobody's business."""
    try:
        content = regular_file.content(path, SIZE_LIMIT)
    except (OSError, ValueError) as error:
        raise TlsError(key, f"cannot be read: {getattr(error, 'strerror', None) or 'no file'}") from None
    if needed not in content:
        raise TlsError(key, otherwise)
    return content


@contextlib.contextmanager
def _blamed(key: str, text: str) -> Iterator[None]:
    try:
        yield
    except (ssl.SSLError, ValueError):
        raise TlsError(key, text) from None


def refused(tls: Tls, certificate: Any) -> str | None:
    """Why a client with this certificate (as `getpeercert` has it; none: None) is refused; None: it is not."""
    if not tls.client_required:
        return None
    if not certificate:
        return "a client certificate is needed"
    if tls.client_allowed_sans and not _names(certificate) & {normal(one) for one in tls.client_allowed_sans}:
        return "this client certificate names nobody who is allowed"
    return None


def _names(certificate: Any) -> set[str]:
    """The subject alternative names of a certificate."""
    return {normal(name) for _, name in certificate.get("subjectAltName", ()) if isinstance(name, str)}


def normal(name: str) -> str:
    """A name as it is compared: exactly as it is, but for the many ways to write an IP address."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(name.strip()))
    return name
