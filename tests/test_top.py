"""The terminal's picture: what fits at which width, with which letters, and what never reaches the terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console
from samples import NOW, account, batch_key, observation, status

from monitor import glossary, words
from monitor.choice import Choice, choose
from monitor.model import (
    AlertName,
    AlertState,
    Curve,
    DiscoveryStatus,
    Failing,
    FailureReason,
    Phase,
    QueueStatus,
    Severity,
    Snapshot,
    State,
)
from monitor.top.explained import explained
from monitor.top.follow import joined
from monitor.top.marks import Marks, marks
from monitor.top.picture import Known, rows_that_fit, screen, whole
from monitor.top.table import state_of, table, window_of
from monitor.top.trouble import wrapped
from monitor.top.view import View
from monitor.web import answers

URL = "http://localhost:10042"
UTF8, ASCII = Marks(), Marks("ascii")
NASTY = "[red]x[/red] \x1b]0;owned\x07\x1b[2J\u202eabc\u200b\nnext\tcolumn \x9b31m é 日本 🎉"


def alert(name=AlertName.BATCH_STALLED, severity=Severity.WARNING, **said):
    said = {
        "summary": "spring-renewals has made no call for 22 min",
        "cause": "the account is at its cap",
    } | said
    return AlertState(
        name,
        Phase.FIRING,
        NOW - timedelta(minutes=7),
        severity=severity,
        annotations=tuple(sorted(said.items())),
        labels=(("alertname", name.value),),
    )


def batch(number=1, name="spring-renewals", state=State.RUNNING, *, of="main", **changes):
    made = status(observation(), key=batch_key(number), **{"batch": name} | changes)
    curve = Curve.of((int(NOW.timestamp()) - 3600 + n * 60, n * n) for n in range(11))
    return replace(
        made,
        target=replace(made.target, account=of),
        assessment=replace(made.assessment, state=state, calls_per_second=0.05),
        progress=replace(made.progress, curve=curve),
    )


FAILING = Failing(NOW - timedelta(minutes=3), 4, 0, FailureReason.TIMEOUT, "get_batch: no answer in 10 s")
AT_RISK = alert(AlertName.BATCH_WINDOW_AT_RISK)
MANY = (
    batch(1, "at-risk-one", alerts=(AT_RISK,)),
    batch(2, "stalled-one", State.STALLED, of="agency", alerts=(alert(),)),
    batch(3, "unseen-one", failing=FAILING, last_success_at=NOW - timedelta(minutes=4)),
    batch(4, "a-name-that-is-much-longer-than-any-column-is-wide-and-then-some-more"),
    batch(5, NASTY),
    *(batch(number, f"batch-{number}") for number in range(6, 30)),
)


ACCOUNTS = (account(), account(name="agency"))


def known(batches=MANY, *, accounts=ACCOUNTS, limit=None, page=1, **changes):
    snapshot = Snapshot(NOW, batches, accounts, started_at=NOW - timedelta(hours=3), **changes)
    chosen = choose(batches, Choice(limit=limit, page=page))
    data = answers.batches(snapshot, chosen)["data"]
    firing = answers.alerts(snapshot, Phase.FIRING)["data"]
    return Known(
        URL,
        data=data,
        alerts=tuple(firing["alerts"]),
        firing=firing["firing"],
        age=timedelta(seconds=3),
        part=limit or 0,
        every=2.0,
    )


def shown(lines, width, *, encoding="utf-8", **options):
    """What the terminal is sent."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    options = {"force_terminal": True, "color_system": "standard", "legacy_windows": False} | options
    Console(file=file, width=width, markup=False, **options).print(joined(lines))
    file.flush()
    return raw.getvalue().decode(encoding)


def plain(lines):
    return [line.plain for line in lines]


