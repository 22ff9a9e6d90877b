"""Apprise: what arrives, what failures become, that nothing hangs and that no word of a URL gets out."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import subprocess
import sys
import textwrap
import threading
import traceback
import warnings
from collections import deque
from contextlib import asynccontextmanager
from datetime import timedelta
from email import message_from_string
from pathlib import Path

import pytest
from pydantic import SecretStr
from receivers import GARBAGE, HANG, RESET, ScriptedReceiver, message, notification
from samples import NOW

from monitor import config
from monitor.config import ConfigError
from monitor.model import MessageKind
from monitor.notify import apprise
from monitor.notify.channel import SendError, SendFailure, Wire

ROOT = Path(__file__).parent.parent
TOKEN = "t0k3n1nthepath1234567890abcd"
PASSWORD = "p4ssw0rd"
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
TITLE = "Warning: message 1"
BODY = "Fired 2026-11-23 12:00 UTC.\nAlert BatchStalled, account main, batch b1."


@pytest.fixture
async def receiver():
    made = ScriptedReceiver()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(autouse=True)
def nobody_listens_to_apprise(caplog, capfd):
    """Whatever a test does, not a word of apprise's or of its libraries' comes out, at any level."""
    caplog.set_level(logging.DEBUG)
    apprise.scheme_of(SecretStr("json://127.0.0.1"))  # what is configured has been imported
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    others = [record for record in records if record.name.split(".")[0] not in {"asyncio", "aiohttp"}]
    printed = "".join(capfd.readouterr())
    for private in (TOKEN, PASSWORD, "127.0.0.1", "nowhere"):
        assert private not in printed
        assert private not in "".join(record.getMessage() for record in others)
    assert not [record for record in others if not record.name.startswith("monitor")]


def url(receiver, scheme="json", query=""):
    return f"{receiver.url.replace('http', scheme)}/hooks/{TOKEN}{query}"


async def send(address, sent=None, seconds=10.0):
    settings = apprise.Settings(SecretStr(address), timedelta(seconds=seconds))
    await settings.send(Wire(None, "ops-chat/json", NOW), sent or made())


def made(number=1, **changes):
    return message(notification(number, **changes), group_by=())


async def failure(sending) -> SendError:
    with pytest.raises(SendError) as raised:
        await sending
    shown = "".join(traceback.format_exception(raised.value)) + repr(raised.value)
    for private in (TOKEN, PASSWORD, "127.0.0.1", "nowhere", "quoted here"):
        assert private not in shown
    assert str(raised.value).startswith("ops-chat/json")
    return raised.value


# What arrives


async def test_json_has_title_body_and_how_bad_it_is(receiver):
    await send(url(receiver))
    [request] = receiver.requests
    assert request.path == f"/hooks/{TOKEN}"
    sent = request.json
    assert (sent["title"], sent["message"], sent["type"]) == (TITLE, BODY, "warning")


async def test_an_end_is_a_success(receiver):
    end = notification(2, kind=MessageKind.RESOLVED, created_at=NOW + timedelta(minutes=5))
    await send(url(receiver), message(end, heard=(notification(),), group_by=()))
    assert receiver.requests[0].json["type"] == "success"


async def test_ntfy_has_a_title_and_the_body_as_it_is(receiver):
    await send(f"{receiver.url.replace('http', 'ntfy')}/{TOKEN}")
    [request] = receiver.requests
    assert request.json == {"topic": TOKEN, "title": TITLE, "message": BODY}


async def test_a_chat_without_titles_has_it_in_front_of_the_text(receiver):
    await send(f"{receiver.url.replace('http', 'mmost')}/{TOKEN}")
    [request] = receiver.requests
    assert request.json["text"] == f"{TITLE}\r\n{BODY}"
    assert request.json["username"] == "Ultravox Batch Monitor"


LONG = [notification(number, batch_id=f"b{number} " + "long " * 50) for number in range(20)]


@pytest.mark.parametrize(
    ("address", "limit", "empty"),
    [
        (SLACK, 35000, False),
        (
            "discord://123456789012345678/abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnop",
            2000,
            False,
        ),
        ("tgram://123456789:abcdefghijklmnopqrstuvwxyz012345678/12345", 4096, False),
        (f"misskey://{TOKEN}@127.0.0.1", 512, False),
        ("vonage://01234567:0123456789abcdef@15551234567/15557654321", 160, True),
    ],
)
def test_a_message_is_as_long_as_the_service_can_take(address, limit, empty):
    """Discord for one refuses what is longer, again and again."""
    service = apprise._service(SecretStr(address))
    assert service.body_maxlen == limit
    for sent in (made(), message(*LONG, group_by=())):
        said = apprise._fitted(sent, service)
        assert 0 < len(said.title) <= 250
        assert len(said.title) + 2 + len(said.body) <= min(limit, 250 + 2 + 3500)
    assert (said.body == "") is empty


async def test_where_there_is_room_for_a_title_alone_it_is_what_is_sent(receiver, monkeypatch):
    """As with a text message to a phone."""
    from apprise.plugins.mattermost import NotifyMattermost

    monkeypatch.setattr(NotifyMattermost, "body_maxlen", 60)
    await send(f"{receiver.url.replace('http', 'mmost')}/{TOKEN}", message(*LONG, group_by=()))
    assert receiver.requests[0].json["text"] == "Warning: 20 batches stalled on account main"


@asynccontextmanager
async def mail_server(**answers):
    """Takes mail, or answers a command as it is told. Yields its port and what it has taken."""
    taken = []

    async def serve(reader, writer):
        def say(line):
            writer.write(line.encode() + b"\r\n")

        say("220 mail.example")
        letter = None
        while read := await reader.readline():
            line = read.decode().rstrip("\r\n")
            command = line[:4].upper()
            if letter is not None and line != ".":
                letter.append(line)
            elif letter is not None:
                taken.append("\n".join(letter))
                letter = None
                say(answers.get("taken", "250 taken"))
            elif command == "DATA":
                letter = []
                say("354 go on")
            elif command == "EHLO":
                say("250-mail.example\r\n250 AUTH PLAIN")
            else:
                say(
                    answers.get(
                        command.lower(), {"AUTH": "235 welcome", "QUIT": "221 bye"}.get(command, "250 ok")
                    )
                )
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], taken


def mail_url(port):
    addresses = "from=monitor@example.org&to=ops@example.org&mode=insecure"
    return f"mailto://user:{PASSWORD}@127.0.0.1:{port}?{addresses}"


async def test_mail_has_the_title_as_its_subject_and_no_html():
    async with mail_server() as (port, taken):
        await send(mail_url(port))
    [letter] = map(message_from_string, taken)
    assert letter["Subject"] == TITLE
    assert letter["To"] == "ops@example.org"
    assert letter.get_content_type() == "text/plain"
    assert letter.get_payload(decode=True).decode().strip() == BODY


# What failures become


@pytest.mark.parametrize("scheme", ["json", "ntfy", "mmost"])
@pytest.mark.parametrize(
    ("answer", "reason", "status", "said"),
    [
        (500, SendFailure.SERVER_ERROR, 500, " answered 500"),
        (503, SendFailure.SERVER_ERROR, 503, " answered 503"),
        (429, SendFailure.THROTTLED, 429, " answered 429"),
        (408, SendFailure.TIMEOUT, 408, " answered 408"),
        (404, SendFailure.REFUSED, 404, " answered 404"),
        (401, SendFailure.REFUSED, 401, " answered 401"),
        (GARBAGE, SendFailure.BAD_RESPONSE, None, ": its answer is not HTTP"),
        (RESET, SendFailure.CONNECTION, None, ": the connection was lost before an answer came"),
    ],
)
async def test_what_an_answer_means(receiver, scheme, answer, reason, status, said):
    receiver.script = deque([answer])
    error = await failure(send(f"{receiver.url.replace('http', scheme)}/{TOKEN}"))
    assert (error.reason, error.status, error.may_have_arrived) == (reason, status, False)
    assert str(error) == f"ops-chat/json{said}"


async def test_a_redirect_is_not_followed_with_our_message(receiver):
    receiver.script = deque([(307, {"Location": f"{receiver.url}/elsewhere"})])
    error = await failure(send(url(receiver)))
    assert (error.reason, error.status) == (SendFailure.BAD_RESPONSE, 307)
    assert [request.path for request in receiver.requests] == [f"/hooks/{TOKEN}"]


async def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        error = await failure(send(f"json://127.0.0.1:{taken.getsockname()[1]}/{TOKEN}"))
    assert (error.reason, str(error)) == (SendFailure.CONNECTION, "ops-chat/json: no connection")


async def test_why_it_fails_is_understood_whatever_is_logged(receiver, caplog):
    caplog.set_level(logging.CRITICAL)
    receiver.script = deque([RESET, 500])
    assert "lost" in str(await failure(send(url(receiver))))
    assert "500" in str(await failure(send(url(receiver))))


async def test_a_server_that_speaks_no_tls(receiver):
    error = await failure(send(url(receiver, "jsons")))
    assert error.reason is SendFailure.CONNECTION
    assert "TLS" in str(error)


async def test_a_host_without_an_address(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await failure(send(f"json://nowhere.invalid/{TOKEN}"))
    assert (error.reason, error.again_helps) == (SendFailure.CONNECTION, True)
    assert str(error) == "ops-chat/json: its host's name cannot be resolved"


async def test_no_answer_within_the_time_that_the_url_allows(receiver):
    receiver.script = deque([HANG])
    error = await failure(send(url(receiver, query="?rto=0.2")))
    assert (error.reason, error.may_have_arrived) == (SendFailure.TIMEOUT, False)
    assert str(error) == "ops-chat/json has not answered in time"


@pytest.mark.parametrize(
    ("answers", "reason", "said"),
    [
        ({"auth": "535 no"}, SendFailure.REFUSED, ": its mail server answered 535"),
        ({"rcpt": "550 who?"}, SendFailure.REFUSED, ": its mail server answered 550"),
        ({"taken": "452 full"}, SendFailure.SERVER_ERROR, ": its mail server answered 452"),
    ],
)
async def test_what_a_mail_server_means(answers, reason, said):
    async with mail_server(**answers) as (port, _):
        error = await failure(send(mail_url(port)))
    assert (error.reason, str(error)) == (reason, f"ops-chat/json{said}")


@pytest.mark.parametrize("address", [TOKEN, f"pigeon://{TOKEN}", f"slack://{TOKEN}", f"json://[{TOKEN}"])
async def test_a_url_that_is_none_is_an_error_like_any_other(address):
    error = await failure(send(address))
    assert error.reason is SendFailure.REFUSED


async def test_an_error_of_a_service_s_own_is_a_failure_and_not_a_crash(receiver, monkeypatch):
    def broken(*_, **__):
        raise SystemExit(f"{TOKEN} {receiver.url}")

    monkeypatch.setattr("requests.request", broken)
    error = await failure(send(url(receiver)))
    assert error.reason is SendFailure.BAD_RESPONSE
    assert str(error) == "ops-chat/json: Apprise failed with SystemExit"


async def test_what_may_fail_silently_by_its_url_fails_all_the_same(receiver):
    receiver.script = deque([500])
    error = await failure(send(url(receiver, query="?optional=yes")))
    assert error.reason is SendFailure.SERVER_ERROR


async def test_nothing_is_tried_twice_behind_the_queue_s_back(receiver):
    receiver.script = deque([500])
    await failure(send(url(receiver, query="?retry=3&wait=0")))
    assert len(receiver.requests) == 1


def test_warnings_of_its_libraries_do_not_come_out_either(recwarn):
    apprise.scheme_of(SecretStr("json://127.0.0.1"))
    warnings.warn_explicit("to 127.0.0.1", UserWarning, "pool.py", 1, module="urllib3.connectionpool")
    assert not recwarn.list


# What hangs


class Connections(list):
    def __init__(self):
        self.begun = asyncio.Event()


@asynccontextmanager
async def slow_server(status):
    """Answers when it is told to. Yields its URL, the event to set, and the connections so far."""
    released, connections = asyncio.Event(), Connections()

    async def serve(reader, writer):
        connections.append(writer)
        connections.begun.set()
        await reader.readuntil(b"\r\n\r\n")
        await released.wait()
        writer.write(f"HTTP/1.1 {status} so\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"json://127.0.0.1:{server.sockets[0].getsockname()[1]}/{TOKEN}?rto=60", released, connections


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "apprise"]


async def gone():
    for thread in threads():
        await asyncio.to_thread(thread.join, 10)


async def test_one_thread_hangs_and_not_two_and_what_is_taken_late_is_taken():
    async with slow_server(200) as (address, released, connections):
        error = await failure(send(address, seconds=0.2))
        assert (error.reason, error.may_have_arrived) == (SendFailure.TIMEOUT, True)
        assert str(error) == "ops-chat/json has not taken it within 0.2 s"
        for sent, may_have_arrived in ((made(), True), (made(2), False)):
            error = await failure(send(address, sent))
            assert (error.reason, error.may_have_arrived) == (SendFailure.TIMEOUT, may_have_arrived)
            assert str(error) == "ops-chat/json is still busy with an earlier try"
        assert len(threads()) == 1
        released.set()
        await gone()
        await send(address)  # nobody waited when it was taken; it is not sent twice
        assert len(connections) == 1
        await send(address)  # what has been told of is forgotten
        assert len(connections) == 2


@pytest.mark.parametrize(("status", "number"), [(500, 1), (200, 2)])
async def test_after_a_late_failure_and_for_another_message_there_is_a_try_of_its_own(status, number):
    async with slow_server(status) as (address, released, connections):
        await failure(send(address, seconds=0.2))
        released.set()
        await gone()
        if status == 500:
            await failure(send(address, made(number)))
        else:
            await send(address, made(number))
        assert len(connections) == 2


async def test_another_receiver_does_not_wait_for_it(receiver):
    async with slow_server(200) as (address, released, _):
        await failure(send(address, seconds=0.2))
        await send(url(receiver))
        released.set()
        await gone()
        await send(address)


async def test_who_is_called_off_leaves_the_try_under_way():
    async with slow_server(200) as (address, released, connections):
        sending = asyncio.create_task(send(address))
        await connections.begun.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert "still busy" in str(await failure(send(address)))
        released.set()
        await gone()
        await send(address)
        assert len(connections) == 1


def python(script, *arguments, **options):
    """A process of its own."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script), *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False, **options
    )


