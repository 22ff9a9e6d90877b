"""Retry-After in every form, and nonsense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitor.retry_after import retry_after

TEN = datetime(2026, 11, 23, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7),
        ("0", 0),
        ("86400", 300),
        ("9" * 400, 300),
        ("²", None),
        ("Mon, 23 Nov 2026 10:00:30 GMT", 30),
        ("Mon, 23 Nov 2026 09:00:00 GMT", 0),
        ("soon", None),
        ("Mon, 23 Nov 2026 10:00:00 +99999999999999999999999", None),
        ("-5", None),
        ("inf", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_beyond_five_minutes(value, seconds):
    assert retry_after(value, TEN, timedelta(minutes=5)) == (
        None if seconds is None else timedelta(seconds=seconds)
    )