@pytest.mark.parametrize("height", [1, 2, 4, 7, 8, 15, 24, 50])
@pytest.mark.parametrize("width", [1, 7, 20, 40, 80, 120, 200])
@pytest.mark.parametrize("drawn", [UTF8, ASCII], ids=["utf-8", "ascii"])
def test_a_screen_is_never_wider_or_higher_than_the_terminal(width, height, drawn):
    for state in (known(), known(()), Known(URL), Known(URL, lost="Connection refused", lost_at=NOW)):
        for lost in (None, "Connection refused"):
            for view in (View(), View(help=True), View(typing="spring"), View(search="x" * 300)):
                lines = screen(replace(state, lost=lost, asked=view), view, drawn, width, height)
                assert len(lines) == height
                assert max(line.cell_len for line in lines) <= width, plain(lines)


@pytest.mark.parametrize(
    ("width", "there", "absent"),
    [
        (40, ["BATCH", "STATE"], ["DONE", "CALLS/H", "WINDOW", "ACCOUNT", "WHY"]),
        (80, ["BATCH", "STATE", "PROGRESS", "DONE", "WINDOW", "SEEN"], ["ACCOUNT", "OUTLOOK", "WHY"]),
        (120, ["BATCH", "ACCOUNT", "STATE", "PROGRESS", "DONE", "CALLS/H", "WINDOW", "WHY"], ["SEEN"]),
        (
            200,
            ["BATCH", "ACCOUNT", "STATE", "PROGRESS", "DONE", "CALLS/H", "WINDOW", "OUTLOOK", "WHY"],
            ["SEEN"],
        ),
    ],
)
def test_the_wider_the_more_columns(width, there, absent):
    head = table(known().data["batches"], NOW, UTF8, width=width)[0].plain
    assert [name for name in there if name not in head.split()] == []
    assert [name for name in absent if name in head.split()] == []


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_columns_stand_below_each_other(width):
    head, *rows = table(known(MANY[:4]).data["batches"], NOW, UTF8, width=width)
    at = head.plain.index("STATE")
    assert [row.plain[at:].split()[0] for row in rows] == ["at", "stalled", "running", "running"]


@pytest.mark.parametrize("width", [120, 200])
def test_the_words_of_the_daemon_are_those_that_are_shown(width):
    state = known(MANY[:3])
    text = "\n".join(plain(whole(state, View(), UTF8, 400)))
    for one in state.data["batches"]:
        assert one["why"] in text
        assert (one["outlook"] or "") in text
    assert (
        f"seen 4 min ago: {glossary.FAILURES[FailureReason.TIMEOUT]} (get_batch: no answer in 10 s)" in text
    )
    text = "\n".join(plain(whole(state, View(), UTF8, width)))
    assert "BatchStalled: spring-renewals has made no call for 22 min" in text
    assert "for 7 min. Cause: the account is at its cap" in text


def test_an_alert_without_a_summary_says_what_it_means():
    state = known((batch(alerts=(alert(summary=""),)),))
    assert glossary.ALERTS[AlertName.BATCH_STALLED] in "\n".join(plain(whole(state, View(), UTF8, 120)))


def test_the_head_says_which_daemon_and_how_fresh():
    head = screen(known(), View(), UTF8, 120, 40)[0].plain
    assert head.startswith("Ultravox Batch Monitor 0.1.0 at http://localhost:10042  ")
    assert head.endswith("answered 3 s ago, up 3 h")
    assert "answered 3 s ago" in screen(known(), View(), UTF8, 60, 40)[0].plain


def test_tiles_count_by_state_the_worst_first():
    assert screen(known(), View(), UTF8, 120, 40)[1].plain == "29 all   1 at risk   1 stalled   28 running"


def test_the_chosen_tile_is_turned_round():
    def turned(view):
        return re.findall(
            r"\x1b\[[0-9;]*7;?[0-9;]*m([^\x1b]+)", shown(screen(known(), view, UTF8, 120, 40)[1:2], 120)
        )

    assert turned(View()) == []
    assert turned(View(states="stalled")) == ["1 stalled"]
    assert turned(View(firing="BatchWindowAtRisk")) == ["1 at risk"]
    assert turned(View(states="stalled,paused")) == ["1 stalled", "0 paused"]


