"""The keys of the configuration file and their defaults. What a value may be is values.py's, which settings follow build.py's.

Field names are the keys.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from monitor.config.values import (
    Agents,
    AlertSeverity,
    BaseUrl,
    Duration,
    GiveUpAfter,
    GroupWait,
    HeartbeatInterval,
    Interval,
    KnownAlert,
    Labels,
    ListenAddress,
    Location,
    Match,
    Name,
    OutcomesInterval,
    Patience,
    Peer,
    Ratio,
    StartTime,
    Template,
    Text,
    TimeOfDay,
    Timeout,
    Url,
    Uuid,
    Weekdays,
)
from monitor.model import Severity

MOST_URLS = 100
"""Addresses of one receiver. Each is looked at, and a service is looked for when it is misspelt: that takes time."""


class Block(BaseModel):
    """How every block of the file is read."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class OneShotAlert(Block):
    """An alert that tells of an event."""

    enabled: bool | None = None
    severity: AlertSeverity | None = None


class Alert(OneShotAlert):
    """An alert that fires while something holds."""

    model_config = ConfigDict(populate_by_name=False)

    for_: Duration | None = Field(None, alias="for")
    keep_firing_for: Duration | None = None
    repeat_every: Patience | None = None


class StalledAlert(Alert):
    """BatchStalled, and with it the state `stalled`."""

    after: Patience | None = None
    after_at_cap: Patience | None = None


class Unmade(Block):
    """Calls left unmade at the end that are tolerated: so many, or this share of all, whichever is more."""

    count: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.0


class EndedIncompleteAlert(OneShotAlert):
    """BatchEndedIncomplete."""

    unmade_over: Unmade | None = None
    failed_ratio: Ratio | None = None


class FailureRateHighAlert(Alert):
    """BatchFailureRateHigh."""

    ratio: Ratio | None = None
    min_calls: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class BatchAlerts(Block):
    """The alerts of batches."""

    stalled: StalledAlert | None = None
    ended: OneShotAlert | None = None
    ended_incomplete: EndedIncompleteAlert | None = None
    overdue: Alert | None = None
    window_at_risk: Alert | None = None
    failure_rate_high: FailureRateHighAlert | None = None
    paused_too_long: Alert | None = None
    unreachable: Alert | None = None
    gone: Alert | None = None


class AllAlerts(BatchAlerts):
    """The alerts of batches and of accounts."""

    account_unreachable: Alert | None = None
    account_key_rejected: Alert | None = None


class Batch(Block):
    """A batch to watch."""

    agent_id: Uuid
    batch_id: Uuid
    name: Text | None = None
    labels: Labels = {}
    alerts: BatchAlerts = BatchAlerts()


class Agent(Block):
    """Settings for all batches of an agent."""

    agent_id: Uuid
    name: Text | None = None
    labels: Labels = {}
    alerts: BatchAlerts = BatchAlerts()


class Discover(Block):
    """Watch every batch of these agents, as they come and go."""

    agents: Agents = None  # None: all
    interval: Interval = timedelta(minutes=2)
    keep_ended_for: Duration = timedelta(hours=24)
    max_age: Patience | None = None
    max_batches: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000


class Account(Block):
    """An account, its key and its batches."""

    name: Name
    api_key: str | None = None
    api_key_file: Text | None = None
    base_url: BaseUrl = "https://api.ultravox.ai"
    max_requests_per_second: Annotated[float, Field(gt=0, le=200)] = 20.0
    alerts: AllAlerts = AllAlerts()
    agents: list[Agent] = []
    batches: list[Batch] = []
    discover: Discover | None = None


class Poll(Block):
    """How often is asked, and how long an answer may take."""

    interval: Interval = timedelta(seconds=30)
    timeout: Timeout = timedelta(seconds=10)
    account_interval: Interval = timedelta(minutes=1)
    outcomes_interval: OutcomesInterval = timedelta(minutes=5)


class Alertmanager(Block):
    """Alertmanager's addresses: all peers of one cluster."""

    urls: Annotated[list[Peer], Field(min_length=1, max_length=MOST_URLS)]
    timeout: Timeout = timedelta(seconds=10)


class Webhook(Block):
    """A webhook."""

    url: Url | None = None
    url_file: Text | None = None
    secret: str | None = None
    secret_file: Text | None = None
    timeout: Timeout = timedelta(seconds=10)


class Apprise(Block):
    """Apprise URLs: a receiver for each."""

    urls: Annotated[list[str], Field(min_length=1, max_length=MOST_URLS)] | None = None
    urls_file: Text | None = None
    timeout: Timeout = timedelta(seconds=30)


class TimeRange(Block):
    """From and to, as the clock shows them; over midnight where the end is before the start."""

    start_time: StartTime
    end_time: TimeOfDay


class MuteTimeInterval(Block):
    """Times that come back each week."""

    times: Annotated[list[TimeRange], Field(min_length=1)] | None = None
    weekdays: Annotated[list[Weekdays], Field(min_length=1)] | None = None
    location: Location = ZoneInfo("UTC")


class Receiver(Block):
    """One place alerts go to: exactly one channel, what it is told, and how fast."""

    name: Name
    alertmanager: Alertmanager | None = None
    apprise: Apprise | None = None
    webhook: Webhook | None = None
    only: Annotated[list[KnownAlert], Field(min_length=1, max_length=100)] | None = None
    severity_at_least: AlertSeverity = Severity.INFO
    match: Match = {}
    mute_time_intervals: list[MuteTimeInterval] = []
    group_wait: GroupWait = timedelta(seconds=30)
    give_up_after: GiveUpAfter = timedelta(hours=24)
    max_messages_per_minute: Annotated[int, Field(ge=1, le=6000)] = 60


class Heartbeat(Block):
    """An address that is pinged while the monitor does its work."""

    url: Url | None = None
    url_file: Text | None = None
    every: HeartbeatInterval = timedelta(minutes=1)
    timeout: Timeout = timedelta(seconds=10)


class Links(Block):
    """URL templates in messages."""

    dashboard_url: Template | None = None
    runbook_url: Template | None = None


class Storage(Block):
    """The state file."""

    path: Text | None = "monitor.db"


class Web(Block):
    """The HTTP surface."""

    listen_address: ListenAddress = ("", 10042)
    external_url: BaseUrl | None = None
    config_file: Text | None = None


class File(Block):
    """The whole file."""

    accounts: Annotated[list[Account], Field(min_length=1)]
    poll: Poll = Poll()
    alerts: AllAlerts = AllAlerts()
    receivers: list[Receiver] = []
    heartbeat: Heartbeat | None = None
    links: Links = Links()
    storage: Storage = Storage()
    web: Web = Web()
