"""Names and passwords: checked off the event loop, remembered when right, limited when wrong.

No password is kept, nor written anywhere. Which requests need one is access.py's business.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import math
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum, auto

import bcrypt

logger = logging.getLogger(__name__)

TRIES = 10
"""Wrong passwords that an address may send in a row; after them it gets one more try each TRY_EVERY."""

TRY_EVERY = 6.0
"""Seconds. With TRIES: ten a minute, 14,000 a day, of which each costs us as much as the hash says."""

ADDRESSES = 10_000
"""Addresses whose wrong tries are remembered; those that tried longest ago are forgotten first."""

THREADS = 1
"""Hashes computed at once. They are slow on purpose, and must not take the machine from the polling."""

QUEUE = 16
"""Checks that may wait for their turn; beyond, the asker is told to come again."""

REMEMBERED = 256
"""Right credentials that need no hash any more, until the configuration is read again."""

LONGEST = 72
"""Bytes of a password that bcrypt looks at. The rest is cut off, as htpasswd and Go do."""

COSTS = range(4, 17)
"""2 to the 16th rounds take seconds already."""

_HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_DUMMY_KEY = secrets.token_bytes(32)
_NOBODY = "." * 53
"""Salt and hash that no password has: what the password of an unknown name is compared with."""


def mistake(hashed: str) -> str | None:
    """What is wrong with a hash; None: nothing."""
    match = _HASH.fullmatch(hashed)
    if match is None:
        return "not a bcrypt hash: make one with `htpasswd -nBC 10 \"\" | tr -d ':\\n'`, and put it in quotes"
    if int(match[1]) not in COSTS:
        return "its cost must be from 04 to 16: each step doubles the time of a check, 10 takes about 60 ms"
    try:
        bcrypt.hashpw(b"", f"$2b$04${hashed[7:]}".encode())  # the salt is read, at the least cost
    except ValueError:
        return "not a bcrypt hash: its salt is damaged"
    return None


class Verdict(Enum):
    """What came of a check."""

    RIGHT = auto()
    WRONG = auto()
    TOO_MANY_TRIES = auto()  # by this address: nothing was checked
    BUSY = auto()  # nothing was checked


@dataclass(slots=True)
class _Tries:
    left: float
    at: float
    told: bool = False


@dataclass(slots=True)
class Limiter:
    """Tries left by address: a bucket of TRIES, refilled by one each TRY_EVERY. Times are of a clock that only runs on."""

    _tries: OrderedDict[str, _Tries] = field(default_factory=OrderedDict)

    def take(self, address: str, now: float) -> bool:
        """Use up a try; False when there is none left."""
        found = self._refilled(address, now)
        if found.left < 1:
            if not found.told:
                logger.warning(
                    "too many wrong passwords, the address is not listened to for a while",
                    extra={"address": address},
                )
                found.told = True
            return False
        found.left -= 1
        return True

    def give_back(self, address: str, now: float) -> None:
        """It was right, or it was not looked at."""
        found = self._refilled(address, now)
        found.left = min(TRIES, found.left + 1)

    def wait(self, address: str, now: float) -> int:
        """Whole seconds until there is a try again."""
        return max(1, math.ceil((1 - self._refilled(address, now).left) * TRY_EVERY))

    def _refilled(self, address: str, now: float) -> _Tries:
        found = self._tries.pop(address, None) or _Tries(TRIES, now)
        found.left = min(TRIES, found.left + (now - found.at) / TRY_EVERY)
        found.at = now
        found.told = found.told and found.left < TRIES
        self._tries[address] = found  # the latest last
        while len(self._tries) > ADDRESSES:
            self._tries.popitem(last=False)
        return found


def network(address: str | None) -> str:
    """Whose tries count together: an IPv4 address; of IPv6 a /64, which is what one customer gets."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
    return str(found)


class Passwords:
    """Says whether credentials are right. `users`: names and bcrypt hashes. `clock`: seconds that only run on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._users: Mapping[str, str] = {}
        self._limiter = Limiter()
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")

    def use(self, users: Mapping[str, str]) -> None:
        """These hold from now on; what was right before is checked anew."""
        self._users = users
        self._key = secrets.token_bytes(32)  # what is running now will not be remembered either
        self._right.clear()
        self._wrong.clear()

    def close(self) -> None:
        """No check is begun any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def wait(self, address: str | None) -> int:
        """Whole seconds until an address that had too many tries has one again."""
        return self._limiter.wait(network(address), self._clock())

    async def check(self, name: str, password: bytes, address: str | None) -> Verdict:
        """Whether this is a user's password. A try is used up by each hash that is computed, unless it was right."""
        digest, at = self._digest(name, password), network(address)
        # Said again it is no guess: a terminal that was forgotten must not lock its address out.
        if digest in self._wrong:
            self._wrong.move_to_end(digest)
            return Verdict.WRONG
        # Before anything remembered is looked at: else guessing would go on, at the speed of a look.
        if not self._limiter.take(at, self._clock()):
            return Verdict.TOO_MANY_TRIES
        running = self._running.get(digest)
        if digest in self._right or running is not None or len(self._running) >= THREADS + QUEUE:
            self._limiter.give_back(at, self._clock())
        if digest in self._right:
            self._right.move_to_end(digest)
            return Verdict.RIGHT
        if running is None:
            if len(self._running) >= THREADS + QUEUE:
                return Verdict.BUSY
            known = self._users.get(name)
            computed = self._compute(name, password, known or self._dummy(name), digest)
            running = self._running[digest] = asyncio.create_task(computed)
            running.add_done_callback(lambda _: self._running.pop(digest, None))
            if await asyncio.shield(running):
                self._limiter.give_back(at, self._clock())
        # Else a page and its parts were asked for at once: one hash, and one try.
        return Verdict.RIGHT if await asyncio.shield(running) else Verdict.WRONG

    async def _compute(self, name: str, password: bytes, hashed: str, digest: bytes) -> bool:
        loop = asyncio.get_running_loop()
        right = await loop.run_in_executor(self._threads, _matches, password, hashed.encode())
        right = right and not hashed.endswith(_NOBODY)
        if digest == self._digest(name, password):  # else the configuration was read anew meanwhile
            remembered = self._right if right else self._wrong
            remembered[digest] = None
            while len(remembered) > REMEMBERED:
                remembered.popitem(last=False)
        return right

    def _digest(self, name: str, password: bytes) -> bytes:
        given = name.encode(errors="surrogateescape")
        text = len(given).to_bytes(4, "big") + given + password
        return hashlib.blake2b(text, key=self._key).digest()

    def _dummy(self, name: str) -> str:
        """For a name that nobody has: as costly as one of the users' hashes, always the same for the same name."""
        costs = sorted(hashed[4:6] for hashed in self._users.values())
        choice = hashlib.blake2b(name.encode(errors="surrogateescape"), key=_DUMMY_KEY).digest()
        return f"$2b${costs[int.from_bytes(choice[:8], 'big') % len(costs)]}${_NOBODY}"


def _matches(password: bytes, hashed: bytes) -> bool:
    return bcrypt.checkpw(password[:LONGEST], hashed)
