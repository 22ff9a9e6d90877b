"""What we say: the labels and annotations of every alert, in plain sentences with the numbers.

Pure text. Whether and when it is said is decided in alerts.py; here nothing is decided.
Raw error texts of calls never come here: they hold phone numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from monitor import words
from monitor.model import (
    AccountStatus,
    AlertName,
    AlertState,
    Labels,
    Progress,
    Resolution,
    Severity,
    Status,
)

RESERVED_LABELS = frozenset(
    {
        "alertname",
        "severity",
        "account",
        "agent_id",
        "batch_id",
        "batch",
        "agent",
        "throttle",
        "job",
        "instance",
    }
    | {"state", "status", "alert", "le", "quantile"}
)
"""Labels that we or Prometheus set: a configuration may not."""

PLACEHOLDERS = frozenset({"account", "agent_id", "alertname", "batch", "batch_id"})
"""Labels that a URL template may name in braces."""

_BRACED = re.compile(r"\{([^{}]*)\}")

UNKNOWN_CAUSE = "unknown: the API does not tell"


@dataclass(frozen=True, slots=True)
class Links:
    """URL templates; the labels of an alert named in PLACEHOLDERS are filled in. None: no link."""

    dashboard_url: str | None = None
    runbook_url: str | None = None

    def annotations(self, labels: Labels) -> dict[str, str]:
        """The links that an alert with these labels can fill: an account's has no batch to link to."""
        known = dict(labels)
        found = {}
        for name, template in (("dashboard_url", self.dashboard_url), ("runbook_url", self.runbook_url)):
            if template is not None and PLACEHOLDERS.intersection(_BRACED.findall(template)) <= known.keys():
                found[name] = _BRACED.sub(lambda match: _filled(match, known), template)
        return found


def _filled(match: re.Match[str], known: dict[str, str]) -> str:
    name = match[1]
    return quote(known[name], safe="") if name in PLACEHOLDERS else match[0]


def sorted_labels(pairs: dict[str, str]) -> Labels:
    return tuple(sorted(pairs.items()))


def batch_labels(name: AlertName, severity: Severity, status: Status) -> Labels:
    """The labels of a batch's alert; the configured ones cannot hide ours."""
    return sorted_labels(
        dict(status.target.labels)
        | {
            "alertname": name.value,
            "severity": severity.value,
            "account": status.target.account,
            "agent_id": status.key.agent_id,
            "batch_id": status.key.batch_id,
            "batch": status.batch,
        }
    )


def account_labels(name: AlertName, severity: Severity, account: AccountStatus) -> Labels:
    return sorted_labels({"alertname": name.value, "severity": severity.value, "account": account.name})


def batch_annotations(
    name: AlertName, status: Status, account: AccountStatus, links: Links, labels: Labels
) -> Labels:
    """What a batch's alert says when it fires, and in its reminders."""
    return sorted_labels(
        {
            "summary": _batch_summary(name, status),
            "description": _batch_description(name),
            "cause": _batch_cause(name, status, account),
        }
        | links.annotations(labels)
    )


def account_annotations(name: AlertName, account: AccountStatus, links: Links, labels: Labels) -> Labels:
    failing = account.failing
    since = f" since {words.instant(failing.since)}" if failing else ""
    if name is AlertName.ACCOUNT_KEY_REJECTED:
        summary = f"Ultravox rejects the API key of account {account.name}"
        description = "None of its batches can be watched. Check the key and that it has not been revoked."
    else:
        summary = f"Ultravox has not answered properly for account {account.name}{since}"
        description = "Its batches cannot be observed: what is shown of them is their last known state."
    return sorted_labels(
        {
            "summary": summary,
            "description": description,
            "cause": failing.message if failing else UNKNOWN_CAUSE,
        }
        | links.annotations(labels)
    )


def resolved_annotations(
    state: AlertState, resolution: Resolution, superseded_by: AlertName | None, now_true: str | None
) -> Labels:
    """What an alert says when it is over: the resolution first, then what is true now."""
    said = f"superseded by {superseded_by}" if superseded_by is not None else resolution.value
    before = dict(state.annotations)
    return sorted_labels(
        before
        | {
            "resolution": said,
            "summary": f"{said}: {now_true}" if now_true else f"{said}: {before.get('summary', '')}",
        }
    )


