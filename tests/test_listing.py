"""Reading a list of batches that moves while it is read: what is met, how often, and what a reading claims."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import AGENT, batch_key, observation

from monitor.model import BatchKey, FailureReason, Urgency
from monitor.rounds.listing import Reading
from monitor.ultravox import UltravoxError
from monitor.ultravox.client import BatchPage

EXAMPLES = 500
"""Lists that move, for each property below."""


class MovingList:
    """A list of batches behind cursors that are offsets. Between two pages it moves as it is told.

    `moves`: for each gap between two pages, what happens in it: ("create" | "delete" | "move", where, where to).
    """

    def __init__(self, size, per_page, moves=(), *, with_total=True):
        self.batches = list(range(size))
        self.numbers = count(size)  # of those created later
        self.per_page = per_page
        self.moves = [list(gap) for gap in moves]
        self.with_total = with_total
        self.fails_at = {}  # page: what is raised instead of it
        self.bad = set()  # batches that cannot be read
        self.nameless = 0  # entries on each page that do not even tell which batch they are
        self.throughout = set(self.batches)
        self.created_in_gap, self.deleted_in_gap = Counter(), Counter()
        self.served = []  # (batches, total) of each page
        self.asked = 0
        self.closed = False

    async def list_batches(self, agent_id, *, urgency):
        assert agent_id == AGENT
        gaps, offset = iter(enumerate(self.moves)), 0
        try:
            while True:
                if (error := self.fails_at.get(self.asked)) is not None:
                    raise error
                self.asked += 1
                present = self.batches[offset : offset + self.per_page]
                total = len(self.batches) if self.with_total else None
                self.served.append((present, total))
                last = offset + self.per_page >= len(self.batches)
                batches = {batch_key(one).batch_id: self.entry(one) for one in present}
                yield BatchPage(batches, len(present) + self.nameless, total, last)
                if last:
                    return
                offset += self.per_page
                number, gap = next(gaps, (0, ()))
                for move in gap:
                    self.happen(number, *move)
        finally:
            self.closed = True

    def entry(self, number):
        if number in self.bad:
            return UltravoxError(FailureReason.BAD_RESPONSE, "unreadable")
        return observation(completed=len(self.served))

    def happen(self, gap, what, where, to):
        if what == "create":
            self.batches.insert(where % (len(self.batches) + 1), next(self.numbers))
            self.created_in_gap[gap] += 1
        elif self.batches:
            taken = self.batches.pop(where % len(self.batches))
            if what == "delete":
                self.throughout.discard(taken)
                self.deleted_in_gap[gap] += 1
            else:
                self.batches.insert(to % (len(self.batches) + 1), taken)

    @property
    def signs(self):
        """What a reader can know a shift by, reckoned from what was served alone."""
        met = Counter(one for page, _ in self.served for one in page)
        totals = {total for _, total in self.served} - {None}
        return max(met.values(), default=1) > 1 or len(totals) > 1 or (totals and totals != {len(met)})


async def read(moving, pages=None):
    told = []
    reading = Reading(AGENT)
    await reading.read(moving, pages, Urgency.POLL, lambda seen: told.extend(seen.items()))
    return reading, told


def at_once(reading):
    """Its result; nothing in it ever waits, so it needs no loop."""
    with pytest.raises(StopIteration) as ended:
        reading.send(None)
    return ended.value.value


def met(reading):
    return {int(key.batch_id[-12:]) for key in reading.seen}


def keys(*numbers):
    return {batch_key(number) for number in numbers}


def lists(*kinds, with_total=None):
    """Lists that move in these ways. Bytes, because they are drawn and shrunk fast; three of them are a move."""

    def made(size, per_page, drawn, told):
        moves = [[] for _ in range(8)]
        for what, where, to in zip(drawn[::3], drawn[1::3], drawn[2::3], strict=False):
            moves[what // 8 % 8].append((kinds[what % 8 % len(kinds)], where, to))
        return MovingList(size, per_page, moves, with_total=told)

    told = st.booleans() if with_total is None else st.just(with_total)
    return st.builds(made, st.integers(0, 24), st.integers(1, 7), st.binary(max_size=48), told)


@settings(max_examples=EXAMPLES, deadline=None)
@given(moving=lists("create", "delete", "move"))
def test_no_batch_is_told_twice_and_a_sign_of_a_shift_is_never_overlooked(moving):
    """500 lists that are created in, deleted from and reordered between any two pages."""
    reading, told = at_once(read(moving))
    assert Counter(key for key, _ in told) == Counter(reading.seen.keys())
    assert met(reading) == {one for page, _ in moving.served for one in page}
    first_on = {}
    for number, (page, _) in enumerate(moving.served):
        for one in page:
            first_on.setdefault(batch_key(one), number)
    assert reading.page_of == first_on
    assert reading.to_the_end
    assert reading.pages == len(moving.served)
    assert reading.quiet == (not moving.signs)


@settings(max_examples=EXAMPLES, deadline=None)
@given(moving=lists("create", "delete", "move", with_total=True))
def test_a_quiet_reading_misses_only_where_deletions_and_creations_balance(moving):
    """500 lists. The known limit: in one gap between two pages as many were deleted as were created.

    Then the API's count is the same on every page, no batch is met twice, and one that moved from a page not
    read yet to one that was read is missed, although it was there throughout. Reordering alone never hides
    one: whatever moves on to a page that was read pushes one off it, which is met again.
    """
    reading, _ = at_once(read(moving))
    if reading.quiet and moving.throughout - met(reading):
        assert moving.created_in_gap == moving.deleted_in_gap
        assert moving.deleted_in_gap.total() > 0


@settings(max_examples=EXAMPLES, deadline=None)
@given(moving=lists("create", "move"))
def test_without_deletions_a_quiet_reading_misses_nothing_even_if_no_count_is_told(moving):
    """500 lists, half of them without a `total`."""
    reading, _ = at_once(read(moving))
    if reading.quiet:
        assert moving.throughout <= met(reading)


@settings(max_examples=EXAMPLES, deadline=None)
@given(moving=lists("create", "delete", "move"))
def test_once_nothing_moves_any_more_one_reading_finds_everything(moving):
    """500 lists: read while they move, and once more when they have come to rest."""
    at_once(read(moving))
    moving.moves, moving.served = [], []
    reading, told = at_once(read(moving))
    assert reading.quiet
    assert met(reading) == set(moving.batches)
    assert len(told) == len(moving.batches)


@settings(max_examples=EXAMPLES, deadline=None)
@given(moving=lists("create", "delete", "move"), pages=st.integers(1, 5))
def test_so_many_pages_are_asked_for_and_no_more(moving, pages):
    """500 lists."""
    reading, _ = at_once(read(moving, pages))
    assert moving.asked == reading.pages <= pages
    assert moving.closed
    if not reading.to_the_end:
        assert reading.pages == pages
        assert not reading.quiet


async def test_the_known_limit_a_deletion_and_a_creation_that_balance_hide_a_batch_once():
    moving = MovingList(6, 2, [[("delete", 0, 0), ("create", 5, 0)]])
    reading, _ = await read(moving)
    assert reading.quiet
    assert moving.throughout - met(reading) == {2}
    moving.moves = []
    reading, _ = await read(moving)
    assert moving.throughout <= met(reading)


async def test_a_deletion_alone_is_noticed():
    reading, _ = await read(MovingList(6, 2, [[("delete", 0, 0)]]))
    assert met(reading) == {0, 1, 3, 4, 5}
    assert (reading.to_the_end, reading.quiet) == (True, False)


async def test_a_batch_met_twice_counts_once_by_its_latest_entry_and_its_first_page():
    reading, told = await read(MovingList(3, 2, [[("create", 0, 7)]]))
    twice = batch_key(1)
    assert [key for key, _ in told].count(twice) == 1
    assert dict(told)[twice].completed == 1
    assert reading.seen[twice].completed == 2
    assert reading.page_of[twice] == 0
    assert not reading.quiet


async def test_a_bad_entry_is_told_as_an_error_in_its_place_and_the_reading_is_quiet_all_the_same():
    moving = MovingList(5, 2)
    moving.bad = {1, 4}
    reading, told = await read(moving)
    assert {key for key, seen in told if isinstance(seen, UltravoxError)} == keys(1, 4)
    assert reading.seen.keys() == keys(0, 1, 2, 3, 4)
    assert (reading.failure, reading.quiet) == (None, True)


async def test_an_entry_that_does_not_tell_which_batch_it_is_leaves_in_doubt_what_is_absent():
    moving = MovingList(4, 2)
    moving.nameless = 1
    reading, _ = await read(moving)
    assert reading.seen.keys() == keys(0, 1, 2, 3)
    assert (reading.to_the_end, reading.quiet) == (True, False)


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("reason", [FailureReason.SERVER_ERROR, FailureReason.NOT_FOUND])
async def test_a_failure_in_the_middle_keeps_what_was_met_and_claims_nothing(at, reason):
    moving = MovingList(6, 2)
    moving.fails_at = {at: UltravoxError(reason, "no")}
    reading, told = await read(moving)
    assert reading.seen.keys() == {key for key, _ in told} == keys(*range(2 * at))
    assert reading.failure.reason is reason
    assert (reading.pages, reading.to_the_end, reading.quiet) == (at, False, False)
    assert moving.closed


async def test_a_failure_past_the_pages_that_were_wanted_is_not_met():
    moving = MovingList(6, 2)
    moving.fails_at = {1: UltravoxError(FailureReason.SERVER_ERROR, "no")}
    reading, _ = await read(moving, 1)
    assert (reading.failure, reading.pages, reading.to_the_end) == (None, 1, False)


async def test_an_empty_list_is_read_to_its_end_and_quiet():
    reading, told = await read(MovingList(0, 2))
    assert (told, reading.pages, reading.to_the_end, reading.quiet) == ([], 1, True, True)


async def test_what_was_not_read_claims_nothing():
    assert not Reading(AGENT).quiet


async def test_the_keys_are_those_of_the_agent_that_is_read():
    reading, _ = await read(MovingList(1, 2))
    assert list(reading.seen) == [BatchKey(AGENT, batch_key(0).batch_id)]
