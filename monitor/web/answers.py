"""The JSON answers of `/api/v1/…`, and the order in which views list batches: worst first.

Pure: plain dictionaries from a Snapshot. Names follow the metrics; times are RFC 3339, UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from monitor import __version__, messages
from monitor.explain import Explanation
from monitor.model import (
    AccountStatus,
    AlertState,
    CallStatus,
    Failing,
    Outcomes,
    Phase,
    Severity,
    Snapshot,
    State,
    Status,
)

_WORST_FIRST = (
    State.STALLED,
    State.OVERDUE,
    State.GONE,
    State.INCOMPLETE,
    State.PAUSED,
    State.UNKNOWN,
    State.RUNNING,
    State.WAITING,
    State.ENDED,
)
_SEVERITY_ORDER = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)


def worst_first(batches: tuple[Status, ...]) -> list[Status]:
    """By state, then those whose window closes first, then by name."""

    def rank(status: Status) -> tuple[int, float, str, str]:
        end = status.progress.last.window_end if status.progress else None
        return (
            _WORST_FIRST.index(status.assessment.state),
            end.timestamp() if end else float("inf"),
            status.batch,
            str(status.key),
        )

    return sorted(batches, key=rank)


def batches(snapshot: Snapshot) -> dict[str, Any]:
    """The answer of `/api/v1/batches`."""
    return success(
        {
            "at": time(snapshot.at),
            "version": __version__,
            "batches": [_batch(status) for status in worst_first(snapshot.batches)],
            "accounts": [_account(account) for account in snapshot.accounts],
            "discoveries": [
                {
                    "account": one.account,
                    "last_success": time(one.last_success_at),
                    "batches_over_limit": one.over_limit,
                }
                for one in snapshot.discoveries
            ],
        }
    )


def alerts(snapshot: Snapshot) -> dict[str, Any]:
    """The answer of `/api/v1/alerts`: what is pending and what fires, the worst and latest first."""
    found = [_labelled(subject, state) for subject, state in _standing(snapshot)]
    found.sort(key=lambda state: state.since, reverse=True)
    found.sort(key=lambda state: (state.phase is not Phase.FIRING, _SEVERITY_ORDER.index(state.severity)))
    return success({"at": time(snapshot.at), "alerts": [_alert(state) for state in found]})


def explanations(status: Status, found: Iterable[Explanation], now: datetime) -> dict[str, Any]:
    """The answer of `/api/v1/explain`: a batch, and each alert with why it does or does not fire."""
    return success(
        {
            "at": time(now),
            "batch": _batch(status),
            "explanations": [
                {
                    "alertname": one.alert.value,
                    "state": one.standing,
                    "why": one.why,
                    "fires_at": time(one.fires_at),
                    "not_told": [{"receiver": name, "why": why} for name, why in one.not_told],
                }
                for one in found
            ],
        }
    )


def error(kind: str, text: str) -> dict[str, Any]:
    """An answer that is an error, in the shape of Prometheus' API."""
    return {"status": "error", "errorType": kind, "error": text}


def _standing(snapshot: Snapshot) -> Iterator[tuple[Status | AccountStatus, AlertState]]:
    subjects: tuple[Status | AccountStatus, ...] = (*snapshot.accounts, *snapshot.batches)
    for subject in subjects:
        for state in subject.alerts:
            if state.phase is not Phase.TOLD:
                yield subject, state


def _labelled(subject: Status | AccountStatus, state: AlertState) -> AlertState:
    """A pending alert has no labels of its own yet: those that it would fire with now."""
    if state.labels:
        return state
    if isinstance(subject, Status):
        return replace(state, labels=messages.batch_labels(state.name, state.severity, subject))
    return replace(state, labels=messages.account_labels(state.name, state.severity, subject))


def success(data: dict[str, Any]) -> dict[str, Any]:
    return {"status": "success", "data": data}


def _batch(status: Status) -> dict[str, Any]:
    assessed = status.assessment
    answer: dict[str, Any] = {
        "account": status.target.account,
        "agent_id": status.key.agent_id,
        "batch_id": status.key.batch_id,
        "batch": status.batch,
        "agent": status.agent,
        "labels": dict(status.target.labels),
        "state": assessed.state.value,
        "why": assessed.why,
        "completion_ratio": assessed.completion_ratio,
        "idle_seconds": assessed.idle_seconds,
        "stall_after_seconds": assessed.stall_after_seconds,
        "completed_calls_per_second": assessed.calls_per_second,
        "estimated_end": time(assessed.estimated_end),
        "projected_missed_calls": assessed.projected_missed,
        "projected_missed_calls_range": assessed.projected_missed_range,
        "needed_calls_per_second": assessed.needed_calls_per_second,
        "outcomes": None if status.outcomes is None else _outcomes(status.outcomes),
        "last_success": time(status.last_success_at),
        "last_poll": time(status.last_poll_at),
        "next_poll": time(status.next_poll_at),
        "failing": _failing(status.failing),
        "alerts": [
            _alert(_labelled(status, state)) for state in status.alerts if state.phase is not Phase.TOLD
        ],
    }
    if status.progress is not None:
        seen = status.progress.last
        answer |= {
            "calls": seen.total,
            "completed_calls": seen.completed,
            "paused": seen.paused,
            "throttle": seen.throttle,
            "created": time(seen.created),
            "window_start": time(seen.window_start),
            "window_end": time(seen.window_end),
            "ended": time(seen.ended_at),
            "last_progress": time(status.progress.last_progress_at),
        }
    return answer


def _outcomes(outcomes: Outcomes) -> dict[str, Any]:
    return {"at": time(outcomes.at)} | {
        status.name.lower(): getattr(outcomes, status.name.lower()) for status in CallStatus
    }


def _account(account: AccountStatus) -> dict[str, Any]:
    return {
        "account": account.name,
        "up": account.up,
        "last_success": time(account.last_success_at),
        "failing": _failing(account.failing),
        "active_calls": account.active_calls,
        "allowed_concurrent_calls": account.allowed_concurrent_calls,
        "alerts": [
            _alert(_labelled(account, state)) for state in account.alerts if state.phase is not Phase.TOLD
        ],
    }


def _alert(state: AlertState) -> dict[str, Any]:
    return {
        "alertname": state.name.value,
        "state": state.phase.value,
        "severity": state.severity.value,
        "since": time(state.since),
        "labels": dict(state.labels),
        "annotations": dict(state.annotations),
    }


def _failing(failing: Failing | None) -> dict[str, Any] | None:
    if failing is None:
        return None
    return {
        "since": time(failing.since),
        "polls": failing.count,
        "reason": failing.reason.value,
        "error": failing.message,
    }


def time(at: datetime | None) -> str | None:
    return (
        None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
