"""What alerts are about, by name and in numbers, for headlines: `3 batches stalled`, `on account main`.

Pure text from labels. How bad it is and what becomes of it is text.py's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monitor import notices
from monitor.model import Alert, AlertName

_STATES: dict[str, str] = {
    AlertName.BATCH_STALLED: "stalled",
    AlertName.BATCH_ENDED: "ended",
    AlertName.BATCH_ENDED_INCOMPLETE: "ended without reaching everybody",
    AlertName.BATCH_OVERDUE: "overdue",
    AlertName.BATCH_WINDOW_AT_RISK: "at risk of leaving calls unmade",
    AlertName.BATCH_FAILURE_RATE_HIGH: "failing too often",
    AlertName.BATCH_PAUSED_TOO_LONG: "paused for too long",
    AlertName.BATCH_UNREACHABLE: "out of sight",
    AlertName.BATCH_GONE: "gone",
    AlertName.ACCOUNT_UNREACHABLE: "without proper answers from Ultravox",
    AlertName.ACCOUNT_KEY_REJECTED: "with a rejected API key",
    notices.DROPPED: "not told of alerts",
}
"""What it is that an alert is about, when it fires."""


def counted(alerts: Sequence[Alert], *, over: bool = False, still: bool = False) -> str:
    """`3 batches stalled`, `spring-renewals stalled`, `3 batches that were stalled`; all of one name."""
    name = _name(alerts[0])
    state = _STATES.get(name, f"named {plain(name)}")
    noun, count = _noun(name), len(alerts)
    what = subject(alerts[0]) if count == 1 else f"{count:,} {noun + ('es' if noun == 'batch' else 's')}"
    if over:
        return f"{what}, which was {state}" if count == 1 else f"{what} that were {state}"
    return f"{what} {'still ' if still else ''}{state}"


def subject(alert: Alert) -> str:
    """What one alert is about: `spring-renewals`, `account main`."""
    labels, noun = dict(alert.labels), _noun(_name(alert))
    own = labels.get(noun) or (labels.get("batch_id") if noun == "batch" else None)
    if not own:
        return f"1 {noun}"
    return plain(own if noun == "batch" else f"{noun} {own}")


def where(alerts: Sequence[Alert]) -> str:
    """` on account main`; nothing where accounts themselves, or receivers, are spoken of."""
    if any(_noun(_name(alert)) != "batch" for alert in alerts):
        return ""
    found = accounts(alerts)
    if len(found) != 1:
        return f" on {len(found)} accounts" if found else ""
    return f" on account {plain(*found)}"


def accounts(alerts: Iterable[Alert]) -> set[str]:
    """The accounts that they are of."""
    return {account for alert in alerts if (account := dict(alert.labels).get("account"))}


def _name(alert: Alert) -> str:
    return dict(alert.labels).get("alertname", "")


def _noun(name: str) -> str:
    if name == notices.DROPPED:
        return "receiver"
    if name not in _STATES:
        return "alert"
    return "account" if name.startswith("Account") else "batch"


def plain(text: str | None) -> str:
    """One line of characters that every service can take: names come from people and from the API."""
    printable = "".join(char if char.isprintable() else " " for char in text or "")
    return " ".join(printable.split())
