"""The counters of our own doing: polls, requests, messages, reloads. What is watched is in families.py."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitor import __version__
from monitor.model import FailureReason

API_CODES = ("200", "401", "403", "404", "429", "4xx", "5xx", "none")
"""Label values of `code`. Other 2xx and 3xx answers count as 4xx: we never ask for what they answer."""


def code_label(code: int | None) -> str:
    """The closed label value of an HTTP status; None: no answer came."""
    if code is None:
        return "none"
    if str(code) in API_CODES:
        return str(code)
    return "5xx" if code >= 500 else "4xx"


prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # a gap in the library's types


class HeartbeatSeries(Collector):
    """What came of the pings. The library's counters would be there without a heartbeat, too."""

    def __init__(self, failures: Iterable[str]) -> None:
        self._taken = 0
        self._failures = dict.fromkeys(failures, 0)
        self._last_success_at: datetime | None = None

    def taken(self, now: datetime) -> None:
        """A ping was answered as it should."""
        self._taken += 1
        self._last_success_at = now

    def failed(self, reason: str) -> None:
        """A ping was not."""
        self._failures[reason] += 1

    def collect(self) -> Iterator[Metric]:
        """The library's question at each scrape."""
        yield CounterMetricFamily(
            "ultravox_monitor_heartbeats", "Pings of the heartbeat that were accepted.", value=self._taken
        )
        failures = CounterMetricFamily(
            "ultravox_monitor_heartbeat_failures", "Pings of the heartbeat that failed.", labels=["reason"]
        )
        for reason, count in self._failures.items():
            failures.add_metric([reason], count)
        yield failures
        if self._last_success_at is not None:
            yield GaugeMetricFamily(
                "ultravox_monitor_heartbeat_last_success_timestamp_seconds",
                "When a ping of the heartbeat was last accepted; absent before.",
                value=self._last_success_at.timestamp(),
            )


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
        self._heartbeat: HeartbeatSeries | None = None
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        account = ("account",)
        self.polls = self._counter("polls", "Polls of batches, failed ones included.", account)
        self.poll_failures = self._counter(
            "poll_failures", "Polls of batches that failed.", (*account, "reason")
        )
        self.poll_duration = Histogram(
            "ultravox_monitor_poll_duration_seconds",
            "Time from the start of a poll until its result was judged.",
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
            "notifications",
            "Messages that a receiver has accepted; of Alertmanager, notifications.",
            ("receiver",),
        )
        self.notification_failures = self._counter(
            "notification_failures", "Tries to send a message that failed.", ("receiver", "reason")
        )
        self.notifications_dropped = self._counter(
            "notifications_dropped",
            "Notifications given up: their receiver has not taken them for give_up_after.",
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

    def sharded(self, ordinal: int, count: int) -> None:
        """Say which of several processes this is, between which accounts are split."""
        shards = Gauge(
            "ultravox_monitor_shards",
            "How many shards there are, as this one was told; absent when accounts are not split.",
            ("shard",),
            registry=self.registry,
        )
        shards.labels(str(ordinal)).set(count)

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

    def polled(self, account: str) -> Callable[[float], None]:
        """Counts a poll of the account's that took so many seconds. (Finding the series costs more than counting.)"""
        polls, duration = self.polls.labels(account), self.poll_duration.labels(account)

        def count(seconds: float) -> None:
            polls.inc()
            duration.observe(seconds)

        return count

    def add_receiver(self, name: str) -> None:
        """Bring up every series of a receiver at 0."""
        self.notifications.labels(name)
        self.notifications_dropped.labels(name)
        for reason in self._send_failures:
            self.notification_failures.labels(name, reason)

    def add_heartbeat(self) -> HeartbeatSeries:
        """The series of the heartbeat: those that there are, or new ones at 0."""
        if self._heartbeat is None:
            self._heartbeat = HeartbeatSeries(self._send_failures)
            self.registry.register(self._heartbeat)
        return self._heartbeat

    def remove_heartbeat(self) -> None:
        """A heartbeat is configured no more: its series go."""
        if self._heartbeat is not None:
            self.registry.unregister(self._heartbeat)
        self._heartbeat = None

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
