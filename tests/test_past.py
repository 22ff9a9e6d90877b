"""What a batch remembers of its past, for those who look at its page: changes of state, and the shape of its curve."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polled import World
from receivers import MovedClock
from samples import NOW, observation, status

from monitor import evaluate
from monitor.model import Assessment, Changes, Curve, State, StateChange
from monitor.model.state import MOST_CHANGES
from monitor.store import BatchRecord
from monitor.store.records import BATCH, decode, encode

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path, MovedClock())
    await made.pretend.start()
    yield made
    await made.stop()
    await made.pretend.stop()


def test_a_change_is_kept_and_what_stays_is_none():
    changes = evaluate.changed(Changes(), Assessment(State.UNKNOWN, "never observed"), NOW)
    assert changes == Changes()  # that is where all begin
    for minute, state in enumerate((State.WAITING, State.RUNNING, State.RUNNING, State.STALLED)):
        changes = evaluate.changed(changes, Assessment(state, f"why {minute}"), NOW + minute * MINUTE)
    assert [*changes] == [
        StateChange(NOW, State.WAITING, "why 0"),
        StateChange(NOW + MINUTE, State.RUNNING, "why 1"),
        StateChange(NOW + 3 * MINUTE, State.STALLED, "why 3"),
    ]


def test_of_a_batch_that_flaps_the_latest_are_kept():
    changes = Changes()
    for minute in range(500):
        state = State.RUNNING if minute % 2 else State.PAUSED
        changes = evaluate.changed(changes, Assessment(state, ""), NOW + minute * MINUTE)
    assert len(changes) == len([*changes]) == MOST_CHANGES
    assert changes.latest.at == NOW + 499 * MINUTE


_INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2286, 1, 1), timezones=st.just(UTC))
_CHANGES = st.builds(StateChange, _INSTANTS, st.sampled_from(State), st.text())


@given(st.lists(_CHANGES, max_size=MOST_CHANGES + 3))
@example([StateChange(NOW, State.STALLED, "\ud800 half a character")])
def test_what_is_packed_is_what_was(changes):
    packed = Changes.of(changes)
    kept = [one._replace(why=one.why.replace("\n", " ")) for one in changes[-MOST_CHANGES:]]
    assert [*packed] == kept
    assert (packed.latest, len(packed)) == (kept[-1] if kept else None, len(kept))
    assert packed.state is (kept[-1].state if kept else State.UNKNOWN)
    record = BatchRecord.of(replace(status(), changes=packed))
    assert decode(BATCH, encode(BATCH, record)).changes == packed
    more = StateChange(NOW, State.ENDED, "")
    assert [*packed.then(more)] == [*kept, more][-MOST_CHANGES:]


@pytest.mark.parametrize(
    "text",
    ["x", "1 running", "1 walking fast", "99999999999999999 running ", "\n", "1 running \n", "-1 running "],
)
def test_what_is_no_line_of_it_is_refused_when_it_is_read(text):
    with pytest.raises(ValueError, match="a change of state is"):
        Changes(text)


@pytest.mark.parametrize("year", [1, 1969, 9999])
def test_a_clock_that_tells_an_absurd_year_breaks_nothing(year):
    at = datetime(year, 6, 1, tzinfo=UTC)
    latest = Changes().then(StateChange(at, State.RUNNING, "why")).latest
    assert (latest.state, latest.why) == (State.RUNNING, "why")
    assert 1970 <= latest.at.year <= 2286


def seen(minutes, completed, **changes):
    return observation(at=NOW + minutes * MINUTE, completed=completed, **changes)


def drawn(*observations):
    progress = None
    for one in observations:
        progress = evaluate.observe(progress, one, evaluate.Rules())
    return [(point.at - int(NOW.timestamp()), point.completed) for point in progress.curve]


def test_the_curve_has_the_pause_in_it_though_no_call_was_expected():
    paused = {"paused": True}
    assert drawn(
        seen(0, 10), seen(1, 20), seen(2, 20, **paused), seen(9, 20, **paused), seen(10, 20), seen(11, 30)
    ) == [(0, 10), (60, 20), (600, 20), (660, 30)]


def test_the_curve_ends_where_the_batch_did_and_goes_on_when_it_is_reopened():
    end = {"ended_at": NOW + 2 * MINUTE, "total": 30}
    over = [seen(0, 10, total=30), seen(2, 30, **end), seen(3, 30, **end), seen(600, 30, **end)]
    assert drawn(*over) == [(0, 10), (120, 30)]
    assert drawn(*over, seen(601, 31, total=60))[-1] == (36060, 31)


def test_counts_that_shrink_do_not_bend_it():
    assert drawn(seen(0, 10), seen(1, 20), seen(2, 10), seen(3, 21)) == [
        (0, 10),
        (60, 20),
        (120, 20),
        (180, 21),
    ]


async def test_both_survive_a_restart(world):
    await world.start(world.spring)
    await world.poll(30)
    before = world.book.statuses[world.spring]
    assert [change.state for change in before.changes] == [State.RUNNING, State.STALLED]
    assert before.changes.latest.why.startswith("no call for 15 min")
    assert len(before.progress.curve) > 5
    await world.stop()
    world.clock.move(minutes=1)
    await world.start(world.spring)
    after = world.book.statuses[world.spring]
    assert after.changes == before.changes
    assert after.progress.curve == before.progress.curve
    await world.poll(30)
    assert [change.state for change in world.book.statuses[world.spring].changes][:3] == [
        State.RUNNING,
        State.STALLED,
        State.RUNNING,
    ]


def test_a_record_from_before_there_was_a_past_is_read():
    record = BatchRecord.of(replace(status(), changes=Changes.of([StateChange(NOW, State.RUNNING, "why")])))
    text = encode(BATCH, record)
    assert decode(BATCH, text) == record
    assert decode(BATCH, text).progress.curve == Curve.of([(int(NOW.timestamp()), 118)])
    older = BATCH.dump_python(record, mode="json")
    del older["changes"]
    del older["progress"]["curve"]
    found = BATCH.validate_python(older)
    assert (found.changes, found.progress.curve) == (Changes(), Curve())
    again = evaluate.observe(found.progress, seen(1, 119), evaluate.Rules())
    assert again.curve == Curve.of([(int((NOW + MINUTE).timestamp()), 119)])


async def test_what_moves_no_alert_is_only_noted_and_what_does_is_committed(world, monkeypatch):
    await world.start(world.spring)
    noted, committed = [], []
    note, commit = world.store.note, world.store.commit
    monkeypatch.setattr(world.store, "note", lambda some: noted.append(len(some)) or note(some))

    async def counted(change):
        committed.append(len(change.batches))
        return await commit(change)

    monkeypatch.setattr(world.store, "commit", counted)
    await world.poll(9, world.spring)
    assert (sum(noted), committed) == (9, [])
    await world.poll(20, world.spring)  # it stalls
    assert world.book.statuses[world.spring].alerts
    assert committed
    assert sum(noted) + sum(committed) == 29
