"""Which shard watches which account: the same for ever, evenly, and moving no more than has to move."""

from __future__ import annotations

from collections import Counter

import pytest

from monitor.shards import MOST_SHARDS, Shard, owner, parse

NAMES = [f"account-{number}" for number in range(3000)]


@pytest.mark.parametrize(
    ("name", "owners"),
    [
        ("default", [0, 1, 1, 1, 4]),
        ("main", [0, 1, 2, 2, 4]),
        ("agency", [0, 1, 1, 1, 6]),
        ("sales-eu", [0, 0, 2, 2, 2]),
        ("Sales_US.2", [0, 1, 1, 1, 1]),
        ("a", [0, 0, 0, 0, 9]),
    ],
)
def test_who_watches_an_account_never_changes_by_accident(name, owners):
    """By one, two, three, four and ten shards. Another answer here would move accounts when the monitor is upgraded."""
    assert [owner(name, count) for count in (1, 2, 3, 4, 10)] == owners


@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_accounts_are_spread_evenly(count):
    shares = Counter(owner(name, count) for name in NAMES)
    fair = len(NAMES) / count
    assert set(shares) == set(range(count))
    assert all(abs(share - fair) < 4 * fair**0.5 for share in shares.values()), shares


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_one_shard_more_takes_its_share_and_moves_nothing_else(count):
    moved = [name for name in NAMES if owner(name, count) != owner(name, count + 1)]
    assert {owner(name, count + 1) for name in moved} == {count}
    fair = len(NAMES) / (count + 1)
    assert abs(len(moved) - fair) < 4 * fair**0.5


def test_of_all_shards_exactly_one_owns_an_account_and_one_that_is_about_to_go_owns_none():
    for name in NAMES[:100]:
        assert [Shard(ordinal, 3).owns(name) for ordinal in range(4)].count(True) == 1
        assert not Shard(3, 3).owns(name)


@pytest.mark.parametrize(
    ("text", "shard"),
    [
        ("0/1", Shard(0, 1)),
        ("2/3", Shard(2, 3)),
        ("02/3", Shard(2, 3)),
        ("ultravox-batch-monitor-11/12", Shard(11, 12)),
        ("a-0-1/2", Shard(1, 2)),
        ("3/3", Shard(3, 3)),  # may be about to go: handover.py knows
        (f"{MOST_SHARDS - 1}/{MOST_SHARDS}", Shard(MOST_SHARDS - 1, MOST_SHARDS)),
    ],
)
def test_what_is_a_shard(text, shard):
    assert parse(text) == shard
    assert parse(str(shard)) == shard


SYNTAX = "is not i/n, like 0/3; i may also be a pod's name that ends in -i"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", SYNTAX),
        ("1", SYNTAX),
        ("/3", SYNTAX),
        ("1/", SYNTAX),
        ("-1/3", SYNTAX),
        ("monitor/3", SYNTAX),
        ("monitor1/3", SYNTAX),
        ("1/3/5", SYNTAX),
        ("1 / 3", SYNTAX),
        ("1.0/3", SYNTAX),
        ("٣/5", SYNTAX),  # a digit of another script
        ("0/12345678", SYNTAX),
        ("0/0", "there must be at least 1 shard"),
        (f"0/{MOST_SHARDS + 1}", f"there may be {MOST_SHARDS} shards at most"),
        ("999999/3", f"there may be {MOST_SHARDS} shards at most"),
    ],
)
def test_what_is_none_is_said_to_be_none(text, said):
    with pytest.raises(ValueError, match=said):
        parse(text)
