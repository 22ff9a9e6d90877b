"""The wall clock. The only file that reads it; everything else gets `now` as an argument (ruff sees to it)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Anything that tells the present instant as an aware UTC datetime. Tests pass one that they move."""


def utc_now() -> datetime:
    """The present instant, aware, UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the one place: everything else is told what time it is
