"""How commands reach a daemon: its address, and what it asks of clients, in the file format of Prometheus' HTTP clients.

Only standard modules until there is such a file: the health check must be quick.
https://prometheus.io/docs/prometheus/latest/configuration/configuration/#http_config
"""

from __future__ import annotations

import base64
import ssl
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from monitor.cli.shared import fail

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
_REMEMBERED = f"{__name__}.file"


def _remember(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    context.meta[_REMEMBERED] = path


_URL = click.option(
    "--url",
    envvar="BATCH_MONITOR_URL",
    default="http://localhost:10042",
    show_default=True,
    show_envvar=True,
    help="Where the daemon answers.",
)
_HTTP_CONFIG_FILE = click.option(
    "--http.config.file",
    envvar="BATCH_MONITOR_HTTP_CONFIG_FILE",
    show_envvar=True,
    type=click.Path(path_type=Path, dir_okay=False),
    expose_value=False,
    callback=_remember,
    help="Password and TLS, in the format of Prometheus' HTTP clients (basic_auth, tls_config).",
)


def daemon_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--url`, which the command gets, and `--http.config.file`, which `ask` looks up."""
    return _URL(_HTTP_CONFIG_FILE(command))


def ask(request: urllib.request.Request | str, *, timeout: float, proxies: bool = True) -> Any:
    """The answer, as `urlopen` has it. `proxies`: through those of the environment, if there are any."""
    path = click.get_current_context().meta.get(_REMEMBERED)
    settings = Settings() if path is None else read(path)
    if isinstance(request, str):
        request = urllib.request.Request(request)  # noqa: S310 - whose scheme the caller has looked at
    if settings.authorization is not None:
        request.add_unredirected_header("Authorization", settings.authorization)  # for this address alone
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context(settings))]
    if not proxies:
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers).open(request, timeout=timeout)


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
    """Read the file; ends the command when something is wrong with it."""
    import yaml

    try:
        data = yaml.safe_load(path.read_bytes())
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}")
    except (yaml.YAMLError, UnicodeDecodeError, ValueError):
        fail(f"{path}: not YAML")  # what the parser says may quote the password
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
        fail(f"{path}: must be a map of `key: value`: {', '.join(_KEYS)}")
    blocks: dict[str, dict[str, Any]] = {name: {} for name in _KEYS}
    for name, block in data.items():
        if name not in _KEYS:
            fail(f"{path}: {name}: not known here; there are {', '.join(_KEYS)}")
        if not isinstance(block, dict):
            fail(f"{path}: {name}: must be a map of `key: value`")
        for key, value in block.items():
            kind = _KEYS[name].get(key)
            if kind is None:
                fail(f"{path}: {name}.{key}: not known here; there are {', '.join(_KEYS[name])}")
            if not isinstance(value, kind):
                fail(
                    f"{path}: {name}.{key}: must be {'true or false' if kind is bool else 'text: put it in quotes'}"
                )
        blocks[name] = block
    return blocks


def _authorization(path: Path, block: dict[str, Any]) -> str | None:
    if not block:
        return None
    if ("password" in block) == ("password_file" in block):
        fail(f"{path}: basic_auth: give password or password_file, one of them")
    password = block.get("password")
    if password is None:
        try:
            password = (path.parent / block["password_file"]).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            fail(
                f"{path}: basic_auth.password_file: cannot be read: {getattr(error, 'strerror', None) or 'not text'}"
            )
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
    """What TLS is spoken with; ends the command when a file cannot be used."""
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
        fail("tls_config.ca_file: cannot be read, or holds no certificate in PEM")
    if settings.cert_file is not None or settings.key_file is not None:
        try:
            made.load_cert_chain(settings.cert_file or "", settings.key_file, password="")
        except (OSError, ValueError):
            fail("tls_config: cert_file and key_file cannot be read, or do not belong together")
    return made
