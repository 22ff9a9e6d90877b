"""Alertmanager is told what holds, as Prometheus tells it, and misses nothing that it was away for."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from receivers import HANG, RESET, ScriptedReceiver, notification
from samples import NOW

from monitor.clock import utc_now
from monitor.model import Alert, MessageKind, Notification
from monitor.notify import alertmanager
from monitor.notify.alertmanager import POST_SIZE, Settings, postable
from monitor.notify.channel import SendFailure, Wire

FIRING, RESOLVED, REMINDER = MessageKind.FIRING, MessageKind.RESOLVED, MessageKind.REMINDER
PAGE = "https://monitor.example/"


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def fired(*, taken: float | None = None, given_up: float | None = None, **changes) -> Notification:
    return notification(
        1,
        delivered_at=None if taken is None else at(taken),
        dropped_at=None if given_up is None else at(given_up),
        **changes,
    )


def ended(minute: float, *, taken: float | None = None, given_up: float | None = None) -> Notification:
    return notification(
        2,
        kind=RESOLVED,
        created_at=at(minute),
        delivered_at=None if taken is None else at(taken),
        dropped_at=None if given_up is None else at(given_up),
    )


def minute(text: str) -> float:
    return (datetime.fromisoformat(text) - NOW) / timedelta(minutes=1)


# What is posted when


@pytest.mark.parametrize(
    ("rows", "now", "said", "ends", "settles"),
    [
        # it fires
        ([fired()], 0, "message 1", 4, {"id-1"}),
        ([fired()], 500, "message 1", 504, {"id-1"}),
        ([fired(taken=1)], 500, "message 1", 504, set()),
        # a one-shot fires an hour from when it was taken, whenever that is
        ([fired(one_shot=True)], 300, "message 1", 360, {"id-1"}),
        ([fired(one_shot=True, taken=300)], 300, "message 1", 360, set()),
        ([fired(one_shot=True, taken=300)], 359, "message 1", 360, set()),
        ([fired(one_shot=True, taken=300)], 360, None, None, None),
        # it was taken, then it ended
        ([fired(taken=1), ended(30)], 30, "message 2", 30, {"id-2"}),
        ([fired(taken=1), ended(30)], 50, "message 2", 30, {"id-2"}),
        ([fired(taken=29.9), ended(30)], 30, "message 2", 30, {"id-2"}),
        ([fired(taken=1), ended(30, taken=50)], 64.9, "message 2", 30, set()),
        ([fired(taken=1), ended(30, taken=50)], 65, None, None, None),
        # it had ended before it was taken
        ([fired(), ended(30)], 30, "message 1", 34, {"id-1"}),
        ([fired(taken=30), ended(30)], 30, "message 1", 34, set()),
        ([fired(), ended(30)], 99, "message 1", 103, {"id-1"}),
        ([fired(taken=99), ended(30)], 100, "message 1", 104, set()),
        ([fired(taken=99), ended(30)], 108.9, "message 1", 112.9, set()),
        ([fired(taken=99), ended(30)], 109, "message 2", 109, {"id-2"}),
        ([fired(taken=99), ended(30)], 111, "message 2", 109, {"id-2"}),
        ([fired(taken=99), ended(30, taken=111)], 125.9, "message 2", 109, set()),
        ([fired(taken=99), ended(30, taken=111)], 126, None, None, None),
        # it was given up
        ([fired(given_up=1)], 2, None, None, None),
        ([fired(given_up=1), ended(30)], 30, None, None, None),
        ([fired(taken=1), ended(30, given_up=40)], 41, None, None, None),
        # it was over before its mute was: nothing is left to tell of it, whoever else may have been told
        ([replace(fired(), overtaken_at=NOW), replace(ended(1), overtaken_at=NOW)], 2, None, None, None),
        ([fired(taken=1), replace(ended(2), overtaken_at=NOW)], 3, None, None, None),
        # only the message of its end is left
        ([ended(30)], 31, "message 2", 30, {"id-2"}),
        # Alertmanager reminds by itself
        ([fired(taken=1), replace(fired(), id="id-9", kind=REMINDER)], 60, "message 1", 64, {"id-9"}),
        ([replace(fired(), kind=REMINDER)], 1, None, None, None),
        ([], 0, None, None, None),
    ],
)
def test_what_the_outbox_amounts_to(rows, now, said, ends, settles):
    for order in (rows, rows[::-1]):
        posts = postable(order, at(now), None)
        if said is None:
            assert posts == []
            continue
        [post] = posts
        assert post.body["annotations"]["summary"] == said
        assert minute(post.body["startsAt"]) == 0
        assert minute(post.body["endsAt"]) == pytest.approx(ends)
        assert post.settles == settles
        assert post.covers == {row.id for row in rows}


def test_the_body_holds_strings_only_and_no_empty_label():
    alert = Alert((("alertname", "BatchStalled"), ("team", "")), (("summary", ""), ("cause", "x")), NOW)
    [post] = postable([replace(fired(), alert=alert)], NOW, PAGE)
    assert post.body == {
        "labels": {"alertname": "BatchStalled"},
        "annotations": {"summary": "", "cause": "x"},
        "startsAt": "2026-11-23T12:00:00Z",
        "endsAt": "2026-11-23T12:04:00Z",
        "generatorURL": PAGE,
    }


@pytest.mark.parametrize("url", [None, "", "monitor", "http://a b"])
def test_a_bad_generator_url_is_left_out_for_it_would_have_everything_refused(url):
    [post] = postable([fired()], NOW, url)
    assert "generatorURL" not in post.body


def test_of_one_alert_only_the_latest_episode_is_posted_and_settles_the_ones_before():
    old = [fired(taken=1), ended(30)]
    new = notification(3, starts_at=at(40), created_at=at(40))
    [post] = postable([*old, new], at(41), None)
    assert post.body["annotations"]["summary"] == "message 3"
    assert post.settles == {"id-2", "id-3"}
    assert post.covers == {"id-1", "id-2", "id-3"}
    end = notification(4, kind=RESOLVED, starts_at=at(40), created_at=at(43))
    [post] = postable([*old, replace(new, delivered_at=at(42)), end], at(43), None)
    assert post.settles == {"id-2", "id-4"}


def test_alerts_of_different_labels_do_not_know_each_other():
    posts = postable([fired(), notification(5, batch_id="b2", starts_at=at(-5))], NOW, None)
    assert [post.body["labels"]["batch_id"] for post in posts] == ["b2", "b1"]


minutes = st.integers(0, 3000).map(float)


@st.composite
def lives(draw):
    """An alert's rows as they may stand at some minute, and the minute."""
    now = draw(minutes)
    one_shot = draw(st.booleans())
    taken = draw(st.none() | st.floats(0, now))
    rows = [fired(taken=taken, one_shot=one_shot)]
    if not one_shot and draw(st.booleans()):
        rows.append(ended(draw(st.floats(0, now))))
    return rows, now


