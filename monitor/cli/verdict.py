"""How bad it is, as an exit code: the convention of monitoring plugins, so that `status` serves as a check.

Pure. It judges all that was asked for, not only what was shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class Verdict(IntEnum):
    """The exit codes of `status`. Of several that hold, critical comes first, then warning, then unknown."""

    WELL = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


OF_STATES: dict[str, Verdict] = {
    "overdue": Verdict.CRITICAL,
    "stalled": Verdict.WARNING,
    "gone": Verdict.WARNING,
    "incomplete": Verdict.WELL,  # while its alert fires, that decides
    "paused": Verdict.WELL,
    "unknown": Verdict.WELL,  # nothing but these is UNKNOWN
    "running": Verdict.WELL,
    "waiting": Verdict.WELL,
    "ended": Verdict.WELL,
}
"""Of one batch in that state."""

OF_SEVERITIES: dict[str, Verdict] = {
    "critical": Verdict.CRITICAL,
    "warning": Verdict.WARNING,
    "info": Verdict.WELL,
}
"""Of an alert that fires."""


def verdict(states: Mapping[str, int], at_risk: int, firing: Mapping[str, int]) -> Verdict:
    """Of so many batches in each state, so many of them at risk, and so many firing alerts of each severity.

    A state or a severity that this version does not know cannot be told.
    """
    found = [OF_STATES.get(state, Verdict.UNKNOWN) for state, count in states.items() if count]
    found += [OF_SEVERITIES.get(severity, Verdict.UNKNOWN) for severity, count in firing.items() if count]
    found += [Verdict.WARNING] if at_risk else []
    if not any(count for state, count in states.items() if state != "unknown"):
        found.append(Verdict.UNKNOWN)
    return next(one for one in (*_WORST_FIRST, Verdict.WELL) if one in found)


_WORST_FIRST = (Verdict.CRITICAL, Verdict.WARNING, Verdict.UNKNOWN)


def judged(
    data: Mapping[str, Any], *, states: str = "", account: str = "", narrowed: bool = False
) -> Verdict:
    """Of the answer of `/api/v1/batches`, asked with these `states` and this `account`.

    The alerts of accounts count, too: of the account asked for, of all where nothing was asked for, else of those
    whose batches match.
    """
    asked = set(states.split(",")) if states else set(data["states"])
    # The answer counts the states, and who is at risk, of all that match but for their state.
    at_risk = sum(batch["at_risk"] for batch in data["batches"]) if states else data["at_risk"]
    concerned = {account} if account else {batch["account"] for batch in data["batches"]}
    firing = dict(data["firing"])
    for one in data["accounts"]:
        if one["account"] in concerned or not (narrowed or account):
            for alert in one["alerts"]:
                if alert["state"] == "firing":
                    firing[alert["severity"]] = firing.get(alert["severity"], 0) + 1
    return verdict({state: n for state, n in data["states"].items() if state in asked}, at_risk, firing)
