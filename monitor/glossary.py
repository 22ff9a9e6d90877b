"""Every state, alert and failure in plain words: the same on the page, in the terminal, in messages and in docs/.

Pure text. Tests hold docs/alerts.md and docs/runbooks/README.md against it.
"""

from __future__ import annotations

from monitor.model import AlertName, CallStatus, FailureReason, State

STATES: dict[State, str] = {
    State.UNKNOWN: "it has not been seen yet",
    State.INCOMPLETE: "it ended with people uncalled",
    State.ENDED: "it ended",
    State.GONE: "Ultravox no longer knows it",
    State.OVERDUE: "its window is over, calls remain",
    State.PAUSED: "somebody paused it",
    State.WAITING: "its window has not opened yet",
    State.STALLED: "calls are expected and none is made",
    State.RUNNING: "calls are made, or may be",
}

ALERTS: dict[AlertName, str] = {
    AlertName.BATCH_STALLED: "calls are expected and none is made",
    AlertName.BATCH_ENDED: "a batch ended and reached people as it should",
    AlertName.BATCH_ENDED_INCOMPLETE: "a batch ended, and people were not reached",
    AlertName.BATCH_OVERDUE: "the window is over, calls remain, the batch has not ended",
    AlertName.BATCH_WINDOW_AT_RISK: "too slow to be done when its window closes",
    AlertName.BATCH_FAILURE_RATE_HIGH: "a fifth of the calls fail",
    AlertName.BATCH_PAUSED_TOO_LONG: "paused for an hour inside its window",
    AlertName.BATCH_UNREACHABLE: "one batch cannot be read though its account answers",
    AlertName.BATCH_GONE: "Ultravox no longer knows a batch that had not ended",
    AlertName.ACCOUNT_UNREACHABLE: "Ultravox does not answer for an account; none of its batches can be seen",
    AlertName.ACCOUNT_KEY_REJECTED: "Ultravox rejects an account's API key; none of its batches is watched",
}

FAILURES: dict[FailureReason, str] = {
    FailureReason.TIMEOUT: "Ultravox did not answer in time",
    FailureReason.CONNECTION: "Ultravox cannot be reached",
    FailureReason.UNAUTHORIZED: "Ultravox rejects the API key",
    FailureReason.FORBIDDEN: "the API key may not read this",
    FailureReason.NOT_FOUND: "Ultravox does not know it",
    FailureReason.THROTTLED: "Ultravox asks for fewer requests",
    FailureReason.SERVER_ERROR: "Ultravox has trouble of its own",
    FailureReason.BAD_RESPONSE: "Ultravox' answer makes no sense",
    FailureReason.CLIENT_ERROR: "Ultravox refuses the request",
}

CALLS: dict[CallStatus, str] = {
    CallStatus.SUCCESS: "succeeded",
    CallStatus.ERROR: "failed",
    CallStatus.EXPIRED: "expired",
    CallStatus.PENDING: "under way",
    CallStatus.FUTURE: "to be made",
}
"""In the order in which they are drawn."""

STATE_FILE = "The state file cannot be written: what happens now would be forgotten at a restart."
CONFIGURATION = "The changed configuration has mistakes; the one before is in effect:"


def over_limit(count: int, account: str) -> str:
    """So many batches of an account are left out."""
    batches = "batch of account {} is" if count == 1 else "batches of account {} are"
    return f"{count:,} {batches.format(account)} not watched: discover.max_batches is reached."
