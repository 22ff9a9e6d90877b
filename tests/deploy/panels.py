"""What a dashboard asks Prometheus, panel by panel, with its variables filled in as Grafana would."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GRAFANAS = {"__rate_interval": "5m", "__interval": "1m", "__range": "6h"}
"""What Grafana works out itself from the time shown and the scrape interval; `variables` may say otherwise."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)(?:[.:]\w+)*\}|(\w+))")
_QUERY = re.compile(r"label_values\((?P<of>.*), *\w+\)|query_result\((?P<result>.*)\)", re.DOTALL)


@dataclass(frozen=True)
class Asked:
    """One expression. `title`: the panel's, or the name of the variable or annotation; `ref`: which query of it."""

    kind: str  # panel, variable, annotation
    title: str
    ref: str
    expr: str


def filled(text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables' values; KeyError: unknown."""
    values = GRAFANAS | dict(variables)
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], text)


def panel_queries(dashboard: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Asked]:
    """Every expression: of panels (those in collapsed rows, too), of variables, of annotations.

    `variables`: batch_id for the campaign's page, instance for the monitor's; the others are all unless named.
    """
    values = {
        one["name"]: one["allValue"] for one in dashboard["templating"]["list"] if one.get("allValue")
    } | dict(variables)
    for panel in dashboard["panels"]:
        for inner in (panel, *panel.get("panels", ())):
            for target in inner.get("targets", ()):
                yield Asked("panel", inner["title"], target["refId"], filled(target["expr"], values))
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query":
            found = _QUERY.fullmatch(one["query"]["query"])
            assert found, f"variable {one['name']}: neither label_values nor query_result"
            expr = found["of"] or found["result"]
            yield Asked("variable", one["name"], "", filled(expr, values))
    for one in dashboard["annotations"]["list"]:
        yield Asked("annotation", one["name"], "", filled(one["expr"], values))


MAY_BE_EMPTY: dict[tuple[str, str, str], str] = {
    ("ultravox-campaigns", "Alerts that fire", "AB"): "no alert fires",
    ("ultravox-campaigns", "Ended in the last day", "ABCDEF"): "no batch has ended",
    ("ultravox-campaigns", "Calls at once", "B"): "no account has a cap",
    (
        "ultravox-campaigns",
        "Batches that are not over",
        "CDEFGH",
    ): "a batch that waits has no pace, one without a window no end",
    ("ultravox-campaign", "Pace", "A"): "the batch waits",
    ("ultravox-campaign", "Needed pace", "A"): "the batch has no window, or it is over",
    ("ultravox-campaign", "Estimated end", "A"): "the batch waits, is paused or stands still",
    ("ultravox-campaign", "Window ends", "A"): "the batch has no window",
    ("ultravox-campaign", "To be missed", "A"): "the batch waits, is paused, has ended or has no window",
    ("ultravox-campaign", "Facts", "CD"): "the batch has no window, or no call has been seen",
    ("ultravox-campaign", "Facts", "F"): "the batch has not ended",
    ("ultravox-campaign", "Progress against the window", "B"): "the batch has no window",
    ("ultravox-campaign", "Pace against needed pace", "AB"): "the batch waits, or has no window",
    ("ultravox-campaign", "Outcomes", "ABCDE"): "no call was made yet",
    ("ultravox-campaign", "State and alerts", "B"): "no alert fires for the batch",
    ("ultravox-campaign", "Stall clock", "AB"): "no call is expected",
    ("ultravox-campaign", "Calls at once, of its account", "B"): "the account has no cap",
    ("ultravox-campaign", "Pauses", ""): "the batch is not paused",
    ("ultravox-campaign", "Alerts", ""): "no alert fires for the batch",
    ("ultravox-monitor", "Messages accepted", "A"): "no receiver is configured",
    ("ultravox-monitor", "Tries that failed", "A"): "no receiver is configured",
    ("ultravox-monitor", "Oldest waiting message", "A"): "no receiver is configured",
    ("ultravox-monitor", "Waiting and dropped", "AB"): "no receiver is configured",
    ("ultravox-monitor", "Discovery and clocks", "A"): "batches are not discovered, or not yet",
    ("ultravox-monitor", "Heartbeat", "A"): "no heartbeat is configured",
    ("ultravox-monitor", "Restarts", ""): "the process has not restarted",
    ("ultravox-monitor", "Alerts about the monitor", ""): "no rule is loaded, or none fires",
}
"""(page, title, refs): when an expression has no data though all is well. Every other one always has."""


def may_be_empty(page: str, asked: Asked) -> str | None:
    """Why this expression may have no data on a good day; None: it must have some."""
    return next(
        (
            why
            for (uid, title, refs), why in MAY_BE_EMPTY.items()
            if (uid, title) == (page, asked.title) and (asked.ref in refs if asked.ref else not refs)
        ),
        None,
    )
