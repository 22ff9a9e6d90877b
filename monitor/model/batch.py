"""Batches and accounts: what is observed of them, what is believed of them, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import NamedTuple

from monitor.model.alert import AlertState, Labels
from monitor.model.curve import NO_CURVE, Curve
from monitor.model.state import NO_CHANGES, Changes, State


class FailureReason(StrEnum):
    """Why a request to Ultravox failed. A closed set: label values of metrics, present at 0 from the start."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    BAD_RESPONSE = "bad_response"
    CLIENT_ERROR = "client_error"


class Urgency(IntEnum):
    """How soon a request to Ultravox should be made, the most urgent first."""

    ALARM = 0  # what an alert depends on: the account's probe, batches closest to trouble
    POLL = 1
    LATER = 2  # what nobody waits for: waiting batches, discovery, outcomes, names


class CallStatus(StrEnum):
    """What has become of a scheduled call, in Ultravox' words."""

    FUTURE = "FUTURE"
    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    EXPIRED = "EXPIRED"
    ERROR = "ERROR"


class CallError(StrEnum):
    """Why calls fail: the class of an error text, which itself holds phone numbers and is kept nowhere."""

    BUSY = "busy"
    UNREACHABLE = "unreachable"
    REJECTED = "rejected"
    BAD_NUMBER = "bad number"
    PROVIDER = "provider"
    OTHER = "other"


class BatchKey(NamedTuple):
    """What a batch is stored under. The account's name may change in the config; these cannot.

    A tuple, since every poll looks it up a dozen times: it is hashed and compared without a call into Python.
    """

    agent_id: str
    batch_id: str

    def __str__(self) -> str:
        return f"{self.agent_id}/{self.batch_id}"


@dataclass(frozen=True, slots=True)
class Observation:
    """One good answer of the get endpoint, reduced to what we use. `webhookSecret` has no field on purpose."""

    at: datetime  # the API's clock
    created: datetime
    total: int
    completed: int  # calls created or failed; says nothing about success
    ended_at: datetime | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    paused: bool = False
    throttle: str | None = None

    @property
    def remaining(self) -> int:
        """Calls still to be made. Never negative, whatever the API counts."""
        return max(0, self.total - self.completed)


@dataclass(frozen=True, slots=True)
class Mark:
    """When the count of completed calls of a throttled batch was seen to have grown, and to what."""

    at: datetime  # the API's clock
    completed: int


@dataclass(frozen=True, slots=True)
class Progress:
    """All that good observations of one batch have taught us. It survives a restart."""

    first_seen_at: datetime
    last: Observation
    best_completed: int  # highest count seen: only a new maximum is progress
    last_progress_at: datetime | None = None
    clock_started_at: datetime | None = None  # the stall clock; None while no call is expected
    fresh_since: datetime | None = None  # first observation after a gap in which nothing was seen
    paused_since: datetime | None = None  # first of the consecutive observations that said paused
    end_seen: int = 0  # consecutive observations with this very endedAt
    expected_seconds: float = 0.0  # time in which calls were expected, over the batch's life with us
    samples: Curve = NO_CURVE  # over expected time: what paces are read from; the older, the sparser
    paused_seconds: float = 0.0  # time between observations that both said paused
    marks: tuple[Mark, ...] = ()  # what the throttle of this batch has let through; () without a throttle
    curve: Curve = (
        NO_CURVE  # of its life with us, by Unix seconds of the API's clock; thinned, its shape kept
    )


