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
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr
from receivers import GARBAGE, HANG, RESET, ScriptedReceiver, labels, message, notification
from samples import NOW

from monitor import __version__, notify
from monitor.model import Alert, AlertName, MessageKind, Notification
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
        yield Wire(session, "crm", NOW, PAGE)


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


def body(*rows: Notification, heard: tuple[Notification, ...] = (), **more) -> Any:
    return json.loads(webhook.render(message(*rows, heard=heard, **more)))


def said(body: Any) -> list[tuple[str, str]]:
    return [(alert["labels"]["batch_id"], alert["status"]) for alert in body["alerts"]]


def test_a_firing_message_is_alertmanagers_json_to_the_letter():
    row = notification(created_at=NOW + timedelta(seconds=30), starts_at=NOW + timedelta(microseconds=1500))
    said = {"alertname": "BatchStalled", "severity": "warning", "account": "main", "batch_id": "b1"}
    assert body(row, external_url=PAGE) == {
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
def test_status_and_end_follow_what_is_told(kind, status, ends_at):
    shown = body(notification(2, kind=kind, created_at=NOW + timedelta(minutes=10)), heard=(notification(1),))
    [alert] = shown["alerts"]
    assert (shown["status"], alert["status"], alert["endsAt"]) == (status, status, ends_at)
    assert alert["startsAt"] == "2026-11-23T12:00:00Z"


def test_an_alert_and_its_end_that_are_told_in_one_go_have_both_times():
    end = notification(2, kind=MessageKind.RESOLVED, created_at=NOW + timedelta(minutes=10))
    shown = body(notification(1), end)
    [alert] = shown["alerts"]
    assert (shown["status"], alert["status"]) == ("resolved", "resolved")
    assert (alert["startsAt"], alert["endsAt"]) == ("2026-11-23T12:00:00Z", "2026-11-23T12:10:00Z")
    assert alert["annotations"]["summary"] == (
        "was over before it was told (fired 2026-11-23 12:00 UTC, over 2026-11-23 12:10 UTC): message 2"
    )


def test_a_message_tells_what_is_new_first_and_then_what_still_fires():
    """`status` is firing while anything in it fires, as Alertmanager's is."""
    earlier = NOW - timedelta(hours=1)
    over = notification(1, batch_id="b1", starts_at=earlier)
    still = [notification(n, batch_id=f"b{n}", starts_at=earlier) for n in (2, 3)]
    end = notification(5, kind=MessageKind.RESOLVED, batch_id="b1", starts_at=earlier)
    fresh = notification(4, batch_id="b4")
    shown = body(end, fresh, heard=(over, *still))
    assert said(shown) == [("b1", "resolved"), ("b4", "firing"), ("b2", "firing"), ("b3", "firing")]
    assert shown["status"] == "firing"
    assert shown["commonLabels"] == {"alertname": "BatchStalled", "severity": "warning", "account": "main"}
    assert shown["commonAnnotations"] == {}
    assert body(end, heard=(over, still[0]))["status"] == "firing"
    assert body(end, heard=(over,))["status"] == "resolved"


def test_the_alerts_that_do_not_fit_are_counted():
    """Of those that fire on: what is new is left for the next message, not left out."""
    heard = tuple(notification(n, batch_id=f"b{n}") for n in range(1, 8))
    group = (("account", "main"), ("alertname", "BatchStalled"))
    shown = body(notification(9, batch_id="b9"), heard=heard, most_entries={group: 5})
    assert said(shown) == [(f"b{n}", "firing") for n in (9, 1, 2, 3, 4)]
    assert shown["truncatedAlerts"] == 3


def test_an_alert_s_firing_reminder_and_end_share_their_group_with_others_of_its_kind_and_account():
    fired = notification(0)
    keys = [
        body(notification(n, kind=kind), heard=() if kind is MessageKind.FIRING else (fired,))["groupKey"]
        for n, kind in enumerate(MessageKind)
    ]
    assert set(keys) == {'{}:{account="main", alertname="BatchStalled"}'}
    assert body(notification(batch_id="b2"))["groupKey"] == keys[0]
    others = (
        (("account", "other"), ("alertname", "BatchStalled")),
        (("account", "main"), ("alertname", "BatchOverdue")),
    )
    for other in others:
        assert body(replace(fired, alert=Alert(other, (), NOW)))["groupKey"] != keys[0]


def test_what_was_superseded_is_told_with_what_says_more():
    old = notification(1)
    end = notification(2, kind=MessageKind.RESOLVED, superseded_by=AlertName.BATCH_OVERDUE)
    more = replace(old, id="id-3", alert=Alert(labels(alertname="BatchOverdue", batch_id="b1"), (), NOW))
    shown = body(end, more, heard=(old,))
    assert [alert["labels"]["alertname"] for alert in shown["alerts"]] == ["BatchStalled", "BatchOverdue"]
    assert shown["status"] == "firing"
    assert shown["groupLabels"]["alertname"] == "BatchOverdue"


def test_body_and_key_depend_on_nothing_that_a_retry_changes_and_on_all_that_is_said():
    first = message(notification(), external_url=PAGE)
    tried = replace(first, attempts=7, next_attempt_at=NOW)
    assert webhook.render(tried) == webhook.render(first)
    later = message(
        notification(attempts=7, next_attempt_at=NOW, last_error="503", held_until=NOW), external_url=PAGE
    )
    assert (later.id, webhook.render(later)) == (first.id, webhook.render(first))
    for changed in (
        message(notification(2), external_url=PAGE),
        message(notification(), external_url=None),
        message(notification(receiver="other"), external_url=PAGE),
        message(notification(), notification(3, batch_id="b3"), external_url=PAGE),
        message(notification(), heard=(notification(3, batch_id="b3"),), external_url=PAGE),
    ):
        assert changed.id != first.id


def test_an_account_alert_an_empty_label_and_odd_characters():
    said = (("account", 'm"ä\ud800in'), ("alertname", "AccountUnreachable"), ("team", ""))
    row = replace(notification(), alert=Alert(said, (("summary", "\udfff"),), NOW))
    shown = body(row, external_url="javascript:alert(1)")
    assert shown["groupLabels"] == {"account": 'm"ä\ud800in', "alertname": "AccountUnreachable"}
    assert "team" not in shown["commonLabels"]
    assert shown["externalURL"] == shown["alerts"][0]["generatorURL"] == ""
    assert shown["alerts"][0]["annotations"] == {"summary": "\udfff"}


@pytest.mark.parametrize("account", ["", None])
def test_an_alert_without_an_account_is_grouped_by_its_name_alone(account):
    """An empty label is no label."""
    said = labels(alertname="NotificationsDropped", account=account or "")
    said = tuple(pair for pair in said if account is not None or pair[0] != "account")
    shown = body(replace(notification(), alert=Alert(said, (), NOW)))
    assert shown["groupKey"] == '{}:{alertname="NotificationsDropped"}'
    assert shown["groupLabels"] == {"alertname": "NotificationsDropped"}
    assert "account" not in shown["alerts"][0]["labels"]


def test_messages_that_differ_in_a_lone_surrogate_only_have_keys_of_their_own():
    ids = {
        message(replace(notification(), alert=Alert((("alertname", text),), (), NOW))).id
        for text in ("\ud800", "\ud801", "?")
    }
    assert len(ids) == 3


def test_the_fingerprint_is_the_one_a_real_alertmanager_gives():
    said = {"alertname": "BatchStalled", "account": "main", "batch": 'Frühling "x"'}
    assert webhook.fingerprint(said) == "26e18fe861bbd472"  # asked of Alertmanager 0.25
    assert webhook.fingerprint(dict(reversed(said.items()))) == "26e18fe861bbd472"


async def test_headers_name_the_message_and_sign_exactly_the_bytes_sent(receiver, wire):
    told = message(notification(), external_url=PAGE)
    await settings(receiver.url).send(wire, told)
    [request] = receiver.requests
    assert request.path == f"/hooks/{TOKEN}"
    assert request.headers["Idempotency-Key"] == told.id
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"] == f"ultravox-batch-monitor/{__version__}"
    expected = hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Ultravox-Monitor-Signature"] == f"sha256={expected}"
    assert request.body == webhook.render(told)


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
    assert shown["groupKey"] == sent["groupKey"]
    assert shown["groupLabels"] == sent["groupLabels"]
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
    ("answer", "reason", "again_helps", "asked_for", "may_have_arrived"),
    [
        (400, SendFailure.REFUSED, False, None, False),
        (401, SendFailure.REFUSED, False, None, False),
        (404, SendFailure.REFUSED, False, None, False),
        (410, SendFailure.REFUSED, False, None, False),
        (408, SendFailure.TIMEOUT, True, None, False),
        (425, SendFailure.THROTTLED, True, None, False),
        (429, SendFailure.THROTTLED, True, None, False),
        ((429, {"Retry-After": "120"}), SendFailure.THROTTLED, True, timedelta(minutes=2), False),
        ((503, {"Retry-After": "120"}), SendFailure.SERVER_ERROR, True, timedelta(minutes=2), False),
        (500, SendFailure.SERVER_ERROR, True, None, False),
        (502, SendFailure.SERVER_ERROR, True, None, True),
        (504, SendFailure.SERVER_ERROR, True, None, True),
        (304, SendFailure.BAD_RESPONSE, True, None, False),
        (RESET, SendFailure.CONNECTION, True, None, True),
        (GARBAGE, SendFailure.BAD_RESPONSE, True, None, True),
        (HANG, SendFailure.TIMEOUT, True, None, True),
    ],
)
async def test_what_an_answer_means(receiver, wire, answer, reason, again_helps, asked_for, may_have_arrived):
    receiver.script = deque([answer])
    error = await failure(
        settings(receiver.url, timeout=timedelta(seconds=0.2 if answer == HANG else 10)).send(
            wire, message(notification())
        )
    )
    assert (error.reason, error.again_helps, error.retry_after) == (reason, again_helps, asked_for)
    assert error.may_have_arrived is may_have_arrived


