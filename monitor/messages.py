"""What we say: the labels and annotations of every alert, in plain sentences with the numbers.

Pure text. Whether and when it is said is decided in alerts.py; here nothing is decided.
Raw error texts of calls never come here: they hold phone numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote

from monitor import causes, words
from monitor.model import (
    AccountStatus,
    Alert,
    AlertName,
    AlertState,
    Labels,
    Observation,
    Progress,
    Resolution,
    Severity,
    Status,
)

ALERT_LABELS = frozenset({"alertname", "severity", "account", "agent_id", "batch_id", "batch"})
"""Labels that we give alerts; those about accounts have the first three."""

RESERVED_LABELS = ALERT_LABELS | frozenset(
    {"agent", "throttle", "job", "instance"} | {"state", "status", "alert", "le", "quantile"}
)
"""Labels that we or Prometheus set: a configuration may not."""

PLACEHOLDERS = frozenset({"account", "agent_id", "alertname", "batch", "batch_id"})
"""Labels that a URL template may name in braces."""

_BRACED = re.compile(r"\{([^{}]*)\}")


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
    said = {
        "summary": _batch_summary(name, status),
        "description": _batch_description(name, status),
        "cause": causes.of_batch(name, status, account),
    }
    if name in _ENDS and status.progress is not None:
        said["report"] = end_report(status, status.progress)
    return sorted_labels(said | links.annotations(labels))


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
            "cause": failing.message if failing else causes.UNKNOWN,
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


def belated(alert: Alert) -> Alert:
    """An alert that was over before it was told: with both times."""
    said = dict(alert.annotations)
    return replace(
        alert, annotations=sorted_labels(said | {"summary": _belated_prefix(alert) + said.get("summary", "")})
    )


def before_belated(alert: Alert) -> str:
    """The summary of such an alert without what `belated` put before it."""
    return dict(alert.annotations).get("summary", "").removeprefix(_belated_prefix(alert))


def _belated_prefix(alert: Alert) -> str:
    over = f", over {words.instant(alert.ends_at)}" if alert.ends_at is not None else ""
    return f"was over before it was told (fired {words.instant(alert.starts_at)}{over}): "


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
            return f"{batch} has ended with {_unreached(status, seen)}: {done}"
        case AlertName.BATCH_WINDOW_AT_RISK:
            missed = status.assessment.projected_missed or 0
            return f"{batch} will leave about {_share(missed, seen.total)} unmade: {done}{_window(status.progress)}{_paces(status)}"
        case AlertName.BATCH_FAILURE_RATE_HIGH:
            outcomes = status.outcomes
            made = outcomes.success + outcomes.error if outcomes else 0
            return f"{batch}: {_share(outcomes.error if outcomes else 0, made)} of {made:,} failed so far: {done}"
        case AlertName.BATCH_OVERDUE:
            end = seen.window_end or seen.at
            late = words.duration(seen.at - end)
            return f"{batch} is {late} past the end of its window and has not ended: {done}, {words.remain(seen.remaining)}"
        case AlertName.BATCH_PAUSED_TOO_LONG:
            paused = words.duration(seen.at - (status.progress.paused_since or seen.at))
            return f"{batch} has been paused for {paused}: {done}{_window(status.progress)}"
        case AlertName.BATCH_GONE:
            return f"{batch} is gone: Ultravox no longer knows it; it was last seen at {done}"
        case _:
            count = status.failing.count if status.failing else 0
            since = status.last_success_at or seen.at
            return f"{batch} cannot be observed: {count} polls in a row failed, last seen {words.instant(since)} at {done}"


def _batch_description(name: AlertName, status: Status) -> str:
    """What it means and what to do."""
    match name:
        case AlertName.BATCH_STALLED:
            return "Calls should be going out now and none is. People in this batch are not being called."
        case AlertName.BATCH_ENDED:
            if status.final_outcomes is None:
                return _BY_COUNTS
            pending = status.final_outcomes.pending
            under_way = f" {words.calls(pending)} still under way at the end may come out otherwise."
            return f"It reached people as it should.{under_way if pending else ''}"
        case AlertName.BATCH_ENDED_INCOMPLETE:
            who = f"`batch-monitor uncalled {status.key.batch_id}` lists whom to call again."
            unread = "" if status.final_outcomes else f" {_BY_COUNTS}"
            return f"These people were not reached, and Ultravox will not call them any more. {who}{unread}"
        case AlertName.BATCH_WINDOW_AT_RISK:
            return "Extend the window, raise the pace (lines, throttle), or choose whom to leave out, while there is time."
        case AlertName.BATCH_FAILURE_RATE_HIGH:
            return "Failed calls count as completed, and nobody is called again by itself. Look at the cause before the rest fails too."
        case AlertName.BATCH_OVERDUE:
            return "No call is made after the window's end. Extend the window, or the rest stays uncalled."
        case AlertName.BATCH_PAUSED_TOO_LONG:
            return "Nothing is called while a batch is paused. Resume it, or its window runs out."
        case AlertName.BATCH_GONE:
            return "It was deleted, or its agent was, before it ended."
        case _:
            return "The account answers, this batch does not: what is shown of it is its last known state."


_ENDS = frozenset({AlertName.BATCH_ENDED, AlertName.BATCH_ENDED_INCOMPLETE})

_BY_COUNTS = "By the batch's own counts, which take failed calls for completed; the outcomes of its calls could not be read."


def end_report(status: Status, progress: Progress) -> str:
    """What came of a batch that has ended, in one line of numbers."""
    seen, outcomes = progress.last, status.final_outcomes
    life = _life(progress)
    parts = [f"{words.calls(seen.total)} in all"]
    if outcomes is not None:
        parts += [f"{outcomes.success:,} succeeded", f"{outcomes.error:,} failed"]
        parts += [f"{outcomes.pending:,} still under way"] if outcomes.pending else []
        parts += [f"{outcomes.expired:,} expired"]
    else:
        parts += ["outcomes unknown"]
    parts += [f"{seen.remaining:,} not made", f"took {words.duration(life)}"]
    if life > 0 and seen.completed:
        parts.append(f"mean pace {words.pace(seen.completed / life)}")
    parts.append(
        f"paused for {words.duration(progress.paused_seconds)}"
        if progress.paused_seconds
        else "never seen paused"
    )
    if seen.window_end is not None:
        start = max(seen.created, seen.window_start or seen.created)
        window = (seen.window_end - start).total_seconds()
        if window > 0:
            parts.append(f"used {words.percent(min(1.0, life / window))} of its window")
    return ", ".join(parts)


def _unreached(status: Status, seen: Observation) -> str:
    """`82 calls (20 %) not made`, `and 12 failed`."""
    outcomes = status.final_outcomes
    failed = f"{_share(outcomes.error, seen.total)} failed" if outcomes and outcomes.error else ""
    unmade = f"{_share(seen.remaining, seen.total)} not made" if seen.remaining or not failed else ""
    return " and ".join(part for part in (unmade, failed) if part)


def _share(count: int, total: int) -> str:
    """`82 calls (20 %)`."""
    return f"{words.calls(count)} ({words.percent(count / total)})" if total else words.calls(count)


def _paces(status: Status) -> str:
    """`, at 60 calls/h where 120 calls/h are needed`."""
    now, needed = status.assessment.calls_per_second, status.assessment.needed_calls_per_second
    if now is None or needed is None:
        return ""
    return f", at {words.pace(now)} where {words.pace(needed)} are needed"


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
