"""The soak's own verdict: what grows is found, and what only wobbles is not."""

from __future__ import annotations

import random

import pytest
from soak import readings
from soak.flat import Bound, Series, beside, judge, lean, table

HOUR = [5.0 * number for number in range(720)]
TEN = Bound(0.1, 10)


def series(value, bound=TEN, times=HOUR) -> Series:
    return Series("memory", bound, tuple((at, value(at)) for at in times))


def noisy(value, spread: float):
    chance = random.Random(1)
    return lambda at: value(at) + chance.uniform(-spread, spread)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (lambda _: 100, None),
        (noisy(lambda _: 100, 40), None),
        (lambda at: 100 + at / 3600 * 5, None),  # five an hour, of ten that are allowed
        (lambda at: 100 - at / 60, None),  # to fall is no fault
        (lambda at: 100 if at % 300 else 10_000, None),  # bursts
        (lambda at: 1000 if at < 600 else 100, None),  # before it was steady
        (lambda at: 100 + at / 3600 * 40, "rose by 22"),
        (noisy(lambda at: 100 + at / 3600 * 40, 40), "rose by 2"),
        (lambda at: 100 + at / 3600 * 15, "leans by 15"),  # a leak that a third does not show
        (lambda at: 100 if at < 2700 else 200, "rose by 100"),
    ],
)
def test_what_is_flat(value, wrong):
    found = judge(series(value), steady_from=600)
    assert (found.wrong or "")[: len(wrong or "")] == (wrong or "")
    assert bool(found.wrong) is bool(wrong)


def test_an_hour_s_lean_is_not_guessed_from_minutes():
    steep = series(lambda at: 100 + at / 3600 * 60, times=HOUR[:60])
    assert judge(steep, 60).wrong is None
    assert lean(steep.points) == pytest.approx(60)


def test_a_larger_amount_may_wobble_more():
    rising = series(lambda at: 1000 + at / 3600 * 90)
    assert judge(rising, 600).wrong is None


def test_what_piles_up_in_cycles_is_judged_by_what_it_falls_back_to():
    lows = Bound(0.1, 10, lows=True)
    saw = lambda at: 100 + at % 400  # noqa: E731
    assert judge(series(noisy(saw, 5), lows), 600).wrong is None
    assert judge(series(lambda at: saw(at) + at / 3600 * 60, lows), 600).wrong.startswith("rose by 3")
    assert judge(series(lambda at: saw(at) + at / 3600 * 12, lows), 600).wrong.startswith("leans by 1")


def test_times_are_judged_beside_what_the_machine_was_at():
    busy = lambda at: 1 if at < 1800 else 2  # noqa: E731 - somebody else came, and stayed
    yardstick = [(at, 8.0 * busy(at)) for at in HOUR]
    took = series(lambda at: 100 * busy(at))
    assert judge(took, 600).wrong is not None
    assert judge(Series("page", TEN, beside(took.points, yardstick)), 600).wrong is None
    assert judge(Series("page", TEN, took.points, beside(took.points, yardstick)), 600).wrong is None
    slower = series(lambda at: 100 * busy(at) * (1 + at / 3600))
    assert judge(Series("page", TEN, slower.points, beside(slower.points, yardstick)), 600).wrong is not None
    assert beside(took.points, []) == took.points


@pytest.mark.parametrize("points", [(), ((0.0, 1.0),), ((0.0, 1.0),) * 8])
def test_too_few_readings_are_no_verdict(points):
    assert judge(Series("memory", TEN, points), 0).wrong == "too few readings"


def test_the_table_has_a_line_for_each():
    verdicts = [judge(series(lambda _: 100), 600), judge(Series("threads", TEN, ()), 600)]
    head, first, second = table(verdicts).splitlines()
    assert "last third" in head
    assert first.split() == ["memory", *["100.0/100.0/100.0"] * 3, "+0.0", "flat"]
    assert second.startswith("threads")
    assert second.endswith("too few readings")


def test_readings_of_this_very_process(tmp_path):
    import os

    found = readings.process(os.getpid())
    assert found["memory, MiB"] > 10
    assert found["threads"] >= 1
    assert found["open files"] >= 3
    assert found["processor"] > 0
    assert readings.files(tmp_path / "none.db") == {"state file, MiB": 0.0, "its WAL, MiB": 0.0}


def test_a_scrape_is_read():
    text = (
        'ultravox_monitor_batches{state="running"} 7.0\nultravox_monitor_batches{state="gone"} 1.0\n'
        'ultravox_monitor_polls_total{account="a"} 5.0\nultravox_monitor_polls_total{account="b"} 6.0\n'
        'ultravox_monitor_polls_skipped_total{account="a"} 2.0\nultravox_monitor_notifications_pending{receiver="crm"} 3.0\n'
    )
    assert readings.metrics(text) == {"batches": 8.0, "pending": 3.0, "polls": 11.0, "skipped": 2.0}


def test_what_the_daemon_says_is_read_line_by_line(tmp_path):
    path = tmp_path / "vitals"
    assert readings.vitals(path, 0) == ([], 0)
    path.write_text('{"tasks": 1}\n{"tasks": 2}\n{"tas')
    said, place = readings.vitals(path, 0)
    assert said == [{"tasks": 1}, {"tasks": 2}]
    with path.open("a") as out:
        out.write('ks": 3}\n')
    assert readings.vitals(path, place)[0] == [{"tasks": 3}]
