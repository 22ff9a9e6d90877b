"""Commands that ask a daemon behind TLS and passwords, and the file that tells them how."""

from __future__ import annotations

import asyncio
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from doors import AUTHORITY, HASH, PASSWORD, STRANGERS, opened, write_certificate, write_web

from monitor.cli import cli, http_client
from monitor.config import web_file
from monitor.web import access, connection, connections, passwords

ROOT = Path(__file__).parent.parent

MUTUAL = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
RIGHT = {"username": "prometheus", "password": PASSWORD}
NOT_PROXIED = {"no_proxy": "*"}


async def run(*arguments, **environ):
    """The command in a thread: the daemon is on this loop."""
    return await asyncio.to_thread(
        CliRunner().invoke, cli, arguments, env=NOT_PROXIED | environ, prog_name="batch-monitor"
    )


@pytest.fixture
def client_file(tmp_path):
    """`http.yml` in a folder with a CA, and a certificate of the command's own."""
    folder = tmp_path / "client"
    folder.mkdir()
    write_certificate(folder, "operator@example.org")
    folder.joinpath("ca.pem").write_bytes(AUTHORITY.cert_pem.bytes())
    folder.joinpath("strangers.pem").write_bytes(STRANGERS.cert_pem.bytes())
    folder.joinpath("password").write_text(PASSWORD + "\n")
    folder.joinpath("garbage").write_bytes(b"\xff\xfe")

    def write(document):
        path = folder / "http.yml"
        path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
        return str(path)

    return write


CA = {"ca_file": "ca.pem"}
OWN = {"cert_file": "cert.pem", "key_file": "key.pem"}
OUTCOMES = [
    ("a password", {"basic_auth": RIGHT, "tls_config": CA | OWN}, None),
    (
        "from a file",
        {"basic_auth": {"username": "prometheus", "password_file": "password"}, "tls_config": CA | OWN},
        None,
    ),
    ("not looking", {"basic_auth": RIGHT, "tls_config": OWN | {"insecure_skip_verify": True}}, None),
    ("no password", {"tls_config": CA | OWN}, "a name and a password are needed"),
    (
        "a wrong one",
        {"basic_auth": RIGHT | {"password": "wrong"}, "tls_config": CA | OWN},
        "the name or the password is wrong",
    ),
    ("no certificate", {"basic_auth": RIGHT, "tls_config": CA}, "a client certificate is needed"),
    ("no authority", {"basic_auth": RIGHT, "tls_config": OWN}, "certificate verify failed"),
    ("another authority", {"tls_config": {"ca_file": "strangers.pem"}}, "certificate verify failed"),
    (
        "another name",
        {"tls_config": CA | {"server_name": "other.example"}},
        "certificate is not valid for 'other.example'",
    ),
]


@pytest.mark.parametrize(
    ("document", "error"), [row[1:] for row in OUTCOMES], ids=[row[0] for row in OUTCOMES]
)
async def test_what_comes_of_asking(tmp_path, client_file, document, error):
    async with opened(write_web(tmp_path, tls=MUTUAL, users={"prometheus": HASH})) as door:
        found = await run(
            "explain",
            "3c90",
            "--url",
            f"https://localhost:{door.port}",
            "--http.config.file",
            client_file(document),
        )
        assert found.exit_code == (0 if error is None else 1), found.output
        assert (error or "spring-renewals") in found.output
        assert PASSWORD not in found.output


async def test_the_name_that_is_expected_may_be_another_than_that_of_the_url(tmp_path, client_file):
    write_certificate(tmp_path, "monitor.example")
    async with opened(write_web(tmp_path, tls={})) as door:
        ask = ("explain", "3c90", "--url", f"https://127.0.0.1:{door.port}", "--http.config.file")
        assert (await run(*ask, client_file({"tls_config": CA}))).exit_code == 1
        named = client_file({"tls_config": CA | {"server_name": "monitor.example"}})
        assert (await run(*ask, named)).exit_code == 0


@pytest.mark.parametrize("command", [("status",), ("explain", "3c90"), ("healthcheck",)])
async def test_every_command_knows_the_file_and_the_environment(tmp_path, client_file, command):
    async with opened(write_web(tmp_path, tls={}, users={"prometheus": HASH})) as door:
        url, file = f"https://localhost:{door.port}", client_file({"basic_auth": RIGHT, "tls_config": CA})
        assert (await run(*command, "--url", url, "--http.config.file", file)).exit_code == 0
        found = await run(*command, BATCH_MONITOR_URL=url, BATCH_MONITOR_HTTP_CONFIG_FILE=file)
        assert found.exit_code == 0


@pytest.mark.parametrize(
    "command", ["status", "watch", "explain", "mute", "unmute", "test-alert", "healthcheck"]
)
def test_every_command_that_asks_a_daemon_has_both_options(command):
    help_text = CliRunner().invoke(cli, [command, "--help"]).output
    assert "--http.config.file" in help_text
    assert "BATCH_MONITOR_URL" in help_text


