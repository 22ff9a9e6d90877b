"""What campaigns do between the big events: waiting, luck, the edges of a second, and what it costs."""

import random

import pytest

from monitor import simulator
from monitor.simulator.campaign import SAVED_UP, CallStatus, World

HOUR = 3600
MINUTE = 60


def worlds(*batches, account=""):
    text = f"accounts:\n  - name: main\n    {account or 'call_duration: 2m'}\n    agents:\n      - name: a\n        batches:\n"
    text += "".join(f"          - {{name: b{number}, {batch}}}\n" for number, batch in enumerate(batches))
    made = World(simulator.load(text).accounts[0], 1)
    return made, *made.campaigns.values()


def starts(campaign):
    return [call.at for call in campaign.made]


def test_a_campaign_with_nothing_to_do_costs_nothing(monkeypatch):
    happened = []
    real = World._happen
    monkeypatch.setattr(World, "_happen", lambda self, campaign: happened.append(1) or real(self, campaign))
    made, busy, *_ = worlds(
        "calls: 400, pace: 120/h, window: {start: 10m, end: 4h}",
        "calls: 400, pace: 120/h, paused: true",
        "calls: 400, pace: 120/h, created: 3h",
        "calls: 400, pace: 0/h",
        "calls: 4, pace: 4/m, created: -30d",
    )
    made.advance(4 * HOUR)
    calls = sum(len(campaign.made) for campaign in made.campaigns.values())
    assert calls > 400
    assert len(busy.made) == 400
    assert len(happened) <= calls + 20


def test_waiting_for_a_line_costs_one_event_for_each_line_that_gets_free(monkeypatch):
    happened = []
    real = World._happen
    monkeypatch.setattr(World, "_happen", lambda self, campaign: happened.append(1) or real(self, campaign))
    made, *_ = worlds(
        *["calls: 400, pace: 60/m"] * 3, account="{allowed_concurrent_calls: 1, call_duration: 10m}"[1:-1].replace(", ", "\n    ")
    )  # fmt: skip
    made.advance(4 * HOUR)
    assert made.active_calls() == 1
    assert len(happened) < 3 * (4 * 6 + 5)


@pytest.mark.parametrize("seed", range(5))
def test_no_look_changes_what_is_seen_later(seed):
    def seen(looks):
        afternoon = [World(account, 7) for account in simulator.shipped().accounts]
        for at in looks:
            for made in afternoon:
                made.advance(at)
                made.active_calls()
        return [
            (c.plan.name, c.made, c.total, c.paused, c.ended_at, c.deleted)
            for made in afternoon
            for c in made.campaigns.values()
        ]

    draw = random.Random(seed)
    until = draw.uniform(0, 4 * HOUR)
    assert seen([until]) == seen([*(draw.uniform(-10, until) for _ in range(200)), until])


def test_another_seed_is_another_afternoon_of_the_same_shape():
    account = simulator.shipped().accounts[0]
    first, second = World(account, 1), World(account, 2)
    for made in (first, second):
        made.advance(30 * MINUTE)
    [one, *_], [other, *_] = first.campaigns.values(), second.campaigns.values()
    assert starts(one) != starts(other)
    assert abs(len(one.made) - len(other.made)) < 10


def test_who_has_which_status_is_found_without_asking_for_each():
    made, campaign = worlds("calls: 100, pace: 60/m, failing: {share: 0.3}, window: {end: 80s}")
    for at in (*range(220), 1000):
        made.advance(at)
        for status in CallStatus:
            one_by_one = [i for i in range(100) if campaign.status(i, at, 120) is status]
            assert list(campaign.indexes(status, at, 120)) == one_by_one, (at, status)
        assert list(campaign.indexes(None, at, 120)) == list(range(100))
    assert campaign.indexes(CallStatus.EXPIRED, 1000, 120)


def test_a_call_that_waits_for_a_line_does_not_try_its_luck_again():
    """Else of a campaign at the cap nearly all calls would fail: a failed one needs no line."""
    made, campaign = worlds(
        "calls: 1000, pace: 60/m, failing: {share: 0.3}",
        account="allowed_concurrent_calls: 2\n    call_duration: 20s",
    )
    made.advance(2 * HOUR)
    assert len(campaign.made) == 1000
    assert 250 < len(campaign.failed) < 350


@pytest.mark.parametrize(("share", "calls"), [(0.0, 0), (1.0, 9)])
def test_without_a_line_only_failing_calls_get_through(share, calls):
    made, waiting = worlds(f"calls: 9, failing: {{share: {share}}}", account="allowed_concurrent_calls: 0")
    made.advance(10 * HOUR)
    assert len(waiting.failed) == len(waiting.made) == calls


