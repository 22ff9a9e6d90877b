"""stub"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from monitor.model import Labels


@dataclass(frozen=True, slots=True)
class Route:
    only: frozenset | None = None

    def why_not(self, labels: Labels) -> str | None:
        return None

    def muted_until(self, at: datetime) -> datetime | None:
        return None


@dataclass(frozen=True, slots=True)
class Pacing:
    group_wait: timedelta = timedelta(seconds=30)
    give_up_after: timedelta = timedelta(hours=24)
    max_messages_per_minute: int = 60


@dataclass(frozen=True, slots=True)
class Receiver:
    """One place alerts go to, as far as the one who decides needs to know it."""

    name: str
    holds_state: bool = False
    route: Route = field(default_factory=Route)