@given(lives())
def test_whatever_happened_it_is_never_ended_before_it_was_taken_and_what_fires_ends_later(life):
    rows, now = life
    for post in postable(rows, at(now), None):
        firing = rows[0]
        if post.body["annotations"]["summary"] == "message 2":
            assert firing.delivered_at is not None
            assert minute(post.body["endsAt"]) <= now
        else:
            assert minute(post.body["endsAt"]) > now
        assert minute(post.body["startsAt"]) <= minute(post.body["endsAt"])


@given(st.floats(0, 3000), st.floats(0, 3000))
def test_a_one_shot_is_gone_an_hour_after_it_was_taken(taken, later):
    posted = bool(postable([fired(one_shot=True, taken=taken)], at(taken + later), None))
    assert posted is (at(taken + later) < at(taken) + timedelta(hours=1))


@given(st.floats(0, 600), st.floats(0, 600), st.integers(0, 3))
def test_an_alert_taken_after_its_end_is_held_and_comes_to_rest(end, first_try, down_for):
    """Minute after minute, with an Alertmanager that takes things from `first_try` on."""
    rows = {"id-1": fired(), "id-2": ended(end)}
    now, heard = max(end, first_try), []
    for _ in range(60):
        posts = postable(rows.values(), at(now), None)
        if not posts:
            break
        [post] = posts
        for row_id in post.settles:
            rows[row_id] = replace(rows[row_id], delivered_at=at(now))
        heard.append(post.body["annotations"]["summary"])
        now += 1 + down_for
    assert heard == sorted(heard)  # firing, then ended, never back
    assert set(heard) == {"message 1", "message 2"}
    assert heard.count("message 1") * (1 + down_for) >= 10
    assert all(row.settled for row in rows.values())
    assert postable(rows.values(), at(now), None) == []


