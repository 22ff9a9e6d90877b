"""How commands present themselves to a daemon behind TLS and passwords: the file format of Prometheus' HTTP clients.

Only standard modules until there is such a file: the health check must be quick.
https://prometheus.io/docs/prometheus/latest/configuration/configuration/#http_config
"""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

_KEYS: dict[str, dict[str, type]] = {
    "basic_auth": {"username": str, "password": str, "password_file": str},
    "tls_config": {
        "ca_file": str,
        "cert_file": str,
        "key_file": str,
        "server_name": str,
        "insecure_skip_verify": bool,
    },
}


def _introduce(_: click.Context, __: click.Parameter, path: Path | None) -> None:
    from monitor import remote

    if path is None:
        remote.introduce(None, None)
    else:
        settings = read(path)
        remote.introduce(settings.authorization, context(settings))


http_config_file = click.option(
    "--http.config.file",
    envvar="BATCH_MONITOR_HTTP_CONFIG_FILE",
    show_envvar=True,
    type=click.Path(path_type=Path, dir_okay=False),
    expose_value=False,
    callback=_introduce,
    help="Password and TLS, in the format of Prometheus' HTTP clients (basic_auth, tls_config).",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file says."""

    authorization: str | None = field(default=None, repr=False)  # the header
    ca_file: Path | None = None  # None: the system's
    cert_file: Path | None = None  # what we show of ourselves
    key_file: Path | None = None
    server_name: str | None = None  # None: the URL's
    insecure_skip_verify: bool = False


def read(path: Path) -> Settings:
    """Read the file; click.UsageError when something is wrong with it."""
    import yaml

    try:
        data = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise click.UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError):
        # What the parser says may quote the password.
        raise click.UsageError(f"{path}: not YAML") from None
    blocks = _checked(path, data)
    tls, folder = blocks["tls_config"], path.parent
    files = {key: folder / tls[key] for key in ("ca_file", "cert_file", "key_file") if tls.get(key)}
    return Settings(
        _authorization(path, blocks["basic_auth"]),
        **files,
        server_name=tls.get("server_name"),
        insecure_skip_verify=tls.get("insecure_skip_verify", False),
    )


def _checked(path: Path, data: Any) -> dict[str, dict[str, Any]]:
    """Both blocks, with the keys and types that belong there."""
    if not isinstance(data, dict):
        raise click.UsageError(f"{path}: must be a map of `key: value`: {', '.join(_KEYS)}")
    blocks: dict[str, dict[str, Any]] = {name: {} for name in _KEYS}
    for name, block in data.items():
        if name not in _KEYS:
            raise click.UsageError(f"{path}: {name}: not known here; there are {', '.join(_KEYS)}")
        if not isinstance(block, dict):
            raise click.UsageError(f"{path}: {name}: must be a map of `key: value`")
        for key, value in block.items():
            kind = _KEYS[name].get(key)
            if kind is None:
                raise click.UsageError(
                    f"{path}: {name}.{key}: not known here; there are {', '.join(_KEYS[name])}"
                )
            if not isinstance(value, kind):
                raise click.UsageError(
                    f"{path}: {name}.{key}: must be {'true or false' if kind is bool else 'text: put it in quotes'}"
                )
        blocks[name] = block
    return blocks


def _authorization(path: Path, block: dict[str, Any]) -> str | None:
    if not block:
        return None
    if ("password" in block) == ("password_file" in block):
        raise click.UsageError(f"{path}: basic_auth: give password or password_file, one of them")
    password = block.get("password")
    if password is None:
        try:
            password = (path.parent / block["password_file"]).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise click.UsageError(
                f"{path}: basic_auth.password_file: cannot be read: {getattr(error, 'strerror', None) or 'not text'}"
            ) from None
    given = f"{block.get('username', '')}:{password}".encode()
    return f"Basic {base64.b64encode(given).decode()}"


class _Named(ssl.SSLContext):
    """Expects a certificate of this name, whatever the URL says: `urllib` has no other way."""

    name: str | None = None

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(
            *arguments, **options | ({"server_hostname": self.name} if self.name else {})
        )


def context(settings: Settings) -> ssl.SSLContext:
    """What TLS is spoken with; click.UsageError when a file cannot be used."""
    made = _Named(ssl.PROTOCOL_TLS_CLIENT)
    made.name = settings.server_name
    if settings.insecure_skip_verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    try:
        if settings.ca_file is None:
            made.load_default_certs()
        else:
            made.load_verify_locations(settings.ca_file)
    except (OSError, ValueError):
        raise click.UsageError("tls_config.ca_file: cannot be read, or holds no certificate in PEM") from None
    if settings.cert_file is not None or settings.key_file is not None:
        try:
            made.load_cert_chain(settings.cert_file or "", settings.key_file, password="")
        except (OSError, ValueError):
            raise click.UsageError(
                "tls_config: cert_file and key_file cannot be read, or do not belong together"
            ) from None
    return made