def test_what_had_to_wait_is_made_up_for_but_not_without_end():
    made, _, slow = worlds(
        "calls: 100, pace: 100/s, jitter: 0",
        "calls: 1000, created: 2s, pace: 1/s, jitter: 0",
        account="allowed_concurrent_calls: 100\n    call_duration: 10m",
    )
    made.advance(600)
    assert starts(slow) == []
    made.advance(601)
    assert len(slow.made) == SAVED_UP + 1


EDGES = [
    # a batch                                                              first call, calls at 10 m, ended
    ("calls: 3, pace: 1/m, jitter: 0",                                     60, 3, 180),
    ("calls: 3, pace: 1/m, jitter: 0, created: -90.5s",                    -31, 3, 89),
    ("calls: 3, pace: 1/m, jitter: 0, window: {start: 10s}",               70, 3, 190),
    ("calls: 3, pace: 1/m, jitter: 0, window: {start: 10.5s}",             70, 3, 190),
    ("calls: 3, pace: 1/m, jitter: 0, window: {end: 100.5s}",              60, 1, 101),
    ("calls: 3, pace: 1/m, jitter: 0, window: {start: 10m}",               None, 0, None),
    ("calls: 3, pace: 1/m, jitter: 0, created: -2h, window: {end: -1h}",   -2 * HOUR + 60, 3, -2 * HOUR + 180),
    ("calls: 3, pace: 1/h, jitter: 0, created: -2h, window: {end: -90m}",  None, 0, -90 * MINUTE),
    ("calls: 0",                                                           None, 0, 1),
    ("calls: 3, pace: 0/h",                                                None, 0, None),
    ("calls: 3, pace: 120/h, jitter: 0",                                   30, 3, 90),
    ("calls: 3, pace: 1/m, jitter: 0, paused: true",                       None, 0, None),
    ("calls: 3, pace: 0/h, jitter: 0, script: [{at: 1m, do: set_pace, pace: 1/m}]", 119, 3, 239),
    ("calls: 3, pace: 1/m, jitter: 0, window: {start: 10s, end: 2m}, script: [{at: 5s, do: move_window, start: 30s}]", 90, 1, 120),
    ("calls: 3, pace: 1/m, jitter: 0, window: {start: 10s, end: 2m}, script: [{at: 5s, do: move_window, end: 1h}]", 70, 3, 190),
    ("calls: 3, pace: 1/m, jitter: 0, window: {end: 2m}, script: [{at: 5s, do: move_window, end: null}]", 60, 3, 180),
    ("calls: 3, pace: 1/m, jitter: 0, window: {end: 2m}, script: [{at: 70s, do: move_window, end: 60s}]", 60, 1, 70),
    ("calls: 3, pace: 1/m, jitter: 0, script: [{at: 70s, do: cancel}, {at: 80s, do: cancel}]", 60, 1, 70),
    ("calls: 3, pace: 1/m, jitter: 0, script: [{at: 70s, do: delete}]",    60, 1, None),
    ("calls: 1, pace: 1/m, jitter: 0, script: [{at: 5m, do: add_calls, calls: 1}]", 60, 2, 359),
    ("calls: 3, pace: 1/h, jitter: 0, window: {end: 2m}, script: [{at: 5m, do: add_calls, calls: 1}]", None, 0, 300),
]  # fmt: skip


@pytest.mark.parametrize(("batch", "first", "calls", "ended"), EDGES, ids=[row[0] for row in EDGES])
def test_the_edges_of_a_campaign(batch, first, calls, ended):
    made, campaign = worlds(batch)
    made.advance(10 * MINUTE)
    assert (next(iter(starts(campaign)), None), len(campaign.made)) == (first, calls)
    assert campaign.ended_at == ended


def test_a_throttle_that_is_spent_for_hours_lets_calls_through_again_the_second_it_may():
    made, campaign = worlds(
        "calls: 100, pace: 1/s, jitter: 0, throttle: t",
        account="throttles: [{name: t, rules: [{max_calls: 3, window: 3h}, {max_calls: 1, window: 10s}]}]",
    )
    made.advance(10 * HOUR)
    assert starts(campaign) == [at + turn * 3 * HOUR for turn in range(4) for at in (1, 11, 21)]


# The shipped afternoon, as the monitor could see it at its best