@pytest.mark.parametrize(
    ("limit", "page", "said"),
    [
        (None, 1, "29 batches, worst first"),
        (10, 1, "1 to 10 of 29 batches, worst first; 19 more with PgDn"),
        (10, 3, "21 to 29 of 29 batches, worst first"),
    ],
)
def test_a_line_says_how_many_more_there_are(limit, page, said):
    assert said in plain(screen(known(limit=limit, page=page), View(), UTF8, 120, 90))


@pytest.mark.parametrize("height", [8, 12, 24, 38])
def test_as_many_rows_are_asked_for_as_there_is_room_for(height):
    room = rows_that_fit(known(), View(), UTF8, 120, height)
    lines = plain(screen(known(limit=room), View(), UTF8, 120, height))
    assert any(line.startswith(f"1 to {room} of 29 batches") for line in lines)
    assert sum(bool(re.search(r" \d+ % ", line)) for line in lines) >= room


def test_what_narrows_the_view_is_said():
    view = View(states="stalled,paused", account="main", firing="any", search="spring 2026")
    lines = plain(screen(replace(known(MANY[:2]), asked=view), View(), UTF8, 120, 40))
    assert '2 batches, worst first, account main, stalled or paused, firing, search "spring 2026"' in lines
    lines = plain(screen(replace(known(()), asked=View(search="zzz")), View(), UTF8, 120, 40))
    assert 'No batch is like that (search "zzz"); Esc shows all.' in lines


def test_nothing_at_all_is_said():
    text = "\n".join(plain(screen(known(()), View(), UTF8, 120, 40)))
    assert "No batch is watched." in text
    assert "No alert is firing." in text


def test_a_daemon_that_is_gone_leaves_its_last_picture_marked_as_old():
    gone = replace(known(), lost="Connection refused", lost_at=NOW, lost_for=timedelta(seconds=42))
    lines = screen(gone, View(), UTF8, 120, 40)
    assert " No answer since 12:00:00, for 42 s: Connection refused; what follows is old" in lines[1].plain
    assert any(line.plain.startswith("at-risk-one") for line in lines)
    for line in lines[2:-1]:
        assert all("dim" in str(span.style) for span in line.spans[-1:])
    sent = shown([line for line in lines if line.plain.startswith("at-risk-one")], 120)
    assert "\x1b[2m" in sent
    assert "1;31" not in sent


def test_a_daemon_that_never_answered_says_what_to_do():
    gone = Known(URL, lost="Connection refused", lost_at=NOW, lost_for=timedelta(seconds=42), every=2.0)
    text = " ".join(" ".join(plain(screen(gone, View(), UTF8, 80, 24))).split())
    assert "No daemon answers since 12:00:00, for 42 s: Connection refused." in text
    assert "Start one with `batch-monitor run`, or name it with --url. Asked again every 2 s." in text


def test_trouble_is_told():
    queue = QueueStatus(
        "ops-chat",
        pending=3,
        oldest_pending_at=NOW - timedelta(minutes=5),
        failing_since=NOW - timedelta(minutes=6),
        last_error="503",
    )
    state = known(
        accounts=(account(failing=FAILING), account(name="agency")),
        queues=(queue, QueueStatus("well"), QueueStatus("old", configured=False)),
        discoveries=(DiscoveryStatus("main", over_limit=2),),
        store_writable=False,
        reload_error="config.yaml:1:1: accounts: must not be empty",
    )
    text = "\n".join(plain(whole(state, View(), UTF8, 200)))
    for said in (
        "store     The state file cannot be written: what happens now would be forgotten at a restart.",
        "the one before is in effect: config.yaml:1:1: accounts: must not be empty",
        "account   2 batches of account main are not watched: discover.max_batches is reached.",
        "account   main: Ultravox did not answer in time, for 3 min (get_batch: no answer in 10 s)",
        "receiver  ops-chat: 3 messages waiting, the oldest for 5 min; 503, failing for 6 min",
        "receiver  old: nothing waits; not configured any more: dropped 24 h after they were due",
    ):
        assert said in text
    assert "well:" not in text


