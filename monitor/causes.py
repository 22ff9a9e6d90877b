"""Why an alert fires, in one clause, as far as the API tells.

Pure text. What is not known is said to be unknown. Raw error texts of calls never come here: they hold
phone numbers; their classes do.
"""

from __future__ import annotations

from monitor import words
from monitor.model import AccountStatus, AlertName, Status

UNKNOWN = "unknown: the API does not tell"

EXPLAINED_BY_CALLS = frozenset(
    {
        AlertName.BATCH_STALLED,
        AlertName.BATCH_WINDOW_AT_RISK,
        AlertName.BATCH_OVERDUE,
        AlertName.BATCH_FAILURE_RATE_HIGH,
        AlertName.BATCH_ENDED_INCOMPLETE,
    }
)
"""The alerts whose cause may lie in how single calls failed."""


def of_batch(name: AlertName, status: Status, account: AccountStatus) -> str:
    """Why, in one clause, as far as the API tells. What is not known is said to be unknown."""
    failing, seen = status.failing, status.progress.last if status.progress else None
    match name:
        case AlertName.BATCH_PAUSED_TOO_LONG if status.progress and status.progress.paused_since:
            return f"seen paused since {words.instant(status.progress.paused_since)}"
        case AlertName.BATCH_UNREACHABLE | AlertName.BATCH_GONE if failing:
            return failing.message
        case AlertName.BATCH_ENDED:
            return "all its calls were made" if seen and not seen.remaining else "within what is tolerated"
        case AlertName.BATCH_FAILURE_RATE_HIGH:
            return _failed_calls(status) or UNKNOWN
        case _ if name not in EXPLAINED_BY_CALLS:
            return UNKNOWN
    clauses = (
        f"API unreachable since {words.instant(account.failing.since)}" if account.failing else None,
        _cap(account),
        status.around.throttle,
        f"seen paused since {words.instant(status.progress.paused_since)}"
        if status.progress and status.progress.paused_since
        else None,
        _bound(status),
    )
    known, failed = next((clause for clause in clauses if clause), None), _failed_calls(status)
    if name is AlertName.BATCH_ENDED_INCOMPLETE:
        return known or failed or UNKNOWN
    # Calls that fail are completed: they do not keep others from being made, but are worth knowing of.
    return known or (f"unknown; {failed}" if failed else UNKNOWN)


def _cap(account: AccountStatus) -> str | None:
    if not account.at_cap or account.failing is not None:  # what was true is no cause of what is
        return None
    cap = f"{account.active_calls} of {account.allowed_concurrent_calls} calls active"
    return f"the account is at its cap: {cap}"


def _failed_calls(status: Status) -> str | None:
    """`calls fail, most often: busy (12 of 15 looked at)`."""
    found = status.failed_calls
    if found is None or not found.classes:
        return None
    commonest, count = found.classes[0]
    looked_at = sum(number for _, number in found.classes)
    return f"calls fail, most often: {commonest} ({count} of {looked_at} looked at)"


def _bound(status: Status) -> str | None:
    """Where the pace that is needed is more than can be had."""
    most, needed = status.around.most_calls_per_second, status.assessment.needed_calls_per_second
    if most is None or needed is None or needed <= most:
        return None
    return f"its throttle and the account's lines allow {words.pace(most)} at most"
