"""Where requests go: certificates are verified, own authorities are believed, proxies are those of the environment.

A real TLS server with an authority of its own, whose keys openssl makes for the occasion; a small proxy on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from outward import TAKEN
from pretend_api import SECRET, PretendApi, following, listing, serve

from monitor import proxy
from monitor.clock import utc_now
from monitor.model import BatchKey, CallStatus, FailureReason
from monitor.ultravox import UltravoxError

ACCOUNT = {"name": "main", "activeCalls": 1, "allowedConcurrentCalls": None}
KINDS = ("api", "webhook", "alertmanager", "heartbeat")
NO_TLS = {
    "api": "account main: accounts_me: its certificate is not accepted, or it speaks no TLS",
    "webhook": "crm: no TLS connection: its certificate is not accepted, or it speaks no TLS",
    "alertmanager": "crm: no TLS connection: its certificate is not accepted, or it speaks no TLS",
    "heartbeat": "connection",
    "apprise": "crm: no TLS connection: its certificate is not accepted, or it speaks no TLS",
}


def addresses(url: str) -> dict[str, list[str]]:
    return {kind: [url] for kind in KINDS}


async def outward(asked, **environ) -> dict[str, dict[str, str]]:
    """What comes of these, in a process with this environment."""
    plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("outward.py")), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=plain | environ,
    )  # fmt: skip
    printed, complaints = await process.communicate(json.dumps(asked).encode())
    assert process.returncode == 0, complaints.decode()
    return json.loads(printed)


# TLS

CERTIFICATES = """
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=own -addext basicConstraints=critical,CA:TRUE
openssl req -x509 -newkey rsa:2048 -nodes -keyout other-ca.key -out other-ca.pem -days 30 -subj /CN=other -addext basicConstraints=critical,CA:TRUE
openssl req -newkey rsa:2048 -nodes -keyout localhost.key -out localhost.csr -subj /CN=localhost
printf subjectAltName=DNS:localhost > names
openssl x509 -req -in localhost.csr -CA ca.pem -CAkey ca.key -out localhost.pem -days 30 -extfile names
openssl x509 -req -in localhost.csr -CA other-ca.pem -CAkey other-ca.key -out other.pem -days 30 -extfile names
openssl x509 -req -in localhost.csr -CA ca.pem -CAkey ca.key -out expired.pem -days -1 -extfile names
openssl req -x509 -key localhost.key -out self.pem -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost
mkdir folder && cp ca.pem folder/ && openssl rehash folder
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Those of a server called localhost: by our authority, by another, expired, by itself."""
    folder = tmp_path_factory.mktemp("tls")
    made = subprocess.run(
        ["sh", "-e"], input=CERTIFICATES, cwd=folder, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return folder


@contextlib.asynccontextmanager
async def tls_server(folder, certificate):
    """Answers every request well; yields its port and the requests it understood."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / f"{certificate}.pem", folder / "localhost.key")
    heard = []

    async def answer(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            body = json.dumps(ACCOUNT).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], heard
    server.close()


BELIEVED = {
    "by our authority, in a file": ("localhost", "localhost", "file", True),
    "by our authority, in a folder": ("localhost", "localhost", "folder", True),
    "by our authority, which nobody named": ("localhost", "localhost", "", False),
    "for another host": ("localhost", "127.0.0.1", "file", False),
    "by another authority": ("other", "localhost", "file", False),
    "by itself": ("self", "localhost", "file", False),
    "expired": ("expired", "localhost", "file", False),
}


@pytest.mark.hostile
@pytest.mark.parametrize(("certificate", "host", "where", "believed"), BELIEVED.values(), ids=BELIEVED)
async def test_a_certificate_is_believed_or_nothing_is_sent(certificates, certificate, host, where, believed):
    places = {"file": {"SSL_CERT_FILE": "ca.pem"}, "folder": {"SSL_CERT_DIR": "folder"}, "": {}}[where]
    environ = {name: str(certificates / path) for name, path in places.items()}
    async with tls_server(certificates, certificate) as (port, heard):
        asked = addresses(f"https://{host}:{port}")
        found = await outward(asked, **environ)
    for kind in KINDS:
        assert list(found[kind].values()) == [TAKEN if believed else NO_TLS[kind]], kind
    assert len(heard) == (len(KINDS) if believed else 0)