def truth(status: Status) -> str:
    """One clause on how the batch stands, for the end of an alert."""
    return f"{status.batch} is {status.assessment.state}, {status.assessment.why}"


def _batch_summary(name: AlertName, status: Status) -> str:
    batch = status.batch
    if status.progress is None:
        failing = status.failing
        count = failing.count if failing else 0
        return f"{batch} has never been observed: {count} polls in a row failed"
    seen = status.progress.last
    done = words.done(seen.completed, seen.total)
    match name:
        case AlertName.BATCH_STALLED:
            idle = words.duration(status.assessment.idle_seconds or 0)
            return f"{batch} has made no call for {idle}: {done}{_window(status.progress)}"
        case AlertName.BATCH_ENDED:
            took = f" in {words.duration(_life(status.progress))}" if seen.ended_at else ""
            return f"{batch} has ended: {done}{took}"
        case AlertName.BATCH_ENDED_INCOMPLETE:
            share = f" ({words.percent(seen.remaining / seen.total)})" if seen.total else ""
            return f"{batch} has ended with {words.calls(seen.remaining)}{share} not made: {done}"
        case AlertName.BATCH_OVERDUE:
            end = seen.window_end or seen.at
            late = words.duration(seen.at - end)
            return f"{batch} is {late} past the end of its window and has not ended: {done}, {words.calls(seen.remaining)} remain"
        case AlertName.BATCH_PAUSED_TOO_LONG:
            paused = words.duration(seen.at - (status.progress.paused_since or seen.at))
            return f"{batch} has been paused for {paused}: {done}{_window(status.progress)}"
        case AlertName.BATCH_GONE:
            return f"{batch} is gone: Ultravox no longer knows it; it was last seen at {done}"
        case _:
            count = status.failing.count if status.failing else 0
            since = status.last_success_at or seen.at
            return f"{batch} cannot be observed: {count} polls in a row failed, last seen {words.instant(since)} at {done}"


def _batch_description(name: AlertName) -> str:
    """What it means and what to do."""
    match name:
        case AlertName.BATCH_STALLED:
            return "Calls should be going out now and none is. People in this batch are not being called."
        case AlertName.BATCH_ENDED:
            return "completedCount covers created and failed calls alike; the outcomes of single calls were not read."
        case AlertName.BATCH_ENDED_INCOMPLETE:
            return (
                "These people were not called, and Ultravox will not call them any more. By the batch's own "
                "counts; the outcomes of single calls were not read."
            )
        case AlertName.BATCH_OVERDUE:
            return "No call is made after the window's end. Extend the window, or the rest stays uncalled."
        case AlertName.BATCH_PAUSED_TOO_LONG:
            return "Nothing is called while a batch is paused. Resume it, or its window runs out."
        case AlertName.BATCH_GONE:
            return "It was deleted, or its agent was, before it ended."
        case _:
            return "The account answers, this batch does not: what is shown of it is its last known state."


def _batch_cause(name: AlertName, status: Status, account: AccountStatus) -> str:
    failing = status.failing
    match name:
        case AlertName.BATCH_PAUSED_TOO_LONG if status.progress and status.progress.paused_since:
            return f"seen paused since {words.instant(status.progress.paused_since)}"
        case AlertName.BATCH_UNREACHABLE | AlertName.BATCH_GONE if failing:
            return failing.message
        case AlertName.BATCH_STALLED if account.at_cap:
            cap = f"{account.active_calls} of {account.allowed_concurrent_calls} calls active"
            return f"the account is at its cap: {cap}"
        case AlertName.BATCH_STALLED | AlertName.BATCH_OVERDUE if account.failing:
            return f"API unreachable since {words.instant(account.failing.since)}"
        case _:
            return UNKNOWN_CAUSE


def _window(progress: Progress) -> str:
    """`, window closes in 1 h 40 min`, or nothing where there is no end to wait for."""
    seen = progress.last
    if seen.window_end is None:
        return ""
    left = seen.window_end - seen.at
    return (
        f", window closes in {words.duration(left)}" if left.total_seconds() > 0 else ", its window is over"
    )


def _life(progress: Progress) -> float:
    """Seconds from when calls could first be made to the end."""
    seen = progress.last
    start: datetime = max(seen.created, seen.window_start or seen.created)
    return ((seen.ended_at or seen.at) - start).total_seconds()