@dataclass(frozen=True, slots=True)
class Failing:
    """An unbroken run of failed polls or probes. It survives a restart."""

    since: datetime  # our clock
    count: int
    not_found: int  # of these, the latest in a row that were 404
    reason: FailureReason
    message: str  # safe to show: no secret, no payload
    not_found_since: datetime | None = None  # our clock; the first of those 404s


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many calls of a batch have which status. It survives a restart."""

    at: datetime  # the API's clock
    future: int
    pending: int
    success: int
    expired: int
    error: int

    @property
    def made(self) -> int:
        """Calls that were created or failed, as completedCount counts them."""
        return self.pending + self.success + self.error

    @property
    def error_ratio(self) -> float | None:
        """The share of failed calls among those that were made. None while there are none."""
        made = self.success + self.error
        return self.error / made if made else None


@dataclass(frozen=True, slots=True)
class FailedCalls:
    """Why calls of a batch failed: how many of a sample fall into which class, the commonest first."""

    at: datetime  # our clock
    classes: tuple[tuple[CallError, int], ...]


@dataclass(frozen=True, slots=True)
class ThrottleRule:
    """At most `max_calls` calls in any sliding window of so many seconds."""

    max_calls: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Throttle:
    """A call throttle of an account. Batches name it by either."""

    throttle_id: str
    name: str
    rules: tuple[ThrottleRule, ...]


@dataclass(frozen=True, slots=True)
class Assessment:
    """What we believe of a batch, and why. Seconds and calls; None is "there is no such number now"."""

    state: State
    why: str
    completion_ratio: float | None = None
    idle_seconds: float | None = None
    stall_after_seconds: float | None = None  # the effective limit: stalled is idle >= this
    calls_per_second: float | None = None
    estimated_end: datetime | None = None
    projected_missed: int | None = None  # left unmade at windowEnd, as far as can be foreseen
    projected_missed_range: tuple[int, int] | None = None  # the fewest and the most that are likely
    needed_calls_per_second: float | None = None  # the pace at which the last call would be made at windowEnd


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is true around a batch: it explains silence, and bounds how fast the batch can be."""

    throttle_spent: bool = False  # or may be, as far as was watched
    throttle: str | None = None  # the clause that says so
    at_cap: bool = False  # the account makes all the concurrent calls that it may
    most_calls_per_second: float | None = None  # what throttles and free lines allow; None: not known


@dataclass(frozen=True, slots=True)
class Target:
    """A batch we watch: what the configuration says of it, before anything was observed."""

    account: str
    key: BatchKey
    name: str | None = None  # None: built from the agent's name, the start and the id
    agent_name: str | None = None
    labels: Labels = ()


@dataclass(frozen=True, slots=True)
class Status:
    """Everything known of one batch at one moment. Replaced whole, never changed: readers need no lock."""

    target: Target
    batch: str  # the name people read; label `batch`
    agent: str  # the agent's name, or the start of its id
    assessment: Assessment
    progress: Progress | None = None
    failing: Failing | None = None
    last_success_at: datetime | None = None
    last_poll_at: datetime | None = None
    next_poll_at: datetime | None = None
    around: Circumstances = Circumstances()
    outcomes: Outcomes | None = None  # None: not read yet
    failed_calls: FailedCalls | None = None  # None: not asked for, or not known
    alerts: tuple[AlertState, ...] = ()
    changes: Changes = NO_CHANGES

    @property
    def key(self) -> BatchKey:
        return self.target.key

    def due(self, at: datetime | None) -> Status:
        """The same, to be polled next at this instant; None: no more. (`replace` would take four times as long.)"""
        return Status(
            self.target,
            self.batch,
            self.agent,
            self.assessment,
            self.progress,
            self.failing,
            self.last_success_at,
            self.last_poll_at,
            at,
            self.around,
            self.outcomes,
            self.failed_calls,
            self.alerts,
            self.changes,
        )

    @property
    def final_outcomes(self) -> Outcomes | None:
        """The outcomes at the end. None: not ended, or not read since."""
        ended_at = self.progress.last.ended_at if self.progress else None
        known = self.outcomes is not None and ended_at is not None and self.outcomes.at >= ended_at
        return self.outcomes if known else None


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """Everything known of one account from its probe (`accounts/me`)."""

    name: str
    watched_since: datetime  # ends before this moment are history and are not told
    last_success_at: datetime | None = None
    last_probe_at: datetime | None = None
    failing: Failing | None = None
    active_calls: int | None = None
    allowed_concurrent_calls: int | None = None  # None: no hard cap, or not known yet
    clock_skew: timedelta | None = None  # API's clock minus ours
    alerts: tuple[AlertState, ...] = ()

    @property
    def at_cap(self) -> bool:
        """Whether all concurrent calls that the account may make were being made at the last good probe.

        A probe that failed is no news: it must not make a batch that crawls a batch that stalls.
        """
        cap, active = self.allowed_concurrent_calls, self.active_calls
        return cap is not None and active is not None and active >= cap

    @property
    def up(self) -> bool | None:
        """Whether the latest probe succeeded; None before the first."""
        return None if self.last_probe_at is None else self.failing is None
