"""The pages as they leave the server, before any browser: what is on them, what stays text, what they may load."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta

import aiohttp
import pytest
from pages import text_of
from samples import NOW, account, batch_key, observation, status
from test_web import Daemon

from monitor import evaluate, web
from monitor.metrics import Instruments
from monitor.model import (
    AlertName,
    AlertState,
    Changes,
    DiscoveryStatus,
    FailureReason,
    Mute,
    Outcomes,
    Phase,
    QueueStatus,
    Severity,
    Snapshot,
    State,
    StateChange,
)

STALLED = AlertState(
    AlertName.BATCH_STALLED,
    Phase.FIRING,
    NOW,
    Severity.WARNING,
    labels=(("alertname", "BatchStalled"), ("batch", "spring-renewals"), ("batch_id", batch_key(1).batch_id)),
    annotations=(
        ("cause", "seen paused since 2026-11-23 11:00 UTC"),
        ("runbook_url", "https://runbooks.example/BatchStalled"),
        ("summary", "spring-renewals has made no call for 22 min"),
    ),
)


@pytest.fixture
def daemon():
    return Daemon()


@pytest.fixture
async def ask(daemon):
    """To ask for a path; the answer is its status, headers and body."""
    instruments = Instruments(endpoints=(), send_failures=(), now=NOW)
    runner = await web.serve(web.Settings("127.0.0.1", 0), daemon, instruments)
    runner.open()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:

        async def ask(path, **options):
            async with session.get(path, **options) as answer:
                return answer.status, answer.headers, await answer.text()

        yield ask
    await runner.cleanup()


def path(number=1):
    return f"/batches/{batch_key(number).batch_id}"


# All batches


async def test_each_batch_has_its_bar_and_what_fires_its_cause(ask, daemon):
    failing = evaluate.failed(None, FailureReason.TIMEOUT, "account main: no answer within 10 s", NOW)
    daemon.shown = Snapshot(
        NOW,
        (
            status(alerts=(STALLED,), key=batch_key(1)),
            status(observation(total=0, completed=0), key=batch_key(2), failing=failing),
        ),
        (account(active_calls=5, allowed_concurrent_calls=5),),
        (QueueStatus("oncall", 1, NOW, last_error="receiver oncall: HTTP 500"),),
        mutes=(Mute(batch_key(1).batch_id, NOW + timedelta(hours=2)),),
        store_writable=False,
        started_at=NOW - timedelta(hours=3),
        reload_error="config.yaml:3:5: accounts[0].name: missing",
    )
    code, _, page = await ask("/")
    said = text_of(page)
    assert code == 200
    assert page.count("<progress") == 1
    assert 'value="0.295" max="1" aria-label="spring-renewals: 118 of 400 done"' in page
    assert "warning BatchStalled since" in said
    assert (
        "spring-renewals has made no call for 22 min Cause: seen paused since 2026-11-23 11:00 UTC." in said
    )
    assert 'href="https://runbooks.example/BatchStalled"' in page
    assert f'href="batches/{batch_key(1).batch_id}"' in page
    assert "Ultravox did not answer in time" in said
    assert 'title="account main: no answer within 10 s"' in page
    assert "5 of 5 calls active: at its cap" in said
    assert "oncall 1 message waiting" in said
    assert "receiver oncall: HTTP 500" in said
    assert "The state file cannot be written" in said
    assert "the one before is in effect: config.yaml:3:5: accounts[0].name: missing" in said
    assert "spring-renewals until 2026-11-23 14:00 UTC" in said
    assert "up for 3 h" in said
    assert "<title>(1) Ultravox Batch Monitor</title>" in page


async def test_a_tile_for_each_state_there_is_and_none_for_others(ask, daemon):
    paused = status(observation(paused=True), key=batch_key(2))
    daemon.shown = Snapshot(NOW, (status(key=batch_key(1)), paused))
    _, _, page = await ask("/")
    tiles = re.search(r'<nav class="tiles".*?</nav>', page, re.DOTALL)[0]
    assert text_of(tiles) == "2 all 1 paused 1 running"
    assert 'href="?state=paused"' in tiles


async def test_tiles_count_what_they_lead_to(ask, daemon):
    at_risk = replace(STALLED, name=AlertName.BATCH_WINDOW_AT_RISK)
    daemon.shown = Snapshot(
        NOW,
        (
            status(key=batch_key(1), alerts=(at_risk,)),
            status(key=batch_key(2)),
            status(observation(window_end=NOW - timedelta(minutes=1)), key=batch_key(3), alerts=(at_risk,)),
        ),
    )
    for asked in ("/", "/?firing=any", "/?firing=BatchWindowAtRisk", "/?state=overdue"):
        _, _, page = await ask(asked)
        tiles = re.search(r'<nav class="tiles".*?</nav>', page, re.DOTALL)[0]
        assert text_of(tiles) == "3 all 1 at risk 1 overdue 2 running"
        for link, count in re.findall(r'href="(\?[^"]*)"[^>]*><b>(\d+)</b>', tiles):
            _, _, there = await ask("/" + link.replace("&amp;", "&"))
            assert there.count('<tr role="row" id="b-') == int(count), (asked, link)


async def test_the_form_asks_again_for_what_was_asked(ask, daemon):
    _, _, page = await ask("/?firing=BatchWindowAtRisk&account=nobody")
    assert 'name="firing" value="BatchWindowAtRisk" checked' in page
    assert "<option selected>nobody</option>" in page


async def test_links_keep_what_was_asked_for_and_begin_at_the_first_page(ask, daemon):
    daemon.shown = Snapshot(NOW, tuple(status(key=batch_key(number)) for number in range(7)))
    _, _, page = await ask("/?q=spring+renewals&limit=2&page=2&sort=-name&account=main")
    assert "3 to 4 of 7, page 2 of 4" in text_of(page)
    found = dict(re.findall(r'href="\?([^"]*)"[^>]*>(Later|Earlier|Pace|Batch)<', page))
    later, pace = (next(link for link, text in found.items() if text == name) for name in ("Later", "Pace"))
    assert set(later.split("&amp;")) == {
        "q=spring-renewals".replace("-", "+"),
        "limit=2",
        "page=3",
        "sort=-name",
        "account=main",
    }
    assert set(pace.split("&amp;")) == {"q=spring+renewals", "limit=2", "sort=pace", "account=main"}


async def test_a_question_without_sense_is_answered_with_everything_and_says_so(ask):
    code, _, page = await ask("/?sort=%3Cscript%3E")
    assert code == 400
    assert "sort=<script>: order by worst, name, progress, pace, window, seen" in text_of(page)
    assert "<script>" not in page
    assert "spring-renewals" in page


async def test_without_batches_it_is_a_page(ask, daemon):
    daemon.shown = Snapshot(NOW)
    code, _, page = await ask("/")
    assert code == 200
    assert "No batch is watched" in text_of(page)
    assert "No account is configured" in text_of(page)
    daemon.shown = Snapshot(NOW, (status(),))
    _, _, page = await ask("/?q=nobody")
    assert "No batch is like that. Show all 1" in text_of(page)


async def test_batches_that_are_not_watched_because_too_many_are_is_said(ask, daemon):
    daemon.shown = Snapshot(NOW, discoveries=(DiscoveryStatus("main", NOW, over_limit=1200),))
    _, _, page = await ask("/")
    assert "1,200 batches of account main are not watched" in text_of(page)


async def test_more_alerts_than_fit_are_counted(ask, daemon):
    daemon.shown = Snapshot(
        NOW, tuple(status(key=batch_key(number), alerts=(STALLED,)) for number in range(9))
    )
    _, _, page = await ask("/")
    assert page.count('<li class="alert') == 6
    assert "9 alerts in all: the batches of which one fires" in text_of(page)


@pytest.mark.parametrize(
    ("due", "late"),
    [(timedelta(seconds=30), False), (timedelta(seconds=-59), False), (timedelta(seconds=-61), True)],
)
async def test_a_look_that_is_late_is_said_to_be(ask, daemon, due, late):
    daemon.shown = Snapshot(NOW, (status(next_poll_at=NOW + due),))
    _, _, page = await ask("/")
    assert ("late" in text_of(page[page.index("<tbody") :])) is late


# One batch


async def test_a_batch_page_tells_all_there_is(ask, daemon):
    changes = (
        StateChange(NOW - timedelta(minutes=50), State.RUNNING, "1 of 400 done"),
        StateChange(NOW - timedelta(minutes=9), State.STALLED, "no call for 15 min: 118 of 400 done"),
    )
    outcomes = Outcomes(NOW, future=282, pending=0, success=100, expired=0, error=18)
    daemon.shown = Snapshot(
        NOW,
        (
            status(
                key=batch_key(1),
                changes=Changes.of(changes),
                outcomes=outcomes,
                alerts=(STALLED,),
                around=status().around,
            ),
        ),
        (account(),),
        mutes=(Mute(batch_key(1).batch_id, NOW + timedelta(hours=2)),),
    )
    code, _, page = await ask(path())
    said = text_of(page)
    assert code == 200
    assert "<title>(1) spring-renewals</title>" in page
    assert "Muted until 2026-11-23 14:00 UTC" in said
    assert "100 succeeded 25 % 18 failed 4 % 282 to be made 70 %" in said
    assert "team growth" in said  # its labels
    assert "BatchStalled firing no call for 0 s of 15 min; firing since 2026-11-23 12:00 UTC" in said
    happened = said[said.index("What happened") :]
    assert happened.index("stalled") < happened.index("running")
    assert page.count('<rect class="band ') == 2
    assert page.count('<rect class="band stalled"') == 1


async def test_a_batch_that_was_never_seen_has_a_page(ask, daemon):
    failing = evaluate.failed(None, FailureReason.NOT_FOUND, "account main: not found", NOW)
    unseen = replace(
        status(key=batch_key(1), failing=failing),
        progress=None,
        last_success_at=None,
        assessment=evaluate.assess(None, failing, evaluate.Rules()),
    )
    daemon.shown = Snapshot(NOW, (unseen,))
    code, _, page = await ask(path())
    assert code == 200
    assert "Ultravox does not know it" in text_of(page)
    assert "Nothing yet: it has not been seen." in text_of(page)
    assert "<svg class" not in page


async def test_an_ended_batch_names_the_command_that_lists_whom_to_call_again(ask, daemon):
    daemon.shown = Snapshot(NOW, (status(observation(ended_at=NOW, completed=300), key=batch_key(1)),))
    _, _, page = await ask(path())
    assert f"batch-monitor uncalled {batch_key(1).batch_id} --csv" in text_of(page)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("ffffffff", "No watched batch has the id ffffffff."),
        ("3c90", f"2 batches' ids begin like 3c90: spring-renewals {batch_key(1).batch_id}"),
        ("%3Cscript%3E", "No watched batch has the id <script>."),
    ],
)
async def test_a_page_that_is_not_there_says_why(ask, daemon, asked, said):
    daemon.shown = Snapshot(NOW, (status(key=batch_key(1)), status(key=batch_key(2))))
    code, _, page = await ask(f"/batches/{asked}")
    assert code == 404
    assert said in text_of(page)
    assert "<script>" not in page


# Safe


@pytest.mark.parametrize(
    "name",
    ["promo 2026-02-30 09:00 UTC", "0000-00-00 00:00 UTC", "٢٠٢٦-١١-٢٣ ٠٩:٠٠ UTC", "2026-11-23 29:61 UTC"],
)
@pytest.mark.parametrize("where", ["/", path()])
async def test_a_name_that_looks_like_an_instant_there_is_not_is_a_name(ask, daemon, name, where):
    alert = replace(STALLED, annotations=(("cause", "unknown"), ("summary", f"{name} stands still")))
    daemon.shown = Snapshot(NOW, (status(key=batch_key(1), batch=name, alerts=(alert,)),))
    code, _, page = await ask(where)
    assert code == 200
    assert f"{name} stands still" in text_of(page)


EVIL = "<script>alert('x')</script>{{7*7}}\"'><img src=x>"


@pytest.mark.parametrize("where", ["/", path()])
async def test_what_others_wrote_stays_text(ask, daemon, where):
    failing = evaluate.failed(None, FailureReason.TIMEOUT, EVIL, NOW)
    target = replace(status().target, account=EVIL, key=batch_key(1), labels=((EVIL, EVIL),))
    alert = replace(
        STALLED,
        annotations=(("cause", EVIL), ("runbook_url", "javascript:alert(1)"), ("summary", EVIL)),
        labels=(("batch", EVIL), ("batch_id", batch_key(1).batch_id)),
    )
    daemon.shown = Snapshot(
        NOW,
        (
            status(
                observation(throttle=EVIL),
                batch=EVIL,
                agent=EVIL,
                failing=failing,
                target=target,
                alerts=(alert,),
                changes=Changes.of([StateChange(NOW, State.RUNNING, EVIL)]),
            ),
        ),
        (account(name=EVIL, failing=failing),),
        (QueueStatus(EVIL, last_error=EVIL),),
        reload_error=EVIL,
    )
    _, _, page = await ask(where)
    assert re.findall(r"<script[^>]*>", page) == re.findall(
        r'<script src="[./]*static/page.js\?v=\w+" defer>', page
    )
    assert "<img src=x" not in page
    assert "49" not in text_of(page)
    assert "javascript:" not in page
    assert text_of(page).count("<script>alert('x')</script>{{7*7}}") >= 4


@pytest.mark.parametrize("where", ["/", path(), "/batches/nobody", "/?sort=x"])
async def test_a_page_loads_nothing_from_elsewhere_and_has_no_style_or_script_within(ask, daemon, where):
    daemon.shown = Snapshot(NOW, (status(key=batch_key(1), alerts=(STALLED,)),))
    _, headers, page = await ask(where)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy
    assert re.findall(r"<script(?! src)|<style|\son\w+=|\sstyle=", page) == []
    loaded = re.findall(r'(?:src|<link[^>]* href)="([^"]*)"', page)
    assert len(loaded) >= 3
    assert all(re.fullmatch(r"(\.\./)?static/[a-z.]+\?v=\w+", one) for one in loaded), loaded
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("page.css", "text/css"), ("page.js", "text/javascript"), ("favicon.svg", "image/svg+xml")],
)
async def test_what_a_page_needs_is_kept_by_browsers_until_it_changes(ask, name, content_type):
    _, _, page = await ask("/")
    version = re.search(rf"{re.escape(name)}\?v=(\w+)", page)[1]
    code, headers, _ = await ask(f"/static/{name}?v={version}")
    assert (code, headers["Content-Type"].split(";")[0]) == (200, content_type)
    assert "immutable" in headers["Cache-Control"]
    _, headers, _ = await ask(f"/static/{name}?v=other")
    assert headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", ["overview.html", "..%2fserver.py", "page.css.map", "%2e%2e%2fpage.py"])
async def test_nothing_else_is_served(ask, name):
    code, _, _ = await ask(f"/static/{name}")
    assert code == 404


async def test_there_is_an_icon_where_browsers_look_for_one(ask):
    code, headers, _ = await ask("/favicon.ico")
    assert (code, headers["Content-Type"]) == (200, "image/svg+xml")


async def test_every_instant_on_a_page_can_be_read_by_a_machine(ask, daemon):
    daemon.shown = Snapshot(NOW, (status(key=batch_key(1), alerts=(STALLED,)),), (account(),))
    for where in ("/", path()):
        _, _, page = await ask(where)
        stamps = re.findall(r'<time datetime="([^"]+)" title="([^"]+)"', page)
        assert stamps
        for stamp, title in stamps:
            assert f"{datetime.fromisoformat(stamp):%Y-%m-%d %H:%M:%S UTC}" == title
        bare = text_of(re.sub(r"<time.*?</time>", "", page))
        assert re.findall(r"\d\d:\d\d UTC", bare) == []
