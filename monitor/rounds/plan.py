"""How an account is asked, and what the rounds remember of it and of its agents' lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from monitor.model import BatchKey
from monitor.targets import Discovery


@dataclass(frozen=True, slots=True)
class Plan:
    """How an account's batches are asked for."""

    interval: timedelta  # between two polls of a running batch
    account_interval: timedelta
    outcomes_interval: timedelta
    requests_per_second: float
    discovery: Discovery | None


class AgentKey(NamedTuple):
    """Whose list of batches is read, and with whose key."""

    account: str
    agent_id: str

    def __str__(self) -> str:
        return f"{self.account}/{self.agent_id}"


@dataclass(slots=True)
class AgentRounds:
    """What is known of one agent's list of batches."""

    keys: set[BatchKey] = field(default_factory=set)  # its watched batches
    page_of: dict[BatchKey, int] = field(default_factory=dict)  # where each was last seen, from 0
    pages: int = 0  # so many are read each interval
    read_at: datetime | None = None  # when a reading last began
    try_at: datetime | None = None  # not before: trying whether pages would pay
    complete_at: datetime | None = None  # when the list was last read to its end
    failures: int = 0  # readings in a row that failed
    over_limit: int = 0


@dataclass(slots=True)
class AccountRounds:
    """How far the finding of an account's batches is."""

    plan: Plan
    found: set[BatchKey] = field(default_factory=set)  # batches that were found, not configured
    wanted: frozenset[str] | None = None  # agents whose batches are to be found; None: not known yet
    listed_at: datetime | None = None  # when its agents were last listed
    failing: bool = False
    over_limit: bool = False