def test_alerts_that_there_is_no_room_for_are_counted():
    state = known(tuple(batch(number, f"b-{number}", alerts=(alert(),)) for number in range(1, 21)))
    lines = plain(screen(state, View(), UTF8, 80, 24))
    listed = sum(line.startswith("warning   BatchStalled") for line in lines)
    assert listed >= 5
    assert f"and {20 - listed} more" in lines
    few = replace(state, alerts=state.alerts[:4])  # more fire than were asked for
    assert "and 16 alerts more" in plain(screen(few, View(), UTF8, 120, 90))


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_nothing_that_a_terminal_obeys_gets_through(width, encoding):
    nasty = alert(summary=NASTY, cause=NASTY)
    state = known(
        (batch(1, NASTY, of=NASTY, alerts=(nasty,), failing=replace(FAILING, message=NASTY)),),
        accounts=(account(name=NASTY, failing=replace(FAILING, message=NASTY)), account(name="two")),
        queues=(QueueStatus(NASTY, last_error=NASTY),),
        reload_error=NASTY,
    )
    drawn = Marks(encoding)
    view = View(search=NASTY, account=NASTY)
    for lines in (
        whole(replace(state, asked=view), view, drawn, width),
        screen(state, replace(view, typing=NASTY), drawn, width, 40),
    ):
        sent = shown(lines, width, encoding=encoding)
        rest = re.sub(r"\x1b\[[0-9;]*m", "", sent)
        assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u200b]", rest) == []
        assert rest.count("\n") == len(lines)


def test_markup_in_names_is_a_name():
    line = shown(table(known((batch(1, "[red]x[/red]"),)).data["batches"], NOW, UTF8, width=120), 120)
    assert "[red]x[/red]" in line


def test_explanations_are_cleaned_too():
    data = {
        "at": answers.time(NOW),
        "batch": {"batch": NASTY, "state": "running", "why": NASTY},
        "explanations": [
            {
                "alertname": "BatchStalled",
                "state": "firing",
                "why": NASTY,
                "fires_at": None,
                "not_told": [{"receiver": NASTY, "why": NASTY}],
            }
        ],
    }
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    Console(file=file, width=60).print(explained(data, ASCII))
    file.flush()
    assert b"\x1b" not in raw.getvalue()
    assert b"\x07" not in raw.getvalue()


@pytest.mark.parametrize("options", [{}, {"no_color": True}, {"color_system": None}])
def test_only_the_sixteen_colours_are_used_and_none_where_none_is_wanted(options):
    sent = shown([*whole(known(), View(states="stalled"), UTF8, 200)], 200, **options)
    codes = {int(code or 0) for found in re.findall(r"\x1b\[([0-9;]*)m", sent) for code in found.split(";")}
    colours = {code for code in codes if code >= 30}
    assert bool(colours) is (not options)
    assert not colours - {*range(30, 38), *range(90, 98)}
    assert re.sub(r"\x1b\[[0-9;]*m", "", sent) == re.sub(
        r"\x1b\[[0-9;]*m", "", shown(whole(known(), View(states="stalled"), UTF8, 200), 200)
    )


@pytest.mark.parametrize(
    ("ratio", "fine", "rough"),
    [
        (0, "────────", "--------"),
        (0.001, "╸───────", "=-------"),
        (0.5, "━━━━────", "####----"),
        (0.56, "━━━━╸───", "####=---"),
        (0.999, "━━━━━━━╸", "#######="),
        (1, "━━━━━━━━", "########"),
        (7, "━━━━━━━━", "########"),
    ],
)
def test_a_bar_is_full_only_when_all_is_done(ratio, fine, rough):
    assert (UTF8.bar(ratio, 8, "").plain, ASCII.bar(ratio, 8, "").plain) == (fine, rough)


