"""Webhooks speak Alertmanager's language to the letter, sign what they say, and give nothing away."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import socket
import traceback
from collections import deque
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr
from receivers import GARBAGE, HANG, RESET, ScriptedReceiver, message, notification
from samples import NOW

from monitor import __version__, notify, outbox
from monitor.model import Alert, MessageKind
from monitor.notify import webhook
from monitor.notify.channel import SendError, SendFailure, Wire, web_url

SECRET = "s3cr3t-of-the-crm"
TOKEN = "t0k3n-in-the-path"
PAGE = "https://monitor.example/campaigns"


@pytest.fixture
async def receiver():
    made = ScriptedReceiver()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def wire():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield Wire(session, "crm", NOW)


def settings(url: str, **changes) -> webhook.Settings:
    made = webhook.Settings(SecretStr(f"{url}/hooks/{TOKEN}"), SecretStr(SECRET))
    return replace(made, **changes)


async def failure(sending) -> SendError:
    with pytest.raises(SendError) as raised:
        await sending
    shown = "".join(traceback.format_exception(raised.value)) + repr(raised.value)
    for private in (TOKEN, SECRET, "127.0.0.1", "quoted here"):
        assert private not in shown
    assert "crm" in str(raised.value)
    return raised.value


# What is sent


def test_a_firing_message_is_alertmanagers_json_to_the_letter():
    row = notification(created_at=NOW + timedelta(seconds=30), starts_at=NOW + timedelta(microseconds=1500))
    said = {"alertname": "BatchStalled", "severity": "warning", "account": "main", "batch_id": "b1"}
    assert json.loads(webhook.render(message(row, external_url=PAGE))) == {
        "version": "4",
        "groupKey": '{}:{account="main", alertname="BatchStalled"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "crm",
        "groupLabels": {"alertname": "BatchStalled", "account": "main"},
        "commonLabels": said,
        "commonAnnotations": {"summary": "message 1"},
        "externalURL": PAGE,
        "alerts": [
            {
                "status": "firing",
                "labels": said,
                "annotations": {"summary": "message 1"},
                "startsAt": "2026-11-23T12:00:00.001500Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": PAGE,
                "fingerprint": webhook.fingerprint(said),
            }
        ],
    }


@pytest.mark.parametrize(
    ("kind", "status", "ends_at"),
    [
        (MessageKind.FIRING, "firing", "0001-01-01T00:00:00Z"),
        (MessageKind.REMINDER, "firing", "0001-01-01T00:00:00Z"),
        (MessageKind.RESOLVED, "resolved", "2026-11-23T12:10:00Z"),
    ],
)
def test_status_and_end_follow_the_kind_of_message(kind, status, ends_at):
    row = notification(kind=kind, created_at=NOW + timedelta(minutes=10))
    heard = () if kind is MessageKind.FIRING else (notification(),)
    body = json.loads(webhook.render(message(row, heard=heard)))
    assert (body["status"], body["alerts"][0]["status"], body["alerts"][0]["endsAt"]) == (
        status,
        status,
        ends_at,
    )
    assert body["alerts"][0]["startsAt"] == "2026-11-23T12:00:00Z"


def test_what_is_new_comes_first_then_what_fires_on_and_what_they_share_is_common():
    fresh = notification(3, batch_id="b3")
    over = notification(1, kind=MessageKind.RESOLVED, batch_id="b1", created_at=NOW + timedelta(minutes=10))
    heard = (notification(1, batch_id="b1"), notification(2, batch_id="b2"))
    body = json.loads(webhook.render(message(over, fresh, heard=heard)))
    assert [(one["labels"]["batch_id"], one["status"]) for one in body["alerts"]] == [
        ("b1", "resolved"),
        ("b3", "firing"),
        ("b2", "firing"),
    ]
    assert body["status"] == "firing", "while any of them fires"
    assert body["commonLabels"] == {"alertname": "BatchStalled", "severity": "warning", "account": "main"}
    assert body["commonAnnotations"] == {}
    only_over = json.loads(webhook.render(message(over, heard=heard[:1])))
    assert (only_over["status"], only_over["groupKey"]) == ("resolved", body["groupKey"])


def test_an_end_with_a_beginning_that_was_never_told_tells_both_times():
    began = notification(1, starts_at=NOW)
    over = notification(2, kind=MessageKind.RESOLVED, created_at=NOW + timedelta(hours=3))
    [alert] = json.loads(webhook.render(message(began, over)))["alerts"]
    assert (alert["status"], alert["startsAt"], alert["endsAt"]) == (
        "resolved",
        "2026-11-23T12:00:00Z",
        "2026-11-23T15:00:00Z",
    )
    assert alert["annotations"]["summary"] == (
        "was over before it was told (fired 2026-11-23 12:00 UTC, over 2026-11-23 15:00 UTC): message 2"
    )


def test_what_is_listed_is_bounded_and_what_is_new_is_not_left_out():
    heard = tuple(notification(n, batch_id=f"b{n}") for n in range(outbox.MOST_ENTRIES))
    body = json.loads(webhook.render(message(notification(9999, batch_id="new"), heard=heard)))
    assert (len(body["alerts"]), body["truncatedAlerts"]) == (outbox.MOST_ENTRIES, 1)
    assert body["alerts"][0]["labels"]["batch_id"] == "new"


def test_the_body_depends_on_nothing_that_a_retry_changes():
    first = notification()
    tried = replace(first, attempts=7, last_error="503")
    again = message(tried)
    assert (webhook.render(again), again.id) == (webhook.render(message(first)), message(first).id)
    assert again.attempts == 7


def test_an_account_alert_an_empty_label_and_odd_characters():
    said = (("account", 'm"ä\ud800in'), ("alertname", "AccountUnreachable"), ("team", ""))
    row = replace(notification(), alert=Alert(said, (), NOW))
    body = json.loads(webhook.render(message(row, external_url="javascript:alert(1)")))
    assert body["groupLabels"] == {"account": 'm"ä\ud800in', "alertname": "AccountUnreachable"}
    assert "team" not in body["commonLabels"]
    assert body["externalURL"] == body["alerts"][0]["generatorURL"] == ""


def test_the_fingerprint_is_the_one_a_real_alertmanager_gives():
    said = {"alertname": "BatchStalled", "account": "main", "batch": 'Frühling "x"'}
    assert webhook.fingerprint(said) == "26e18fe861bbd472"  # asked of Alertmanager 0.25
    assert webhook.fingerprint(dict(reversed(said.items()))) == "26e18fe861bbd472"


async def test_headers_name_the_message_and_sign_exactly_the_bytes_sent(receiver, wire):
    sent = message(notification(), external_url=PAGE)
    await settings(receiver.url).send(wire, sent)
    [request] = receiver.requests
    assert request.path == f"/hooks/{TOKEN}"
    assert request.headers["Idempotency-Key"] == sent.id
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"] == f"ultravox-batch-monitor/{__version__}"
    expected = hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Ultravox-Monitor-Signature"] == f"sha256={expected}"
    assert request.body == webhook.render(sent)


async def test_without_a_secret_there_is_no_signature(receiver, wire):
    await settings(receiver.url, secret=None).send(wire, message(notification()))
    assert "X-Ultravox-Monitor-Signature" not in receiver.requests[0].headers


def test_the_page_about_receivers_shows_the_message_and_how_to_check_it():
    page = (Path(__file__).parent.parent / "docs" / "receivers.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    [check] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    body = webhook.render(message(notification(), external_url=PAGE))
    shown, sent = json.loads(example), json.loads(body)
    assert shown.keys() == sent.keys()
    assert shown["alerts"][0].keys() == sent["alerts"][0].keys()
    assert shown["groupKey"].startswith('{}:{account="main", alertname=')
    scope = {}
    exec(check, scope)
    header = webhook.signature(SecretStr(SECRET), body)
    assert scope["is_genuine"](body, header, SECRET) is True
    assert scope["is_genuine"](body + b" ", header, SECRET) is False
    assert scope["is_genuine"](body, header, "another") is False


# What comes back


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_every_2xx_is_a_delivery(receiver, wire, status):
    receiver.script = deque([status])
    await settings(receiver.url).send(wire, message(notification()))


@pytest.mark.parametrize(
    ("answer", "reason", "again_helps", "asked_for", "arrived"),
    [
        (400, SendFailure.REFUSED, False, None, "no"),
        (401, SendFailure.REFUSED, False, None, "no"),
        (404, SendFailure.REFUSED, False, None, "no"),
        (410, SendFailure.REFUSED, False, None, "no"),
        (408, SendFailure.TIMEOUT, True, None, "no"),
        (425, SendFailure.THROTTLED, True, None, "no"),
        (429, SendFailure.THROTTLED, True, None, "no"),
        ((429, {"Retry-After": "120"}), SendFailure.THROTTLED, True, timedelta(minutes=2), "no"),
        ((503, {"Retry-After": "120"}), SendFailure.SERVER_ERROR, True, timedelta(minutes=2), "no"),
        (500, SendFailure.SERVER_ERROR, True, None, "no"),
        (502, SendFailure.SERVER_ERROR, True, None, "perhaps"),
        (504, SendFailure.SERVER_ERROR, True, None, "perhaps"),
        (304, SendFailure.BAD_RESPONSE, True, None, "no"),
        (RESET, SendFailure.CONNECTION, True, None, "perhaps"),
        (GARBAGE, SendFailure.BAD_RESPONSE, True, None, "perhaps"),
        (HANG, SendFailure.TIMEOUT, True, None, "perhaps"),
    ],
)
async def test_what_an_answer_means(receiver, wire, answer, reason, again_helps, asked_for, arrived):
    receiver.script = deque([answer])
    patience = timedelta(seconds=0.2 if answer == HANG else 10)
    error = await failure(settings(receiver.url, timeout=patience).send(wire, message(notification())))
    assert (error.reason, error.again_helps, error.retry_after) == (reason, again_helps, asked_for)
    assert error.may_have_arrived is (arrived == "perhaps")


@pytest.mark.parametrize(
    ("status", "too_much", "unwelcome"),
    [(400, True, False), (413, True, False), (422, True, False), (409, False, False)]
    + [(status, False, True) for status in (401, 403, 404, 405, 410)],
)
async def test_what_a_refusal_is_about(receiver, wire, status, too_much, unwelcome):
    receiver.script = deque([status])
    error = await failure(settings(receiver.url).send(wire, message(notification())))
    assert (error.too_much, error.unwelcome) == (too_much, unwelcome)


async def test_who_cannot_be_connected_to_has_surely_taken_nothing(wire):
    with socket.socket() as full:  # its queue of connections is full: further ones are not answered
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for one in fillers:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        error = await failure(
            settings(url, timeout=timedelta(seconds=0.6)).send(wire, message(notification()))
        )
        for one in fillers:
            one.close()
    assert (error.reason, error.may_have_arrived) == (SendFailure.TIMEOUT, False)
    assert "cannot be connected to within 0.3 s" in str(error)


async def test_a_redirect_is_not_followed_with_our_message(receiver, wire):
    receiver.script = deque([(307, {"Location": f"{receiver.url}/elsewhere"})])
    error = await failure(settings(receiver.url).send(wire, message(notification())))
    assert error.reason is SendFailure.BAD_RESPONSE
    assert [request.path for request in receiver.requests] == [f"/hooks/{TOKEN}"]


async def test_nobody_there(wire):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        error = await failure(settings(url).send(wire, message(notification())))
    assert error.reason is SendFailure.CONNECTION
    assert str(error) == "crm: no connection"


async def test_a_server_that_speaks_no_tls(receiver, wire):
    error = await failure(settings(receiver.url.replace("http", "https")).send(wire, message(notification())))
    assert error.reason is SendFailure.CONNECTION
    assert "TLS" in str(error)


@pytest.mark.parametrize(
    "url", [f"http://[{TOKEN}", f"{TOKEN}", f"ftp://127.0.0.1/{TOKEN}", f"http://:99999999/{TOKEN}"]
)
async def test_an_address_that_is_none_is_an_error_like_any_other(wire, url):
    error = await failure(webhook.Settings(SecretStr(url)).send(wire, message(notification())))
    assert error.reason in {SendFailure.REFUSED, SendFailure.CONNECTION}


async def test_an_endless_answer_is_not_read(receiver, wire):
    """2xx is all that counts; a body without end costs neither time nor memory."""
    sent = 0

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        await request.read()
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
                sent += 65536
        except ConnectionError:
            pass
        return response

    runner = web.ServerRunner(web.Server(endless))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with asyncio.timeout(5):
        await settings(url).send(wire, message(notification()))
    await runner.cleanup()
    assert sent < 64 * 2**20


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        ("http://monitor:10042", True),
        ("https://monitor.example/a?b=c#d", True),
        (None, False),
        ("", False),
        ("monitor.example", False),
        ("//monitor.example", False),
        ("http://", False),
        ("ftp://monitor.example", False),
        ("javascript:alert(1)", False),
        ("http://monitor.example/a b", False),
        ("http://monitor.example:port", False),
        ("http://[::1", False),
        ("http://monitor.example/\n", False),
    ],
)
def test_only_urls_that_a_browser_opens_are_told(text, usable):
    assert web_url(text) == (text if usable else "")


def test_settings_show_no_secret():
    assert TOKEN not in repr(settings("http://x"))
    assert SECRET not in str(settings("http://x"))


def test_the_registry_knows_every_channel_and_every_reason():
    assert set(notify.CHANNELS) == {"alertmanager", "webhook"}
    for module in notify.CHANNELS.values():
        assert hash(module.Settings) is not None
        assert module.__doc__
    assert set(notify.FAILURES) == {failure.value for failure in SendFailure}
