"""The HTTP surface behind a web configuration: certificates, hashes at the least cost, and who asks."""

from __future__ import annotations

import asyncio
import base64
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass

import bcrypt
import trustme
import yaml
from samples import NOW
from test_web import Daemon

from monitor import web
from monitor.config import web_file
from monitor.metrics import Instruments

PASSWORD = "correct horse battery staple"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
AUTHORITY = trustme.CA()
STRANGERS = trustme.CA()


def basic(name="prometheus", password=PASSWORD):
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def write_certificate(folder, *names, authority=AUTHORITY):
    """`cert.pem` and `key.pem` for these names."""
    issued = authority.issue_cert(*(names or ("localhost", "127.0.0.1")))
    folder.joinpath("key.pem").write_bytes(issued.private_key_pem.bytes())
    folder.joinpath("cert.pem").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    return issued


def write_web(folder, *, users=None, tls=None, headers=None, authority=AUTHORITY):
    """`web.yml`, and what it names. `tls`: more keys than the certificate."""
    document = {}
    if tls is not None:
        if not folder.joinpath("cert.pem").exists():
            write_certificate(folder)
        folder.joinpath("ca.pem").write_bytes(authority.cert_pem.bytes())
        document["tls_server_config"] = {"cert_file": "cert.pem", "key_file": "key.pem"} | tls
    if users is not None:
        document["basic_auth_users"] = users
    if headers is not None:
        document["http_server_config"] = {"headers": headers}
    path = folder / "web.yml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def client_context(issued=None, authority=AUTHORITY):
    made = ssl.create_default_context()
    authority.configure_trust(made)
    if issued is not None:
        issued.configure_cert(made)
    return made


@dataclass
class Door:
    """What serves, and a clock for its limits that stands still."""

    serving: web.Serving
    daemon: Daemon
    now: float = 0.0

    @property
    def port(self):
        return self.serving.addresses[0][1]

    @property
    def connections(self):
        return self.serving._connections

    @property
    def passwords(self):
        return self.serving._guard._passwords

    def use(self, path):
        self.serving.use(access(path))

    async def knock(self, *, tls=None, name="localhost", source="127.0.0.1"):
        """A connection; `tls` is a client's context."""
        return await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=tls,
            server_hostname=name if tls else None,
            local_addr=(source, 0),
        )

    async def ask(self, path="/metrics", method="GET", headers=None, **how):
        """One request on a connection of its own: status, headers, body."""
        reader, writer = await self.knock(**how)
        try:
            return await say(reader, writer, path, method, (headers or {}) | {"Connection": "close"})
        finally:
            writer.close()


async def say(reader, writer, path="/metrics", method="GET", headers=None, body=b""):
    """A request on this connection: status, headers, body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()
    return await heard(reader)


async def heard(reader):
    """An answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    found = {}
    for line in head[1:-2]:
        name, _, value = line.partition(": ")
        found[name.title()] = value
    content = await reader.readexactly(int(found.get("Content-Length", "0")))
    return int(head[0].split()[1]), found, content.decode()


def access(path):
    read = web_file.read(path)
    assert not read.mistakes
    return read.access


@asynccontextmanager
async def opened(given=None, *, daemon=None, **settings):
    """The surface behind this web configuration, or behind none."""
    daemon = daemon or Daemon()
    serving = await web.serve(
        web.Settings(**{"host": "127.0.0.1", "port": 0} | settings),
        daemon,
        Instruments(endpoints=(), send_failures=(), now=NOW),
        web.Access() if given is None else access(given),
    )
    serving.open()
    door = Door(serving, daemon)
    serving._guard._passwords._clock = lambda: door.now
    try:
        yield door
    finally:
        await serving.cleanup()
