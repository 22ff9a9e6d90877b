"""The metrics of what is watched: families built from one immutable Snapshot at each scrape.

Missing means absent: no NaN, no made-up 0, and no series that outlives its batch, because nothing
is kept between scrapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.samples import Sample

from monitor.model import AccountStatus, AlertState, CallStatus, Phase, Snapshot, State, Status

BATCH = ("account", "agent_id", "batch_id")

LAST_GOOD_POLL = "Value of the last good poll."


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Every family that is drawn from the snapshot."""
    yield from _batch_families(snapshot.batches)
    yield from _account_families(snapshot.accounts)
    yield _firing(snapshot.alerts)
    states = GaugeMetricFamily("ultravox_monitor_batches", "Watched batches by state.", labels=["state"])
    for state in State:
        count = sum(status.assessment.state is state for status in snapshot.batches)
        states.add_metric([state.value], count)
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


def _batch_families(batches: tuple[Status, ...]) -> Iterator[Metric]:
    info = InfoMetricFamily(
        "ultravox_batch", "Names of a batch, its throttle and its configured labels; the value is always 1."
    )
    states = GaugeMetricFamily(
        "ultravox_batch_state",
        f"1 for the state the batch is in, 0 for every other. {LAST_GOOD_POLL}",
        labels=[*BATCH, "state"],
    )
    calls = GaugeMetricFamily(
        "ultravox_batch_scheduled_calls",
        "Calls by what has become of them, as last read; absent until then.",
        labels=[*BATCH, "status"],
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
        if status.outcomes is not None:
            for of in CallStatus:
                name = of.name.lower()
                calls.add_metric([*labels, name], getattr(status.outcomes, name))
    yield info
    yield states
    yield from values.values()
    yield calls


def _firing(alerts: tuple[AlertState, ...]) -> Metric:
    """The daemon's whole judgement: the alerts of accounts are among them, with an account's labels only."""
    firing = GaugeMetricFamily(
        "ultravox_batch_alert_firing", "1 while the alert fires, with the labels the alert was sent with."
    )
    for alert in alerts:
        if alert.phase is Phase.FIRING:
            said = dict(alert.labels)
            said["alert"] = said.pop("alertname")
            firing.samples.append(Sample("ultravox_batch_alert_firing", said, 1))
    return firing


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
        f"Calls that will be left unmade at the window's end if things go on as they do. {LAST_GOOD_POLL}",
    ),
    (
        "ultravox_batch_up",
        "1 if the latest poll of the batch succeeded, 0 if it failed; absent before the first, and once it is polled no more.",
    ),
    ("ultravox_batch_last_success_timestamp_seconds", "When a poll of the batch last succeeded."),
    ("ultravox_batch_next_poll_timestamp_seconds", "When the batch is to be polled next."),
)


def _batch_values(status: Status) -> Iterator[tuple[str, float | None]]:
    if status.last_poll_at is not None and status.next_poll_at is not None:  # else polling it has ended
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
