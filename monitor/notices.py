"""What the monitor has to say of itself: messages that were given up, and tests. Pure text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta

from monitor import causes, words
from monitor.messages import sorted_labels
from monitor.model import Alert, Severity

DROPPED = "NotificationsDropped"
"""The label `alertname` of what the other receivers hear when one's messages are given up."""


def dropped_alert(
    receiver: str, names: Collection[str], error: str | None, waited: timedelta, now: datetime
) -> Alert:
    """What the other receivers hear when messages for one of them are given up. `names`: of the alerts."""
    counts = Counter(names)
    what = ", ".join(f"{count} of {name}" for name, count in counts.most_common())
    return Alert(
        labels=sorted_labels(
            {"alertname": DROPPED, "severity": Severity.CRITICAL.value, "receiver": receiver}
        ),
        annotations=sorted_labels(
            {
                "summary": f"{receiver} was not told of {words.counted(len(names), 'alert')}: "
                f"they were dropped after {words.duration(waited)}",
                "description": f"It has not taken them: {what}. They are on the monitor's page.",
                "cause": error or causes.UNKNOWN,
            }
        ),
        starts_at=now,
    )


def test_alert(receiver: str, now: datetime) -> Alert:
    """What `test-alert` sends."""
    return Alert(
        labels=sorted_labels(
            {"alertname": "TestAlert", "severity": Severity.INFO.value, "receiver": receiver}
        ),
        annotations=sorted_labels(
            {
                "summary": f"This is a test of Ultravox Batch Monitor: {receiver} can be told of alerts",
                "description": "Nothing is wrong. Somebody has run `batch-monitor test-alert`.",
            }
        ),
        starts_at=now,
    )