@pytest.mark.parametrize(
    ("values", "line"),
    [((), ""), ((0, 0), ""), ((1, 1), "████████"), (tuple(range(16)), "▁▂▃▄▅▆▇█"), ((0, 1), "▁▁▁▁████")],
)
def test_a_sparkline(values, line):
    assert UTF8.spark(values, 8) == line
    assert ASCII.spark(values, 8) == ""


@pytest.mark.parametrize(
    ("text", "width", "fitted"),
    [
        ("abc", 5, "abc  "),
        ("abcdef", 4, "abc…"),
        ("日本語日本語", 6, "日本…"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
    ],
)
def test_a_text_is_cut_by_columns(text, width, fitted):
    assert UTF8.fit(text, width) == fitted
    assert cell_len(fitted) <= width


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 5, [""]),
        ("one two three", 7, ["one two", "three"]),
        ("one twothreefour", 5, ["one", "twoth", "reefo", "ur"]),
        ("日本語 日本", 4, ["日本", "語", "日本"]),
        ("日本", 1, ["日", "本"]),
    ],
)
def test_sentences_are_wrapped_by_columns(text, width, lines):
    assert wrapped(text, width) == lines


@pytest.mark.parametrize(
    ("encoding", "environ", "charset"),
    [
        ("utf-8", {"LANG": "en_US.UTF-8"}, "utf-8"),
        ("UTF8", {}, "utf-8"),  # containers say nothing; their terminals are modern
        ("utf-8", {"LANG": "C"}, "ascii"),  # Python writes UTF-8 all the same
        ("utf-8", {"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "ascii"),  # and says so here, unasked
        ("utf-8", {"LC_ALL": "C", "LANG": "en_US.UTF-8"}, "ascii"),
        ("utf-8", {"LC_ALL": "POSIX"}, "ascii"),
        ("utf-8", {"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, "utf-8"),
        ("utf-8", {"LC_ALL": "C.UTF-8", "LANG": "C"}, "utf-8"),
        ("ascii", {"PYTHONIOENCODING": "ascii", "LANG": "en_US.UTF-8"}, "ascii"),
        ("utf-8", {"PYTHONIOENCODING": "utf-8:replace", "LANG": "C"}, "utf-8"),
        ("utf-8", {"PYTHONUTF8": "1", "LANG": "C"}, "utf-8"),
        ("iso-8859-1", {"LANG": "de_DE.ISO-8859-1"}, "iso-8859-1"),
        ("nonsense", {}, "ascii"),
    ],
)
def test_the_letters_of_a_terminal(encoding, environ, charset):
    assert marks(encoding, environ).charset == charset


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ({"calls": None}, ""),  # it has never been seen
        ({}, "no end"),
        ({"window_start": 4, "window_end": 60}, "opens in 4 min"),
        ({"window_start": -4, "window_end": 100}, "closes in 1 h 40 min"),
        ({"window_start": -4, "window_end": -1}, "closed 1 min ago"),
        ({"window_end": 60, "ended": -180}, "ended 3 h ago"),
    ],
)
def test_the_window(times, text):
    given = {"calls": 400, "window_start": None, "window_end": None, "ended": None} | {
        name: None if at is None else answers.time(NOW + timedelta(minutes=at)) for name, at in times.items()
    }
    assert window_of(given, NOW) == text


@pytest.mark.parametrize(
    ("state", "at_risk", "text"),
    [("running", False, "running"), ("running", True, "at risk"), ("paused", True, "paused, at risk")],
)
def test_a_batch_at_risk_says_so(state, at_risk, text):
    assert state_of({"state": state, "at_risk": at_risk}) == text


def test_a_pace_is_said_in_the_unit_of_its_column():
    row = table(known((batch(),)).data["batches"], NOW, UTF8, width=120)[1].plain
    assert f" {words.pace(0.05).removesuffix(' calls/h')} " in row
