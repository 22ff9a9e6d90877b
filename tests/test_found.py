"""Which of an agent's batches are watched: what a reading of its list adds, drops, and has no room for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import AGENT, KEY, NOW, batch_key, observation

from monitor.alerts import Policy
from monitor.evaluate import Rules
from monitor.targets import AgentSettings, Discovery, Found, found

SEC, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
OTHER = "9e2b0000-0000-4000-8000-000000000002"


def running(created=NOW - HOUR, **changes):
    return observation(created=created, window_start=None, window_end=None, **changes)


def ended(ago=HOUR, created=NOW - 40 * DAY):
    return running(created, ended_at=NOW - ago, completed=400)


LONG_ENDED = ended(25 * HOUR)


def finds(listed, watched=None, room=100, *, unreadable=(), complete=True, **settings):
    """What follows from this list: numbers of batches for their keys."""
    told = found(
        Discovery(**settings),
        {batch_key(number): seen for number, seen in listed.items()},
        [(batch_key(number), seen) for number, seen in (watched or {}).items()],
        room,
        met={batch_key(number) for number in (*listed, *unreadable)},
        complete=complete,
    )

    def numbers(keys):
        return [int(key.batch_id[-12:]) for key in keys]

    return Found(numbers(told.added), numbers(told.dropped), told.over_limit)


NOTHING = Found([], [], 0)

# Agents


@pytest.mark.parametrize(
    ("agents", "wanted"),
    [
        (None, True),
        ((), False),
        ((AGENT,), True),
        ((AGENT.upper(),), True),
        ((OTHER,), False),
        ((OTHER, AGENT), True),
        ((AGENT[:8],), False),
        ((AGENT[:8] + "*",), False),
        (("Spring Renewals [EU]",), True),
        (("spring renewals [eu]",), True),
        (("spring*",), True),
        (("SPRING*",), True),
        (("*renewals*",), True),
        (("renewals",), False),
        (("spring renewals ?eu?",), True),
        (("[s]pring*",), True),
        (("[!s]pring*",), False),
        (("*",), True),
        (("",), False),
        (("autumn*", "spring*"), True),
    ],
)
def test_agents_are_chosen_by_id_or_by_the_whole_of_their_name_in_any_case(agents, wanted):
    assert Discovery(agents=agents).wants_agent(AGENT, "Spring Renewals [EU]") is wanted
    assert Discovery(agents=agents).wants_agent(AGENT.upper(), "SPRING RENEWALS [EU]") is wanted


def test_an_agent_without_a_name_is_chosen_by_its_id_or_with_all():
    assert Discovery(agents=(AGENT,)).wants_agent(AGENT, "")
    assert Discovery(agents=("*",)).wants_agent(AGENT, "")
    assert not Discovery(agents=("a*",)).wants_agent(AGENT, "")


# Batches


@pytest.mark.parametrize(
    ("seen", "settings", "wanted"),
    [
        (running(NOW - 999 * DAY), {}, True),
        (ended(24 * HOUR), {}, True),
        (ended(24 * HOUR + SEC), {}, False),
        (ended(0 * SEC), {"keep_ended_for": 0 * SEC}, True),
        (ended(SEC), {"keep_ended_for": 0 * SEC}, False),
        (ended(-HOUR), {"keep_ended_for": 0 * SEC}, True),
        (running(NOW - DAY), {"max_age": DAY}, True),
        (running(NOW - DAY - SEC), {"max_age": DAY}, False),
        (ended(HOUR, created=NOW - DAY), {"max_age": DAY}, True),
        (ended(HOUR, created=NOW - 2 * DAY), {"max_age": DAY}, False),
        (ended(2 * DAY, created=NOW - 3 * DAY), {"max_age": 9 * DAY}, False),
    ],
)
def test_a_batch_is_wanted_until_it_is_over_for_long_or_too_old(seen, settings, wanted):
    assert Discovery(**settings).wants_batch(seen) is wanted


def test_ages_are_reckoned_by_the_clock_that_dated_them():
    late = running(created=NOW, at=NOW + 9 * DAY)
    assert not Discovery(max_age=DAY).wants_batch(late)
    assert Discovery(max_age=DAY).wants_batch(running(created=NOW + 8 * DAY, at=NOW + 9 * DAY))


def test_a_found_batch_is_watched_as_its_agent_is_configured_or_else_as_all_are():
    own = AgentSettings("Renewals", (("team", "growth"),), Rules(interval=5 * SEC), Policy(failure_ratio=0.5))
    common = AgentSettings(None, (("team", "ops"),))
    discovery = Discovery(settings=common, by_agent={AGENT: own})
    watch = discovery.watch("main", KEY)
    assert (watch.key, watch.target.account, watch.target.name) == (KEY, "main", None)
    assert (watch.target.agent_name, watch.target.labels) == ("Renewals", (("team", "growth"),))
    assert (watch.rules, watch.policy) == (own.rules, own.policy)
    other = Discovery(settings=common, by_agent={OTHER: own}).watch("main", KEY)
    assert (other.target.agent_name, other.target.labels) == (None, (("team", "ops"),))
    assert other.policy.failure_ratio == Policy().failure_ratio


# What is added and dropped


def test_what_is_new_is_added_and_what_is_watched_stays():
    listed = {1: running(), 2: running(), 3: LONG_ENDED}
    assert finds(listed, {1: running()}) == Found([2], [], 0)
    assert finds(listed, {1: None, 2: None}) == NOTHING


@pytest.mark.parametrize("complete", [True, False])
def test_what_is_listed_and_no_longer_wanted_is_dropped_however_it_was_seen_before(complete):
    listed = {1: LONG_ENDED, 2: running(NOW - 2 * DAY), 3: running(), 4: LONG_ENDED}
    watched = {1: ended(), 2: running(), 3: running()}
    # What has grown too old while it runs is not left alone in the middle.
    assert finds(listed, watched, complete=complete, max_age=DAY) == Found([], [1], 0)


@pytest.mark.parametrize(
    ("seen", "complete", "dropped"),
    [
        (ended(), True, True),
        (ended(), False, False),
        (running(), True, False),
        (running(), False, False),
        (None, True, False),
    ],
    ids=["ended", "ended, on part of the list", "running", "running, on part of the list", "never seen"],
)
def test_absence_means_something_only_of_ended_batches_in_a_complete_list(seen, complete, dropped):
    assert finds({}, {1: seen}, complete=complete) == Found([], [1] if dropped else [], 0)


# The limit


def test_over_the_limit_those_come_first_that_need_watching_most():
    listed = {
        1: ended(HOUR, created=NOW - HOUR),
        2: running(NOW - 3 * HOUR),
        3: running(NOW - HOUR),
        4: ended(HOUR, created=NOW - 2 * HOUR),
        5: running(NOW - 2 * HOUR),
        6: LONG_ENDED,
    }
    order = [3, 5, 2, 1, 4]
    for room in range(7):
        assert finds(listed, room=room) == Found(order[:room], [], max(0, 5 - room))


def test_batches_made_in_the_same_instant_come_in_the_order_of_their_ids():
    listed = {number: running() for number in (3, 1, 2)}
    assert finds(listed, room=2) == Found([1, 2], [], 1)


def test_what_is_dropped_makes_room():
    listed = {1: LONG_ENDED, 2: running(NOW - 2 * HOUR), 3: running()}
    assert finds(listed, {1: ended(), 9: ended()}, room=0) == Found([3, 2], [1, 9], 0)
    assert finds(listed, {1: ended()}, room=0) == Found([3], [1], 1)
    assert finds(listed, {1: ended()}, room=-1) == Found([], [1], 2), "the limit was lowered"


def test_no_room_drops_nobody():
    listed = {1: running(NOW - DAY), 2: running()}
    for room in (0, -1, -5):
        assert finds(listed, {1: running(NOW - DAY)}, room=room) == Found([], [], 1)
    assert finds({1: running(), 2: running(), 3: running()}, room=-1) == Found([], [], 3)


_SEEN = st.builds(
    lambda at, made, over: observation(
        at=NOW + at * HOUR,
        created=NOW - made * HOUR,
        window_start=None,
        window_end=None,
        ended_at=None if over is None else NOW - over * HOUR,
    ),
    st.integers(0, 3),
    st.integers(0, 40),
    st.none() | st.integers(0, 30),
)
_NUMBERS = st.integers(1, 12)


@given(
    listed=st.dictionaries(_NUMBERS, _SEEN),
    watched=st.dictionaries(_NUMBERS, st.none() | _SEEN),
    room=st.integers(-3, 12),
    complete=st.booleans(),
    max_age=st.sampled_from([None, DAY]),
)
def test_nothing_is_added_twice_and_nothing_dropped_that_is_listed_and_wanted(
    listed, watched, room, complete, max_age
):
    discovery = Discovery(max_age=max_age)
    told = finds(listed, watched, room, complete=complete, max_age=max_age)
    added, dropped = set(told.added), set(told.dropped)
    wanted = {number for number, seen in listed.items() if discovery.wants_batch(seen)}
    assert len(told.added) == len(added)
    assert len(told.dropped) == len(dropped)
    assert added <= wanted - watched.keys()
    assert dropped <= watched.keys() - wanted
    assert len(told.added) - len(told.dropped) <= max(room, -len(dropped))
    assert len(added) + told.over_limit == len(wanted - watched.keys())
    assert told.over_limit == 0 or len(added) == max(0, room + len(dropped)), "room was left unused"
    # Once more over what is watched then: nothing moves, but what had no room.
    after = {number: listed.get(number) or watched[number] for number in (watched.keys() - dropped) | added}
    again = finds(listed, after, room + len(dropped) - len(added), complete=complete, max_age=max_age)
    assert again == Found([], [], told.over_limit)
