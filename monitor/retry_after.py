"""The Retry-After header, the same for those we ask and those we tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


def retry_after(value: str | None, now: datetime, cap: timedelta) -> timedelta | None:
    """How long to wait: whole seconds or a date (RFC 9110, 10.2.3), from nothing up to `cap`.

    None: the header is not there, or makes no sense.
    """
    if value is None:
        return None
    try:
        if value.strip().isdecimal():
            return min(timedelta(seconds=int(value)), cap)
        at = parsedate_to_datetime(value)
        wait = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError):
        return cap if value.strip().isdecimal() else None
    return min(max(wait, timedelta(0)), cap)