# Over the wire


@pytest.fixture
async def peers():
    made = [ScriptedReceiver(), ScriptedReceiver()]
    for peer in made:
        await peer.start()
    yield made
    for peer in made:
        await peer.stop()


@pytest.fixture
async def wire():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield Wire(session, "oncall", NOW)


def settings(*peers: ScriptedReceiver, timeout: float = 10) -> Settings:
    return Settings(tuple(SecretStr(peer.url) for peer in peers), timedelta(seconds=timeout))


def many(count: int) -> list[Notification]:
    return [notification(n, batch_id=f"b{n:04}") for n in range(count)]


async def test_every_peer_gets_everything_under_a_prefix_too(peers, wire):
    channel = Settings((SecretStr(peers[0].url), SecretStr(f"{peers[1].url}/am/")))
    told = await channel.tell(wire, many(3), all_of_it=True)
    assert told.accepted == {"id-0", "id-1", "id-2"}
    assert [request.path for request in peers[0].requests] == ["/api/v2/alerts"]
    assert [request.path for request in peers[1].requests] == ["/am/api/v2/alerts"]
    assert peers[0].requests[0].body == peers[1].requests[0].body
    assert told.failures == ()
    assert told.down is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RESET, SendFailure.CONNECTION),
        (503, SendFailure.SERVER_ERROR),
        (404, SendFailure.REFUSED),
        (HANG, SendFailure.TIMEOUT),
    ],
)
async def test_one_dead_peer_does_not_matter_but_is_counted(peers, wire, answer, reason):
    peers[0].script = deque([answer] * 5)
    timeout = 0.2 if answer == HANG else 10
    told = await settings(*peers, timeout=timeout).tell(wire, many(3), all_of_it=True)
    assert told.accepted == {"id-0", "id-1", "id-2"}
    assert [failure.reason for failure in told.failures] == [reason]
    assert told.down is None
    assert told.refused == {}


async def test_when_all_are_down_nothing_is_delivered_and_the_wait_asked_for_is_passed_on(peers, wire):
    peers[0].script = deque([(503, {"Retry-After": "30"})])
    peers[1].script = deque([RESET])
    told = await settings(*peers).tell(wire, many(3), all_of_it=True)
    assert told.accepted == frozenset()
    assert told.down is not None
    assert told.down.retry_after == timedelta(seconds=30)
    assert len(told.failures) == 2


@pytest.mark.parametrize("status", [400, 422])
async def test_one_bad_alert_among_good_ones_is_found_and_only_it_is_refused(peers, wire, status):
    def answer(request):
        bad = any(alert["labels"]["batch_id"] == "b0001" for alert in request.json)
        return status if bad else 200

    peers[0].script = deque([answer] * 10)
    told = await settings(peers[0]).tell(wire, many(3), all_of_it=True)
    assert told.accepted == {"id-0", "id-2"}
    assert set(told.refused) == {"id-1"}
    assert [failure.reason for failure in told.failures] == [SendFailure.REFUSED]
    assert told.down is None
    assert [len(request.json) for request in peers[0].requests] == [3, 1, 1, 1]


async def test_what_one_peer_refuses_and_another_takes_is_delivered(peers, wire):
    peers[0].script = deque([400])
    told = await settings(*peers).tell(wire, many(1), all_of_it=True)
    assert told.accepted == {"id-0"}
    assert told.refused == {}


async def test_a_wrong_address_is_not_asked_for_every_alert_alone(peers, wire):
    peers[0].script = deque([404] * 10)
    told = await settings(peers[0]).tell(wire, many(5), all_of_it=True)
    assert len(peers[0].requests) == 1
    assert told.down is not None