def test_the_end_of_the_process_does_not_wait_for_what_hangs():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(5)
        ended = python(
            """
            import asyncio, sys, threading
            sys.path.insert(0, "tests")
            from test_apprise import SecretStr, apprise, failure, send
            apprise.scheme_of(SecretStr(sys.argv[1]))
            print(asyncio.run(failure(send(sys.argv[1], seconds=0.5))))
            print([thread.name for thread in threading.enumerate()])
            """,
            f"json://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}?rto=600",
        )
        assert ended.stdout == "ops-chat/json has not taken it within 0.5 s\n['MainThread', 'apprise']\n"
        assert (ended.returncode, ended.stderr) == (0, "")
        with listening.accept()[0] as connection:
            assert connection.recv(4) == b"POST"  # it was sent: the thread has waited for an answer


# Configuration

NATIVE = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FR"
MINIMAL = "accounts: [{name: main, api_key: '${KEY}'}]\n"
ENVIRON = {
    "KEY": "Zk3hQ9aB.0123456789abcdef0123456789abcdef",
    "SLACK": SLACK,
    "JSON": f"JSON://127.0.0.1/{TOKEN}",
    "PASSWORD": PASSWORD,
    "BLANK": f"json://127.0.0.1/{TOKEN} x",
}


@pytest.fixture
def load(tmp_path):
    def load(block, lines=""):
        tmp_path.joinpath("urls").write_text(lines, encoding="utf-8")
        path = tmp_path / "config.yaml"
        path.write_text(f"{MINIMAL}receivers:\n- name: ops\n  apprise: {block}\n", encoding="utf-8")
        return config.load(path, ENVIRON)

    return load


