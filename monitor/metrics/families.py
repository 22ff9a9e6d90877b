"""The metrics of what is watched: families built from one immutable Snapshot at each scrape.

Missing means absent: no NaN, no made-up 0, and no series that outlives its batch, because nothing
is kept between scrapes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from monitor.metrics.batches import BATCH_FAMILIES
from monitor.model import AccountStatus, Snapshot, State


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Every family that is drawn from the snapshot."""
    for family in BATCH_FAMILIES:
        yield family.metric(snapshot)
    yield from few(snapshot)


def few(snapshot: Snapshot) -> Iterator[Metric]:
    """The families that have few samples however many batches there are."""
    yield from _account_families(snapshot.accounts)
    states = GaugeMetricFamily("ultravox_monitor_batches", "Watched batches by state.", labels=["state"])
    counts = Counter(status.assessment.state for status in snapshot.batches)
    for state in State:
        states.add_metric([state.value], counts[state])
    yield states
    over = GaugeMetricFamily(
        "ultravox_monitor_batches_over_limit",
        "Batches that were found and are not watched because discover.max_batches are.",
        labels=["account"],
    )
    discovered = GaugeMetricFamily(
        "ultravox_monitor_discovery_last_success_timestamp_seconds",
        "When the batches of every agent of the account were last read to the end; absent before.",
        labels=["account"],
    )
    for discovery in snapshot.discoveries:
        over.add_metric([discovery.account], discovery.over_limit)
        if discovery.last_success_at is not None:
            discovered.add_metric([discovery.account], discovery.last_success_at.timestamp())
    yield over
    yield discovered
    pending = GaugeMetricFamily(
        "ultravox_monitor_notifications_pending", "Messages that wait to be sent.", labels=["receiver"]
    )
    oldest = GaugeMetricFamily(
        "ultravox_monitor_notifications_oldest_pending_timestamp_seconds",
        "When the oldest waiting message fell due; absent while none is due: a mute holds what waits.",
        labels=["receiver"],
    )
    for queue in snapshot.queues:
        pending.add_metric([queue.receiver], queue.pending)
        if queue.oldest_pending_at is not None and queue.oldest_pending_at <= snapshot.at:
            oldest.add_metric([queue.receiver], queue.oldest_pending_at.timestamp())
    yield pending
    yield oldest
    yield GaugeMetricFamily(
        "ultravox_monitor_store_writable",
        "1 if the state file takes what is written to it, else 0.",
        value=int(snapshot.store_writable),
    )


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
