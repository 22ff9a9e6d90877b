"""Durations, counts and shares as people say them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from samples import BATCH, NOW

from monitor import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (22 * 60 + 59, "22 min"),
        (3600, "1 h"),
        (6000, "1 h 40 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d"),
        (90000, "1 d 1 h"),
        (timedelta(days=9, hours=23), "9 d 23 h"),
        (timedelta(days=10, hours=23), "10 d"),
        (timedelta(days=400), "400 d"),
    ],
)
def test_durations(seconds, text):
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "just now"), (1.9, "just now"), (2, "2 s ago"), (timedelta(minutes=100), "1 h 40 min ago")],
)
def test_how_long_something_is_past(seconds, text):
    assert words.ago(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(0, "0 %"), (0.001, "<1 %"), (0.295, "29 %"), (0.9999, "99 %"), (1, "100 %")]
)
def test_a_share_is_never_rounded_up_to_all_or_down_to_nothing(ratio, text):
    assert words.percent(ratio) == text


def test_every_whole_share_is_itself():
    assert [words.percent(n / 100) for n in range(1, 101)] == [f"{n} %" for n in range(1, 101)]


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(0, "0 calls/h"), (1 / 30, "120 calls/h"), (0.5 / 3600, "0.5 calls/h"), (1, "3,600 calls/h")],
)
def test_paces_are_by_the_hour(per_second, text):
    assert words.pace(per_second) == text


def test_counts_instants_and_names():
    assert (words.calls(1), words.calls(0), words.calls(1204)) == ("1 call", "0 calls", "1,204 calls")
    assert words.done(118, 4000) == "118 of 4,000 done"
    berlin = datetime(2026, 11, 23, 10, 30, tzinfo=timezone(timedelta(hours=1)))
    assert words.instant(berlin) == "2026-11-23 09:30 UTC"
    assert words.batch_name("renewals", NOW, BATCH) == "renewals 2026-11-23 12:00 3c900000"