def mistakes(load, block, lines=""):
    with pytest.raises(ConfigError) as caught:
        load(block, lines)
    for private in (TOKEN, PASSWORD, "TIiajkdnlazkcOXrIdevi7FQ", "127.0.0.1"):
        assert private not in str(caught.value)
    return [(found.path.removeprefix("receivers[0].apprise"), found.text) for found in caught.value.mistakes]


def test_every_url_is_a_receiver_of_its_own(load, tmp_path):
    lines = f"# chats\n{SLACK}\n\n  {NATIVE}\r\n#json://x\nmailto://u:{PASSWORD}@gmail.com\n"
    found = load("{urls_file: urls, timeout: 1m}", lines)
    urls = {name: one.channel.url.get_secret_value() for name, one in found.receivers.items()}
    assert urls == {
        "ops/slack": SLACK,
        "ops/slack-2": NATIVE,
        "ops/mailto": f"mailto://u:{PASSWORD}@gmail.com",
    }
    assert {one.channel.timeout for one in found.receivers.values()} == {timedelta(minutes=1)}
    assert set(urls.values()) <= {secret.get_secret_value() for secret in found.secrets}
    assert tmp_path / "urls" in found.sources
    assert TOKEN not in repr(found)
    assert PASSWORD not in repr(found)