async def test_a_health_check_needs_no_password_and_no_certificate_of_its_own(tmp_path, client_file):
    async with opened(write_web(tmp_path, tls=MUTUAL, users={"prometheus": HASH})) as door:
        url = f"https://localhost:{door.port}"
        for document in ({"tls_config": CA}, {"tls_config": {"insecure_skip_verify": True}}):
            found = await run("healthcheck", "--url", url, "--http.config.file", client_file(document))
            assert (found.exit_code, found.output) == (0, "healthy\n")
        found = await run("healthcheck", "--url", url)
        assert found.exit_code == 1
        assert "certificate verify failed" in found.output


MISTAKES = [
    ("[]", "must be a map of `key: value`: basic_auth, tls_config"),
    ("a: [", "not YAML"),
    ("bearer_token: correct-horse", "bearer_token: not known here; there are basic_auth, tls_config"),
    ("basic_auth: correct-horse", "basic_auth: must be a map of `key: value`"),
    ("basic_auth: {user: a}", "basic_auth.user: not known here; there are username, password, password_file"),
    ("basic_auth: {username: a, password: 1}", "basic_auth.password: must be text: put it in quotes"),
    ("tls_config: {insecure_skip_verify: 1}", "tls_config.insecure_skip_verify: must be true or false"),
    ("basic_auth: {username: a}", "basic_auth: give password or password_file, one of them"),
    (
        "basic_auth: {password: a, password_file: b}",
        "basic_auth: give password or password_file, one of them",
    ),
    (
        "basic_auth: {password_file: nowhere}",
        "basic_auth.password_file: cannot be read: No such file or directory",
    ),
    ("basic_auth: {password_file: garbage}", "basic_auth.password_file: cannot be read: not text"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES)
async def test_mistakes_in_the_file(client_file, text, said):
    path = client_file(text)
    found = await run("explain", "3c90", "--url", "http://127.0.0.1:9", "--http.config.file", path)
    assert (found.exit_code, f"Error: {path}: {said}\n" in found.output) == (2, True)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"ca_file": "nowhere"}, "tls_config.ca_file: cannot be read, or holds no certificate in PEM"),
        ({"ca_file": "garbage"}, "tls_config.ca_file: cannot be read, or holds no certificate in PEM"),
        (
            {"cert_file": "cert.pem", "key_file": "ca.pem"},
            "tls_config: cert_file and key_file cannot be read, or do not belong together",
        ),
        (
            {"key_file": "key.pem"},
            "tls_config: cert_file and key_file cannot be read, or do not belong together",
        ),
    ],
)
async def test_files_that_cannot_be_used(client_file, document, said):
    path = client_file({"tls_config": document})
    found = await run("explain", "3c90", "--url", "https://127.0.0.1:9", "--http.config.file", path)
    assert (found.exit_code, f"Error: {said}\n" in found.output) == (2, True)


async def test_a_file_that_is_not_there(tmp_path):
    found = await run("explain", "3c90", "--http.config.file", str(tmp_path / "nowhere.yml"))
    assert found.exit_code == 2
    assert f"{tmp_path / 'nowhere.yml'}: cannot be read: No such file or directory" in found.output


async def test_the_password_goes_to_the_daemon_and_to_nobody_it_points_to(client_file):
    heard = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append((self.path, self.headers.get("Authorization")))
            if self.path.startswith("/api"):
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            else:
                self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    await run("explain", "3c90", "--url", url, "--http.config.file", client_file({"basic_auth": RIGHT}))
    server.shutdown()
    thread.join()
    server.server_close()
    [(first, given), (second, passed_on)] = heard
    assert (first, second, passed_on) == ("/api/v1/explain?batch_id=3c90", "/elsewhere", None)
    assert given.startswith("Basic ")


PAGES = [ROOT / "docs/security.md", ROOT / "docs/install.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_pages_show_of_the_file_is_one(page):
    blocks = re.findall(r"^```yaml\n(basic_auth:.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    for block in blocks:
        http_client._checked(page, yaml.safe_load(block))


def test_the_page_tells_the_limits_that_there_are():
    text = PAGES[0].read_text("utf-8")
    for told in (
        f"{passwords.TRIES}, then one in {passwords.TRY_EVERY:.0f} s",
        f"{passwords.ADDRESSES:,} |",
        f"{passwords.THREADS}, {passwords.QUEUE} |",
        f"{passwords.REMEMBERED} |",
        f"{connections.MOST_CONNECTIONS}, {connections.MOST_OF_ONE} |",
        f"TLS handshake | {connections.HANDSHAKE_TIMEOUT:.0f} s",
        f"{connection.HEAD_TIMEOUT:.0f} s from the connection or its first byte; 8 KiB a line, {connection.HEAD_LINES} headers",
        f"body | {access.BODY_TIMEOUT:.0f} s, 4 KiB",
        f"answer | {connection.ANSWER_TIMEOUT:.0f} s",
        f"two requests | {connection.IDLE_TIMEOUT:.0f} s",
        f"first {passwords.LONGEST} bytes",
        f"cost {passwords.COSTS[0]} to {passwords.COSTS[-1]}",
        *(name for name, why in web_file._CLIENT_AUTH.items() if name),
        *web_file._HEADERS,
    ):
        assert told in text, told
