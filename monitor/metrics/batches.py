"""The metrics of each batch, and of what fires: which there are, what each says, and its samples.

This is where they are defined, for the library (`metric`) as for exposition.py, which writes them without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from prometheus_client.core import Metric

from monitor.model import CallStatus, Observation, Outcomes, Phase, Snapshot, State, Status

BATCH = ("account", "agent_id", "batch_id")

LAST_GOOD_POLL = "Value of the last good poll."

Value = float | datetime | None
"""A number; an instant, which is told in Unix seconds; or none, for which there is no sample."""


@dataclass(frozen=True, slots=True)
class BatchGauge:
    """A family with one sample of each batch."""

    name: str
    documentation: str
    value: Callable[[Status], Value]

    def empty(self) -> Metric:
        """The family without samples."""
        return Metric(self.name, self.documentation, "gauge")

    def metric(self, snapshot: Snapshot) -> Metric:
        """The family as the library has them."""
        made = self.empty()
        for status in snapshot.batches:
            value = self.value(status)
            if value is not None:
                number = value.timestamp() if isinstance(value, datetime) else value
                made.add_sample(self.name, _subject(status), number)
        return made


@dataclass(frozen=True, slots=True)
class BatchGauges:
    """A family with a sample of each batch for every value of a label of its own."""

    name: str
    documentation: str
    label: str
    of: tuple[str, ...]  # that label's values
    values: Callable[[Status], tuple[float, ...] | None]  # None: there are no such samples

    def empty(self) -> Metric:
        """The family without samples."""
        return Metric(self.name, self.documentation, "gauge")

    def metric(self, snapshot: Snapshot) -> Metric:
        """The family as the library has them."""
        made = self.empty()
        for status in snapshot.batches:
            for of, value in zip(self.of, self.values(status) or (), strict=False):
                made.add_sample(self.name, _subject(status) | {self.label: of}, value)
        return made


@dataclass(frozen=True, slots=True)
class Statement:
    """A family whose samples say something by their labels: the value is always 1."""

    name: str
    documentation: str
    kind: str  # the library's word for its type
    sample: str  # the name of its samples
    labels: Callable[[Snapshot], Iterator[dict[str, str]]]  # of each

    def empty(self) -> Metric:
        """The family without samples."""
        return Metric(self.name, self.documentation, self.kind)

    def metric(self, snapshot: Snapshot) -> Metric:
        """The family as the library has them."""
        made = self.empty()
        for labels in self.labels(snapshot):
            made.add_sample(self.sample, labels, 1)
        return made


def _subject(status: Status) -> dict[str, str]:
    values = (status.target.account, status.key.agent_id, status.key.batch_id)
    return dict(zip(BATCH, values, strict=True))


def _names(snapshot: Snapshot) -> Iterator[dict[str, str]]:
    for status in snapshot.batches:
        target, seen = status.target, status.progress.last if status.progress else None
        yield dict(target.labels) | {
            "account": target.account,
            "agent_id": target.key.agent_id,
            "batch_id": target.key.batch_id,
            "batch": status.batch,
            "agent": status.agent,
            "throttle": (seen.throttle if seen else None) or "",
        }


def _firing(snapshot: Snapshot) -> Iterator[dict[str, str]]:
    """The daemon's whole judgement: the alerts of accounts are among them, with an account's labels only."""
    for alert in snapshot.alerts:
        if alert.phase is Phase.FIRING:
            said = dict(alert.labels)
            said["alert"] = said.pop("alertname")
            yield said


def _seen(read: Callable[[Observation], Value]) -> Callable[[Status], Value]:
    return lambda status: None if status.progress is None else read(status.progress.last)


def _up(status: Status) -> float | None:
    if status.last_poll_at is None or status.next_poll_at is None:  # not polled yet, or polling it has ended
        return None
    return status.failing is None


_OUTCOMES = tuple(of.name.lower() for of in CallStatus)
_outcomes: Callable[[Outcomes], tuple[float, ...]] = attrgetter(*_OUTCOMES)
_STATES = {state: tuple(int(one is state) for one in State) for state in State}


BATCH_FAMILIES: tuple[BatchGauge | BatchGauges | Statement, ...] = (
    Statement(
        "ultravox_batch",
        "Names of a batch, its throttle and its configured labels; the value is always 1.",
        "info",
        "ultravox_batch_info",
        _names,
    ),
    BatchGauges(
        "ultravox_batch_state",
        f"1 for the state the batch is in, 0 for every other. {LAST_GOOD_POLL}",
        "state",
        tuple(state.value for state in State),
        lambda status: _STATES[status.assessment.state],
    ),
    BatchGauge(
        "ultravox_batch_calls",
        f"Calls in the batch (totalCount). {LAST_GOOD_POLL}",
        _seen(lambda seen: seen.total),
    ),
    BatchGauge(
        "ultravox_batch_completed_calls",
        f"Calls created or failed (completedCount). {LAST_GOOD_POLL}",
        _seen(lambda seen: seen.completed),
    ),
    BatchGauge(
        "ultravox_batch_completion_ratio",
        f"Completed calls by all calls, 0 to 1; absent without calls. {LAST_GOOD_POLL}",
        lambda status: status.assessment.completion_ratio,
    ),
    BatchGauge(
        "ultravox_batch_paused",
        f"1 if the batch is paused, else 0. {LAST_GOOD_POLL}",
        _seen(lambda seen: seen.paused),
    ),
    BatchGauge(
        "ultravox_batch_created_timestamp_seconds",
        f"When the batch was created. {LAST_GOOD_POLL}",
        _seen(lambda seen: seen.created),
    ),
    BatchGauge(
        "ultravox_batch_window_start_timestamp_seconds",
        f"From when calls may be made; absent: from its creation. {LAST_GOOD_POLL}",
        _seen(lambda seen: seen.window_start),
    ),
    BatchGauge(
        "ultravox_batch_window_end_timestamp_seconds",
        f"Until when calls may be made; absent: until all are. {LAST_GOOD_POLL}",
        _seen(lambda seen: seen.window_end),
    ),
    BatchGauge(
        "ultravox_batch_ended_timestamp_seconds",
        f"When the batch ended; absent until then. {LAST_GOOD_POLL}",
        _seen(lambda seen: seen.ended_at),
    ),
    BatchGauge(
        "ultravox_batch_idle_seconds",
        f"The stall clock: expected time without progress; absent while no call is expected. {LAST_GOOD_POLL}",
        lambda status: status.assessment.idle_seconds,
    ),
    BatchGauge(
        "ultravox_batch_stall_after_seconds",
        f"The stall clock at which the batch counts as stalled; absent with the clock. {LAST_GOOD_POLL}",
        lambda status: status.assessment.stall_after_seconds,
    ),
    BatchGauge(
        "ultravox_batch_last_progress_timestamp_seconds",
        f"When the count of completed calls was last seen to grow; absent before. {LAST_GOOD_POLL}",
        lambda status: status.progress.last_progress_at if status.progress else None,
    ),
    BatchGauge(
        "ultravox_batch_completed_calls_per_second",
        f"Pace over the recent time in which calls were expected; 0 is a pace. {LAST_GOOD_POLL}",
        lambda status: status.assessment.calls_per_second,
    ),
    BatchGauge(
        "ultravox_batch_estimated_end_timestamp_seconds",
        f"When the last call would be made at that pace; absent at pace 0. {LAST_GOOD_POLL}",
        lambda status: status.assessment.estimated_end,
    ),
    BatchGauge(
        "ultravox_batch_projected_missed_calls",
        f"Calls that will be left unmade at the window's end if things go on as they do. {LAST_GOOD_POLL}",
        lambda status: status.assessment.projected_missed,
    ),
    BatchGauge(
        "ultravox_batch_up",
        "1 if the latest poll of the batch succeeded, 0 if it failed; absent before the first, and once it is polled no more.",
        _up,
    ),
    BatchGauge(
        "ultravox_batch_last_success_timestamp_seconds",
        "When a poll of the batch last succeeded.",
        lambda status: status.last_success_at,
    ),
    BatchGauge(
        "ultravox_batch_next_poll_timestamp_seconds",
        "When the batch is to be polled next.",
        lambda status: status.next_poll_at,
    ),
    BatchGauges(
        "ultravox_batch_scheduled_calls",
        "Calls by what has become of them, as last read; absent until then.",
        "status",
        _OUTCOMES,
        lambda status: None if status.outcomes is None else _outcomes(status.outcomes),
    ),
    Statement(
        "ultravox_batch_alert_firing",
        "1 while the alert fires, with the labels the alert was sent with.",
        "gauge",
        "ultravox_batch_alert_firing",
        _firing,
    ),
)
"""In the order in which they are written."""