def test_urls_from_the_environment(load):
    found = load('{urls: ["${SLACK}", "${JSON}", "mailto://u:${PASSWORD}@gmail.com"]}')
    assert list(found.receivers) == ["ops/slack", "ops/json", "ops/mailto"]
    assert found.receivers["ops/json"].channel == apprise.Settings(SecretStr(ENVIRON["JSON"]))
    assert found.receivers["ops/json"].channel.group_by == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (TOKEN, "not an Apprise URL: those begin with a scheme, like slack:// or mailto://"),
        (f"jsn://127.0.0.1/{TOKEN}", "jsn:// is no scheme that Apprise knows; did you mean json://?"),
        (
            f"qwertyuiop://{TOKEN}",
            "qwertyuiop:// is no scheme that Apprise knows; they are listed at https://appriseit.com/services/",
        ),
        (
            f"https://127.0.0.1/{TOKEN}",
            "an address that Apprise does not know: use the scheme of the service, like slack://, or jsons:// for whatever takes JSON",
        ),
        (
            f"slack://{TOKEN}",
            "not what a URL with slack:// must be: see https://appriseit.com/services/slack/",
        ),
        ("windows://", "windows:// needs what is not installed: something that is not there on this system"),
        (f"json://127.0.0.1/{TOKEN} x", "must not hold blanks or control characters"),
        (SLACK, "this URL is there already"),
    ],
)
def test_what_is_wrong_with_a_line_of_the_file(load, tmp_path, line, said):
    found = mistakes(load, "{urls_file: urls}", f"# mine\n{SLACK}\n\n{line}\n")
    assert found == [(".urls_file", f"{tmp_path / 'urls'}, line 4: {said}")]


