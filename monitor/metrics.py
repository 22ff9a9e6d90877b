"""The metrics: what Prometheus reads. Families are built from one immutable Snapshot at each scrape.

Missing means absent: no NaN, no made-up 0, and no series that outlives its batch, because nothing
is kept between scrapes but the counters of our own doing. Nothing here is awaited, so that a
scrape can be rendered on another thread.
"""

from __future__ import annotations

import gzip
import platform
from collections.abc import Iterable, Iterator
from datetime import datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.samples import Sample

from monitor import __version__
from monitor.model import AccountStatus, FailureReason, Phase, Snapshot, State, Status

BATCH = ("account", "agent_id", "batch_id")
API_CODES = ("200", "401", "403", "404", "429", "4xx", "5xx", "none")
"""Label values of `code`. Other 2xx and 3xx answers count as 4xx: we never ask for what they answer."""

LAST_GOOD_POLL = "Value of the last good poll."

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # a gap in the library's types


def code_label(code: int | None) -> str:
    """The closed label value of an HTTP status; None: no answer came."""
    if code is None:
        return "none"
    if str(code) in API_CODES:
        return str(code)
    return "5xx" if code >= 500 else "4xx"


class Instruments:
    """The counters of our own doing. Every label set exists, at 0, from the moment its account or receiver does."""

    def __init__(
        self,
        *,
        endpoints: Iterable[str],
        send_failures: Iterable[str],
        now: datetime,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._send_failures = tuple(send_failures)
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        account = ("account",)
        self.polls = self._counter("polls", "Polls of batches, failed ones included.", account)
        self.poll_failures = self._counter(
            "poll_failures", "Polls of batches that failed.", (*account, "reason")
        )
        self.poll_duration = Histogram(
            "ultravox_monitor_poll_duration_seconds",
            "Time from the start of a poll until its result was judged and stored.",
            account,
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.polls_skipped = self._counter(
            "polls_skipped", "Polls that were due while the one before was still running.", account
        )
        self.api_requests = self._counter(
            "api_requests",
            "Requests to Ultravox by endpoint and HTTP status; code=none: no answer.",
            (*account, "endpoint", "code"),
        )
        self.api_throttled = self._counter(
            "api_throttled_seconds",
            "Time in which requests were held back because the API answered 429.",
            account,
        )
        self.notifications = self._counter(
            "notifications", "Messages that a receiver has accepted.", ("receiver",)
        )
        self.notification_failures = self._counter(
            "notification_failures", "Tries to send a message that failed.", ("receiver", "reason")
        )
        self.notifications_dropped = self._counter(
            "notifications_dropped",
            "Messages given up: their receiver did not take them for 24 h.",
            ("receiver",),
        )
        self.reload_successful = Gauge(
            "ultravox_monitor_config_last_reload_successful",
            "1 if the latest attempt to load the configuration succeeded, else 0.",
            registry=self.registry,
        )
        self.reload_success_at = Gauge(
            "ultravox_monitor_config_last_reload_success_timestamp_seconds",
            "When the configuration was last loaded with success.",
            registry=self.registry,
        )
        build = Gauge(
            "ultravox_monitor_build_info",
            "1, with the version of the monitor and of Python as labels.",
            ("version", "python_version"),
            registry=self.registry,
        )
        build.labels(__version__, platform.python_version()).set(1)
        self.loaded(successful=True, now=now)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"ultravox_monitor_{name}", text, labels, registry=self.registry)

    def loaded(self, *, successful: bool, now: datetime) -> None:
        """A configuration was loaded, or was refused."""
        self.reload_successful.set(int(successful))
        if successful:
            self.reload_success_at.set(now.timestamp())

    def add_account(self, name: str) -> None:
        """Bring up every series of an account at 0."""
        for counter in (self.polls, self.polls_skipped, self.api_throttled):
            counter.labels(name)
        self.poll_duration.labels(name)
        for reason in FailureReason:
            self.poll_failures.labels(name, reason.value)
        for endpoint in self._endpoints:
            for code in API_CODES:
                self.api_requests.labels(name, endpoint, code)

    def add_receiver(self, name: str) -> None:
        """Bring up every series of a receiver at 0."""
        self.notifications.labels(name)
        self.notifications_dropped.labels(name)
        for reason in self._send_failures:
            self.notification_failures.labels(name, reason)

    def remove_account(self, name: str) -> None:
        """The account is configured no more: its series go."""
        for metric in (
            self.polls,
            self.polls_skipped,
            self.api_throttled,
            self.poll_duration,
            self.poll_failures,
            self.api_requests,
        ):
            metric.remove_by_labels({"account": name})

    def remove_receiver(self, name: str) -> None:
        """The receiver is configured no more: its series go."""
        for metric in (self.notifications, self.notifications_dropped, self.notification_failures):
            metric.remove_by_labels({"receiver": name})


class _Scrape:
    """What the library's renderers ask for: something that collects."""

    def __init__(self, snapshot: Snapshot, instruments: Instruments) -> None:
        self._snapshot = snapshot
        self._instruments = instruments

    def collect(self) -> Iterator[Metric]:
        yield from families(self._snapshot)
        yield from self._instruments.registry.collect()


def render(
    snapshot: Snapshot, instruments: Instruments, *, accept: str, compressed: bool
) -> tuple[bytes, str]:
    """The exposition in the format that `accept` asks for, and its content type. Takes a while: not for the loop."""
    encode, content_type = choose_encoder(accept)
    body = encode(_Scrape(snapshot, instruments))
    # Level 1: exposition text is so repetitive that more costs time and saves next to nothing.
    return (gzip.compress(body, 1, mtime=0) if compressed else body), content_type


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Every family that is drawn from the snapshot."""
    yield from _batch_families(snapshot.batches)
    yield from _account_families(snapshot.accounts)
    states = GaugeMetricFamily("ultravox_monitor_batches", "Watched batches by state.", labels=["state"])
    for state in State:
        count = sum(status.assessment.state is state for status in snapshot.batches)
        states.add_metric([state.value], count)
    yield states
    pending = GaugeMetricFamily(
        "ultravox_monitor_notifications_pending", "Messages that wait to be sent.", labels=["receiver"]
    )
    oldest = GaugeMetricFamily(
        "ultravox_monitor_notifications_oldest_pending_timestamp_seconds",
        "When the oldest waiting message fell due; absent while none waits.",
        labels=["receiver"],
    )
    for queue in snapshot.queues:
        pending.add_metric([queue.receiver], queue.pending)
        if queue.oldest_pending_at is not None:
            oldest.add_metric([queue.receiver], queue.oldest_pending_at.timestamp())
    yield pending
    yield oldest
    yield GaugeMetricFamily(
        "ultravox_monitor_store_writable",
        "1 if the state file takes what is written to it, else 0.",
        value=int(snapshot.store_writable),
    )


def _batch_families(batches: tuple[Status, ...]) -> Iterator[Metric]:
    info = InfoMetricFamily(
        "ultravox_batch", "Names of a batch, its throttle and its configured labels; the value is always 1."
    )
    states = GaugeMetricFamily(
        "ultravox_batch_state",
        f"1 for the state the batch is in, 0 for every other. {LAST_GOOD_POLL}",
        labels=[*BATCH, "state"],
    )
    firing = GaugeMetricFamily(
        "ultravox_batch_alert_firing", "1 while the alert fires, with the labels the alert was sent with."
    )
    values = {name: GaugeMetricFamily(name, text, labels=BATCH) for name, text in _BATCH_GAUGES}
    for status in batches:
        labels = [status.target.account, status.key.agent_id, status.key.batch_id]
        pairs = dict(zip(BATCH, labels, strict=True))
        seen = status.progress.last if status.progress else None
        named = {
            "batch": status.batch,
            "agent": status.agent,
            "throttle": (seen.throttle if seen else None) or "",
        }
        info.samples.append(Sample("ultravox_batch_info", dict(status.target.labels) | pairs | named, 1))
        for state in State:
            states.add_metric([*labels, state.value], int(status.assessment.state is state))
        for name, value in _batch_values(status):
            if value is not None:
                values[name].add_metric(labels, value)
        for alert in status.alerts:
            if alert.phase is Phase.FIRING:
                said = dict(alert.labels)
                said["alert"] = said.pop("alertname")
                firing.samples.append(Sample("ultravox_batch_alert_firing", said, 1))
    yield info
    yield states
    yield from values.values()
    yield firing


_BATCH_GAUGES: tuple[tuple[str, str], ...] = (
    ("ultravox_batch_calls", f"Calls in the batch (totalCount). {LAST_GOOD_POLL}"),
    ("ultravox_batch_completed_calls", f"Calls created or failed (completedCount). {LAST_GOOD_POLL}"),
    (
        "ultravox_batch_completion_ratio",
        f"Completed calls by all calls, 0 to 1; absent without calls. {LAST_GOOD_POLL}",
    ),
    ("ultravox_batch_paused", f"1 if the batch is paused, else 0. {LAST_GOOD_POLL}"),
    ("ultravox_batch_created_timestamp_seconds", f"When the batch was created. {LAST_GOOD_POLL}"),
    (
        "ultravox_batch_window_start_timestamp_seconds",
        f"From when calls may be made; absent: from its creation. {LAST_GOOD_POLL}",
    ),
    (
        "ultravox_batch_window_end_timestamp_seconds",
        f"Until when calls may be made; absent: until all are. {LAST_GOOD_POLL}",
    ),
    ("ultravox_batch_ended_timestamp_seconds", f"When the batch ended; absent until then. {LAST_GOOD_POLL}"),
    (
        "ultravox_batch_idle_seconds",
        f"The stall clock: expected time without progress; absent while no call is expected. {LAST_GOOD_POLL}",
    ),
    (
        "ultravox_batch_stall_after_seconds",
        f"The stall clock at which the batch counts as stalled; absent with the clock. {LAST_GOOD_POLL}",
    ),
    (
        "ultravox_batch_last_progress_timestamp_seconds",
        f"When the count of completed calls was last seen to grow; absent before. {LAST_GOOD_POLL}",
    ),
    (
        "ultravox_batch_completed_calls_per_second",
        f"Pace over the recent time in which calls were expected; 0 is a pace. {LAST_GOOD_POLL}",
    ),
    (
        "ultravox_batch_estimated_end_timestamp_seconds",
        f"When the last call would be made at that pace; absent at pace 0. {LAST_GOOD_POLL}",
    ),
    (
        "ultravox_batch_projected_missed_calls",
        f"Calls left unmade at the window's end at that pace. {LAST_GOOD_POLL}",
    ),
    (
        "ultravox_batch_up",
        "1 if the latest poll of the batch succeeded, 0 if it failed; absent before the first.",
    ),
    ("ultravox_batch_last_success_timestamp_seconds", "When a poll of the batch last succeeded."),
    ("ultravox_batch_next_poll_timestamp_seconds", "When the batch is to be polled next."),
)


def _batch_values(status: Status) -> Iterator[tuple[str, float | None]]:
    if status.last_poll_at is not None:
        yield "ultravox_batch_up", float(status.failing is None)
    yield "ultravox_batch_last_success_timestamp_seconds", _timestamp(status.last_success_at)
    yield "ultravox_batch_next_poll_timestamp_seconds", _timestamp(status.next_poll_at)
    if status.progress is None:
        return
    seen, assessed = status.progress.last, status.assessment
    yield "ultravox_batch_calls", seen.total
    yield "ultravox_batch_completed_calls", seen.completed
    yield "ultravox_batch_completion_ratio", assessed.completion_ratio
    yield "ultravox_batch_paused", int(seen.paused)
    yield "ultravox_batch_created_timestamp_seconds", _timestamp(seen.created)
    yield "ultravox_batch_window_start_timestamp_seconds", _timestamp(seen.window_start)
    yield "ultravox_batch_window_end_timestamp_seconds", _timestamp(seen.window_end)
    yield "ultravox_batch_ended_timestamp_seconds", _timestamp(seen.ended_at)
    yield "ultravox_batch_idle_seconds", assessed.idle_seconds
    yield "ultravox_batch_stall_after_seconds", assessed.stall_after_seconds
    yield "ultravox_batch_last_progress_timestamp_seconds", _timestamp(status.progress.last_progress_at)
    yield "ultravox_batch_completed_calls_per_second", assessed.calls_per_second
    yield "ultravox_batch_estimated_end_timestamp_seconds", _timestamp(assessed.estimated_end)
    yield "ultravox_batch_projected_missed_calls", assessed.projected_missed


def _account_families(accounts: tuple[AccountStatus, ...]) -> Iterator[Metric]:
    texts = {
        "up": "1 if the latest probe of the account succeeded, 0 if it failed; absent before the first.",
        "active_calls": "Calls of the account that were active at the last good probe.",
        "allowed_concurrent_calls": "The account's cap on concurrent calls; absent without a cap.",
        "clock_skew_seconds": "The API's clock minus ours, by its Date header; 0 up to two seconds of difference.",
    }
    found = {
        name: GaugeMetricFamily(f"ultravox_account_{name}", text, labels=["account"])
        for name, text in texts.items()
    }
    for account in accounts:
        values: dict[str, float | None] = {
            "up": None if account.up is None else float(account.up),
            "active_calls": account.active_calls,
            "allowed_concurrent_calls": account.allowed_concurrent_calls,
            "clock_skew_seconds": None if account.clock_skew is None else account.clock_skew.total_seconds(),
        }
        for name, value in values.items():
            if value is not None:
                found[name].add_metric([account.name], value)
    yield from found.values()


def _timestamp(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