@pytest.fixture(scope="module")
def afternoon():
    """What the API says of each batch, every minute of the four hours."""
    seen = {}
    for account in simulator.shipped().accounts:
        made = World(account, simulator.shipped().seed)
        for minute in range(241):
            made.advance(minute * MINUTE)
            for c in made.campaigns.values():
                seen.setdefault(c.plan.name, {})[minute] = {
                    "exists": made.exists(c),
                    "made": len(c.made),
                    "failed": len(c.failed),
                    "total": c.total,
                    "paused": c.paused,
                    "start": c.window_start,
                    "end": c.window_end,
                    "ended": c.ended_at is not None,
                    "active": made.active_calls(),
                }
    return seen


def silent(seen, start, end):
    """No call was made, though calls remain and the window is open, from one minute to another."""
    return all(
        seen[minute]["made"] == seen[start]["made"] < seen[minute]["total"]
        and not seen[minute]["ended"]
        and (seen[minute]["start"] or 0) <= minute * MINUTE <= (seen[minute]["end"] or 10**9)
        for minute in range(start, end + 1)
    )


def test_afternoon_a_stall_longer_than_15_minutes_and_its_recovery(afternoon):
    seen = afternoon["spring-renewals"]
    assert silent(seen, 41, 79)
    assert not any(seen[minute]["paused"] for minute in range(241))
    assert seen[90]["made"] > seen[79]["made"]
    assert seen[240]["ended"]
    assert seen[240]["made"] == seen[240]["total"]


def test_afternoon_a_pause_inside_the_window_for_longer_than_an_hour_and_its_end(afternoon):
    seen = afternoon["price-change-notice"]
    assert all(seen[minute]["paused"] for minute in range(21, 109))
    assert silent(seen, 21, 109)
    assert not seen[111]["paused"]
    assert seen[240]["made"] > seen[111]["made"]


def test_afternoon_a_batch_that_is_over_its_window_for_longer_than_5_minutes(afternoon):
    seen = afternoon["delivery-slots"]
    assert all(
        not seen[minute]["ended"] and seen[minute]["made"] < seen[minute]["total"] for minute in range(61, 90)
    )
    assert seen[91]["ended"]


def test_afternoon_ends_of_each_sort(afternoon):
    def unmade(name, minute):
        seen = afternoon[name][minute]
        assert seen["ended"]
        return (seen["total"] - seen["made"]) / seen["total"]

    assert unmade("loyalty-thanks", 100) == 0
    assert 0 < unmade("dentist-reminders", 101) < 0.05
    assert unmade("last-minute-offer", 121) > 0.05


def test_afternoon_a_window_at_risk_for_much_longer_than_10_minutes(afternoon):
    seen = afternoon["last-minute-offer"]
    for minute in range(30, 120):
        at_this_pace = seen[minute]["made"] / minute * 120
        assert at_this_pace < 0.8 * seen[minute]["total"]


def test_afternoon_failing_calls(afternoon):
    seen = afternoon["trunk-trouble"]
    assert seen[14]["failed"] == 0
    assert seen[90]["made"] >= 20
    assert seen[90]["failed"] / seen[90]["made"] >= 0.2
    assert not seen[90]["ended"]


def test_afternoon_waiting_unknown_gone_reopened(afternoon):
    waiting = afternoon["evening-survey"]
    assert waiting[90]["made"] == 0 < waiting[100]["made"]
    unknown = afternoon["not-yet-created"]
    assert [unknown[minute]["exists"] for minute in (0, 19, 20)] == [False, False, True]
    gone = afternoon["test-please-ignore"]
    assert [gone[minute]["exists"] for minute in (29, 30, 240)] == [True, False, False]
    assert not gone[29]["ended"]
    reopened = afternoon["callback-requests"]
    assert [reopened[minute]["ended"] for minute in (0, 89, 91, 130)] == [True, True, False, True]


def test_afternoon_a_throttle_and_a_cap_that_hold_back_what_is_healthy(afternoon):
    throttled, capped = afternoon["gentle-feedback"], afternoon["city-north"]
    assert throttled[60]["made"] == 70
    assert not any(silent(throttled, minute, minute + 14) for minute in range(200))
    assert all(capped[minute]["active"] == 5 for minute in range(10, 240))


def test_afternoon_faults_last_longer_than_what_they_must_set_off():
    faults = {(fault.account or fault.batch, fault.kind.value): fault for fault in simulator.shipped().faults}
    for name in (("flaky-answers", "wrong_types"), ("partner", "server_error"), ("partner", "unauthorized")):
        fault = faults[name]
        assert fault.to - fault.from_ >= 15 * MINUTE
        assert fault.to <= 3 * HOUR, "the recovery belongs to the story"
        assert fault.share == 1
