"""Which batches we watch: what a new configuration adds, keeps and drops.

Pure: it compares two sets and says what follows. Starting and stopping the polling is app.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from monitor.alerts import Policy
from monitor.evaluate import Rules
from monitor.model import BatchKey, Target


@dataclass(frozen=True, slots=True)
class Watch:
    """A batch to watch, and how it is judged and spoken of."""

    target: Target
    rules: Rules = field(default_factory=Rules)
    policy: Policy = field(default_factory=Policy)

    @property
    def key(self) -> BatchKey:
        return self.target.key


class TooManyDroppedError(Exception):
    """A changed file alone would drop more than half of the watched batches."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do to get from the batches watched now to those wanted."""

    added: tuple[Watch, ...]
    kept: tuple[Watch, ...]  # with their new settings
    dropped: tuple[BatchKey, ...]


def plan(watched: Iterable[BatchKey], wanted: Mapping[BatchKey, Watch], *, asked_for: bool) -> Plan:
    """The way from `watched` to `wanted`.

    `asked_for`: a person asked for it (SIGHUP, POST /-/reload). Without that, a file that was
    emptied by mistake must not end the watch over a campaign: TooManyDroppedError.
    """
    present = set(watched)
    dropped = sorted(present - wanted.keys())
    if not asked_for and 2 * len(dropped) > len(present):
        raise TooManyDroppedError(
            f"the changed file would drop {len(dropped)} of {len(present)} watched batches; "
            "if that is meant, reload with SIGHUP or POST /-/reload"
        )
    return Plan(
        added=tuple(watch for key, watch in wanted.items() if key not in present),
        kept=tuple(watch for key, watch in wanted.items() if key in present),
        dropped=tuple(dropped),
    )