async def test_very_many_alerts_go_in_several_posts_and_a_dead_peer_is_left_after_the_first(peers, wire):
    peers[1].script = deque([RESET] * 9)
    told = await settings(*peers).tell(wire, many(2 * POST_SIZE + 1), all_of_it=True)
    assert [len(request.json) for request in peers[0].requests] == [POST_SIZE, POST_SIZE, 1]
    assert len(peers[1].requests) == 1
    assert len(told.accepted) == 2 * POST_SIZE + 1


async def test_between_two_rounds_only_the_new_is_posted(peers, wire):
    old = notification(1, delivered_at=NOW)
    new = notification(2, batch_id="b2")
    told = await settings(peers[0]).tell(wire, [old, new], all_of_it=False)
    assert [alert["labels"]["batch_id"] for alert in peers[0].requests[0].json] == ["b2"]
    assert told.needed == {"id-1", "id-2"}
    await settings(peers[0]).tell(wire, [old], all_of_it=False)
    assert len(peers[0].requests) == 1


async def test_a_refused_alert_is_left_alone_until_its_time(peers, wire):
    refused = notification(1, next_attempt_at=NOW + timedelta(minutes=5), attempts=1)
    told = await settings(peers[0]).tell(wire, [refused], all_of_it=True)
    assert peers[0].requests == []
    assert told.needed == {"id-1"}
    await settings(peers[0]).tell(replace(wire, now=NOW + timedelta(minutes=5)), [refused], all_of_it=True)
    assert len(peers[0].requests) == 1


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("end", [True, False])
async def test_needed_is_whatever_still_has_something_to_say(peers, wire, settled, end):
    rows = [fired(taken=-100 if settled else None)]
    if end:
        rows.append(ended(-50, taken=-20 if settled else None))
    told = await settings(peers[0]).tell(wire, rows, all_of_it=True)
    assert told.needed == (set() if settled and end else {row.id for row in rows})


# The real one


@pytest.fixture
async def real(tmp_path, peers):
    """A real Alertmanager that notifies the first peer; its address."""
    config = tmp_path / "am.yml"
    config.write_text(
        "route: {receiver: a, group_wait: 1s, group_interval: 1s}\n"
        f"receivers: [{{name: a, webhook_configs: [{{url: '{peers[0].url}', send_resolved: true}}]}}]\n"
    )
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if binary is None:
        pytest.skip("no Alertmanager on PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        binary,
        f"--config.file={config}",
        f"--storage.path={tmp_path / 'am'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        stderr=asyncio.subprocess.DEVNULL,
    )
    yield f"http://{address}"
    process.terminate()
    await process.wait()


@pytest.mark.stack
async def test_a_real_alertmanager_notifies_what_had_ended_before_it_came_and_says_which_alert_is_bad(
    real, wire, peers, monkeypatch
):
    monkeypatch.setattr(alertmanager, "HOLD_FIRING", timedelta(seconds=4))
    start = utc_now() - timedelta(minutes=30)
    bad = notification(3)
    rows = [
        notification(1, batch_id="late", starts_at=start, created_at=start),
        notification(2, batch_id="late", kind=RESOLVED, starts_at=start, created_at=start),
        replace(bad, alert=replace(bad.alert, labels=(*bad.alert.labels, ("not a label", "x")))),
    ]
    channel, refused = Settings((SecretStr(real),)), set()
    async with asyncio.timeout(45):
        while {request.json["status"] for request in peers[0].requests} != {"firing", "resolved"}:
            told = await channel.tell(replace(wire, now=utc_now()), rows, all_of_it=True)
            refused |= set(told.refused)
            rows = [replace(r, delivered_at=utc_now()) if r.id in told.accepted else r for r in rows]
            await asyncio.sleep(0.5)  # its clock is the wall clock
    assert refused == {"id-3"}
    heard = [request.json["alerts"] for request in peers[0].requests]
    said = [alert["annotations"]["summary"] for alerts in heard for alert in alerts]
    assert (said[0], said[-1]) == ("message 1", "message 2")
    assert set(said) == {"message 1", "message 2"}
