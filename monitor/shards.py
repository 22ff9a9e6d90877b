"""Which of several monitors watches which account: rendezvous hashing of the account's name.

Pure. Accounts are what is split, never their batches: limits, throttles and the alerts about an account belong to
it, and one account cannot outgrow a process. What becomes of one that moves is handover.py's.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

MOST_SHARDS = 1000
"""A number above is a slip: of a thousand shards each is slow to find its accounts, and asks all others for them."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` processes. With an ordinal that is not below `count` it owns nothing: it is about to go."""

    ordinal: int = 0
    count: int = 1

    def owns(self, account: str) -> bool:
        """Whether this shard watches the account."""
        return owner(account, self.count) == self.ordinal

    def __str__(self) -> str:
        return f"{self.ordinal}/{self.count}"


def owner(account: str, count: int) -> int:
    """The ordinal of the shard that watches the account.

    The one whose hash together with the name is the highest: with one shard more, an account either stays or moves
    to the new one, and about one in `count + 1` does.
    """
    return max(
        range(count),
        key=lambda ordinal: hashlib.sha256(f"{ordinal}/{account}".encode()).digest(),
    )


def parse(text: str) -> Shard:
    """The shard that `0/3` means, or `monitor-0/3`: of a pod's name the ordinal counts. ValueError says what is wrong."""
    found = re.fullmatch(r"(?:.+-)?(\d{1,6})/(\d{1,6})", text, re.ASCII | re.DOTALL)
    if found is None:
        raise ValueError(f"{text!r} is not i/n, like 0/3; i may also be a pod's name that ends in -i")
    shard = Shard(int(found[1]), int(found[2]))
    if shard.count < 1:
        raise ValueError(f"{text!r}: there must be at least 1 shard")
    if max(shard.count, shard.ordinal) > MOST_SHARDS:
        raise ValueError(f"{text!r}: there may be {MOST_SHARDS} shards at most")
    return shard
