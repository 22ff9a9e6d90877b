"""Who was told what, and why not: the record, mutes and test alerts, asked of a real delivery over a real socket."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import aiohttp
import pytest
from click.testing import CliRunner
from pages import text_of
from pydantic import SecretStr
from receivers import MovedClock, notification
from samples import BATCH, NOW, status

from monitor import notify, web
from monitor.cli import cli
from monitor.delivery import Delivery, Settings
from monitor.metrics import Instruments
from monitor.model import MessageKind
from monitor.notify import alertmanager, webhook
from monitor.routing import Pacing
from monitor.store import Change, Store
from monitor.surface import Surface

TOKEN = "t0k3n-in-the-path"
WAIT = timedelta(seconds=30)


class Desk:
    """A delivery with its record, and an HTTP surface to ask it; the turns are taken by hand."""

    def __init__(self, path) -> None:
        self.clock = MovedClock()
        self.closed = False
        self.store = Store(path, clock=self.clock)
        self.instruments = Instruments(endpoints=(), send_failures=notify.FAILURES, now=NOW)
        self.delivery = Delivery(
            self.store, clock=self.clock, instruments=self.instruments, jitter=lambda top: top
        )
        self.book = SimpleNamespace(
            statuses={one.key: one for one in (status(),)}, accounts={}, watches={}, receivers=()
        )
        rounds = SimpleNamespace(discoveries=tuple)
        self.surface = Surface(
            self.book,
            rounds,
            self.delivery,
            self.store,
            SimpleNamespace(),
            SimpleNamespace(),
            self.clock,
            reload=asyncio.sleep,
            started_at=NOW,
        )

    async def open(self) -> None:
        self.delivery.restore(await self.store.open())
        self.delivery._turns.session = aiohttp.ClientSession()
        self.delivery._employ = lambda queue: None
        self.runner = await web.serve(web.Settings("127.0.0.1", 0), self.surface, self.instruments)
        self.runner.open()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        await self.runner.cleanup()
        await self.delivery.stop(timedelta(0))
        await self.store.close()

    async def say(self, *rows) -> None:
        await self.store.commit(Change(notifications=rows))
        self.delivery.enqueue(rows)

    async def turn(self, name: str = "crm"):
        return await self.delivery._turns.take(self.delivery._queues[name])

    async def ask(self, path: str):
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/api/v1/{path}") as answer:
            return answer.status, await answer.json()

    async def told(self, query: str = "") -> list[dict]:
        code, answer = await self.ask(f"notifications{query}")
        assert code == 200
        return answer["data"]["notifications"]

    async def post(self, path: str, body, **headers: str):
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/api/v1/{path}", json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()

    async def command(self, *arguments: str):
        """Run a command of the command line against it, as its user does: from another thread."""
        runner = CliRunner()
        return await asyncio.to_thread(runner.invoke, cli, [*arguments, "--url", self.url])


@pytest.fixture
async def desk(tmp_path, server):
    made = Desk(tmp_path / "monitor.db")
    await made.open()
    made.delivery.set_receivers({"crm": hook(server)})
    yield made
    await made.close()


def hook(server, wait: timedelta = WAIT) -> Settings:
    url = SecretStr(f"{server.url}/{TOKEN}")
    return Settings(webhook.Settings(url, timeout=timedelta(seconds=1)), pacing=Pacing(group_wait=wait))


def stalled(number: int = 1, **changes):
    return notification(number, batch_id=BATCH, **changes)


# What waits, and for what


async def test_what_waits_says_for_what_and_until_when(desk, server):
    await desk.say(stalled())
    [one] = await desk.told()
    assert (one["status"], one["why"], one["alertname"]) == ("waiting", "first", "BatchStalled")
    assert one["waits_for"] == "what falls due with it is told with it"
    assert one["waits_until"] == "2026-11-23T12:00:30.000Z"
    desk.clock.move(seconds=31)
    [one] = await desk.told()
    assert one["waits_for"] == "it is due"


async def test_a_failing_receiver_is_why_it_waits(desk, server):
    server.script.append(503)
    await desk.say(stalled())
    desk.clock.move(seconds=30)
    await desk.turn()
    [one] = await desk.told()
    assert one["waits_for"] == "the receiver fails: crm answered 503"
    assert (one["attempts"], one["last_error"], one["waits_until"]) == (
        1,
        "crm answered 503",
        "2026-11-23T12:00:31.000Z",
    )


async def test_what_may_have_arrived_says_so(desk, server):
    server.script.append(504)
    await desk.say(stalled())
    desk.clock.move(seconds=30)
    await desk.turn()
    desk.clock.move(seconds=2)
    [one] = await desk.told()
    assert one["waits_for"] == "it may have arrived and is sent again"


async def test_a_receiver_that_is_gone_is_why_it_waits(desk):
    await desk.say(stalled())
    desk.delivery.set_receivers({})
    [one] = await desk.told()
    assert one["waits_for"] == "its receiver is not configured"
    assert one["waits_until"] == "2026-11-24T12:00:00.000Z"


async def test_what_was_delivered_says_when_after_how_many_tries_and_under_which_key(desk, server):
    server.script.append(503)
    await desk.say(stalled())
    desk.clock.move(seconds=30)
    await desk.turn()
    desk.clock.move(seconds=5)
    await desk.turn()
    [one] = await desk.told()
    assert (one["status"], one["attempts"], one["settled_at"]) == ("delivered", 2, "2026-11-23T12:00:35.000Z")
    assert one["message_id"] == server.requests[-1].headers["Idempotency-Key"]
    assert one["waits_for"] is None


async def test_what_was_not_told_says_why(desk, server):
    await desk.say(stalled(2, kind=MessageKind.RESOLVED))
    await desk.turn()
    [one] = await desk.told()
    assert (one["status"], one["why"]) == ("overtaken", "resolved")
    assert one["overtaken"] == "its beginning was never told"


async def test_the_record_is_searched_by_batch_receiver_and_time_and_survives_a_restart(
    desk, server, tmp_path
):
    await desk.say(stalled(1), notification(2, batch_id="another"), stalled(3, receiver="ops"))
    assert [one["id"] for one in await desk.told(f"?batch_id={BATCH[:8]}&receiver=crm")] == ["id-1"]
    assert [one["id"] for one in await desk.told("?receiver=ops")] == ["id-3"]
    assert await desk.told("?before=2026-11-23T12:00:00Z") == []
    assert len(await desk.told("?before=2026-11-23T12:00:01Z")) == 3
    assert len(await desk.told("?limit=2")) == 2
    desk.clock.move(seconds=30)
    await desk.turn()
    await desk.close()
    again = Desk(tmp_path / "monitor.db")
    again.clock.move(days=2)  # no longer among the latest in memory
    await again.open()
    assert {one["id"]: one["status"] for one in await again.told(f"?batch_id={BATCH}")} == {
        "id-1": "delivered",
        "id-3": "waiting",
    }
    await again.close()


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=1_0",
        "limit=%2B7",
        "before=yesterday",
        "before=2026-11-23T12:00:00",
    ],
)
async def test_a_wrong_question_is_told_what_is_wrong(desk, query):
    code, answer = await desk.ask(f"notifications?{query}")
    assert (code, answer["errorType"]) == (400, "bad_data")
    assert answer["error"].split()[0] in {"limit", "before"}


async def test_without_the_state_file_the_latest_is_told_and_that_it_is_not_all(desk, monkeypatch):
    await desk.say(stalled())
    monkeypatch.setattr("monitor.store.COMMIT_PATIENCE", 0.05)
    held = asyncio.get_running_loop().run_in_executor(
        desk.store._thread, lambda: asyncio.run(asyncio.sleep(0.3))
    )
    _, answer = await desk.ask("notifications")
    assert answer["data"]["complete"] is False
    assert [one["id"] for one in answer["data"]["notifications"]] == ["id-1"]
    await held


# Mutes


async def test_a_mute_holds_a_batch_and_its_end_tells_what_still_fires(desk, server):
    code, answer = await desk.post("mutes", {"batch_id": BATCH[:8], "for_seconds": 7200})
    assert (code, answer["data"]) == (
        200,
        {"batch_id": BATCH, "batch": "spring-renewals", "until": "2026-11-23T14:00:00.000Z"},
    )
    await desk.say(stalled(), notification(2, batch_id="another"))
    desk.clock.move(minutes=1)
    await desk.turn()
    assert [one["labels"]["batch_id"] for request in server.requests for one in request.json["alerts"]] == [
        "another"
    ]
    waiting = next(one for one in await desk.told() if one["status"] == "waiting")
    assert (waiting["waits_for"], waiting["waits_until"]) == ("it is muted", "2026-11-23T14:00:00.000Z")
    assert (await desk.ask("mutes"))[1]["data"]["mutes"] == [
        {"batch_id": BATCH, "batch": "spring-renewals", "until": "2026-11-23T14:00:00.000Z"}
    ]
    desk.clock.now = NOW + timedelta(hours=2, seconds=1)
    await desk.turn()
    assert [one["labels"]["batch_id"] for one in server.requests[-1].json["alerts"]] == [BATCH, "another"]
    assert (await desk.ask("mutes"))[1]["data"]["mutes"] == []


async def test_the_page_shows_who_is_muted_what_waits_and_what_was_told(desk, server):
    await desk.say(stalled(), notification(2, batch_id="another"))
    await desk.post("mutes", {"batch_id": BATCH, "for_seconds": 7200})
    desk.clock.move(minutes=1)
    await desk.turn()
    async with aiohttp.ClientSession() as session, session.get(desk.url) as answer:
        page = text_of(await answer.text())
    assert "spring-renewals until 2026-11-23 14:00 UTC" in page
    assert "waiting: it is muted" in page
    assert "delivered 2026-11-23 12:01 UTC" in page
    assert TOKEN not in page


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"batch_id": "ffff", "for_seconds": 60}, 404),
        ({"batch_id": "", "for_seconds": 60}, 400),
        ({"batch_id": BATCH}, 400),
        ({"batch_id": BATCH, "for_seconds": True}, 400),
        ({"batch_id": BATCH, "for_seconds": -1}, 400),
        ({"batch_id": BATCH, "for_seconds": float(31 * 86400)}, 400),
        ({"batch_id": BATCH, "for_seconds": 60, "until": "tomorrow"}, 400),
        ([], 400),
    ],
)
async def test_a_wrong_mute_is_refused(desk, body, code):
    assert (await desk.post("mutes", body))[0] == code
    assert desk.delivery.mutes() == ()


async def test_what_a_page_elsewhere_can_make_a_browser_send_is_refused(desk):
    async with aiohttp.ClientSession() as session:
        for path in ("mutes", "test-alert"):
            async with session.post(f"{desk.url}/api/v1/{path}", data='{"batch_id": "3c90"}') as answer:
                assert answer.status == 415


async def test_a_key_that_there_is_not_is_refused_and_nobody_is_tested(desk, server):
    code, answer = await desk.post("test-alert", {"reciever": "crm"})
    assert (code, answer["error"]) == (400, "reciever: there is no such key; there are receiver")
    assert server.requests == []


async def test_a_mute_of_a_batch_that_is_no_longer_watched_has_no_name(desk):
    await desk.post("mutes", {"batch_id": BATCH, "for_seconds": 60})
    desk.book.statuses.clear()
    [mute] = (await desk.ask("mutes"))[1]["data"]["mutes"]
    assert (mute["batch_id"], mute["batch"]) == (BATCH, None)


@pytest.mark.parametrize("body", ["{", "[" * 4000, "\xff".encode("latin-1"), ""])
async def test_a_body_that_is_no_json_is_refused(desk, body):
    headers = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{desk.url}/api/v1/mutes", data=body, headers=headers) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]) == (400, "the body is not JSON")


async def test_mute_and_unmute_on_the_command_line(desk):
    done = await desk.command("mute", BATCH[:8], "--for", "1h30m")
    assert (done.exit_code, done.output) == (0, "spring-renewals is muted until 2026-11-23 13:30 UTC\n")
    assert [mute.until for mute in desk.delivery.mutes()] == [NOW + timedelta(minutes=90)]
    done = await desk.command("unmute", BATCH[:8])
    assert (done.exit_code, done.output) == (0, "spring-renewals is not muted\n")
    assert desk.delivery.mutes() == ()
    done = await desk.command("mute", "ffff", "--for", "1h")
    assert (done.exit_code, done.output) == (1, "no watched batch has this id\n")
    done = await desk.command("mute", BATCH, "--for", "90")
    assert done.exit_code == 2
    assert "write it like 30s, 5m or 1h30m" in done.output


# Test alerts


async def test_a_test_alert_goes_through_every_receiver_and_says_why_not(desk, server):
    oncall = alertmanager.Settings((SecretStr(server.url),))
    desk.delivery.set_receivers({"crm": hook(server), "oncall": Settings(oncall), "chat": hook(server)})
    desk.delivery._queues["crm"].paused_until = NOW + timedelta(minutes=5)  # past all queues
    asked = []
    answers = {"crm": 200, "chat": 500}

    def answer(request):
        asked.append(request)
        body = request.json
        return 200 if isinstance(body, list) else answers[body["receiver"]]

    server.script.extend([answer] * 3)
    done = await desk.command("test-alert")
    assert done.exit_code == 1
    said = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in done.output.splitlines()}
    assert said["chat"] == "NOT DELIVERED: chat answered 500"
    assert said["crm"].startswith("delivered in ")
    assert said["oncall"].startswith("delivered in ")
    webhooks = [request.json for request in asked if isinstance(request.json, dict)]
    assert {one["alerts"][0]["labels"]["alertname"] for one in webhooks} == {"TestAlert"}
    [posted] = [request.json for request in asked if isinstance(request.json, list)]
    assert posted[0]["annotations"]["summary"].startswith("This is a test of Ultravox Batch Monitor")
    told = {one["receiver"]: one["status"] for one in await desk.told()}
    assert told == {"crm": "delivered", "oncall": "delivered", "chat": "dropped"}
    assert all(not queue.pending for queue in desk.delivery.queues())


async def test_a_test_alert_to_one_receiver_to_none_and_to_one_that_is_not_there(desk, server):
    desk.delivery.set_receivers({"ops/slack": hook(server), "ops/mailto": hook(server), "crm": hook(server)})
    done = await desk.command("test-alert", "--receiver", "ops")
    assert [line.split()[0] for line in done.output.splitlines()] == ["ops/slack", "ops/mailto"]
    done = await desk.command("test-alert", "--receiver", "nobody")
    assert (done.exit_code, done.output) == (1, "no receiver has this name\n")
    desk.delivery.set_receivers({})
    done = await desk.command("test-alert")
    assert done.exit_code == 1
    assert "no receiver is configured" in done.output