@pytest.mark.hostile
async def test_apprise_verifies_and_believes_an_authority_that_is_named_to_requests(certificates):
    """It brings a list of authorities of its own, so that SSL_CERT_FILE is not enough: REQUESTS_CA_BUNDLE."""
    async with tls_server(certificates, "localhost") as (port, heard):
        asked = {"apprise": [f"jsons://localhost:{port}/x"]}
        refused = await outward(asked, SSL_CERT_FILE=str(certificates / "ca.pem"))
        assert list(refused["apprise"].values()) == [NO_TLS["apprise"]]
        assert heard == []
        taken = await outward(asked, REQUESTS_CA_BUNDLE=str(certificates / "ca.pem"))
        assert list(taken["apprise"].values()) == [TAKEN]


# Proxies


class Proxy:
    """Passes on to `to`, whatever it is asked for, or refuses; remembers what it was asked."""

    def __init__(self, to: str = "", refusal: bytes = b"") -> None:
        self.to, self.refusal = to, refusal
        self.heads: list[bytes] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return f"http://me:p4ss-word@127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader, writer) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            if self.refusal:
                writer.write(self.refusal)
                await writer.drain()
            else:
                inward, outward = await asyncio.open_connection(*self.to.split(":"))
                if head.startswith(b"CONNECT "):
                    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    outward.write(head)
                await asyncio.gather(self._pass(reader, outward), self._pass(inward, writer))
        writer.close()

    @staticmethod
    async def _pass(reader, writer) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def proxies():
    started = []

    async def start(**options):
        made = Proxy(**options)
        started.append(made)
        return made, await made.start()

    yield start
    for one in started:
        one.stop()


@pytest.fixture
async def plain_server():
    from aiohttp import web

    async def answer(request):
        return web.json_response(ACCOUNT)

    runner, url = await serve(answer)
    yield url.removeprefix("http://")
    await runner.cleanup()


@pytest.mark.hostile
async def test_http_goes_through_the_proxy_of_the_environment(proxies, plain_server, tmp_path):
    """And nothing out of ~/.netrc goes anywhere."""
    (tmp_path / ".netrc").write_text("default login somebody password n3trc-password\n")
    (tmp_path / ".netrc").chmod(0o600)
    between, address = await proxies(to=plain_server)
    found = await outward(
        addresses("http://far.example/x"),
        http_proxy=address,
        HOME=str(tmp_path),
        NETRC=str(tmp_path / ".netrc"),
    )
    assert [list(found[kind].values()) for kind in KINDS] == [[TAKEN]] * len(KINDS)
    for head in between.heads:
        assert b"http://far.example/x" in head.split(b"\r\n")[0]
        assert b"Proxy-Authorization: Basic bWU6cDRzcy13b3Jk" in head
        assert b"\r\nAuthorization:" not in head


@pytest.mark.hostile
async def test_https_goes_through_a_tunnel_which_hears_no_key(proxies, certificates):
    async with tls_server(certificates, "localhost") as (port, heard):
        between, address = await proxies(to=f"127.0.0.1:{port}")
        environ = {"HTTPS_PROXY": address, "SSL_CERT_FILE": str(certificates / "ca.pem")}
        found = await outward(addresses(f"https://localhost:{port}"), **environ)
    assert [list(found[kind].values()) for kind in KINDS] == [[TAKEN]] * len(KINDS)
    assert len(heard) == len(between.heads) == len(KINDS)
    for head in between.heads:
        assert head.startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % port)
        assert b"X-API-Key" not in head


@pytest.mark.hostile
async def test_a_certificate_is_verified_through_a_tunnel_too(proxies, certificates):
    async with tls_server(certificates, "other") as (port, heard):
        _, address = await proxies(to=f"127.0.0.1:{port}")
        environ = {"HTTPS_PROXY": address, "SSL_CERT_FILE": str(certificates / "ca.pem")}
        found = await outward(addresses(f"https://localhost:{port}"), **environ)
    assert [list(found[kind].values()) for kind in KINDS] == [[NO_TLS[kind]] for kind in KINDS]
    assert heard == []


@pytest.mark.hostile
async def test_no_proxy_where_the_environment_says_so(proxies, plain_server):
    between, address = await proxies(to=plain_server)
    found = await outward(
        addresses(f"http://{plain_server}"), http_proxy=address, no_proxy="127.0.0.1,.internal"
    )
    assert [list(found[kind].values()) for kind in KINDS] == [[TAKEN]] * len(KINDS)
    assert between.heads == []