@pytest.mark.parametrize(
    ("status", "too_much", "unwelcome"),
    [
        *((status, True, False) for status in (400, 413, 422)),
        *((status, False, True) for status in (401, 403, 404, 405, 410)),
        *((status, False, False) for status in (302, 408, 409, 415, 429, 500, 503)),
    ],
)
async def test_whose_fault_an_answer_says_it_is(receiver, wire, status, too_much, unwelcome):
    """What one of several alerts may have caused, and what any message would have got."""
    receiver.script = deque([status])
    error = await failure(settings(receiver.url).send(wire, message(notification())))
    assert (error.too_much, error.unwelcome, error.may_have_arrived) == (too_much, unwelcome, False)


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
    assert error.may_have_arrived is False


async def test_a_server_that_speaks_no_tls(receiver, wire):
    error = await failure(settings(receiver.url.replace("http", "https")).send(wire, message(notification())))
    assert error.reason is SendFailure.CONNECTION
    assert "TLS" in str(error)
    assert error.may_have_arrived is False


@pytest.mark.parametrize(
    "url", [f"http://[{TOKEN}", f"{TOKEN}", f"ftp://127.0.0.1/{TOKEN}", f"http://:99999999/{TOKEN}"]
)
async def test_an_address_that_is_none_is_an_error_like_any_other(wire, url):
    error = await failure(webhook.Settings(SecretStr(url)).send(wire, message(notification())))
    assert error.reason in {SendFailure.REFUSED, SendFailure.CONNECTION}
    assert error.may_have_arrived is False


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
    assert set(notify.CHANNELS) == {"alertmanager", "apprise", "webhook"}
    for module in notify.CHANNELS.values():
        assert hash(module.Settings) is not None
        assert module.__doc__
    assert set(notify.FAILURES) == {failure.value for failure in SendFailure}
