"""An account that moves from one shard to another: with all that is remembered of it, and nothing is told twice."""

from __future__ import annotations

import pytest
from several import EARLY, EVERY_BATCH_ONCE, LATE, MOVERS, NAMES, Several, once

from monitor import handover, schedule


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(handover, "ASK_EVERY", 0.02)
    monkeypatch.setattr(schedule, "CLOCK_CHECK", 3600)  # that the clock is moved is none of its business


@pytest.fixture
async def several(tmp_path, server):
    made = Several(tmp_path, server)
    await made.pretend.start()
    yield made
    await made.stop()
    await made.pretend.stop()


async def test_three_shards_watch_every_batch_exactly_once(several):
    for ordinal in range(3):
        await several.start(ordinal, 3)
    await several.settled()
    assert several.watched() == EVERY_BATCH_ONCE
    assert all(app.book.accounts for app in several.apps.values())
    await several.poll(40)
    assert several.told() == once(NAMES, EARLY)


async def test_from_two_to_three_nothing_is_told_twice_and_each_end_once(several):
    """As a StatefulSet does it: the new pod first, then the highest of the old ones, then the next."""
    for ordinal in range(2):
        await several.start(ordinal, 2)
    await several.settled()
    await several.poll(40)
    assert several.told() == once(NAMES, EARLY)

    new = await several.start(2, 3)
    assert new.surface.ready(), "else the old ones would never be replaced"
    assert new.handover.arriving == set(MOVERS)
    assert several.watched() == EVERY_BATCH_ONCE, "the old ones go on"
    for ordinal in (1, 0):
        await several.stop(ordinal)
        await several.start(ordinal, 3)
    await several.settled()
    assert several.watched() == EVERY_BATCH_ONCE
    assert set(new.book.accounts) == set(MOVERS)

    await several.poll(80)
    assert several.told() == once(NAMES, EARLY + LATE)