@pytest.mark.hostile
async def test_a_proxy_that_refuses_or_is_not_there_is_said_to(proxies):
    _, refusing = await proxies(
        refusal=b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    )
    gone, absent = await proxies()
    gone.stop()
    asked = {"api": ["https://far.example"], "webhook": ["https://far.example"]}
    found = await outward(asked, https_proxy=refusing)
    assert list(found["api"].values()) == ["account main: accounts_me: the proxy refuses it (HTTP 407)"]
    assert list(found["webhook"].values()) == ["crm: the proxy refuses it with 407"]
    found = await outward(asked, https_proxy=absent)
    assert list(found["api"].values()) == ["account main: accounts_me: no connection to the proxy"]
    assert list(found["webhook"].values()) == ["crm: no connection to the proxy"]


PROXIES = {
    # environment, address, proxy
    "none": ({}, "http://a.example", None),
    "for http": ({"http_proxy": "http://p:1"}, "http://a.example", "http://p:1"),
    "not for https": ({"http_proxy": "http://p:1"}, "https://a.example", None),
    "in capital letters": ({"HTTPS_PROXY": "http://p:1"}, "https://a.example", "http://p:1"),
    "without a scheme": ({"https_proxy": "me:pass@p:1"}, "https://a.example", "http://me:pass@p:1"),
    "not for this host": ({"http_proxy": "http://p:1", "no_proxy": "a.example"}, "http://a.example/x", None),
    "not below this domain": (
        {"http_proxy": "http://p:1", "no_proxy": ".example"},
        "http://u:p@a.example:81",
        None,
    ),
    "for nobody": ({"http_proxy": "http://p:1", "no_proxy": "*"}, "http://a.example", None),
    "an address that is none": ({"http_proxy": "http://p:1"}, "http://[::", None),
}


@pytest.mark.parametrize(("environ", "address", "expected"), PROXIES.values(), ids=PROXIES)
def test_which_proxy(monkeypatch, environ, address, expected):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy.proxy_for(address) == expected


# Redirects, and addresses that answers name

LISTS = {
    "batches": lambda client: client.list_batches("a"),
    "calls": lambda client: client.list_calls(BatchKey("a", "b"), CallStatus.ERROR),
    "agents": lambda client: client.list_agents(),
    "throttles": lambda client: client.get_throttles(),
}
ELSEWHERE = (
    "{other}/api/agents",
    "http://user:password@{place}/",
    "//{place}/",
    "https://{place}/",
    "file:///etc/passwd",
    "ftp://{place}/",
    "{own}/../../api/accounts/me",
    "\\\\{place}\\",
    "http:{other}",
    "javascript:alert(1)",
)


async def read(asking):
    return [one async for one in asking] if hasattr(asking, "__aiter__") else await asking


@pytest.mark.parametrize("name", LISTS)
async def test_no_list_s_next_page_takes_the_key_elsewhere(name):
    api, other = PretendApi(), PretendApi()
    await api.start()
    await other.start()
    place = other.url.removeprefix("http://")
    for address in ELSEWHERE:
        base = address.format(other=other.url, place=place, own=api.url)
        api.answer, api.asked = (
            listing([], [], next_page=lambda cursor, base=base: following(cursor, base)),
            [],
        )
        await read(LISTS[name](api.client()))
        assert len({request.path for request in api.asked}) == 1
        assert [request.query.get("cursor") for request in api.asked] == [None, "page-1"]
    assert other.asked == []
    await api.stop()
    await other.stop()


@pytest.mark.parametrize("name", [*LISTS, "batch", "account", "outcomes"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_of_the_api_is_followed(name, status):
    from aiohttp import web

    api, other = PretendApi(), PretendApi()
    await api.start()
    await other.start()
    alone = {
        "batch": lambda client: client.get_batch(BatchKey("a", "b")),
        "account": lambda client: client.get_account(),
        "outcomes": lambda client: client.get_outcomes(BatchKey("a", "b")),
    }
    api.answer = lambda _: web.Response(status=status, headers={"Location": f"{other.url}/{SECRET}"})
    with pytest.raises(UltravoxError, match="a redirect, which is not followed") as caught:
        await read((LISTS | alone)[name](api.client(clock=utc_now)))
    assert caught.value.reason is FailureReason.CLIENT_ERROR
    assert SECRET not in str(caught.value)
    assert (len(api.asked), other.asked) == (1, [])
    await api.stop()
    await other.stop()
