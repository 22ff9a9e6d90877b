"""The HTTP surface on a real socket: what it answers, to whom, and what it never does."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from dataclasses import dataclass, field
from datetime import timedelta

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NOW, account, batch_key, status

from monitor import web
from monitor.alerts import KINDS, Policy
from monitor.evaluate import Rules, assess
from monitor.explain import explain
from monitor.metrics import Instruments
from monitor.model import (
    AlertName,
    AlertState,
    DiscoveryStatus,
    Outcomes,
    Phase,
    Severity,
    Snapshot,
)
from monitor.web import ReloadRefusedError, server


@dataclass
class Daemon:
    """As much of the daemon as the surface asks for."""

    shown: Snapshot = field(default_factory=lambda: Snapshot(NOW, (status(),), (account(),)))
    lives: bool = True
    polled: bool = True
    refuses: str | None = None
    reloads: int = 0
    records_shown: tuple = ()

    def snapshot(self):
        return self.shown

    def explain(self, batch_id):
        found = [one for one in self.shown.batches if one.key.batch_id.startswith(batch_id)]
        return [(one, explain(one, account(), Policy(), NOW)) for one in found]

    def latest_records(self, count):
        return self.records_shown[:count]

    async def records(self, *, batch_id, receiver, before, count):
        return self.records_shown[:count], True

    def healthy(self):
        return self.lives

    def ready(self):
        return self.polled

    async def reload(self):
        self.reloads += 1
        if self.refuses:
            raise ReloadRefusedError(self.refuses)


@pytest.fixture
def daemon():
    return Daemon()


@pytest.fixture
async def client(daemon):
    instruments = Instruments(endpoints=(), send_failures=(), now=NOW)
    runner = await web.serve(web.Settings("127.0.0.1", 0), daemon, instruments)
    runner.open()
    port = runner.addresses[0][1]
    plainly = {"Accept-Encoding": "identity"}
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(base, headers=plainly, auto_decompress=False) as session:
        yield session
    await runner.cleanup()


async def ask(client, path, method="GET", **options):
    async with client.request(method, path, **options) as answer:
        return answer.status, answer.headers, await answer.read()


async def test_metrics_are_gzipped_for_those_who_can_take_it_and_plain_for_others(client):
    code, headers, body = await ask(client, "/metrics", headers={"Accept-Encoding": "gzip"})
    assert (code, headers["Content-Encoding"]) == (200, "gzip")
    assert b"ultravox_batch_completion_ratio" in gzip.decompress(body)
    code, headers, body = await ask(client, "/metrics", headers={"Accept-Encoding": "identity"})
    assert (code, headers.get("Content-Encoding")) == (200, None)
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"ultravox_batch_completion_ratio" in body


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip; q=1.0, identity", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, deflate", False),
        ("gzip;q=0.", False),
        ("x-gzip-not", False),
        ("", False),
    ],
)
async def test_gzip_is_for_those_who_name_it_and_do_not_refuse_it(client, accepted, packed):
    _, headers, _ = await ask(client, "/metrics", headers={"Accept-Encoding": accepted})
    assert (headers.get("Content-Encoding") == "gzip") is packed


@pytest.mark.parametrize("path", ["/", "/api/v1/batches", "/static/page.css"])
async def test_what_is_long_is_gzipped_where_the_loop_does_not_wait_for_it(client, daemon, monkeypatch, path):
    threads, usual = [], gzip.compress

    def compress(*what, **how):
        threads.append(threading.current_thread())
        return usual(*what, **how)

    daemon.shown = Snapshot(NOW, tuple(status(key=batch_key(number)) for number in range(50)), (account(),))
    _, _, plain = await ask(client, path)
    monkeypatch.setattr(gzip, "compress", compress)
    _, headers, packed = await ask(client, path, headers={"Accept-Encoding": "deflate, gzip"})
    assert (headers["Content-Encoding"], headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert (int(headers["Content-Length"]), gzip.decompress(packed)) == (len(packed), plain)
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda some: st.lists(some) | st.dictionaries(st.text(), some)
    )
)
def test_json_that_is_written_in_parts_is_what_it_would_be_as_a_whole(value):
    assert server._written(value) == json.dumps(value)


async def test_batches_tell_numbers_times_and_reasons(client, daemon):
    _, headers, _ = await ask(client, "/api/v1/batches")
    assert headers["Content-Type"].startswith("application/json")
    async with client.get("/api/v1/batches") as answer:
        data = await answer.json()
    assert data["status"] == "success"
    [batch] = data["data"]["batches"]
    assert batch["batch"] == "spring-renewals"
    assert (batch["calls"], batch["completed_calls"], batch["state"]) == (400, 118, "running")
    assert batch["window_end"] == "2026-11-23T14:00:00.000Z"
    assert batch["ended"] is None
    assert batch["labels"] == {"team": "growth"}
    [main] = data["data"]["accounts"]
    assert (main["account"], main["up"]) == ("main", True)


async def test_alerts_fire_first_the_worst_first_and_told_ones_are_over(client, daemon):
    def alert(name, phase, severity, minutes):
        return AlertState(
            name, phase, NOW - timedelta(minutes=minutes), severity, labels=(("alertname", name.value),)
        )

    states = (
        alert(AlertName.BATCH_ENDED, Phase.TOLD, Severity.INFO, 90),
        alert(AlertName.BATCH_PAUSED_TOO_LONG, Phase.PENDING, Severity.WARNING, 1),
        alert(AlertName.BATCH_STALLED, Phase.FIRING, Severity.WARNING, 2),
    )
    unreachable = alert(AlertName.ACCOUNT_UNREACHABLE, Phase.FIRING, Severity.CRITICAL, 30)
    daemon.shown = Snapshot(NOW, (status(alerts=states),), (account(alerts=(unreachable,)),))
    async with client.get("/api/v1/alerts") as answer:
        found = (await answer.json())["data"]["alerts"]
    assert [(one["alertname"], one["state"]) for one in found] == [
        ("AccountUnreachable", "firing"),
        ("BatchStalled", "firing"),
        ("BatchPausedTooLong", "pending"),
    ]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", ["AccountUnreachable", "BatchStalled", "BatchPausedTooLong"]),
        ("?state=firing", ["AccountUnreachable", "BatchStalled"]),
        ("?state=pending", ["BatchPausedTooLong"]),
        ("?state=firing&limit=1", ["AccountUnreachable"]),
        ("?limit=2", ["AccountUnreachable", "BatchStalled"]),
    ],
)
async def test_who_asks_for_some_alerts_gets_these_and_the_count_of_all(client, daemon, query, told):
    def alert(name, phase, severity):
        return AlertState(name, phase, NOW, severity)

    states = (
        alert(AlertName.BATCH_PAUSED_TOO_LONG, Phase.PENDING, Severity.WARNING),
        alert(AlertName.BATCH_STALLED, Phase.FIRING, Severity.WARNING),
        alert(AlertName.BATCH_ENDED, Phase.TOLD, Severity.INFO),
    )
    unreachable = alert(AlertName.ACCOUNT_UNREACHABLE, Phase.FIRING, Severity.CRITICAL)
    daemon.shown = Snapshot(NOW, (status(alerts=states),), (account(alerts=(unreachable,)),))
    async with client.get(f"/api/v1/alerts{query}") as answer:
        data = (await answer.json())["data"]
    assert [one["alertname"] for one in data["alerts"]] == told
    assert (data["firing"], data["pending"]) == (2, 1)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("state=told", "state=told: alerts are pending or firing"),
        ("limit=0", "limit=0: give a number from 1 to 1000"),
    ],
)
async def test_alerts_that_there_are_not_are_refused(client, query, said):
    async with client.get(f"/api/v1/alerts?{query}") as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, said)


async def test_a_pending_alert_is_shown_with_the_labels_it_would_fire_with(client, daemon):
    pending = AlertState(AlertName.BATCH_OVERDUE, Phase.PENDING, NOW, Severity.CRITICAL)
    rejected = AlertState(AlertName.ACCOUNT_KEY_REJECTED, Phase.PENDING, NOW, Severity.CRITICAL)
    daemon.shown = Snapshot(NOW, (status(alerts=(pending,)),), (account(alerts=(rejected,)),))
    async with client.get("/api/v1/alerts") as answer:
        of_account, of_batch = (one["labels"] for one in (await answer.json())["data"]["alerts"])
    assert of_account == {"account": "main", "alertname": "AccountKeyRejected", "severity": "critical"}
    assert (of_batch["alertname"], of_batch["batch"], of_batch["team"]) == (
        "BatchOverdue",
        "spring-renewals",
        "growth",
    )


@pytest.mark.parametrize(
    ("path", "flag", "good", "bad"),
    [("/-/healthy", "lives", "healthy\n", "unhealthy"), ("/-/ready", "polled", "ready\n", "not ready")],
)
async def test_health_and_readiness_tell_no_data(client, daemon, path, flag, good, bad):
    code, _, body = await ask(client, path)
    assert (code, body.decode()) == (200, good)
    setattr(daemon, flag, False)
    code, _, body = await ask(client, path)
    assert code == 503
    assert body.decode().startswith(bad)


async def test_reload_says_what_is_wrong(client, daemon):
    code, _, body = await ask(client, "/-/reload", "POST")
    assert (code, daemon.reloads) == (200, 1)
    daemon.refuses = "config.yaml:3:5: accounts[0].name: missing"
    code, _, body = await ask(client, "/-/reload", "POST")
    assert code == 500
    assert "config.yaml:3:5: accounts[0].name: missing" in body.decode()


async def test_reload_by_get_does_nothing(client, daemon):
    code, _, _ = await ask(client, "/-/reload")
    assert (code, daemon.reloads) == (405, 0)


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/batches", "/-/healthy"])
async def test_head_is_answered_and_post_is_not(client, path):
    code, _, body = await ask(client, path, "HEAD")
    assert (code, body) == (200, b"")
    code, _, _ = await ask(client, path, "POST")
    assert code == 405


@pytest.mark.parametrize(
    ("method", "path", "code", "kind"),
    [
        ("GET", "/api/v2/batches", 404, "not_found"),
        ("PUT", "/api/v1/batches", 405, "not_allowed"),
        ("GET", "/api/v1/test-alert", 405, "not_allowed"),
        ("POST", "/api/v1/mutes", 413, "bad_data"),
    ],
)
async def test_what_the_server_refuses_below_api_is_json_as_everything_there(
    client, method, path, code, kind
):
    long = {"data": b"[" * 5000, "headers": {"Content-Type": "application/json"}} if code == 413 else {}
    answered, headers, body = await ask(client, path, method, **long)
    assert (answered, headers["Content-Type"].split(";")[0]) == (code, "application/json")
    said = json.loads(body)
    assert (said["status"], said["errorType"], sorted(said)) == (
        "error",
        kind,
        ["error", "errorType", "status"],
    )
    assert ("Allow" in headers) == (code == 405)


async def test_a_batch_that_was_never_observed_has_the_same_keys_as_any_other(client, daemon):
    unseen = status(key=batch_key(2), progress=None, assessment=assess(None, None, Rules()))
    daemon.shown = Snapshot(NOW, (status(), unseen))
    _, _, body = await ask(client, "/api/v1/batches")
    seen, told = sorted(json.loads(body)["data"]["batches"], key=lambda one: one["calls"] is None)
    assert told.keys() == seen.keys()
    assert (told["calls"], told["paused"], told["window_end"], told["ended"]) == (None, None, None, None)


async def test_a_body_that_nobody_asked_for_is_not_read(client, daemon):
    code, _, _ = await ask(client, "/-/reload", "POST", data=b"x" * 100_000)
    assert code in {200, 413}


async def test_what_is_no_http_is_refused_and_is_not_quoted_in_the_log(client, caplog):
    reader, writer = await asyncio.open_connection("127.0.0.1", client._base_url.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic s3cr3t\x00\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    assert caplog.records == []


async def test_an_error_of_ours_is_logged(client, daemon, caplog):
    daemon.snapshot = lambda: 1 / 0
    code, _, _ = await ask(client, "/api/v1/alerts")
    assert (code, [record.levelname for record in caplog.records]) == (500, ["ERROR"])


@pytest.mark.parametrize(
    ("query", "code", "error"),
    [
        ("", 400, "say which: ?batch_id=…, or the beginning of it"),
        ("?batch_id=", 400, "say which: ?batch_id=…, or the beginning of it"),
        ("?batch_id=zzz", 404, "no watched batch has this id"),
        ("?batch_id=3c90", 400, "2 batches' ids begin like this: give more of it"),
    ],
)
async def test_explain_wants_one_batch(client, daemon, query, code, error):
    daemon.shown = Snapshot(NOW, (status(key=batch_key(1)), status(key=batch_key(2))))
    answered, _, body = await ask(client, f"/api/v1/explain{query}")
    assert (answered, json.loads(body)["error"]) == (code, error)


async def test_explain_tells_the_batch_and_every_alert_of_batches(client, daemon):
    answered, _, body = await ask(client, f"/api/v1/explain?batch_id={batch_key(1).batch_id}")
    data = json.loads(body)["data"]
    assert (answered, data["batch"]["batch"]) == (200, "spring-renewals")
    assert [one["alertname"] for one in data["explanations"]] == [
        name.value for name, kind in KINDS.items() if not kind.about_account
    ]
    stalled = next(one for one in data["explanations"] if one["alertname"] == "BatchStalled")
    assert stalled == {
        "alertname": "BatchStalled",
        "state": "inactive",
        "why": "no call for 0 s of 15 min",
        "fires_at": "2026-11-23T12:15:00.000Z",
        "not_told": [],
    }


async def test_batches_that_are_not_watched_because_too_many_are_is_told(client, daemon):
    daemon.shown = Snapshot(NOW, discoveries=(DiscoveryStatus("main", NOW, over_limit=12),))
    _, _, body = await ask(client, "/api/v1/batches")
    [told] = json.loads(body)["data"]["discoveries"]
    assert told == {"account": "main", "last_success": "2026-11-23T12:00:00.000Z", "batches_over_limit": 12}


async def test_outcomes_are_told_once_they_are_known(client, daemon):
    known = Outcomes(NOW, future=282, pending=3, success=100, expired=0, error=15)
    daemon.shown = Snapshot(NOW, (status(), status(key=batch_key(2), outcomes=known)))
    _, _, body = await ask(client, "/api/v1/batches")
    unknown, told = sorted(
        (one["outcomes"] for one in json.loads(body)["data"]["batches"]), key=lambda one: one is not None
    )
    assert unknown is None
    assert told == {
        "at": "2026-11-23T12:00:00.000Z",
        "future": 282,
        "pending": 3,
        "success": 100,
        "expired": 0,
        "error": 15,
    }