@pytest.mark.parametrize(
    ("block", "at", "said"),
    [
        ('{urls: ["${SLACK}", "jsn://${PASSWORD}"]}', ".urls[1]", "jsn:// is no scheme that Apprise knows"),
        ('{urls: ["${BLANK}"]}', ".urls[0]", "must not hold blanks or control characters"),
        (
            f'{{urls: ["{SLACK}"]}}',
            ".urls[0]",
            "a secret must not stand in this file: use urls_file, or ${NAME}",
        ),
        ("{urls: [5]}", ".urls[0]", "must be text: put it in quotes"),
        ("{urls: []}", ".urls", "must not be empty"),
        ('{urls: ["${SLACK}"], urls_file: urls}', ".urls_file", "give urls or urls_file, not both"),
        ("{timeout: 5s}", ".urls", "missing: give urls_file, or urls: [${NAME}] for environment variables"),
        ("{urls_file: nowhere}", ".urls_file", "cannot be read: No such file or directory"),
        (f"{{urls_file: '{SLACK}'}}", ".urls_file", "must be the path of a file"),
        ("{urls_file: urls}", ".urls_file", "urls holds none: write one a line"),
        ('{urls: ["${SLACK}"], timeout: 5}', ".timeout", "a duration needs a unit"),
    ],
)
def test_what_is_wrong_with_the_block(load, block, at, said):
    [(path, told)] = mistakes(load, block, "# only\n")
    assert path == at
    assert said in told


def test_the_urls_that_the_page_shows_are_urls():
    page = (ROOT / "docs" / "receivers.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```\n# /run/secrets/apprise_urls\n(.*?)```", page, re.DOTALL)
    schemes = [apprise.scheme_of(SecretStr(line)) for line in block.splitlines()]
    assert schemes == ["slack", "mailtos", "pagerduty"]


def test_it_is_imported_only_when_it_is_used(tmp_path):
    """It takes as long to import as all the rest together."""
    configuration = MINIMAL + "receivers:\n- {name: crm, webhook: {url: 'http://127.0.0.1/'}}\n"
    tmp_path.joinpath("without.yaml").write_text(configuration, encoding="utf-8")
    configuration += "- {name: ops, apprise: {urls: ['${SLACK}']}}\n"
    tmp_path.joinpath("with.yaml").write_text(configuration, encoding="utf-8")
    ended = python(
        """
        import os, pathlib, sys
        import monitor.app, monitor.cli, monitor.config, monitor.demo
        for name in ("without.yaml", "with.yaml"):
            print(list(monitor.config.load(pathlib.Path(sys.argv[1]) / name, os.environ).receivers))
            print(sorted({"apprise", "requests"} & sys.modules.keys()))
        """,
        str(tmp_path),
        env=ENVIRON,
    )
    assert ended.stdout.splitlines() == ["['crm']", "[]", "['crm', 'ops/slack']", "['apprise', 'requests']"]
    assert ended.stderr == ""
