"""What every view is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from monitor.model.alert import AlertState
from monitor.model.batch import AccountStatus, Status
from monitor.model.message import Mute, Notification, QueueStatus


@dataclass(frozen=True, slots=True)
class DiscoveryStatus:
    """How the finding of an account's batches goes."""

    account: str
    last_success_at: datetime | None = None  # when every agent's batches were last read to the end
    over_limit: int = 0  # batches that are not watched because `max_batches` are


@dataclass(frozen=True, slots=True)
class HandoverView:
    """What a shard says to the others: the accounts that are its own, and those that it keeps for one of them."""

    watches: frozenset[str] = frozenset()
    offers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Record:
    """A notification as people look at it: with what it waits for."""

    notification: Notification
    waits_for: str | None = None  # None: it waits for nothing, it is settled
    until: datetime | None = None  # None: not known, or as soon as it can be


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of a test alert to one receiver."""

    receiver: str
    error: str | None  # None: it was taken
    seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What every view (metrics, API, page, terminal) is drawn from."""

    at: datetime
    batches: tuple[Status, ...] = ()
    accounts: tuple[AccountStatus, ...] = ()
    queues: tuple[QueueStatus, ...] = ()
    discoveries: tuple[DiscoveryStatus, ...] = ()
    mutes: tuple[Mute, ...] = ()
    store_writable: bool = True
    started_at: datetime | None = None  # since when this process watches
    reload_error: str | None = None  # why the configuration that lies there is not in effect; None: it is

    @property
    def alerts(self) -> tuple[AlertState, ...]:
        """The alerts of every account and batch, whatever their phase."""
        of_accounts = (state for account in self.accounts for state in account.alerts)
        of_batches = (state for batch in self.batches for state in batch.alerts)
        return (*of_accounts, *of_batches)
