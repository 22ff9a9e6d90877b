"""Ready-made values for tests that need one and do not care which."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from monitor import evaluate
from monitor.model import AccountStatus, BatchKey, Observation, Status, Target

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
AGENT = "7f6a0000-0000-4000-8000-000000000001"
BATCH = "3c900000-0000-4000-8000-000000000001"
KEY = BatchKey(AGENT, BATCH)
PROMETHEUS_3 = (  # the Accept header of Prometheus 3
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def batch_key(number: int) -> BatchKey:
    return BatchKey(AGENT, f"3c900000-0000-4000-8000-{number:012d}")


def observation(**changes: Any) -> Observation:
    seen = Observation(
        at=NOW,
        created=NOW - timedelta(hours=2),
        total=400,
        completed=118,
        window_start=NOW - timedelta(hours=1),
        window_end=NOW + timedelta(hours=2),
    )
    return replace(seen, **changes)


def status(seen: Observation | None = None, *, key: BatchKey = KEY, **changes: Any) -> Status:
    """A batch that was observed once, as `seen`."""
    seen = seen or observation()
    progress = evaluate.observe(None, seen, evaluate.Rules())
    made = Status(
        target=Target("main", key, "spring-renewals", "renewals", (("team", "growth"),)),
        batch="spring-renewals",
        agent="renewals",
        assessment=evaluate.assess(progress, None, evaluate.Rules()),
        progress=progress,
        last_success_at=seen.at,
        last_poll_at=seen.at,
        next_poll_at=seen.at + timedelta(seconds=30),
    )
    return replace(made, **changes)


def account(**changes: Any) -> AccountStatus:
    made = AccountStatus(
        "main", watched_since=NOW - timedelta(days=1), last_success_at=NOW, last_probe_at=NOW
    )
    return replace(made, **changes)
