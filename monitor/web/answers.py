"""The JSON answers of `/api/v1/…`.

Pure: plain dictionaries from a Snapshot. Names follow the metrics; times are RFC 3339, UTC. What is not
known is null: the keys are always the same. docs/openapi.yaml says what each means; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from monitor import __version__, curves, glossary, messages
from monitor.choice import SEVERITIES, Chosen, at_risk
from monitor.explain import Explanation
from monitor.model import (
    AccountStatus,
    AlertState,
    CallStatus,
    Failing,
    Outcomes,
    Phase,
    QueueStatus,
    Snapshot,
    Status,
)
from monitor.outlook import outlook

RECENT_PACES = 16
"""Equal parts of the time a batch has been watched, for each of which its pace is told."""


def batches(snapshot: Snapshot, chosen: Chosen) -> dict[str, Any]:
    """The answer of `/api/v1/batches`: the batches asked for, and how the monitor itself does."""
    return success(
        {
            "at": time(snapshot.at),
            "version": __version__,
            "started": time(snapshot.started_at),
            "store_writable": snapshot.store_writable,
            "reload_error": snapshot.reload_error,
            "batches": [_batch(status) for status in chosen.rows],
            "matching": chosen.matching,
            "page": chosen.page,
            "pages": chosen.pages,
            "states": {state.value: count for state, count in chosen.states.items()},
            "at_risk": chosen.at_risk,
            "firing": {severity.value: count for severity, count in chosen.severities.items()},
            "accounts": [_account(account) for account in snapshot.accounts],
            "receivers": [_receiver(queue) for queue in snapshot.queues],
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


def alerts(snapshot: Snapshot, phase: Phase | None = None, limit: int | None = None) -> dict[str, Any]:
    """The answer of `/api/v1/alerts`: what is pending and what fires, the worst and latest first; how many of each.

    `phase`, `limit`: only those, and no more than so many of them.
    """
    found = standing(snapshot)
    counts = {one.value: sum(state.phase is one for state in found) for one in (Phase.PENDING, Phase.FIRING)}
    told = [state for state in found if phase is None or state.phase is phase]
    return success({"at": time(snapshot.at), "alerts": [_alert(state) for state in told[:limit]]} | counts)


def standing(snapshot: Snapshot) -> list[AlertState]:
    """The alerts that are pending or firing: what fires first, of that the worst, of that the latest."""
    found = [labelled(subject, state) for subject, state in _standing(snapshot)]
    found.sort(key=lambda state: state.since, reverse=True)
    found.sort(key=lambda state: (state.phase is not Phase.FIRING, SEVERITIES.index(state.severity)))
    return found


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
            "curve": [list(point) for point in status.progress.curve] if status.progress else [],
            "changes": [
                {"at": time(one.at), "state": one.state.value, "why": one.why} for one in status.changes
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


def labelled(subject: Status | AccountStatus, state: AlertState) -> AlertState:
    """A pending alert has no labels of its own yet: those that it would fire with now."""
    if state.labels:
        return state
    if isinstance(subject, Status):
        return replace(state, labels=messages.batch_labels(state.name, state.severity, subject))
    return replace(state, labels=messages.account_labels(state.name, state.severity, subject))


def success(data: dict[str, Any]) -> dict[str, Any]:
    return {"status": "success", "data": data}


def _batch(status: Status) -> dict[str, Any]:
    assessed, seen = status.assessment, status.progress.last if status.progress else None
    return {
        "account": status.target.account,
        "agent_id": status.key.agent_id,
        "batch_id": status.key.batch_id,
        "batch": status.batch,
        "agent": status.agent,
        "labels": dict(status.target.labels),
        "state": assessed.state.value,
        "state_since": time(latest.at) if (latest := status.changes.latest) else None,
        "why": assessed.why,
        "outlook": outlook(status),
        "at_risk": at_risk(status),
        "calls": seen.total if seen else None,
        "completed_calls": seen.completed if seen else None,
        "completion_ratio": assessed.completion_ratio,
        "paused": seen.paused if seen else None,
        "throttle": seen.throttle if seen else None,
        "created": time(seen.created) if seen else None,
        "window_start": time(seen.window_start) if seen else None,
        "window_end": time(seen.window_end) if seen else None,
        "ended": time(seen.ended_at) if seen else None,
        "last_progress": time(status.progress.last_progress_at) if status.progress else None,
        "idle_seconds": assessed.idle_seconds,
        "stall_after_seconds": assessed.stall_after_seconds,
        "completed_calls_per_second": assessed.calls_per_second,
        "estimated_end": time(assessed.estimated_end),
        "projected_missed_calls": assessed.projected_missed,
        "projected_missed_calls_range": assessed.projected_missed_range,
        "needed_calls_per_second": assessed.needed_calls_per_second,
        "recent_paces": curves.paces(status.progress.curve, RECENT_PACES) if status.progress else (),
        "outcomes": None if status.outcomes is None else _outcomes(status.outcomes),
        "last_success": time(status.last_success_at),
        "last_poll": time(status.last_poll_at),
        "next_poll": time(status.next_poll_at),
        "failing": _failing(status.failing),
        "alerts": [
            _alert(labelled(status, state)) for state in status.alerts if state.phase is not Phase.TOLD
        ],
    }


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
            _alert(labelled(account, state)) for state in account.alerts if state.phase is not Phase.TOLD
        ],
    }


def _receiver(queue: QueueStatus) -> dict[str, Any]:
    return {
        "receiver": queue.receiver,
        "configured": queue.configured,
        "pending": queue.pending,
        "oldest_pending": time(queue.oldest_pending_at),
        "failing_since": time(queue.failing_since),
        "last_error": queue.last_error,
    }


def _alert(state: AlertState) -> dict[str, Any]:
    return {
        "alertname": state.name.value,
        "meaning": glossary.ALERTS[state.name],
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
        "meaning": glossary.FAILURES[failing.reason],
        "error": failing.message,
    }


def time(at: datetime | None) -> str | None:
    return (
        None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
